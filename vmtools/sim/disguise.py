"""What programs see of the machine besides its backdoor: CPUID and the firmware say VMware.

CPUID does not trap by itself.  Where processor and kernel can make it fault (arch_prctl(2), ``ARCH_SET_CPUID``), each
program that is executed gets that; elsewhere, and for the hypercall instruction that does not trap here, breakpoints
are put into the program's code as it is mapped (:mod:`vmtools.sim.breakpoints`).

Known limits of breakpoints: code that a program makes itself (JIT, unpackers) has none; a program that reads its own
code finds them; shared mappings are left alone, for a breakpoint there would change the file.  With faulting, a program
whose own seccomp filter kills at arch_prctl can't execute another.  RDTSC counts as it does here, whatever CPUID says.
"""

from __future__ import annotations

import os
import re
import sys
import uuid
from bisect import bisect_left
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from vmtools.constants import FEATURE_VMCALL, FEATURE_VMMCALL
from vmtools.sim import _tracer, dmi
from vmtools.sim.backdoor import VMCALL, VMMCALL
from vmtools.sim.breakpoints import CODE_CPUID, CODE_VMCALL, CODE_VMMCALL, Finder, Missing, Site
from vmtools.sim.channels import AX, BX, CX, DX
from vmtools.sim.cpuid import PER_PROCESSOR, Processor
from vmtools.sim.personalities import PERSONALITIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from vmtools.sim.backdoor import Backdoor

ARCH_PRCTL, ARCH_PRCTL_32 = 158, 384
ARCH_SET_CPUID = 0x1012

MAP_PRIVATE = 2
NO_FILE = (1 << 64) - 1, (1 << 32) - 1
"""The descriptor of an anonymous mapping, -1, as the kernel gets it."""

HYPERCALLS = {VMCALL: (CODE_VMCALL, FEATURE_VMCALL, "vmcall"), VMMCALL: (CODE_VMMCALL, FEATURE_VMMCALL, "vmmcall")}

MASK32 = 0xFFFFFFFF
MAX_ANSWERS = 4096
"""Remembered words of CPUID: leaf, subleaf and, where it matters, processor."""

NO_CAPSTONE = "CPUID shows this machine's own hypervisor: that takes capstone (pip install 'vmtools-py[sim]')"
NO_MOUNTS = "DMI shows this machine's own firmware: that takes root (CAP_SYS_ADMIN) and a sysfs"

MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) ..([x-])p ([0-9a-f]+) \S+ (\d+) *(.*)\n?")


