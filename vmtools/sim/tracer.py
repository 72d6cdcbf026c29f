"""The loop of the tracer: a program's stops come in, the backdoor's answers go out.

The program, its threads and its children run freely; they stop where the kernel says so (a signal is to be delivered,
a thread is born, a program is executed, somebody ended), and this loop decides how they go on.  A backdoor instruction
is such a stop: outside of VMware it is a fault, and the fault's signal is what the loop sees.

Known limit: the kernel resets a *blocked* SIGSEGV to its default action before a tracer can see it.  A program that
blocks SIGSEGV around the instruction gets its answer, and finds SIGSEGV unblocked and without its handler afterwards.

With a :class:`vmtools.sim.disguise.Disguise` programs see VMware's CPUID and firmware, too.
"""

from __future__ import annotations

import os
import signal
import struct
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vmtools.errors import VMToolsError
from vmtools.sim._tracer import (
    AT_CHDIR,
    AT_EXEC,
    AT_SECCOMP,
    CPUID,
    EVENT,
    EXIT,
    GONE,
    RETURN,
    SECCOMP_MMAP,
    SECCOMP_PROTECT,
    SECCOMP_PTRACE,
    SIGNAL,
    Trace,
    spawn,
)
from vmtools.sim.backdoor import Guest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vmtools.sim.backdoor import Exits
    from vmtools.sim.disguise import Disguise

PTRACE_EVENT_EXEC = 4
PTRACE_EVENT_SECCOMP = 7
PTRACE_EVENT_STOP = 128

PTRACE_TRACEME = 0
PAGE = 4096
MOST_NOTES = 10

STOPS = frozenset({signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})
"""Signals that stop a whole process until SIGCONT."""

REPORT = struct.Struct("=ii")
"""Why a child could not run its program: the step, errno."""


