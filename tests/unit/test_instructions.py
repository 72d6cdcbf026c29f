"""Every instruction of ``ext/`` on an independent CPU: each register before and after, memory, flags, faults."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from elftools.dwarf.callframe import FDE
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st
from unicorn import arm64_const as arm
from unicorn.unicorn_py3 import UcError

from .machine_code import AARCH64, ARCHITECTURES, I386, X86_64, Architecture, Built
from .processor import PAGE, SLOTS, Processor

if TYPE_CHECKING:
    from collections.abc import Iterator

AX, BX, CX, DX, SI, DI, BP = range(SLOTS)
MAGIC = 0x564D5868
DWARF_SP = {"x86_64": 7, "i386": 4, "aarch64": 31}

FUNCTIONS = [(a, f) for a in ARCHITECTURES for f in a.functions]
EVERY_FUNCTION = pytest.mark.parametrize(
    ("processor", "function"), FUNCTIONS, ids=[f"{a.name}-{f}" for a, f in FUNCTIONS], indirect=["processor"]
)
X86 = pytest.mark.parametrize("processor", [X86_64, I386], ids=["x86_64", "i386"], indirect=True)

u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
slots = st.lists(u64, min_size=SLOTS, max_size=SLOTS)
# Distinct in every byte, so that halves, slots and registers cannot be taken for one another.
DISTINCT = [int.from_bytes(bytes(range(16 * i + 1, 16 * i + 9)), "big") for i in range(1, SLOTS + 1)]
OTHERS = [~value & 2**64 - 1 for value in DISTINCT]


@pytest.fixture(scope="module")
def processors() -> dict[str, Processor]:
    """Built once, on first use."""
    return {}


@pytest.fixture(scope="module")
def processor(
    request: pytest.FixtureRequest, processors: dict[str, Processor], tmp_path_factory: pytest.TempPathFactory
) -> Processor:
    """The processor of the architecture that the test is for."""
    architecture: Architecture = request.param
    if architecture.name not in processors:
        built = Built(architecture, tmp_path_factory.mktemp(architecture.name))
        processors[architecture.name] = Processor(built)
    return processors[architecture.name]


def masked(processor: Processor, values: list[int]) -> tuple[int, ...]:
    return tuple(value & processor.registers.mask for value in values)


@EVERY_FUNCTION
@settings(deadline=None)
@given(before=slots, after=slots, flags=u32, flags_after=u32, kept=u64)
def test_registers(
    processor: Processor, function: str, before: list[int], after: list[int], flags: int, flags_after: int, kept: int
) -> None:
    """Seven registers go to the host as the frame has them and come back as the host left them; nothing else moves."""
    processor.begin(function, before, flags, kept)
    assert processor.values() == masked(processor, before)
    assert processor.direction == 0
    assert processor.top_of_stack() == 0
    processor.answer(after, flags_after)
    assert processor.end() == 0
    assert processor.frame() == masked(processor, after)
    processor.check_call()


@EVERY_FUNCTION
@settings(deadline=None)
@given(fault=u32, after=slots, flags=u32)
def test_fault(processor: Processor, function: str, fault: int, after: list[int], flags: int) -> None:
    """A handler's word on top of the stack is what the function returns; the frame shows what the fault left."""
    processor.begin(function, DISTINCT, flags)
    processor.answer(after, ~flags)
    processor.fault(fault)
    assert processor.end() == fault
    assert processor.frame() == masked(processor, after)
    processor.check_call()


@EVERY_FUNCTION
def test_flags_one_by_one(processor: Processor, function: str) -> None:
    """Each flag set, and each clear, is kept though the host inverts them all; DF is clear for the instruction."""
    free = processor.registers.flags_free
    for flag in (1 << bit for bit in range(32) if free >> bit & 1):
        for flags in (flag, free & ~flag):
            processor.begin(function, DISTINCT, flags)
            assert processor.direction == 0
            processor.answer(OTHERS, ~flags)
            assert processor.end() == 0
            processor.check_call()


@EVERY_FUNCTION
def test_straight_line(processor: Processor, function: str) -> None:
    """Each instruction of a function runs exactly once, in order."""
    processor.begin(function, DISTINCT)
    processor.answer(OTHERS)
    processor.end()
    code = processor.place.code
    assert processor.executed == [code + i.address for i in processor.built.listing(function)]