class Disguise:
    """What is shown, and how; for one run of the tracer.

    :param machine: what :meth:`vmtools.sim.machine.Machine.status` says, and ``personality`` (:func:`appearance`).
    :param cpuid, dmi: whether CPUID and the firmware are to be the simulated host's, where that has its own.
    """

    def __init__(self, machine: Mapping[str, Any], *, cpuid: bool = True, dmi: bool = True) -> None:
        self.limits: list[str] = []
        """What was asked for and can't be shown here, a sentence each."""
        host = PERSONALITIES[machine.get("personality", "vmware")]
        cpuid, dmi = cpuid and host.signature is not None, dmi and host.device == "vmware"
        self._answers: dict[tuple[int, int, int | None], tuple[int, int, int, int]] = {}
        self._uuid = uuid.UUID(machine["uuid"]) if dmi else None
        self._processor: Processor | None = None
        self._finder: Finder | None = None
        self._faults = cpuid and _tracer.cpuid_faults()
        trapping = hypercalls() if machine["hypercalls"] else 0
        codes = [] if self._faults or not cpuid else [CODE_CPUID]
        if machine["hypercalls"]:
            codes += [code for number, (code, _, _) in HYPERCALLS.items() if not trapping >> number & 1]
        if codes:
            try:
                self._finder = _finder(tuple(codes))
            except Missing:
                if CODE_CPUID in codes:
                    self.limits.append(NO_CAPSTONE)
        if cpuid and (self._faults or self._finder is not None):
            # One only: with both, Linux takes neither.
            offered = [feature for number, (_, feature, _) in HYPERCALLS.items() if trapping >> number & 1][:1]
            self._processor = Processor(machine["mhz"] * 1000, machine["bus_hz"] // 1000, sum(offered), host.signature)

    @property
    def watches(self) -> bool:
        """Programs are to stop where they make memory executable."""
        return self._finder is not None

    def enter(self) -> None:
        """In the tracer's thread, before it starts the program: mounts."""
        if self._uuid is None:
            return
        try:
            dmi.show(self._uuid)
        except OSError as error:
            self.limits.append(NO_MOUNTS)
            if (logging := sys.modules.get("logging")) is not None:
                logging.getLogger(__name__).debug("%s: %s", NO_MOUNTS, error)

    # -- programs and what they map ----------------------------------------------------------------------------------

    def executed(self, trace: _tracer.Trace) -> None:
        """A thread stands at the beginning of a program."""
        if self._faults:
            trace.inject(ARCH_PRCTL, ARCH_PRCTL_32, ARCH_SET_CPUID, 0)
        if self._finder is not None:
            for low, high, executable, offset, file in _mappings(trace.tid):
                if executable:
                    self._plant(trace, low, offset, high - low, self._sites(trace, low, high, file))

    def mapped(self, trace: _tracer.Trace, arguments: list[int], address: int) -> None:
        """``mmap`` of executable memory has succeeded."""
        _, length, _, flags, descriptor, offset = arguments
        if self._finder is not None and descriptor not in NO_FILE and flags & MAP_PRIVATE:
            sites = self._finder.in_file(f"/proc/{trace.tid}/fd/{descriptor & MASK32}")
            self._plant(trace, address, offset, length, sites)

    def protecting(self, trace: _tracer.Trace, arguments: list[int]) -> None:
        """``mprotect`` is about to make memory executable."""
        if self._finder is None:
            return
        first, last = arguments[0], arguments[0] + arguments[1]
        for low, high, executable, offset, file in _mappings(trace.tid):
            if file.startswith("/") and not executable and low < last and first < high:
                self._plant(trace, low, offset, high - low, self._sites(trace, low, high, file))

    def _sites(self, trace: _tracer.Trace, low: int, high: int, file: str) -> list[Site]:
        assert self._finder is not None  # noqa: S101
        if file == "[vdso]":  # the kernel's, without a file: its text is all that there is
            image = b""
            with suppress(OSError):
                image = trace.read(low, min(high - low, _tracer.LARGEST_READ))
            return self._finder.find(lambda offset, size: image[offset : offset + size])
        if not file.startswith("/"):
            return []
        # The first is the very file, also where it was renamed or removed since; it takes CAP_CHECKPOINT_RESTORE.
        exact = f"/proc/{trace.tid}/map_files/{low:x}-{high:x}"
        return self._finder.in_file(exact if os.path.exists(exact) else f"/proc/{trace.tid}/root{file}")

    @staticmethod
    def _plant(trace: _tracer.Trace, address: int, offset: int, length: int, sites: list[Site]) -> None:
        """Breakpoints at those of a file's instructions that are mapped there and stand there."""
        for site in sites[bisect_left(sites, (offset, b"")) :]:
            if site.offset >= offset + length:
                break
            with suppress(OSError):
                trace.plant(address + site.offset - offset, site.code)

    # -- the instruction ---------------------------------------------------------------------------------------------

    def cpuid(self, registers: list[int], tid: int) -> bool:
        """Answer CPUID; False where it is not masked."""
        if self._processor is None:
            return False
        leaf, subleaf = registers[AX] & MASK32, registers[CX] & MASK32
        place = processor_of(tid) if leaf in PER_PROCESSOR else None
        words = self._answers.get((leaf, subleaf, place))
        if words is None:
            with _on_processor(place):
                words = self._processor.words(leaf, subleaf, _tracer.cpuid)
            if len(self._answers) < MAX_ANSWERS:
                self._answers[leaf, subleaf, place] = words
        registers[AX], registers[BX], registers[CX], registers[DX] = words
        return True


def appearance(backdoor: Backdoor) -> dict[str, Any]:
    """What a :class:`Disguise` has to know of a host."""
    return {**backdoor.machine.status(), "personality": backdoor.personality}


@cache
def hypercalls() -> int:
    """As :func:`vmtools.sim._tracer.hypercalls`, found out once."""
    return _tracer.hypercalls()


@lru_cache(maxsize=4)
def _finder(codes: tuple[bytes, ...]) -> Finder:
    """One for all runs: what it knows of files serves the next."""
    return Finder(codes)


def survey() -> dict[str, str]:
    """What programs under ``vmtools sim run`` can be shown on this machine, by this user, for people."""
    if not _tracer.SUPPORTED:
        return {}
    trapping = hypercalls()
    names = [name for number, (_, _, name) in HYPERCALLS.items() if trapping >> number & 1]
    shown = {"cpuid": "as VMware's, by CPUID faulting"}
    if not _tracer.cpuid_faults():
        try:
            Finder(())
            shown["cpuid"] = "as VMware's, by breakpoints"
        except Missing:
            shown["cpuid"] = NO_CAPSTONE
    shown["dmi"] = "as VMware's, in mounts of their own" if dmi.possible() else NO_MOUNTS
    shown["hypercalls"] = f"{names[0]} is offered" if names else "none traps here: none is offered"
    return shown


def _mappings(tid: int) -> Iterator[tuple[int, int, bool, int, str]]:
    """First and last address, whether executable, offset and name of what a process has mapped privately."""
    try:
        with open(f"/proc/{tid}/maps", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            lines = file.readlines()
    except OSError:
        return
    for line in lines:
        match = MAPPING.fullmatch(line)
        if match is not None:
            low, high, executable, offset, _, name = match.groups()
            yield int(low, 16), int(high, 16), executable == "x", int(offset, 16), name


def processor_of(tid: int) -> int | None:
    """The number of the processor where a stopped thread ran; None if it is gone."""
    try:
        with open(f"/proc/{tid}/stat", "rb", buffering=0) as file:
            return int((file.read(4096) or b"").rpartition(b")")[2].split()[36])
    except (OSError, IndexError):
        return None


@contextmanager
def _on_processor(number: int | None) -> Iterator[None]:
    """Run there; anywhere if that is not to be had."""
    if number is None:
        yield
        return
    before = os.sched_getaffinity(0)
    try:
        with suppress(OSError):
            os.sched_setaffinity(0, {number})
        yield
    finally:
        with suppress(OSError):
            os.sched_setaffinity(0, before)
