"""KVM's exits: layouts by the specification's tables, what is completed, and what is left alone."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmtools.sim import kvm
from vmtools.sim.backdoor import NOBODY, PORT_IN, PORT_LOW, PORT_OUT, VMCALL, Backdoor, Guest, Memory
from vmtools.sim.inprocess import ADDRESS, NO_MEMORY
from vmtools.sim.kvm import GuestException, Numbers, PageFault, VirtualCpu, VMwareExit
from vmtools.sim.machine import Machine

from .naive_guest import Faulted, NaiveGuest

if TYPE_CHECKING:
    from collections.abc import Callable

MAGIC = 0x564D5868
ONES = 0xFFFFFFFF
PAGE = 4096

VMWARE = [
    ("type", 0, 4),
    ("pad1", 4, 4),
    ("longmode", 8, 4),
    ("cpl", 12, 4),
    ("rax", 16, 8),
    ("rbx", 24, 8),
    ("rcx", 32, 8),
    ("rdx", 40, 8),
    ("rsi", 48, 8),
    ("rdi", 56, 8),
    ("rbp", 64, 8),
    ("result", 72, 8),
    ("inject", 80, 4),
    ("pad2", 84, 4),
    ("vector", 88, 4),
    ("error_code", 92, 4),
    ("address", 96, 8),
]
"""The specification's table (hypercalls, 10): field, offset, size."""

OLDER = [("nr", 0), *((f"args[{n}]", 8 + 8 * n) for n in range(6)), ("ret", 56), ("flags", 64)]
"""The older form, all 64 bits."""

V2 = Numbers(vmware=40)
OTHER = Numbers(vmware=77, vmware_type=3)

u32 = st.integers(0, ONES)
u64 = st.integers(0, 2**64 - 1)


def fields(frame: bytes | bytearray) -> dict[str, int]:
    return {name: int.from_bytes(frame[at : at + size], "little") for name, at, size in VMWARE}


def frame(**values: int) -> bytearray:
    data = bytearray(104)
    for name, at, size in VMWARE:
        data[at : at + size] = values.get(name, 0).to_bytes(size, "little")
    return data


def call(*regs: int, **values: int) -> bytearray:
    names = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp")
    return frame(**{"type": 1, "longmode": 1, **dict(zip(names, regs, strict=False)), **values})


class Witness:
    """A host that changes every register, or refuses; it keeps what it was asked."""

    def __init__(self, answers: bool = True, touch: Callable[[Memory], Any] | None = None) -> None:
        self.asked: list[tuple[int, list[int]]] = []
        self.answers = answers
        self.touch = touch

    def exit(self, instruction: int, regs: list[int], memory: Memory, who: Guest) -> bool:
        self.asked.append((instruction, list(regs)))
        if self.touch is not None:
            try:
                self.touch(memory)
            except OSError:
                return False
        if self.answers:
            regs[:] = [0xA0 + n for n in range(7)]
        return self.answers


# -- layouts -----------------------------------------------------------------------------------------------------------