@pytest.mark.parametrize(("function", "operation"), [("vmt_low", 0x0E), ("vmt_high_out", 0x18), ("vmt_high_in", 0x1C)])
@pytest.mark.parametrize("processor", [AARCH64], ids=["aarch64"], indirect=True)
def test_aarch64_operation(processor: Processor, function: str, operation: int) -> None:
    """X7 says which port instruction is meant; the trap is MRS XZR, MDCCSR_EL0."""
    processor.begin(function, DISTINCT)
    assert processor.read(arm.UC_ARM64_REG_X7) == 0x86 << 32 | operation
    assert processor.uc.mem_read(processor.insn, 4) == (0xD533011F).to_bytes(4, "little")


class Row(NamedTuple):
    """One row of the unwinder's table, in bytes from the stack pointer and from the CFA."""

    cfa: int
    saved: dict[int, int]


def unwinding(built: Built, function: str) -> dict[int, Row]:
    """For each instruction of a function the row that holds there."""
    start, size = built.symbols[function]
    with built.library.open("rb") as file:
        entries = ELFFile(file).get_dwarf_info().EH_CFI_entries()
        (entry,) = (e for e in entries if isinstance(e, FDE) and e["initial_location"] == start)
        assert entry["address_range"] == size
        table = entry.get_decoded().table
    rows = {}
    for address in (i.address for i in built.listing(function)):
        row = [row for row in table if row["pc"] <= address][-1]
        assert row["cfa"].reg == DWARF_SP[built.architecture.name]
        rows[address] = Row(row["cfa"].offset, {n: rule.arg for n, rule in row.items() if isinstance(n, int)})
    return rows


@EVERY_FUNCTION
def test_unwinding(processor: Processor, function: str) -> None:
    """At every instruction the table leads to the caller's stack, return address and registers."""
    r, place = processor.registers, processor.place
    rows = unwinding(processor.built, function)
    checked = []

    def check(address: int) -> None:
        row = rows[address - place.code]
        assert processor.read(r.sp) + row.cfa == processor.cfa
        if processor.built.architecture is not AARCH64:  # there it stays in X30
            assert processor.word(processor.cfa - r.word) == place.caller
        for number, name in r.dwarf.items():
            saved = row.saved.get(number)
            # What lies below the stack pointer is a signal handler's to overwrite.
            assert saved is None or processor.cfa + saved >= processor.read(r.sp)
            value = processor.read(r.kept[name]) if saved is None else processor.word(processor.cfa + saved)
            assert value == processor.kept_before[name], name
        checked.append(address - place.code)

    processor.watch = check
    try:
        processor.begin(function, DISTINCT, 0, 0x123456789ABCDEF)
        processor.answer(OTHERS)
        processor.end()
    finally:
        processor.watch = None
    assert set(checked) == set(rows)


# -- the instructions executed by the processor itself


REFUSED = [(a, f) for a, f in FUNCTIONS if a is AARCH64 or f in {"vmt_vmcall", "vmt_vmmcall", "vmt_rdpmc"}]


@pytest.mark.parametrize(
    ("processor", "function"), REFUSED, ids=[f"{a.name}-{f}" for a, f in REFUSED], indirect=["processor"]
)
def test_refused(processor: Processor, function: str) -> None:
    """Where the processor really refuses, it stops at the address in the table; the call reports it and goes on."""
    processor.prepare(function, DISTINCT, processor.registers.flags_free, 3)
    with pytest.raises(UcError, match=r"INSN_INVALID|EXCEPTION"):
        processor.uc.emu_start(processor.entry, processor.place.caller)
    assert processor.pc == processor.insn
    processor.fault(0x204)  # SIGILL, ILL_ILLOPN
    assert processor.end() == 0x204
    assert processor.frame() == masked(processor, DISTINCT)
    processor.check_call()


@pytest.fixture
def ports(processor: Processor) -> Iterator[Ports]:
    """What stands at the other end of the processor's ports."""
    found = Ports(processor)
    with processor.ports(found.on_in, found.on_out):
        yield found


class Ports:
    """A device: it gives out ``give`` byte by byte or word by word, and keeps what it takes."""

    def __init__(self, processor: Processor) -> None:
        self.processor = processor
        self.give: list[int] = []
        self.taken: list[int] = []
        self.calls: list[tuple[int, int]] = []
        self.seen: list[tuple[int, ...]] = []
        self.set: dict[int, int] = {}

    def on_in(self, port: int, size: int) -> int:
        self.calls.append((port, size))
        self.seen.append(self.processor.values())
        for slot, value in self.set.items():
            self.processor.uc.reg_write(self.processor.registers.frame[slot], value)
        return self.give.pop(0)

    def on_out(self, port: int, size: int, value: int) -> None:
        self.calls.append((port, size))
        self.taken.append(value)


