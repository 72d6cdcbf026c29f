"""The instructions of ``ext/``, built for each architecture, as ELF images and as disassembly."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import capstone
import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from elftools.elf.sections import Symbol

SOURCES = Path(__file__).resolve().parents[2] / "ext"
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")


@dataclass(frozen=True, eq=False)
class Architecture:
    """One C file of ``ext/``: how it is built, and what must come out."""

    name: str  # the file's stem
    compilers: tuple[str, ...]  # the first that there is
    options: tuple[str, ...]
    package: str  # Debian's, that has the compiler
    machine: str  # e_machine
    bits: int
    disassembler: tuple[int, int]
    functions: Mapping[str, tuple[str, bytes]]  # the one instruction that may trap: as disassembled, as encoded
    plain: re.Pattern[str]  # what may stand around it: moves between general registers, memory and stack
    trapping: re.Pattern[str]  # what may stand nowhere else in a library of ours

    def compiler(self) -> list[str]:
        """The compiler and its options; skips the test where there is none."""
        for name in self.compilers:
            if found := shutil.which(name):
                return [found, *self.options]
        pytest.skip(f"no compiler for {self.name}: install Debian's package {self.package}")


_X86 = {
    "vmt_vmcall": ("vmcall", b"\x0f\x01\xc1"),
    "vmt_vmmcall": ("vmmcall", b"\x0f\x01\xd9"),
    "vmt_rdpmc": ("rdpmc", b"\x0f\x33"),
    "vmt_cpuid": ("cpuid", b"\x0f\xa2"),
}
_X86_TRAPPING = re.compile(
    r"(rep )?(in|out|ins[bwd]|outs[bwd]|int|int1|into|hlt|cli|sti|syscall|sysenter|cpuid|rdpmc|rdtscp?|"
    r"vm\w+|rdmsr|wrmsr|[ls][gil]dt|ltr|lmsw|clts|invd|wbinvd|xgetbv|xsetbv)\b"
)
_MDCCSR = ("mrs xzr, mdccsr_el0", b"\x1f\x01\x33\xd5")

X86_64 = Architecture(
    name="x86_64",
    compilers=("x86_64-linux-gnu-gcc",),
    options=("-m64", "-ffreestanding"),
    package="gcc (gcc-x86-64-linux-gnu on other machines)",
    machine="EM_X86_64",
    bits=64,
    disassembler=(capstone.CS_ARCH_X86, capstone.CS_MODE_64),
    functions={
        "vmt_low": ("in eax, dx", b"\xed"),
        "vmt_high_out": ("rep outsb dx, byte ptr [rsi]", b"\xf3\x6e"),
        "vmt_high_in": ("rep insb byte ptr [rdi], dx", b"\xf3\x6c"),
        **_X86,
    },
    plain=re.compile(
        r"endbr64|cld|pushfq|popfq|ret|push 0|(push|pop) r\w+|"
        r"mov r\w+, qword ptr \[r\w+( \+ \w+)?\]|mov qword ptr \[r\w+( \+ \w+)?\], r\w+"
    ),
    trapping=_X86_TRAPPING,
)
I386 = Architecture(
    name="i386",
    compilers=("x86_64-linux-gnu-gcc", "i686-linux-gnu-gcc"),
    options=("-m32", "-ffreestanding"),
    package="gcc (gcc-i686-linux-gnu on other machines)",
    machine="EM_386",
    bits=32,
    disassembler=(capstone.CS_ARCH_X86, capstone.CS_MODE_32),
    functions={
        "vmt_low": ("in eax, dx", b"\xed"),
        "vmt_high_out": ("rep outsb dx, byte ptr [esi]", b"\xf3\x6e"),
        "vmt_high_in": ("rep insb byte ptr es:[edi], dx", b"\xf3\x6c"),
        **_X86,
    },
    plain=re.compile(
        r"endbr32|cld|pushfd|popfd|ret|push 0|xor eax, eax|(push|pop) e\w+|pop dword ptr \[edi \+ \w+\]|"
        r"mov e\w+, dword ptr \[e\w+( \+ \w+)?\]|mov dword ptr \[e\w+( \+ \w+)?\], e\w+"
    ),
    trapping=_X86_TRAPPING,
)
AARCH64 = Architecture(
    name="aarch64",
    compilers=("aarch64-linux-gnu-gcc",),
    options=("-ffreestanding",),
    package="gcc-aarch64-linux-gnu",
    machine="EM_AARCH64",
    bits=64,
    disassembler=(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM),
    functions={"vmt_low": _MDCCSR, "vmt_high_out": _MDCCSR, "vmt_high_in": _MDCCSR},
    plain=re.compile(
        r"hint #0x22|bti c|mrs x9, nzcv|msr nzcv, x9|movk? x7, #\w+(, lsl #32)?|ret|"
        r"(ldr|str) x\d, \[(sp|x\d)(, #\w+)?\]|(ldp|stp) x\d, x\d, \[x\d(, #\w+)?\]|"
        r"stp xzr, x0, \[sp, #-0x20\]!|ldr x0, \[sp\], #0x20"
    ),
    trapping=re.compile(r"(svc|hvc|smc|brk|hlt|dcps\d|mrs xzr)\b"),
)
ARCHITECTURES = (X86_64, I386, AARCH64)


class Instruction(NamedTuple):
    """One disassembled instruction."""

    address: int
    size: int
    text: str


class Fixup(NamedTuple):
    """One entry of ``vmt_fixups``: the addresses it stands for."""

    insn: int
    resume: int


class Segment(NamedTuple):
    """What a loader maps."""

    address: int
    data: bytes
    flags: int  # PF_*: 1 execute, 2 write, 4 read


class Built:
    """One architecture's object and the shared library made of it alone."""

    def __init__(self, architecture: Architecture, directory: Path) -> None:
        self.architecture = architecture
        self.object = compile_source(architecture, architecture.name, directory)
        self.library = directory / f"{architecture.name}.so"
        run([*architecture.compiler(), "-shared", "-nostdlib", "-o", str(self.library), str(self.object)])
        with self.library.open("rb") as file:
            elf = ELFFile(file)
            self.segments = [
                Segment(s["p_vaddr"], s.data().ljust(s["p_memsz"], b"\0"), s["p_flags"])
                for s in elf.iter_segments("PT_LOAD")
            ]
            self.symbols = {s.name: (int(s["st_value"]), int(s["st_size"])) for s in symbols(elf)}

    def memory(self, address: int, size: int) -> bytes:
        """``size`` bytes of the loaded image."""
        for segment in self.segments:
            if segment.address <= address <= address + size <= segment.address + len(segment.data):
                return segment.data[address - segment.address :][:size]
        raise AssertionError(f"nothing is loaded at {address:#x}")

    def code(self, function: str) -> bytes:
        """One function's machine code."""
        return self.memory(*self.symbols[function])

    def listing(self, function: str) -> list[Instruction]:
        """One function, disassembled."""
        return disassemble(self.architecture, self.code(function), self.symbols[function][0])

    @cached_property
    def fixups(self) -> list[Fixup]:
        """``vmt_fixups``, as fault.c reads it."""
        (count,) = struct.unpack("<I", self.memory(*self.symbols["vmt_fixups_count"]))
        address, size = self.symbols["vmt_fixups"]
        assert size == 8 * count
        return list(decode_fixups(self.memory(address, size), address))

    def fixup(self, function: str) -> Fixup:
        """The one entry that lies in a function."""
        start, size = self.symbols[function]
        (found,) = (f for f in self.fixups if start <= f.insn < start + size)
        return found