@given(st.fixed_dictionaries({name: u32 if size == 4 else u64 for name, _, size in VMWARE}))
def test_layout(values: dict[str, int]) -> None:
    data = frame(**values)
    found = kvm.decode(data)
    assert found.registers == [values[name] for name in ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp")]
    assert (found.type, found.longmode, found.cpl) == (values["type"], values["longmode"] != 0, values["cpl"])
    assert found.result == values["result"]
    wanted = GuestException(values["vector"], values["error_code"], values["address"])
    assert found.exception == (wanted if values["inject"] else None)
    assert kvm.decode(kvm.encode(found)) == found


@given(st.builds(VMwareExit, u32, st.booleans(), u32, st.lists(u64, min_size=7, max_size=7), u64, st.none()))
def test_encoding(exit: VMwareExit) -> None:
    data = kvm.encode(exit)
    assert len(data) == 104
    assert fields(data) == {**fields(bytes(104)), **fields(frame(**_named(exit)))}
    assert kvm.decode(data) == exit


def _named(exit: VMwareExit) -> dict[str, int]:
    names = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp")
    head = {"type": exit.type, "longmode": exit.longmode, "cpl": exit.cpl, "result": exit.result}
    return head | dict(zip(names, exit.registers, strict=True))


def test_a_short_structure() -> None:
    with pytest.raises(ValueError, match="104 bytes, not 103"):
        kvm.decode(bytes(103))


@given(u32, st.integers(0, 2**64 - 1))
def test_enable_cap(number: int, value: int) -> None:
    data = kvm.enable_cap(number, value)
    assert len(data) == 104
    assert struct.unpack_from("<II4Q", data) == (number, 0, value, 0, 0, 0)


@given(st.lists(u64, min_size=18, max_size=18), st.lists(u64, min_size=7, max_size=7))
def test_kvm_regs(words: list[int], registers: list[int]) -> None:
    names = [
        "ax",
        "bx",
        "cx",
        "dx",
        "si",
        "di",
        "sp",
        "bp",
        "r8",
        "r9",
        "r10",
        "r11",
        "r12",
        "r13",
        "r14",
        "r15",
        "ip",
        "flags",
    ]
    regs = bytearray(struct.pack("<18Q", *words))
    before = dict(zip(names, words, strict=True))
    ours = ("ax", "bx", "cx", "dx", "si", "di", "bp")
    assert kvm.registers_of(regs) == [before[name] for name in ours]
    kvm.put_registers(regs, registers)
    after = dict(zip(names, struct.unpack("<18Q", regs), strict=True))
    assert after == before | dict(zip(ours, registers, strict=True))


# -- the series' exit --------------------------------------------------------------------------------------------------


def test_getversion() -> None:
    data = call(MAGIC, 0, 10)
    before = fields(data)
    completed = VirtualCpu(Backdoor(Machine()), V2).vmware(data, NO_MEMORY)
    assert completed is not None
    assert completed.registers[:3] == [6, MAGIC, 4]
    assert fields(data) == before | {"result": 6}


@given(st.lists(u64, min_size=7, max_size=7), u32, u32)
def test_what_has_no_magic_is_not_ours(regs: list[int], cpl: int, longmode: int) -> None:
    regs[0] ^= regs[0] & ONES == MAGIC
    data = call(*regs, cpl=cpl, longmode=longmode)
    before = bytes(data)
    witness = Witness()
    assert VirtualCpu(witness, V2).vmware(data, NO_MEMORY) is None
    assert (bytes(data), witness.asked) == (before, [])


@given(st.lists(u64, min_size=7, max_size=7), st.sampled_from([0, 3]), st.booleans())
def test_any_registers(regs: list[int], cpl: int, longmode: bool) -> None:
    regs[0] = regs[0] & ~ONES | MAGIC
    data = call(*regs, cpl=cpl, longmode=longmode)
    before = bytes(data)
    completed = VirtualCpu(Backdoor(Machine()), V2).vmware(data, NO_MEMORY)
    assert completed is not None
    assert bytes(data)[:72] == before[:72], "input is left as it is"
    assert fields(data)["result"] == completed.registers[0]
    if not longmode:
        assert max(completed.registers) <= ONES


def test_numbers_are_parameters() -> None:
    run = bytearray(PAGE)
    run[32:136] = call(MAGIC, 0, 10, type=3)
    for numbers, reason, ours in [(OTHER, 77, True), (OTHER, 40, False), (Numbers(), 40, False), (V2, 40, False)]:
        struct.pack_into("<I", run, 8, reason)
        completed = VirtualCpu(Witness(), numbers).exit(run, [0] * 7, NO_MEMORY)
        assert (completed is not None) == ours
    struct.pack_into("<I", run, 8, 77)
    VirtualCpu(Witness(), OTHER).exit(run, [0] * 7, NO_MEMORY)
    assert run[104:112] == (0xA0).to_bytes(8, "little"), "the result's place in kvm_run"


RESTRICTED = [2, 18, 28, 37, 48, 49, 50, 54, 64, 65, 69, 71, *range(73, 81), 85, 91, 92, 93, 103]


@pytest.mark.parametrize("number", range(110))
def test_commands_for_the_kernel_alone(number: int) -> None:
    for cpl in (0, 3):
        allowed = cpl == 0 or number not in RESTRICTED
        witness = Witness()
        data = call(0xABCD00000000 | MAGIC, 1, number, 0, 4, 5, 6, cpl=cpl)
        completed = VirtualCpu(witness, V2).vmware(data, NO_MEMORY)
        assert completed is not None
        assert bool(witness.asked) == allowed
        wanted = [0xA0 + n for n in range(7)] if allowed else [0xABCDFFFFFFFF, 1, number, 0, 4, 5, 6]
        assert (completed.registers, completed.exception) == (wanted, None)
        assert fields(data)["inject"] == 0


def test_commands_for_the_kernel_alone_by_the_port() -> None:
    for cpl in (0, 3):
        witness = Witness()
        run = io(direction=0, size=4, port=0x5658, count=1)
        assert VirtualCpu(witness, V2).exit(run, [MAGIC, 0, 91, 0x5658, 0, 0, 0], NO_MEMORY, cpl=cpl) is not None
        assert bool(witness.asked) == (cpl == 0)
        assert run[PAGE : PAGE + 4] == (b"\xff" * 4 if cpl else b"\xa0\0\0\0")


@pytest.mark.parametrize(
    ("touch", "cpl", "error_code", "address"),
    [
        (lambda memory: memory.read(0x12345678_9000, 5), 3, 4, 0x12345678_9000),
        (lambda memory: memory.read(0x7000, 5), 0, 0, 0x7000),
        (lambda memory: memory.write(0x7000, b"x"), 3, 6, 0x7000),
        (lambda memory: memory.write(0x7000, b"x"), 0, 2, 0x7000),
    ],
)
def test_a_bad_buffer_is_a_page_fault(touch: Callable[[Memory], Any], cpl: int, error_code: int, address: int) -> None:
    data = call(MAGIC, 0x10000, 5, 3, 0x7000, cpl=cpl)
    completed = VirtualCpu(Witness(touch=touch), V2).vmware(data, NO_MEMORY)
    assert completed == ([MAGIC, 0x10000, 5, 3, 0x7000, 0, 0], GuestException(14, error_code, address))
    after = fields(data)
    assert (after["inject"], after["vector"]) == (1, 14)
    assert (after["error_code"], after["address"]) == (error_code, address)
    assert after["result"] == MAGIC, "or the instruction could not be repeated"


class Unmapped(Memory):
    """A monitor's memory that knows which page it was."""

    def read(self, address: int, size: int) -> bytes:
        raise PageFault(address + 0x1000, present=True)

    def write(self, address: int, data: bytes) -> None:
        raise PageFault(address + 0x2000)


def test_a_monitor_may_know_the_page() -> None:
    data = call(MAGIC, 0x10000, 5, 3, 0x7000, cpl=3)
    completed = VirtualCpu(Witness(touch=lambda memory: memory.read(0x7000, 1)), V2).vmware(data, Unmapped())
    assert completed is not None
    assert completed.exception == GuestException(14, 5, 0x8000)
    completed = VirtualCpu(Witness(touch=lambda memory: memory.write(0x7000, b"")), V2).vmware(data, Unmapped())
    assert completed is not None
    assert completed.exception == GuestException(14, 6, 0x9000)


def test_a_host_that_serves_no_hypercall_gives_an_invalid_opcode() -> None:
    data = call(MAGIC, 0, 10)
    completed = VirtualCpu(Witness(answers=False), V2).vmware(data, NO_MEMORY)
    assert completed == ([MAGIC, 0, 10, 0, 0, 0, 0], GuestException(6))
    assert (fields(data)["vector"], fields(data)["result"]) == (6, MAGIC)


class ThroughKvm:
    """Answers exits by way of the structures: what a guest of the other tests needs."""

    def __init__(self, machine: Machine, form: str) -> None:
        self.cpu = VirtualCpu(Backdoor(machine), V2)
        self.form = form
        self.exceptions: list[GuestException] = []

    def exit(self, instruction: int, regs: list[int], memory: Memory, who: Guest) -> bool:
        if instruction == VMCALL:
            completed = self._hypercall(regs, memory)
        elif instruction == PORT_LOW:
            run = io(direction=0, size=4, port=regs[3] & 0xFFFF, count=1)
            completed = self.cpu.exit(run, regs, memory)
            assert completed is not None
            assert run[PAGE : PAGE + 4] == (completed.registers[0] & ONES).to_bytes(4, "little")
        else:
            completed = self._string(instruction, regs, memory)
        assert completed is not None
        regs[:] = completed.registers
        if completed.exception is not None:
            self.exceptions.append(completed.exception)
        return completed.exception is None

    def _hypercall(self, regs: list[int], memory: Memory) -> kvm.Completed | None:
        run = bytearray(PAGE)
        if self.form == "older":
            struct.pack_into("<I", run, 8, 3)
            struct.pack_into("<9Q", run, 32, *regs, 3, 1)
            completed = self.cpu.exit(run, [0] * 7, memory)
            assert completed is not None
            assert struct.unpack_from("<9Q", run, 32) == (*regs, completed.registers[0], 1)
            return completed
        struct.pack_into("<I", run, 8, 40)
        run[32:136] = call(*regs, cpl=3)
        completed = self.cpu.exit(run, [0] * 7, memory)
        assert completed is not None
        assert kvm.decode(run[32:136]).result == completed.registers[0]
        assert kvm.decode(run[32:136]).exception == completed.exception
        return completed

    def _string(self, instruction: int, regs: list[int], memory: Memory) -> kvm.Completed | None:
        """In pieces, as KVM does: bytes out one by one, registers advanced before; in by 1024, advanced after."""
        out = instruction == PORT_OUT
        data = memory.read(regs[4], regs[2]) if out else b""
        got = b""
        while regs[2]:
            count = 1 if out else min(regs[2], 1024)
            run = io(direction=int(out), size=1, port=0x5659, count=count)
            if out:
                run[PAGE : PAGE + 1] = data[:1]
                data = data[1:]
                regs[4] += 1
                regs[2] -= 1
            completed = self.cpu.exit(run, regs, memory)
            assert completed is not None
            regs[:] = completed.registers
            if not out:
                got += run[PAGE : PAGE + count]
                regs[5] += count
                regs[2] -= count
        if not out:
            memory.write(regs[5] - len(got), got)
        return kvm.Completed(regs)


def io(*, direction: int, size: int, port: int, count: int, at: int = PAGE) -> bytearray:
    run = bytearray(2 * PAGE)
    struct.pack_into("<I", run, 8, 2)
    struct.pack_into("<BBHIQ", run, 32, direction, size, port, count, at)
    return run


@pytest.mark.parametrize("form", ["port", "older", "v2"])
@pytest.mark.parametrize("high", [False, True])
@pytest.mark.parametrize("size", [0, 1, 5, 1024, 5000])
def test_a_guest_through_the_structures(form: str, high: bool, size: int) -> None:
    value = bytes(n * 7 & 0xFF for n in range(size))
    host = ThroughKvm(Machine(guestinfo={b"hello": value}), form)
    guest = NaiveGuest(host, high=high, hypercall=form != "port")
    guest.open()
    assert guest.rpc(b"info-set guestinfo.big " + value) == b"1 "
    assert guest.rpc(b"info-get guestinfo.hello") == b"1 " + value
    guest.close()


@pytest.mark.parametrize("form", ["older", "v2"])
def test_a_guests_bad_pointer(form: str) -> None:
    host = ThroughKvm(Machine(), form)
    guest = NaiveGuest(host, hypercall=True)
    guest.open()
    guest.message(1, 4)
    with pytest.raises(Faulted):
        guest.high_out(b"", size=4)
    assert host.exceptions == [GuestException(14, 4, ADDRESS)]
    assert guest.high_out(b"log ").bx & ONES == 0x10000, "the channel stands where it stood"


# -- KVM_EXIT_IO -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("direction", "size", "port", "count", "regs"),
    [
        (0, 4, 0x5658, 1, [1, 0, 10, 0x5658]),  # no magic
        (0, 2, 0x5658, 1, [MAGIC, 0, 10, 0x5658]),
        (1, 4, 0x5658, 1, [MAGIC, 0, 10, 0x5658]),
        (0, 4, 0x5658, 2, [MAGIC, 0, 10, 0x5658]),
        (0, 4, 0x5659, 1, [MAGIC, 0, 10, 0x5659]),
        (0, 4, 0x60, 1, [MAGIC, 0, 10, 0x60]),
        (0, 4, 0x5658, 1, [MAGIC, 0, 10, 0x1234]),  # the port is not in DX: another instruction
        (1, 1, 0x5659, 1, [2, 0x10000, 0, 0x5659]),
        (0, 1, 0x3F8, 1, [MAGIC, 0x10000, 1, 0x3F8]),
    ],
)
def test_io_that_is_not_ours(direction: int, size: int, port: int, count: int, regs: list[int]) -> None:
    run = io(direction=direction, size=size, port=port, count=count)
    before = bytes(run)
    witness = Witness()
    assert VirtualCpu(witness, V2).exit(run, [*regs, 0, 0, 0], NO_MEMORY) is None
    assert (bytes(run), witness.asked) == (before, [])