@X86
@pytest.mark.parametrize("flags", [0, 0xFFFFFFFF])
def test_in(processor: Processor, ports: Ports, flags: int) -> None:
    """One 32-bit IN from the port in DX; the host sees and sets all other registers meanwhile."""
    before = [0x1111111100000000 | MAGIC, *DISTINCT[BX:]]
    before[DX] = 0xABCDEF0123455658
    after = masked(processor, OTHERS)
    ports.give = [0xCAFEF00D]
    ports.set = dict(enumerate(after[BX:], BX))
    assert processor.call("vmt_low", before, flags) == 0
    assert ports.calls == [(0x5658, 4)]
    assert ports.seen == [masked(processor, before)]
    assert processor.frame() == (0xCAFEF00D, *after[BX:])
    processor.check_call()


def string_frame(processor: Processor, count: int, pointer: int) -> list[int]:
    """A high-bandwidth frame with a pointer (SI or DI) to the last ``count`` bytes before an unmapped page."""
    frame = list(DISTINCT)
    frame[CX], frame[DX] = count, 0x7775659
    frame[pointer] = processor.place.data + PAGE - count
    return frame


@X86
@pytest.mark.parametrize("count", [0, 1, 2, 3, 255, PAGE])
def test_rep_outsb(processor: Processor, ports: Ports, count: int) -> None:
    """CX bytes go out upwards from SI, though the caller had DF set."""
    data = bytes(i * 7 & 0xFF for i in range(count))
    frame = string_frame(processor, count, SI)
    processor.uc.mem_write(frame[SI], data)
    assert processor.call("vmt_high_out", frame, processor.registers.direction) == 0
    assert bytes(ports.taken) == data
    assert ports.calls == [(0x5659, 1)] * count
    frame[CX], frame[SI] = 0, processor.place.data + PAGE
    assert processor.frame() == masked(processor, frame)
    processor.reads -= set(range(processor.place.data, processor.place.data + PAGE))
    processor.check_call()


@X86
@pytest.mark.parametrize("count", [0, 1, 2, 3, 255, PAGE])
def test_rep_insb(processor: Processor, ports: Ports, count: int) -> None:
    """CX bytes come in upwards from DI, though the caller had DF set; not one more."""
    data = bytes(i * 11 & 0xFF for i in range(count))
    ports.give = list(data)
    frame = string_frame(processor, count, DI)
    processor.uc.mem_write(processor.place.data, b"\x5a" * PAGE)
    assert processor.call("vmt_high_in", frame, processor.registers.direction) == 0
    assert processor.uc.mem_read(processor.place.data, PAGE) == b"\x5a" * (PAGE - count) + data
    assert ports.calls == [(0x5659, 1)] * count
    frame[CX], frame[DI] = 0, processor.place.data + PAGE
    assert processor.frame() == masked(processor, frame)
    processor.writes -= set(range(processor.place.data, processor.place.data + PAGE))
    processor.check_call()


@X86
@pytest.mark.parametrize(("function", "pointer"), [("vmt_high_out", SI), ("vmt_high_in", DI)])
def test_rep_runs_into_an_unmapped_page(processor: Processor, ports: Ports, function: str, pointer: int) -> None:
    """The fault lies at the address in the table of fixups, and the frame tells how far it came."""
    count, beyond = 20, 9
    ports.give = [0x33] * (count + beyond)
    frame = string_frame(processor, count, pointer)
    frame[CX] += beyond
    processor.prepare(function, frame, processor.registers.direction, 1)
    with pytest.raises(UcError, match="UNMAPPED"):
        processor.uc.emu_start(processor.entry, processor.place.caller)
    assert processor.pc == processor.insn
    processor.fault(0x10B)  # SIGSEGV, SEGV_MAPERR
    assert processor.end() == 0x10B
    frame[CX], frame[pointer] = beyond, processor.place.data + PAGE
    assert processor.frame() == masked(processor, frame)


@X86
def test_cpuid(processor: Processor) -> None:
    """The leaf in AX, the sub-leaf in CX, four registers back; the others as they were."""
    assert processor.call("vmt_cpuid", [0, *DISTINCT[BX:]]) == 0
    frame = processor.frame()
    vendor = b"".join(frame[i].to_bytes(4, "little") for i in (BX, DX, CX))
    assert vendor in {b"AuthenticAMD", b"GenuineIntel"}
    assert frame[AX] in range(1, 0x100)
    assert frame[SI:] == masked(processor, DISTINCT[SI:])
    processor.check_call()
