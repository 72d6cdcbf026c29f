"""ELF files as far as their code is concerned: what is executable, and where the functions begin.

Reads by offset and never more at once than it says, for the files are the guest's: what makes no sense is not there.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Read = Callable[[int, int], bytes]

PT_LOAD, PT_GNU_EH_FRAME = 1, 0x6474E550
PF_X = 1
SHT_SYMTAB, SHT_DYNSYM = 2, 11
STT_FUNC = 2
EM_386, EM_X86_64 = 3, 62
MAX_HEADERS = 1 << 16
MAX_TABLE = 32 << 20
"""Bytes of all symbol tables; what is over them is not read."""

NEAR = 8
"""Symbols looked at."""

EH_ENCODINGS = b"\x01\x1b\x03\x3b"
"""Version 1; the table's words are 32 bits, relative to the header (LSB, "Exception Frames"). Linkers make no other."""


class NotELF(Exception):
    """No ELF file for x86."""


class Segment:
    """A part of the file that is loaded."""

    __slots__ = ("address", "executable", "offset", "size")

    def __init__(self, offset: int, address: int, size: int, executable: bool) -> None:
        self.offset, self.address, self.size, self.executable = offset, address, size, executable


class Elf:
    """An ELF file for x86-64 (``bits`` 64) or i386 (32).

    :param read: bytes of the file at an offset; fewer where it ends.
    :raises NotELF: it is none.
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        head = read(0, 64)
        if len(head) < 52 or head[:4] != b"\x7fELF" or head[4] not in (1, 2) or head[5] != 1:
            raise NotELF
        self.bits = 64 if head[4] == 2 else 32
        try:
            if self.bits == 64:
                (machine, phoff, shoff, phsize, phnum, shsize, shnum) = struct.unpack_from("<18xH12xQQ6xHHHH", head)
            else:
                (machine, phoff, shoff, phsize, phnum, shsize, shnum) = struct.unpack_from("<18xH8xII6xHHHH", head)
        except struct.error:
            raise NotELF from None
        if machine != (EM_X86_64 if self.bits == 64 else EM_386):
            raise NotELF
        self._sections = (shoff, shsize, shnum)
        self.segments: list[Segment] = []
        self._frames: Segment | None = None
        for header in self._headers(phoff, phsize, phnum, 56 if self.bits == 64 else 32):
            if self.bits == 64:
                kind, flags, offset, address, size = struct.unpack_from("<IIQQ8xQ", header)
            else:
                kind, offset, address, size, flags = struct.unpack_from("<III4xI4xI", header)
            segment = Segment(offset, address, size, bool(flags & PF_X))
            if kind == PT_LOAD:
                self.segments.append(segment)
            elif kind == PT_GNU_EH_FRAME:
                self._frames = segment
        self._symbols: list[tuple[int, int]] | None = None

    def _headers(self, offset: int, size: int, count: int, least: int) -> Iterator[bytes]:
        if size < least or count * size > MAX_HEADERS:
            return
        table = self._read(offset, count * size)
        for at in range(0, len(table) - size + 1, size):
            yield table[at : at + size]

    def offset_of(self, address: int) -> int | None:
        """Where in the file an address' bytes stand."""
        for segment in self.segments:
            if segment.address <= address < segment.address + segment.size:
                return address - segment.address + segment.offset
        return None

    def function(self, address: int) -> int | None:
        """Where the function begins that has code at ``address``; None if the file does not say."""
        found = self._by_frames(address)
        return found if found is not None else self._by_symbols(address)

    def _by_frames(self, address: int) -> int | None:
        """By the unwinder's sorted table, which is in stripped files, too."""
        frames = self._frames
        if frames is None or frames.size < 12:
            return None
        head = self._read(frames.offset, 12)
        if head[:4] != EH_ENCODINGS:
            return None
        (count,) = struct.unpack_from("<8xI", head)
        low, high = 0, min(count, (frames.size - 12) // 8)
        begin = frame = 0
        while low < high:
            middle = (low + high) // 2
            entry = self._read(frames.offset + 12 + 8 * middle, 8)
            if len(entry) < 8:
                return None
            first, second = struct.unpack("<ii", entry)
            if frames.address + first <= address:
                begin, frame = frames.address + first, frames.address + second
                low = middle + 1
            else:
                high = middle
        where = self.offset_of(frame) if frame else None
        if where is None:
            return None
        entry = self._read(where, 16)
        if len(entry) < 16:
            return None
        relative, size = struct.unpack("<8xiI", entry)
        # Where the first word does not come out as the table has it, this frame's words are of another kind.
        if frame + 8 + relative != begin or not begin <= address < begin + size:
            return None
        return begin

    def _by_symbols(self, address: int) -> int | None:
        if self._symbols is None:
            self._symbols = sorted(pair for table in self._symbol_tables() for pair in self._functions(table))
        place = bisect_right(self._symbols, (address, MAX_TABLE << 32))
        # The nearest before it; a few more, for a symbol without a size may stand between.
        for start, size in reversed(self._symbols[max(0, place - NEAR) : place]):
            if start <= address < start + size:
                return start
        return None

    def _symbol_tables(self) -> Iterator[bytes]:
        left = MAX_TABLE
        for header in self._headers(*self._sections, 64 if self.bits == 64 else 40):
            if self.bits == 64:
                kind, offset, size = struct.unpack_from("<4xI16xQQ", header)
            else:
                kind, offset, size = struct.unpack_from("<4xI8xII", header)
            if kind in (SHT_SYMTAB, SHT_DYNSYM) and size <= left:
                left -= size
                yield self._read(offset, size)

    def _functions(self, table: bytes) -> Iterator[tuple[int, int]]:
        if self.bits == 64:
            entries = struct.iter_unpack("<4xBxHQQ", table[: len(table) // 24 * 24])
            for info, section, value, size in entries:
                if info & 15 == STT_FUNC and section:
                    yield value, size
        else:
            for value, size, info, section in struct.iter_unpack("<4xIIBxH", table[: len(table) // 16 * 16]):
                if info & 15 == STT_FUNC and section:
                    yield value, size
