"""What the compiled instructions are made of: the intended ones alone, in the built objects and in what is shipped."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

import vmtools._gate

from .machine_code import (
    ARCHITECTURES,
    Architecture,
    Built,
    Fixup,
    compile_source,
    decode_fixups,
    disassemble,
    section,
    symbols,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

PADDING = {"int3"}  # between functions; never reached
LANDING_PADS = {"endbr64", "endbr32", "bti c", "hint #0x22"}  # the last two are one


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=lambda a: a.name)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Each architecture's object and library."""
    architecture: Architecture = request.param
    return Built(architecture, tmp_path_factory.mktemp(architecture.name))


def test_functions(built: Built) -> None:
    """Around the one instruction that may trap stand plain moves and nothing else."""
    assert set(built.symbols) == {*built.architecture.functions, "vmt_fixups", "vmt_fixups_count"}
    for function, (trap, encoding) in built.architecture.functions.items():
        listing = built.listing(function)
        others = [i.text for i in listing if not built.architecture.plain.fullmatch(i.text)]
        assert others == [trap]
        assert listing[0].text in LANDING_PADS
        assert listing[-1].text == "ret"
        assert [i.text for i in listing].count("ret") == 1
        assert built.code(function).count(encoding) == 1
        assert built.symbols[function][0] % 16 == 0


def test_object_holds_nothing_else(built: Built) -> None:
    """The whole text is those functions and padding, each instruction that may trap as often as it has a function."""
    address, text = section(built.library, ".text")
    inside = {i for function in built.architecture.functions for i in built.listing(function)}
    everything = disassemble(built.architecture, text, address)
    assert inside <= set(everything)
    assert {i.text for i in everything if i not in inside} <= PADDING
    found = Counter(i.text for i in everything if built.architecture.trapping.match(i.text))
    assert found == Counter(trap for trap, _ in built.architecture.functions.values())


def test_fixups(built: Built) -> None:
    """One entry a function: the instruction's own address, and the address right behind it."""
    expected = []
    for function, (trap, encoding) in built.architecture.functions.items():
        (insn,) = (i for i in built.listing(function) if i.text == trap)
        assert insn.size == len(encoding)
        expected.append(Fixup(insn.address, insn.address + insn.size))
    assert sorted(built.fixups) == sorted(expected)
    with built.object.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".rodata.vmt_fixups")
        assert table
        assert table["sh_addralign"] == 4


def test_linked_library(built: Built) -> None:
    """No relocation, no visible symbol, no executable stack, nothing writable."""
    with built.library.open("rb") as file:
        elf = ELFFile(file)
        assert elf["e_machine"] == built.architecture.machine
        assert elf.elfclass == built.architecture.bits
        assert [s.name for s in elf.iter_sections() if s["sh_type"] in {"SHT_REL", "SHT_RELA"}] == []
        (dynamic,) = elf.iter_segments("PT_DYNAMIC")
        assert isinstance(dynamic, DynamicSegment)
        assert not {t.entry.d_tag for t in dynamic.iter_tags()} & {"DT_TEXTREL", "DT_REL", "DT_RELA", "DT_JMPREL"}
        (stack,) = elf.iter_segments("PT_GNU_STACK")
        assert stack["p_flags"] & 1 == 0
        exported = elf.get_section_by_name(".dynsym")
        assert isinstance(exported, SymbolTableSection)
        assert [s.name for s in exported.iter_symbols() if s.name] == []
    with built.object.open("rb") as file:
        for symbol in symbols(ELFFile(file)):
            kind = "STT_FUNC" if symbol.name in built.architecture.functions else "STT_OBJECT"
            assert symbol["st_info"] == {"bind": "STB_GLOBAL", "type": kind}
            assert symbol["st_other"]["visibility"] == "STV_HIDDEN"


@pytest.mark.parametrize("source", [a.name for a in ARCHITECTURES])
@pytest.mark.parametrize("target", ARCHITECTURES, ids=lambda a: a.name)
def test_every_file_compiles_everywhere(source: str, target: Architecture, tmp_path: Path) -> None:
    """A file for another architecture compiles without a warning, to nothing."""
    path = compile_source(target, source, tmp_path)
    with path.open("rb") as file:
        found = [s.name for s in symbols(ELFFile(file))]
    _, text = section(path, ".text")
    assert bool(found) is bool(text) is (source == target.name)


# -- the extension as installed


@pytest.fixture(scope="module")
def shipped() -> Path:
    """The extension that this Python loads."""
    path = vmtools._gate.__file__
    assert path
    return Path(path)


@pytest.fixture(scope="module")
def like_shipped(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The instructions of the extension's architecture, built apart from it."""
    with shipped.open("rb") as file:
        elf = ELFFile(file)
        (architecture,) = (a for a in ARCHITECTURES if (a.machine, a.bits) == (elf["e_machine"], elf.elfclass))
    return Built(architecture, tmp_path_factory.mktemp("like-shipped"))


def places(text: bytes, code: bytes) -> Iterator[int]:
    """Where in ``text`` these bytes stand."""
    at = text.find(code)
    while at >= 0:
        yield at
        at = text.find(code, at + 1)


def test_shipped_functions(shipped: Path, like_shipped: Built) -> None:
    """The extension holds each function byte for byte, once; its table of fixups leads there."""
    address, text = section(shipped, ".text")
    expected = []
    for function in like_shipped.architecture.functions:
        (at,) = places(text, like_shipped.code(function))
        distance = address + at - like_shipped.symbols[function][0]
        fixup = like_shipped.fixup(function)
        expected.append(Fixup(fixup.insn + distance, fixup.resume + distance))
    start, data = section(shipped, ".rodata")
    size = 8 * len(expected)
    tables = [list(decode_fixups(data[at : at + size], start + at)) for at in range(0, len(data) - size + 1, 4)]
    assert sum(sorted(table) == sorted(expected) for table in tables) == 1


def test_shipped_instructions(shipped: Path, like_shipped: Built) -> None:
    """No instruction of the kind stands anywhere else in the extension."""
    architecture = like_shipped.architecture
    address, text = section(shipped, ".text")
    found = Counter(i.text for i in disassemble(architecture, text, address) if architecture.trapping.match(i.text))
    assert found == Counter(trap for trap, _ in architecture.functions.values())
