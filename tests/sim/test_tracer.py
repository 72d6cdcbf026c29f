"""What traps, and what the program finds in its registers and memory afterwards."""

from __future__ import annotations

import errno
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from vmtools.constants import MAGIC, PORT, PORT_HIGH
from vmtools.sim.backdoor import PORT_IN, PORT_LOW, PORT_OUT, RDPMC, VMCALL, VMMCALL, Guest, Memory

from .standin import ALPHABET, AX, BX, CX, DI, DX, SI, Outcome, StandIn, run_captured

Run = Callable[..., Outcome]

# guest.c's registers before the instruction
BEFORE = [
    0x1111111100000000 | MAGIC,
    0x2222222222222222,
    0x333333333333000A,
    0x4444444444440000 | PORT,
    0x5555555555555555,
    0x6666666666666666,
    0x7777777777777777,
]


def changed(**registers: int) -> list[int]:
    """BEFORE with some registers changed."""
    places = {"ax": AX, "bx": BX, "dx": DX}
    return [next((v for name, v in registers.items() if places[name] == i), old) for i, old in enumerate(BEFORE)]


@pytest.mark.parametrize(
    ("mode", "ax"),
    [
        ("in", 0x1111111100000099),
        ("in16", 0x1111111100000000 | MAGIC & 0xFFFF0000 | 0x99),
        ("in8", 0x1111111100000000 | MAGIC & 0xFFFFFF00 | 0x99),
        ("out", 0x1111111100000000 | MAGIC),
    ],
)
def test_port_forms(run_guest: Run, mode: str, ax: int) -> None:
    outcome = run_guest(mode)
    assert [(call[0], call[1]) for call in outcome.host.calls] == [(PORT_LOW, BEFORE)]
    assert outcome.registers == changed(ax=ax, bx=BEFORE[BX] + 1)
    assert outcome.status == 0


def test_who_trapped(run_guest: Run) -> None:
    ((_, _, who),) = run_guest("in").host.calls
    assert who.name == "guest"
    assert who.pid == who.tid > 1


@pytest.mark.parametrize(("mode", "instruction"), [("vmcall", VMCALL), ("vmmcall", VMMCALL)])
def test_hypercalls(run_guest: Run, mode: str, instruction: int) -> None:
    outcome = run_guest(mode, "0")
    if not outcome.host.calls:
        # It depends on processor and hypervisor which one faults; the one that does not is none of the tracer's.
        assert (outcome.status, outcome.registers[1:]) == (0, changed(dx=BEFORE[DX] & ~0xFFFF)[1:])
        return
    assert outcome.host.calls[0][0] == instruction
    assert outcome.registers == changed(ax=0x1111111100000099, bx=BEFORE[BX] + 1, dx=BEFORE[DX] & ~0xFFFF)


def test_one_hypercall_traps_or_neither_exists(run_guest: Run) -> None:
    # Also on bare metal, where the other vendor's is #UD: never both run through.
    assert run_guest("vmcall", "0").host.calls or run_guest("vmmcall", "0").host.calls


def test_rdpmc(run_guest: Run) -> None:
    class Clock(StandIn):
        def exit(self, instruction: int, regs: list[int], memory: Memory, who: Guest) -> bool:
            self.calls.append((instruction, list(regs), who))
            regs[AX], regs[DX] = 0x34, 0x12
            return True

    outcome = run_guest("rdpmc", host=Clock())
    assert [call[0] for call in outcome.host.calls] == [RDPMC]
    assert outcome.registers == changed(ax=0x34, dx=0x12)


@pytest.mark.parametrize("words", [("in", "5660"), ("out", "80"), ("plain",)])
def test_what_is_no_backdoor_faults(run_guest: Run, words: tuple[str, ...]) -> None:
    outcome = run_guest(*words)
    assert (outcome.status, outcome.host.calls) == (-signal.SIGSEGV, [])


def test_what_the_host_does_not_serve_faults(run_guest: Run) -> None:
    outcome = run_guest("rdpmc")
    assert (outcome.status, len(outcome.host.calls)) == (-signal.SIGSEGV, 1)


@pytest.mark.parametrize("how", ["rep", "addr32"])
@pytest.mark.parametrize("size", [1, 4095])
def test_string_out(run_guest: Run, how: str, size: int) -> None:
    data = ("wxyz" * 1024)[:size]
    outcome = run_guest("string-out", how, data)
    assert outcome.host.data == [data.encode()]
    instruction, regs, _ = outcome.host.calls[0]
    assert (instruction, regs[CX], regs[DX]) == (PORT_OUT, size, PORT_HIGH)
    assert outcome.registers == [MAGIC, 0x10000, 0, PORT_HIGH, size, 2, 3]


@pytest.mark.parametrize("how", ["backward", "plain"])
def test_string_forms_that_are_not_ours(run_guest: Run, how: str) -> None:
    outcome = run_guest("string-out", how, "data")
    assert (outcome.status, outcome.host.calls) == (-signal.SIGSEGV, [])


