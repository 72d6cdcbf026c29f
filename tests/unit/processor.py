"""An independent CPU (Unicorn) that calls the functions of ``ext/``, with a host's part played by the test."""

from __future__ import annotations

import struct
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import unicorn
import unicorn.unicorn_py3
from unicorn import arm64_const as arm
from unicorn import x86_const as x86

from .machine_code import AARCH64, I386, X86_64

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .machine_code import Built, Fixup

PAGE = 4096
SLOTS = 7
FRAME = struct.Struct(f"<{SLOTS}Q")


class Place(NamedTuple):
    """Where things lie. High addresses: a pointer cut to 32 bits, or taken for a signed one, goes astray."""

    code: int
    frame: int
    stack: int  # the page; a call begins in its middle
    data: int  # a page with nothing behind it
    caller: int  # the return address


_LOW = Place(0xB7D00000, 0xB6001B40, 0xBFFF0000, 0xB5000000, 0xB4000120)
_HIGH = Place(*(0x7F1200000000 + address for address in _LOW))


@dataclass(frozen=True)
class Registers:
    """An architecture's registers, by Unicorn's numbers."""

    processor: tuple[int, int]
    word: int  # bytes
    frame: tuple[int, ...]  # those that carry ax, bx, cx, dx, si, di, bp
    kept: Mapping[str, int]  # those that come back as they went in: by the ABI, or because we have no use for them
    pc: int
    sp: int
    result: int
    flags: int
    flags_always: int
    flags_free: int  # the bits that a program may set as it likes
    direction: int  # DF among them
    stack: int  # words of stack that a call uses
    dwarf: Mapping[int, str]  # DWARF's numbers of the kept registers that may be saved
    place: Place

    @property
    def mask(self) -> int:
        """What of a slot a register holds."""
        return (1 << 8 * self.word) - 1


REGISTERS: Mapping[str, Registers] = {
    X86_64.name: Registers(
        processor=(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64),
        word=8,
        frame=tuple(getattr(x86, f"UC_X86_REG_R{n}") for n in ("AX", "BX", "CX", "DX", "SI", "DI", "BP")),
        kept={n: getattr(x86, f"UC_X86_REG_{n}") for n in ("RBX", "RBP", *(f"R{i}" for i in range(9, 16)))},
        pc=x86.UC_X86_REG_RIP,
        sp=x86.UC_X86_REG_RSP,
        result=x86.UC_X86_REG_EAX,
        flags=x86.UC_X86_REG_EFLAGS,
        flags_always=0x202,
        flags_free=0xCD5,
        direction=0x400,
        stack=5,
        dwarf={3: "RBX", 6: "RBP"},
        place=_HIGH,
    ),
    I386.name: Registers(
        processor=(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32),
        word=4,
        frame=tuple(getattr(x86, f"UC_X86_REG_E{n}") for n in ("AX", "BX", "CX", "DX", "SI", "DI", "BP")),
        kept={n: getattr(x86, f"UC_X86_REG_{n}") for n in ("EBX", "ESI", "EDI", "EBP")},
        pc=x86.UC_X86_REG_EIP,
        sp=x86.UC_X86_REG_ESP,
        result=x86.UC_X86_REG_EAX,
        flags=x86.UC_X86_REG_EFLAGS,
        flags_always=0x202,
        flags_free=0xCD5,
        direction=0x400,
        stack=7,
        dwarf={3: "EBX", 5: "EBP", 6: "ESI", 7: "EDI"},
        place=_LOW,
    ),
    AARCH64.name: Registers(
        processor=(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM),
        word=8,
        frame=tuple(getattr(arm, f"UC_ARM64_REG_X{i}") for i in range(SLOTS)),
        kept={f"X{i}": getattr(arm, f"UC_ARM64_REG_X{i}") for i in range(10, 31)},
        pc=arm.UC_ARM64_REG_PC,
        sp=arm.UC_ARM64_REG_SP,
        result=arm.UC_ARM64_REG_W0,
        flags=arm.UC_ARM64_REG_NZCV,
        flags_always=0,
        flags_free=0xF0000000,
        direction=0,
        stack=4,
        dwarf={},
        place=_HIGH,
    ),
}