@pytest.mark.parametrize("instruction", [PORT_LOW, PORT_OUT, PORT_IN])
def test_io_that_the_host_does_not_serve(instruction: int) -> None:
    low = instruction == PORT_LOW
    run = io(direction=int(instruction == PORT_OUT), size=4 if low else 1, port=0x5658 + (not low), count=1)
    before = bytes(run)
    counter = 0 if instruction == PORT_OUT else 1
    witness = Witness(answers=False)
    regs = [MAGIC, 0x10000, counter, 0x5658 + (not low), 9, 9, 9]
    assert VirtualCpu(witness, V2).exit(run, regs, NO_MEMORY) is None
    assert [asked[0] for asked in witness.asked] == [instruction]
    assert bytes(run) == before


def test_other_exits_are_not_ours() -> None:
    run = bytearray(PAGE)
    for reason in (0, 1, 5, 6, 39, 41):
        struct.pack_into("<I", run, 8, reason)
        assert VirtualCpu(Witness(), V2).exit(run, [MAGIC, 0, 10, 0x5658, 0, 0, 0], NO_MEMORY) is None


def test_data_outside_of_the_mapping() -> None:
    run = io(direction=0, size=1, port=0x5659, count=0x1000, at=PAGE + 1)
    with pytest.raises(ValueError, match="outside of kvm_run"):
        VirtualCpu(Witness(), V2).exit(run, [MAGIC, 0x10000, 1, 0x5659, 0, 0, 0], NO_MEMORY)


