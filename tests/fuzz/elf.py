"""A hostile guest's program file, searched for the instructions that are to become breakpoints.

What must hold: an answer, or nothing, and never an error; each place that is found holds the instruction; and what is
read and looked at is bounded, however often the file says that there is more.
"""

from __future__ import annotations

import struct

from tests.fuzz.source import Source
from vmtools.sim import breakpoints
from vmtools.sim.breakpoints import CHUNK, CODE_CPUID, CODE_VMCALL, Finder
from vmtools.sim.elf import MAX_HEADERS, MAX_TABLE

FINDER = Finder((CODE_CPUID, CODE_VMCALL))
NUMBERS = (0, 1, 52, 64, 120, 0x1000, 1 << 20, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
CODE = (
    b"\x0f\xa2",
    b"\x0f\x01\xc1",
    b"\x90" * 100,
    b"\xc3",
    b"\xb8\x0f\xa2\0\0",
    b"\xe8\0\0\0\0",
    b"\x0f",
    b"\x66\x2e",
)
FRAMES = b"\x01\x1b\x03\x3b"
MOST_SITES = 64
MOST_READS = 4_000
"""A thousand segments, a chunk each; a search in the table of functions and a vote for each place."""

vars(breakpoints)["MAX_SITES"] = MOST_SITES  # each costs some 0.3 ms: a whole file's would be all that an hour sees


def _header(source: Source, bits: int, count: int, sections: int) -> bytes:
    sizes = [56, 64] if bits == 64 else [32, 40]
    words = [64, 64 + count * sizes[0]]
    if source.below(8) == 7:
        words = [source.choice(NUMBERS), source.choice(NUMBERS)]
    machine = 62 if bits == 64 else 3
    tail = struct.pack("<HHHH", sizes[0], count, sizes[1], sections)
    ident = b"\x7fELF" + bytes([bits // 32, 1]) + bytes(10)
    if bits == 64:
        return ident + struct.pack("<HHIQQQIH", 2, machine, 1, 0, *words, 0, 64) + tail + b"\0\0"
    offsets = [word & 0xFFFFFFFF for word in words]
    return (ident + struct.pack("<HHIIIIIH", 2, machine, 1, 0, *offsets, 0, 52) + tail + b"\0\0").ljust(64, b"\0")


def _number(source: Source) -> int:
    return source.choice(NUMBERS) if source.below(4) == 3 else source.number(2)


def _program(source: Source, bits: int) -> bytes:
    kind, flags = source.choice((1, 1, 1, 0x6474E550, 2)), source.choice((5, 5, 4, 7))
    offset, address, size = _number(source), _number(source), _number(source)
    if bits == 64:
        return struct.pack("<IIQQQQQQ", kind, flags, offset, address, 0, size, size, 0)
    return struct.pack("<IIIIIIII", kind, *(n & 0xFFFFFFFF for n in (offset, address, 0, size, size)), flags, 0)


def _section(source: Source, bits: int) -> bytes:
    kind, offset, size = source.choice((2, 11, 1)), _number(source), _number(source)
    if bits == 64:
        return struct.pack("<IIQQQQIIQQ", 0, kind, 0, 0, offset, size, 0, 0, 0, 24)
    return struct.pack("<IIIIIIIIII", 0, kind, 0, 0, offset & 0xFFFFFFFF, size & 0xFFFFFFFF, 0, 0, 0, 16)


def _file(source: Source) -> bytes:
    bits = source.choice((64, 32))
    programs, sections = source.below(6), source.below(4)
    repeat = source.choice((1, 1, 1, 1000))
    image = _header(source, bits, programs * repeat, sections)
    image += b"".join(_program(source, bits) * repeat for _ in range(programs))
    image += b"".join(_section(source, bits) for _ in range(sections))
    while not source.empty:
        kind = source.below(8)
        if kind < 5:
            image += source.choice(CODE) * source.choice((1, 1, 2, 50))
        elif kind == 5:
            image += FRAMES + source.take(12)
        else:
            image += source.text(32)
    return image


def one(data: bytes) -> None:
    source = Source(data)
    image = source.rest() if source.below(16) == 15 else _file(source)
    reads: list[int] = []

    def read(offset: int, size: int) -> bytes:
        assert offset >= 0
        assert 0 <= size <= max(CHUNK + 2, MAX_HEADERS, MAX_TABLE)
        reads.append(size)
        return image[offset : offset + size]

    found = FINDER.find(read)
    assert len(found) <= MOST_SITES
    assert found == sorted(set(found))
    for offset, code in found:
        assert image[offset : offset + len(code)] == code
    assert len(reads) <= MOST_READS