class TracingForbidden(VMToolsError):
    """The kernel does not let this process trace or confine its child."""

    help = "Where ptrace is forbidden, use 'vmtools sim serve SOCKET' and set VMTOOLS_GATE=sim:SOCKET in the program."


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, ready for the system calls; :func:`vmtools.sim.run.run` makes one out of what people have.

    ``paths`` are the files to try for it, ``stdio`` the file descriptors of its standard streams (-1: inherited).
    """

    paths: Sequence[bytes]
    argv: Sequence[bytes]
    envp: Sequence[bytes]
    cwd: bytes | None = None
    stdio: tuple[int, int, int] = (-1, -1, -1)


class Tracer:
    """Runs one program and serves it and its descendants.

    :meth:`run` needs a thread of its own, without other children: tracees belong to a thread, and it waits for all
    that the thread has.  :meth:`send` and :meth:`kill` may be called from any thread meanwhile.
    """

    def __init__(
        self, exits: Exits, disguise: Disguise | None = None, note: Callable[[str], None] | None = None
    ) -> None:
        self._exits = exits
        self._disguise = disguise
        self._note = note
        self._noted: set[str] = set()
        self._mapping: dict[int, list[int]] = {}
        self._trace = Trace()
        self._tids: set[int] = set()
        self._guests: dict[int, Guest] = {}
        self._main = 0
        self._unsent: deque[int] = deque()
        self._executed = False
        self._killed = False
        self._status: int | None = None

    def run(self, program: Program) -> int:
        """Run the program; return when it and all its descendants are gone.

        :returns: the program's exit status, or minus the signal that killed it.
        :raises OSError: the program can't be executed; ``filename`` is what could not be used.
        :raises TracingForbidden: ptrace or seccomp is not permitted here.
        """
        watch = False
        if self._disguise is not None:
            watch = self._disguise.watches
            self._disguise.enter()
        try:
            self._main, report = spawn(
                list(program.paths), list(program.argv), list(program.envp), program.cwd, program.stdio, watch
            )
        except PermissionError as error:
            raise TracingForbidden(f"the system does not let this process trace its child: {error.strerror}") from error
        try:
            self._tids.add(self._main)
            self._send_unsent()
            try:
                self._loop()
            except BaseException:
                self.kill()
                self._loop()
                raise
            if not self._executed:
                self._raise_report(program, os.read(report, REPORT.size))
        finally:
            os.close(report)
        assert self._status is not None, "the kernel reported no end of the program"  # noqa: S101
        return self._status

    def send(self, signum: int) -> None:
        """Send a signal to the program; if that has ended, to each of its descendants that live."""
        self._unsent.append(signum)
        self._send_unsent()

    def kill(self) -> None:
        """End the program and all its descendants; :meth:`run` returns soon."""
        self._killed = True  # first: whoever is born from here on is killed by the loop
        for tid in tuple(self._tids):
            with suppress(ProcessLookupError):
                os.kill(tid, signal.SIGKILL)

    def _send_unsent(self) -> None:
        # In turns with a signal handler, and with the loop's thread.
        while self._main and self._unsent:
            with suppress(IndexError):
                signum = self._unsent.popleft()
                if not self._deliver(signum):
                    self._unsent.appendleft(signum)
                    return

    def _deliver(self, signum: int) -> bool:
        """False: there is nobody to get it yet.  The kernel knows of ends and births before the loop does."""
        if self._status is None and lives(self._main):
            targets = {self._main}
        else:
            targets = {identify(tid).pid for tid in tuple(self._tids)} - {self._main}
        delivered = False
        for pid in targets:
            with suppress(ProcessLookupError):
                os.kill(pid, signum)
                delivered = True
        return delivered

    def _loop(self) -> None:
        trace, guests, serve = self._trace, self._guests, self._exits.exit
        while trace.wait():
            kind = trace.kind
            if kind == GONE:
                self._gone(trace.tid, trace.code)
            elif self._killed:
                self._tids.add(trace.tid)
                self.kill()
            elif kind == EXIT:
                registers = trace.registers()
                instruction = trace.instruction
                if instruction == CPUID:
                    answered = self._disguise is not None and self._disguise.cpuid(registers, trace.tid)
                else:
                    answered = serve(instruction, registers, trace, guests.get(trace.tid) or self._meet(trace.tid))
                if answered:
                    trace.answer(registers)
                else:
                    trace.resume(trace.signal)
            elif kind == SIGNAL:
                trace.resume(trace.signal)
            elif kind == EVENT:
                self._event(trace.tid, trace.event)
            elif kind == RETURN:
                self._returned(trace.tid)

    def _event(self, tid: int, event: int) -> None:
        trace = self._trace
        self._tids.add(tid)
        if self._unsent:
            self._send_unsent()
        if event == PTRACE_EVENT_STOP and trace.signal in STOPS:
            trace.listen()
            return
        if event == PTRACE_EVENT_SECCOMP:
            self._called(tid, trace.message())
            return
        if event == PTRACE_EVENT_EXEC:
            # A thread that executes becomes its process: its own id ends without a word.
            former = trace.message()
            if former != tid:
                self._tids.discard(former)
                self._guests.pop(former, None)
                self._mapping.pop(former, None)
            self._guests.pop(tid, None)
            self._mapping.pop(tid, None)
            self._executed = self._executed or tid == self._main
            if self._disguise is not None:
                self._disguise.executed(trace)
        trace.resume()

    def _called(self, tid: int, tag: int) -> None:
        """A system call is left to us."""
        trace = self._trace
        if tag in SECCOMP_MMAP:
            arguments = trace.arguments(SECCOMP_MMAP[tag])
            if SECCOMP_MMAP[tag] == 32:
                arguments[5] *= PAGE
            self._mapping[tid] = arguments
            trace.finish_call()
            return
        if tag in SECCOMP_PROTECT:
            if self._disguise is not None:
                self._disguise.protecting(trace, trace.arguments(SECCOMP_PROTECT[tag]))
        elif tag in SECCOMP_PTRACE:
            request, target = trace.arguments(SECCOMP_PTRACE[tag])[:2]
            if request == PTRACE_TRACEME or target in self._tids:
                name = "".join(c if c.isprintable() else "?" for c in identify(tid).name)  # its own choice
                self._tell(f"{name} asks for ptrace: refused, a program here has a tracer already")
        else:
            trace.judge()
            return
        trace.resume()

    def _returned(self, tid: int) -> None:
        trace = self._trace
        arguments = self._mapping.pop(tid, None)
        address = trace.result()
        if arguments is not None and self._disguise is not None and not -PAGE < address < 0:
            self._disguise.mapped(trace, arguments, address)
        trace.resume()

    def _tell(self, text: str) -> None:
        if self._note is not None and text not in self._noted and len(self._noted) < MOST_NOTES:
            self._noted.add(text)
            self._note(text)

    def _gone(self, tid: int, code: int) -> None:
        self._tids.discard(tid)
        self._guests.pop(tid, None)
        self._mapping.pop(tid, None)
        if tid == self._main and self._status is None:
            self._status = code
            self._send_unsent()

    def _meet(self, tid: int) -> Guest:
        guest = self._guests[tid] = identify(tid)
        return guest

    def _raise_report(self, program: Program, report: bytes) -> None:
        if len(report) != REPORT.size:
            return  # killed before it came so far
        step, error = REPORT.unpack(report)
        if step == AT_SECCOMP:
            reason = os.strerror(error)
            raise TracingForbidden(f"the system does not let this process install a seccomp filter: {reason}")
        if step == AT_EXEC:
            raise OSError(error, os.strerror(error), os.fsdecode(program.argv[0]))
        if step == AT_CHDIR and program.cwd is not None:
            raise OSError(error, os.strerror(error), os.fsdecode(program.cwd))
        raise OSError(error, os.strerror(error), "standard streams of the program")


def lives(pid: int) -> bool:
    """The process has a thread that has not ended; one that nobody has waited for still takes signals, in vain."""
    for path in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):
            if path.read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X"):
                return True
    return False


def identify(tid: int) -> Guest:
    """The process and the name of a thread, from /proc; a thread that can't be looked up is its own process."""
    pid, name = tid, ""
    with suppress(OSError), open(f"/proc/{tid}/status", encoding="utf-8", errors="backslashreplace") as status:
        for line in status:
            label, _, value = line.partition(":")
            if label == "Name":
                name = value.strip()
            elif label == "Tgid":
                pid = int(value)
                break
    return Guest(pid, tid, name)