def string(cpu: VirtualCpu, out: bool, regs: list[int], count: int, data: bytes = b"") -> tuple[list[int], bytes]:
    """One exit of a string instruction; registers as KVM has them at it."""
    run = io(direction=int(out), size=1, port=0x5659, count=count)
    run[PAGE : PAGE + len(data)] = data
    completed = cpu.exit(run, regs, NO_MEMORY)
    assert completed is not None
    return completed.registers, bytes(run[PAGE : PAGE + count])


def test_refused_transfers_are_refused_once_and_leave_eax_alone() -> None:
    witness: list[int] = []

    class Refusing(Backdoor):
        def exit(self, instruction: int, regs: list[int], memory: Memory, who: Guest) -> bool:
            witness.append(regs[2])
            return super().exit(instruction, regs, memory, who)

    cpu = VirtualCpu(Refusing(Machine()), V2)
    regs, data = string(cpu, False, [MAGIC, 0x10000, 10, 0x5659, 0, 100, 0], 4)
    assert (regs[:3], data) == ([MAGIC, 0, 10], bytes(4))
    regs, data = string(cpu, False, [MAGIC, 0, 6, 0x5659, 0, 104, 0], 6)
    assert (regs[:3], data, witness) == ([MAGIC, 0, 6], bytes(6), [10])
    regs = [MAGIC, 0x10000, 1, 0x5659, 101, 0, 0]
    regs, _ = string(cpu, True, regs, 1, b"a")
    assert (regs[:3], witness) == ([MAGIC, 0x10000, 1], [10])
    regs, _ = string(cpu, True, [*regs[:2], 0, 0x5659, 102, 0, 0], 1, b"b")
    assert (regs[:3], witness) == ([MAGIC, 0, 0], [10, 2])