@pytest.mark.parametrize("size", [1, 26, 65536])
def test_string_in(run_guest: Run, size: int) -> None:
    outcome = run_guest("string-in", size)
    assert outcome.host.calls[0][0] == PORT_IN
    assert outcome.registers == [MAGIC, 0x10000, 0, PORT_HIGH, 1, size, 3]
    assert outcome.output.splitlines()[1] == (ALPHABET.decode() * (size // 26 + 1))[:size]


@pytest.mark.parametrize("direction", ["out", "in"])
def test_bad_pointer_is_the_programs_own_fault(run_guest: Run, direction: str) -> None:
    outcome = run_guest("bad-pointer", direction)
    assert (outcome.status, len(outcome.host.calls)) == (-signal.SIGSEGV, 1)


def test_memory_is_bounded(run_guest: Run) -> None:
    seen: list[int | None] = []

    class Prying(StandIn):
        def exit(self, instruction: int, regs: list[int], memory: Memory, who: Guest) -> bool:
            for address, size in ((regs[SI], 1 << 31), (1 << 64, 1), (-1, 1), (0xFFFFFFFFFFFFF000, 8), (8, 8)):
                with pytest.raises(OSError, match=r"bytes|address") as caught:
                    memory.read(address, size)
                seen.append(caught.value.errno)
            assert memory.read(8, 0) == b""
            return super().exit(instruction, regs, memory, who)

    assert run_guest("string-out", "rep", "data", host=Prying()).status == 0
    assert seen == [errno.EMSGSIZE] + [errno.EFAULT] * 4


def test_registers_are_checked(run_guest: Run) -> None:
    class Careless(StandIn):
        def exit(self, instruction: int, regs: list[int], memory: Memory, who: Guest) -> bool:
            regs[DI] = 1 << 64
            return True

    with pytest.raises(OverflowError):
        run_guest("in", host=Careless())


def test_own_handler(run_guest: Run) -> None:
    """The program's handler sees its own null pointers and none of our traps."""
    outcome = run_guest("own-handler")
    assert outcome.output.split() == ["100", "0x18", "1"]
    assert len(outcome.host.calls) == 101


def test_sent_sigsegv_is_delivered(run_guest: Run) -> None:
    outcome = run_guest("sent-segv")
    assert outcome.output.split() == ["1", "0"]


def test_rewritten_code(run_guest: Run) -> None:
    """Two instructions in turn at one address, up to the end of a mapping; then in a page that can't be read."""
    outcome = run_guest("rewritten")
    assert (outcome.output.strip(), outcome.status) == ("8", 0)


def test_threads_and_forks(run_guest: Run) -> None:
    rounds, forks = 300, 3
    outcome = run_guest("threads", rounds, forks)
    assert (outcome.output.strip(), outcome.status) == ("0", 0)
    served = Counter(call[2].tid for call in outcome.host.calls)
    assert sorted(served.values()) == [rounds] * 8 * (forks + 1)
    processes = {call[2].pid for call in outcome.host.calls}
    assert len(processes) == forks + 1


def test_threads_are_served_in_turn(run_guest: Run) -> None:
    """waitpid prefers the eldest: served as it says, the first of eight is done after a fifth of all exits."""
    rounds = 3000
    last = {call[2].tid: at for at, call in enumerate(run_guest("threads", rounds, 0).host.calls)}
    assert min(last.values()) > 0.35 * 8 * rounds


def test_exec_from_a_thread(run_guest: Run, guest: Path) -> None:
    outcome = run_guest("thread-exec")
    assert outcome.status == 0
    first, second = outcome.host.calls
    assert outcome.registers == changed(ax=0x1111111100000099, bx=BEFORE[BX] + 1)
    assert first[2].pid == second[2].pid == second[2].tid


def test_32_bit_program(tracing: None, compile_program: Callable[..., Path]) -> None:
    try:
        program = compile_program("guest32.c", "-m32", "-ffreestanding", "-fno-pie", "-no-pie", "-nostdlib", "-static")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this compiler makes no 32-bit programs: {error}")
    outcome = run_captured([str(program)], StandIn())
    assert outcome.status == 63
    assert outcome.host.data == [b"abcde"]
    assert all(value < 1 << 32 for call in outcome.host.calls for value in call[1])


def test_registers_of_32_bit_code_are_cut(tracing: None, compile_program: Callable[..., Path]) -> None:
    class Spendthrift(StandIn):
        def exit(self, instruction: int, regs: list[int], memory: Memory, who: Guest) -> bool:
            answered = super().exit(instruction, regs, memory, who)
            regs[:] = [value | 0xABCD << 32 for value in regs]
            return answered

    try:
        program = compile_program("guest32.c", "-m32", "-ffreestanding", "-fno-pie", "-no-pie", "-nostdlib", "-static")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this compiler makes no 32-bit programs: {error}")
    assert run_captured([str(program)], Spendthrift()).status == 63


def test_confined(run_guest: Run) -> None:
    native, compat, last = run_guest("confined").output.splitlines()
    refused = f"vsock -{errno.EAFNOSUPPORT} unix 1"
    assert native == f"ioperm 0 iopl 0 {refused} uring -{errno.ENOSYS} x32 0"
    call = f"call -{errno.EAFNOSUPPORT} call 1 bad -{errno.EFAULT}"
    assert compat == f"ioperm 0 iopl 0 {refused} {call} uring -{errno.ENOSYS}"
    assert last == f"in 1 traceme -{errno.EPERM}"


def test_a_filter_of_the_programs_own_finds_no_tracer(run_guest: Run) -> None:
    assert run_guest("own-filter").output == f"getppid -{errno.ENOSYS} in 1\n"