class Processor:
    """One architecture's functions, loaded and ready to be called.

    A call is made in two halves: ``begin`` runs up to the instruction that may trap, ``end`` from the place where it
    resumes.  Between them the test is the host, or the signal handler.  Everything is watched: which instructions
    run, which memory is read and written.
    """

    def __init__(self, built: Built) -> None:
        self.built = built
        self.registers = r = REGISTERS[built.architecture.name]
        self.place = r.place
        self.uc: Any = unicorn.unicorn_py3.Uc(*r.processor)  # its methods have no types
        for segment in built.segments:
            start = (self.place.code + segment.address) & -PAGE
            end = (self.place.code + segment.address + len(segment.data) + PAGE - 1) & -PAGE
            self.uc.mem_map(start, end - start, _protection(segment.flags))
            self.uc.mem_write(self.place.code + segment.address, segment.data)
        for page in (self.place.frame & -PAGE, self.place.stack, self.place.data):
            self.uc.mem_map(page, PAGE, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE)
        self.uc.mem_map(self.place.caller & -PAGE, PAGE, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        self.watch: Callable[[int], None] | None = None  # called before each instruction
        self.stop: int | None = None  # Unicorn's own `until` is forgotten by code it has translated before
        self.executed: list[int] = []
        self.reads: set[int] = set()  # addresses of bytes
        self.writes: set[int] = set()
        self.uc.hook_add(unicorn.UC_HOOK_CODE, self._on_code)
        self.uc.hook_add(unicorn.UC_HOOK_MEM_READ, self._on_read)
        self.uc.hook_add(unicorn.UC_HOOK_MEM_WRITE, self._on_write)

    def _on_code(self, _uc: object, address: int, _size: int, _data: object) -> None:
        if self.executed[-1:] != [address]:  # a REP instruction comes by once a round
            self.executed.append(address)
        if self.watch:
            self.watch(address)
        if address == self.stop:
            self.uc.emu_stop()

    def _on_read(self, _uc: object, _kind: int, address: int, size: int, _value: int, _data: object) -> None:
        self.reads.update(range(address, address + size))

    def _on_write(self, _uc: object, _kind: int, address: int, size: int, _value: int, _data: object) -> None:
        self.writes.update(range(address, address + size))

    def read(self, register: int) -> int:
        """A register, by Unicorn's number."""
        return int(self.uc.reg_read(register))

    def word(self, address: int) -> int:
        """A word of memory."""
        return int.from_bytes(self.uc.mem_read(address, self.registers.word), "little")

    # -- the caller's side

    def prepare(self, function: str, slots: Sequence[int], flags: int, kept: int) -> None:
        """A caller about to call: ``slots`` in its frame, its registers full of numbers made from ``kept``."""
        r = self.registers
        self.function = function
        self.entry = self.place.code + self.built.symbols[function][0]
        self.fixup: Fixup = self.built.fixup(function)
        self.uc.mem_write(self.place.stack, bytes(range(256)) * (PAGE // 256))
        self.uc.mem_write(self.place.frame & -PAGE, b"\xa5" * PAGE)
        self.uc.mem_write(self.place.frame, FRAME.pack(*slots))
        self.flags_before = r.flags_always | flags & r.flags_free
        self.kept_before = {}
        for number, (name, register) in enumerate(r.kept.items(), 1):
            self.kept_before[name] = kept * number & r.mask
            self.uc.reg_write(register, self.kept_before[name])
        self.uc.reg_write(r.flags, self.flags_before)
        self.cfa = self.place.stack + PAGE // 2  # DWARF's name for the stack pointer before the call
        if self.built.architecture is AARCH64:
            self.kept_before["X30"] = self.place.caller
            self.uc.reg_write(r.kept["X30"], self.place.caller)
            self.uc.reg_write(arm.UC_ARM64_REG_X0, self.place.frame)
            pushed = []
        elif self.built.architecture is X86_64:
            self.uc.reg_write(x86.UC_X86_REG_RDI, self.place.frame)
            pushed = [self.place.caller]
        else:
            self.uc.mem_write(self.cfa, self.place.frame.to_bytes(r.word, "little"))
            pushed = [self.place.caller]
        self.sp_before = self.cfa - r.word * len(pushed)
        self.uc.mem_write(self.sp_before, b"".join(word.to_bytes(r.word, "little") for word in pushed))
        self.uc.reg_write(r.sp, self.sp_before)
        self.memory_before = self._rest_of_memory()
        self.executed.clear()
        self.reads.clear()
        self.writes.clear()

    def begin(self, function: str, slots: Sequence[int], flags: int = 0, kept: int = 1) -> None:
        """Calls a function; stops before its instruction."""
        self.prepare(function, slots, flags, kept)
        self.stop = self.insn
        self.uc.emu_start(self.entry, self.place.caller)
        self.stop = None
        assert self.pc == self.insn

    def end(self) -> int:
        """Goes on where the instruction resumes; what the function returns."""
        self.uc.emu_start(self.resume, self.place.caller)
        assert self.pc == self.place.caller
        return self.result

    def call(self, function: str, slots: Sequence[int], flags: int = 0, kept: int = 1) -> int:
        """Calls a function, its instruction being executed by the processor."""
        self.prepare(function, slots, flags, kept)
        self.uc.emu_start(self.entry, self.place.caller)
        assert self.pc == self.place.caller
        return self.result

    def frame(self) -> tuple[int, ...]:
        """The frame's slots."""
        return FRAME.unpack(self.uc.mem_read(self.place.frame, FRAME.size))

    def check_call(self) -> None:
        """What every call owes its caller, whatever it returned."""
        r = self.registers
        assert {name: self.read(register) for name, register in r.kept.items()} == self.kept_before
        assert self.read(r.flags) == self.flags_before
        assert self.read(r.sp) == self.cfa
        stack = set(range(self.sp_before - r.stack * r.word, self.sp_before))
        frame = set(range(self.place.frame, self.place.frame + FRAME.size))
        arguments = set(range(self.sp_before, self.cfa + (r.word if self.built.architecture is I386 else 0)))
        assert frame <= self.writes <= frame | stack
        assert self.reads <= frame | stack | arguments
        assert self._rest_of_memory() == self.memory_before  # the same once more, without trust in the hooks

    def _rest_of_memory(self) -> bytes:
        """The pages of frame and stack, but for what a call may change."""
        frame = self.uc.mem_read(self.place.frame & -PAGE, PAGE)
        stack = self.uc.mem_read(self.place.stack, PAGE)
        at, top = self.place.frame % PAGE, self.sp_before - self.place.stack
        bottom = top - self.registers.stack * self.registers.word
        return bytes(frame[:at] + frame[at + FRAME.size :] + stack[:bottom] + stack[top:])

    # -- the host's side

    @property
    def insn(self) -> int:
        """Where the instruction lies, by the table of fixups."""
        return self.place.code + self.fixup.insn

    @property
    def resume(self) -> int:
        """Where a handler lets the program go on, by the table of fixups."""
        return self.place.code + self.fixup.resume

    @property
    def pc(self) -> int:
        return self.read(self.registers.pc)

    @property
    def result(self) -> int:
        return self.read(self.registers.result) & 0xFFFFFFFF

    @property
    def direction(self) -> int:
        """The direction flag, where there is one."""
        return self.read(self.registers.flags) & self.registers.direction

    def top_of_stack(self) -> int:
        """The word on top of the stack."""
        return self.word(self.read(self.registers.sp))

    def values(self) -> tuple[int, ...]:
        """The registers that carry a frame, in its order."""
        return tuple(self.read(register) for register in self.registers.frame)

    def answer(self, slots: Sequence[int], flags: int = 0) -> None:
        """The host's answer in all seven registers; and it keeps no flag."""
        for register, value in zip(self.registers.frame, slots, strict=True):
            self.uc.reg_write(register, value & self.registers.mask)
        self.uc.reg_write(self.registers.flags, self.registers.flags_always | flags & self.registers.flags_free)

    def fault(self, fault: int) -> None:
        """What the signal handler does: 32 bits on top of the stack."""
        self.uc.mem_write(self.read(self.registers.sp), struct.pack("<I", fault))

    @contextmanager
    def ports(self, on_in: Callable[[int, int], int], on_out: Callable[[int, int, int], None]) -> Iterator[None]:
        """Meanwhile ``on_in(port, size)`` answers IN and INS, ``on_out(port, size, value)`` takes OUT and OUTS."""
        hooks = [
            self.uc.hook_add(
                unicorn.UC_HOOK_INSN, lambda _uc, port, size, _data: on_in(port, size), aux1=x86.UC_X86_INS_IN
            ),
            self.uc.hook_add(
                unicorn.UC_HOOK_INSN,
                lambda _uc, port, size, value, _data: on_out(port, size, value),
                aux1=x86.UC_X86_INS_OUT,
            ),
        ]
        yield
        for hook in hooks:
            self.uc.hook_del(hook)


def _protection(flags: int) -> int:
    """Unicorn's bits for ELF's."""
    bits = {4: unicorn.UC_PROT_READ, 2: unicorn.UC_PROT_WRITE, 1: unicorn.UC_PROT_EXEC}
    return sum(bit for flag, bit in bits.items() if flags & flag)