def test_a_transfer_that_was_broken_off_is_forgotten() -> None:
    guest = NaiveGuest(backdoor := Backdoor(Machine()))
    guest.open()
    guest.message(1, 3)
    cpu = VirtualCpu(backdoor, V2)
    cookies = [guest.id << 16 | 0x5659, 0, guest.cookie_low, guest.cookie_high]
    string(cpu, True, [MAGIC, 0x10000, 9, cookies[0], 501, *cookies[2:]], 1, b"x")  # nine more would come
    for n, byte in enumerate(b"log"):
        regs = [MAGIC, 0x10000, 2 - n, cookies[0], 701 + n, *cookies[2:]]
        regs, _ = string(cpu, True, regs, 1, bytes([byte]))
    assert regs[1] == 0x10000
    assert guest.receive() == b"1 "


def test_a_counter_of_16_bits() -> None:
    witness = Witness()
    run = io(direction=0, size=1, port=0x5659, count=1)
    regs = [MAGIC, 0x10000, 0xABCD0001, 0x5659, 0, 0, 0]
    assert VirtualCpu(witness, V2).exit(run, regs, NO_MEMORY, address_bits=16) is not None
    assert witness.asked[0][1][2] == 1


def test_more_than_any_host_takes_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "GATHERED", 8)
    guest = NaiveGuest(backdoor := Backdoor(Machine()))
    guest.open()
    guest.message(1, 20)
    cpu = VirtualCpu(backdoor, V2)
    dx, di, bp = guest.id << 16 | 0x5659, guest.cookie_low, guest.cookie_high
    string(cpu, True, [MAGIC, 0x10000, 10, dx, 110, di, bp], 10, b"0123456789")
    regs, _ = string(cpu, True, [MAGIC, 0x10000, 0, dx, 120, di, bp], 10, b"0123456789")
    assert regs[:3] == [MAGIC, 0, 0]
    assert backdoor.exit(VMCALL, [MAGIC, 0, 10, 0, 0, 0, 0], NO_MEMORY, NOBODY)