def run(command: list[str]) -> None:
    """Runs a compiler; what it says is an error, a warning too."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), f"{command}: {done.stderr}"


def compile_source(architecture: Architecture, source: str, directory: Path) -> Path:
    """Compiles ``ext/SOURCE.c`` for an architecture, its own or another, with every warning an error."""
    path = directory / f"{source}-for-{architecture.name}.o"
    c = str(SOURCES / f"{source}.c")
    run([*architecture.compiler(), "-O2", "-fPIC", *WARNINGS, "-c", "-o", str(path), c])
    return path


def symbols(elf: ELFFile) -> list[Symbol]:
    """The entries of .symtab that are ours; none where the file is stripped."""
    table = elf.get_section_by_name(".symtab")
    if not isinstance(table, SymbolTableSection):
        return []
    return [s for s in table.iter_symbols() if s.name.startswith("vmt_")]


def section(path: Path, name: str) -> tuple[int, bytes]:
    """A section's address and bytes."""
    with path.open("rb") as file:
        found = ELFFile(file).get_section_by_name(name)
        assert found, f"{path} has no {name}"
        return found["sh_addr"], found.data()


def disassemble(architecture: Architecture, code: bytes, address: int) -> list[Instruction]:
    """Every instruction; bytes that are none are an error."""
    instructions = [
        Instruction(i.address, i.size, f"{i.mnemonic} {i.op_str}".strip())
        for i in capstone.Cs(*architecture.disassembler).disasm(code, address)
    ]
    assert sum(i.size for i in instructions) == len(code), f"no instruction after {instructions[-1:]}"
    return instructions


def decode_fixups(data: bytes, address: int) -> Iterator[Fixup]:
    """The entries of a table that lies at ``address``: each field is an offset from its own place."""
    for at, (insn, resume) in zip(range(address, address + len(data), 8), struct.iter_unpack("<ii", data), strict=True):
        yield Fixup(at + insn, at + 4 + resume)
