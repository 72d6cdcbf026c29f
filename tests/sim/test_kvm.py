"""Real guest code on a KVM virtual CPU, whose backdoor calls leave by KVM_EXIT_IO and are answered by this host."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import pytest

from vmtools.sim.backdoor import Guest
from vmtools.sim.host import Host
from vmtools.sim.kvm import Numbers, VirtualCpu

from .kvm_cpu import AX, BP, BX, CX, DI, DX, SI, Code, KvmCpu

MAGIC = 0x564D5868
PORT, PORT_HIGH = 0x5658, 0x5659
RPCI, COOKIE = 0x49435052, 0x80000000
OPEN, SENDSIZE, SENDPAYLOAD, RECVSIZE, RECVPAYLOAD, RECVSTATUS, CLOSE = (kind << 16 | 30 for kind in range(7))

REQUEST, REPLY = 0x2000, 0x3FF0
"""The reply's buffer crosses a page, so that KVM asks for it in pieces."""

CHANNEL, COOKIE_HIGH, COOKIE_LOW, COUNT, SIZE = range(0x800, 0x814, 4)


@pytest.fixture
def cpu() -> Iterator[KvmCpu]:
    try:
        cpu = KvmCpu()
    except OSError as error:
        pytest.skip(f"this machine has no KVM to run a guest with: {error}")
    with cpu:
        yield cpu


def adapter(host: Host) -> VirtualCpu:
    return VirtualCpu(host.backdoor, Numbers(), Guest(1, 1, "kvm"))


def command(code: Code, number: int) -> None:
    code.mov(AX, MAGIC)
    code.mov(CX, number)
    code.mov(DX, PORT)
    code.in_eax_dx()


def subroutine(code: Code) -> None:
    """MESSAGE with what is in ECX and EBX, on the channel that is open."""
    code.label("message")
    code.mov(AX, MAGIC)
    code.load(DX, CHANNEL)
    code.load(SI, COOKIE_HIGH)
    code.load(DI, COOKIE_LOW)
    code.in_eax_dx()
    code.raw("c3")  # ret


def message(code: Code, kind: int, argument: int | None = None) -> None:
    if argument is not None:
        code.mov(BX, argument)
    code.mov(CX, kind)
    code.call("message")


def opening(code: Code) -> None:
    code.mov(BX, RPCI | COOKIE)
    command(code, OPEN)
    code.raw("b2 58 b6 56")  # mov dl, 0x58; mov dh, 0x56: the port again, the channel's number stays in the high half
    code.store(CHANNEL, DX)
    code.store(COOKIE_HIGH, SI)
    code.store(COOKIE_LOW, DI)


def closing(code: Code) -> bytes:
    message(code, RECVSTATUS, 1)
    message(code, CLOSE)
    code.hlt()
    subroutine(code)
    return code.assemble()


def low_bandwidth(size: int) -> bytes:
    """The request at REQUEST, word by word; the reply to REPLY, its size to SIZE."""
    code = Code()
    opening(code)
    message(code, SENDSIZE, size)
    code.mov(BP, REQUEST)
    code.mov(AX, (size + 3) // 4)
    code.store(COUNT, AX)
    code.label("send")
    code.raw("66 8b 5e 00")  # mov ebx, [bp]
    message(code, SENDPAYLOAD)
    code.raw("83 c5 04")  # add bp, 4
    code.raw("ff 0e 0c 08")  # dec word [COUNT]
    code.jnz("send")
    message(code, RECVSIZE)
    code.store(SIZE, BX)
    code.raw("66 83 c3 03 66 c1 eb 02")  # add ebx, 3; shr ebx, 2: words
    code.store(COUNT, BX)
    code.mov(BP, REPLY)
    code.label("receive")
    message(code, RECVPAYLOAD, 1)
    code.raw("66 89 5e 00")  # mov [bp], ebx
    code.raw("83 c5 04 ff 0e 0c 08")
    code.jnz("receive")
    return closing(code)


def high_bandwidth(size: int) -> bytes:
    """The same by REP OUTSB and REP INSB."""
    code = Code()
    opening(code)
    message(code, SENDSIZE, size)
    high(code, size=size)
    code.mov(SI, REQUEST)
    code.load(DI, COOKIE_LOW)
    code.load(BP, COOKIE_HIGH)
    code.raw("fc f3 6e")  # cld; rep outsb
    message(code, RECVSIZE)
    code.store(SIZE, BX)
    high(code)
    code.load(CX, SIZE)
    code.load(SI, COOKIE_HIGH)
    code.mov(DI, REPLY)
    code.load(BP, COOKIE_LOW)
    code.raw("f3 6c")  # rep insb
    return closing(code)


def high(code: Code, size: int = 0) -> None:
    code.mov(AX, MAGIC)
    code.mov(BX, 0x10000)
    code.mov(CX, size)
    code.load(DX, CHANNEL)
    code.raw("b2 59")  # mov dl, 0x59


def test_getversion(cpu: KvmCpu) -> None:
    with Host() as host:
        code = Code()
        code.mov(BX, 0xFFFFFFFF)
        command(code, 10)
        code.hlt()
        ax, bx, cx, *_ = cpu.run(code.assemble(), adapter(host))
    assert (ax, bx, cx) == (6, MAGIC, 4)


def test_an_unknown_command_and_a_caller_without_the_magic(cpu: KvmCpu) -> None:
    with Host() as host:
        code = Code()
        command(code, 101)
        code.store(SIZE, AX)
        code.mov(AX, 7)
        code.in_eax_dx()  # nobody's: the monitor answers as for a port without a device
        code.store(COUNT, AX)
        code.mov(DX, 0x1234)
        code.mov(AX, MAGIC)
        code.in_eax_dx()
        code.hlt()
        assert cpu.run(code.assemble(), adapter(host))[0] == 0xFFFFFFFF
        assert cpu.memory.read(COUNT, 8) == b"\xff" * 8
        assert len(host.transcript) == 1


@pytest.mark.parametrize("program", [low_bandwidth, high_bandwidth])
@pytest.mark.parametrize("value", [b"", b"w", b"world", b"x" * 14, bytes(range(1, 256)) * 16])
def test_info_get(cpu: KvmCpu, program: Callable[[int], bytes], value: bytes) -> None:
    request = b"info-get guestinfo.hello"
    with Host(guestinfo={"hello": value}) as host:
        cpu.memory.write(REQUEST, request)
        cpu.run(program(len(request)), adapter(host))
        (size,) = struct.unpack("<I", cpu.memory.read(SIZE, 4))
        assert cpu.memory.read(REPLY, size) == b"1 " + value
        assert host.said == [("RPCI", request, b"1 " + value)]
        assert not host.status()["channels"]
        instructions = [record.instruction for record in host.transcript.records]
    words = (len(request) + 3) // 4 + (size + 3) // 4
    # each string instruction is one exit for the host, in however many pieces KVM delivers it
    assert len(instructions) == (7 if program is high_bandwidth else 5 + words)


def test_a_refused_string_instruction(cpu: KvmCpu) -> None:
    with Host() as host:
        code = Code()
        opening(code)
        high(code, size=3000)
        code.mov(DI, REPLY)
        code.raw("fc f3 6c")  # rep insb, with nothing to receive
        code.store(COUNT, BX)
        high(code, size=3000)
        code.raw("f3 6e")
        code.store(SIZE, BX)
        code.hlt()
        ax, _, cx, *_ = cpu.run(code.assemble(), adapter(host))
        assert (ax, cx, cpu.memory.read(COUNT, 8)) == (MAGIC, 0, bytes(8))
        assert len(host.transcript) == 3
