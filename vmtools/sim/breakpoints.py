"""Where in a file of code the instructions stand that don't trap by themselves.

The bytes of CPUID (0F A2) also occur inside other instructions, in distances and in tables; a breakpoint there would
ruin the program.  So each place where they stand is decided by a disassembler: from the beginning of the function, if
the file says where that is (the unwinder's table, which stripped files have, too; else the symbols); else by vote: x86
code read from a wrong byte falls into step with the right one within a few instructions, so readings from many places
before it must agree.
"""

from __future__ import annotations

import importlib
import os
import stat
import threading
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from vmtools.sim.elf import Elf, NotELF

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from vmtools.sim.elf import Read, Segment

CODE_CPUID = b"\x0f\xa2"
CODE_VMCALL = b"\x0f\x01\xc1"
CODE_VMMCALL = b"\x0f\x01\xd9"

CHUNK = 1 << 20
MAX_FUNCTION = 1 << 16
"""A function that is longer before the place in question is not read from its beginning."""

# What is done for one file, so that one made for it can't keep the host busy: bytes searched, bytes disassembled from
# functions' beginnings, places looked at. The largest programs there are stay far below.
MAX_SEARCHED = 1 << 30
MAX_READ = 16 << 20
MAX_SITES = 4096

MAX_FILES = 4096
MAX_KNOWN = 1 << 17
"""Files, and places in them, that are remembered."""

VOTERS = range(96, 32, -1)
"""How many bytes before the place the readings begin that vote."""

LEAST_VOTES = 16


class Site(NamedTuple):
    """An instruction in a file."""

    offset: int
    code: bytes


class Missing(Exception):
    """There is no disassembler here."""


class Finder:
    """Finds instructions in files; remembers what it found.  For any number of threads.

    :param codes: the instructions' bytes (:data:`CODE_CPUID` and its like).
    :raises Missing: capstone is not installed.
    """

    def __init__(self, codes: Iterable[bytes]) -> None:
        try:
            self._capstone: Any = importlib.import_module("capstone")
        except ImportError:
            raise Missing from None
        self._codes = tuple(codes)
        self._readers: dict[int, Any] = {}
        self._known: dict[tuple[int, ...], list[Site]] = {}
        self._places = 0
        self._lock = threading.Lock()

    def in_file(self, path: str) -> list[Site]:
        """What a regular ELF file holds, sorted by offset; nothing where it is none, or can't be read."""
        try:
            # A device or a pipe must not notice that somebody looks.
            if not stat.S_ISREG(os.stat(path).st_mode):
                return []
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            return []
        try:
            state = os.fstat(descriptor)
            key = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
            found = self._known.get(key)
            if found is None:
                found = self.find(lambda offset, size: _pread(descriptor, size, offset))
                self._places += len(found)
                if len(self._known) >= MAX_FILES or self._places > MAX_KNOWN:
                    self._known.clear()
                    self._places = len(found)
                self._known[key] = found
            return found
        finally:
            os.close(descriptor)

    def find(self, read: Read) -> list[Site]:
        """What is in a file that ``read`` reads; :func:`Finder.in_file` remembers it, too."""
        try:
            elf = Elf(read)
        except NotELF:
            return []
        sites: list[Site] = []
        searched, looked_at, room = 0, 0, [MAX_READ]
        with self._lock:  # a disassembler is one thread's
            for segment in elf.segments:
                searched += segment.size
                if segment.executable and searched <= MAX_SEARCHED:
                    candidates = sorted(islice(self._candidates(segment, read), MAX_SITES - looked_at))
                    looked_at += len(candidates)
                    sites += self._decide(elf, segment, read, candidates, room)
        return sorted(set(sites))

    def _candidates(self, segment: Segment, read: Read) -> Iterator[Site]:
        for start in range(segment.offset, segment.offset + segment.size, CHUNK):
            size = min(CHUNK + 2, segment.offset + segment.size - start)  # an instruction over the chunk's end
            chunk = read(start, size)
            for code in self._codes:
                at = chunk.find(code)
                while 0 <= at < CHUNK:
                    yield Site(start + at, code)
                    at = chunk.find(code, at + 1)
            if len(chunk) < size:
                return  # the file is shorter than it says

    def _decide(
        self, elf: Elf, segment: Segment, read: Read, candidates: list[Site], room: list[int]
    ) -> Iterator[Site]:
        """Those that are instructions; ``room``: what may still be read of functions, for the whole file."""
        shift = segment.address - segment.offset
        functions: dict[int, list[Site]] = {}
        for site in candidates:
            start = elf.function(site.offset + shift)
            start = None if start is None else start - shift
            if start is not None and segment.offset <= start and site.offset - start <= min(MAX_FUNCTION, room[0]):
                room[0] -= 0 if start in functions else site.offset - start
                functions.setdefault(start, []).append(site)
            elif self._vote(elf.bits, segment, read, site):
                yield site
        for start, sites in functions.items():
            end = sites[-1].offset + len(sites[-1].code)
            begins, reached = self._begins(elf.bits, read(start, end - start))
            for site in sites:
                if site.offset - start in begins:
                    yield site
                elif site.offset - start >= reached and self._vote(elf.bits, segment, read, site):
                    yield site  # there is something before it that the disassembler does not know

    def _begins(self, bits: int, code: bytes) -> tuple[set[int], int]:
        """Where instructions begin, and how far it could be read."""
        begins, reached = set(), 0
        for at, size, _, _ in self._reader(bits)(code, 0):
            begins.add(at)
            reached = at + size
        return begins, reached

    def _vote(self, bits: int, segment: Segment, read: Read, site: Site) -> bool:
        first = max(segment.offset, site.offset - VOTERS[0])
        code = read(first, site.offset + len(site.code) - first)
        place = site.offset - first
        nexts: dict[int, int] = {}  # byte → next instruction
        votes = {True: 0, False: 0}
        for before in VOTERS:
            at = place - before
            if at < 0:
                continue
            while 0 <= at < place:
                if at not in nexts:
                    step = next(self._reader(bits)(code[at : at + 15], 0, 1), None)
                    nexts[at] = at + step[1] if step else -1
                at = nexts[at]
            if at >= 0:
                votes[at == place] += 1
        if place < VOTERS[0]:  # at the beginning of all code
            return place in self._begins(bits, code)[0]
        return votes[True] >= LEAST_VOTES and votes[True] > 9 * votes[False]

    def _reader(self, bits: int) -> Callable[..., Iterator[tuple[int, int, str, str]]]:
        reader = self._readers.get(bits)
        if reader is None:
            mode = self._capstone.CS_MODE_64 if bits == 64 else self._capstone.CS_MODE_32
            reader = self._readers[bits] = self._capstone.Cs(self._capstone.CS_ARCH_X86, mode)
        return reader.disasm_lite  # type: ignore[no-any-return]


def _pread(descriptor: int, size: int, offset: int) -> bytes:
    try:
        return os.pread(descriptor, size, offset)
    except (OSError, OverflowError):
        return b""
