"""A program under every fault at every exit, and how it ended each time: ``vmtools sim sweep``.

The program is run without a fault first, twice: that says which exits it makes and what its answer is.  Then it is run
once for each fault and each exit at which the fault changes something, each time with a new machine.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from vmtools.sim.decode import Decoder
from vmtools.sim.faults import Fault, FaultPlan, applies
from vmtools.sim.outcomes import FAILURES, FAULTS, OUTCOMES, TIMEOUT
from vmtools.sim.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from vmtools.sim.backdoor import Backdoor, Guest, Memory
    from vmtools.sim.disguise import Disguise
    from vmtools.sim.run import Environment, Words

    MakeHost = Callable[[FaultPlan], Backdoor]
    MakeDisguise = Callable[[Backdoor], Disguise | None]

PATIENCE = 100
"""A run may make this many times as many exits as the one without a fault …"""

MIN_EXITS = 2000
"""… but at least so many."""

MAX_OUTPUT = 1 << 18
"""Bytes of each stream that are kept; what is more is counted."""

_NOTHING_SAID = re.compile(rb"\A[\s\0]*(\(?null\)?|none|nil)?[\s\0]*\Z", re.IGNORECASE)
_UNCAUGHT = re.compile(rb"^(Traceback \(most recent call last\):|panic: |fatal error: )", re.MULTILINE)
_CRASHES = {128 + number for number in (signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV)}
"""Exit statuses by which a shell says that its command crashed."""


class SweepError(Exception):
    """The program can't be swept; ``str()`` says why."""


class Output(NamedTuple):
    """What came out of a stream: its beginning, and its whole length."""

    data: bytes
    size: int


class Ended(NamedTuple):
    """One run: ``status`` None where it was killed; ``leaked``: channels it left open; ``endless``: too many exits."""

    status: int | None
    stdout: Output
    stderr: Output
    exits: int
    leaked: int
    seconds: float
    endless: bool = False


class Case(NamedTuple):
    """One fault at one exit, and what came of it."""

    fault: Fault
    call: str
    outcome: str
    ended: Ended

    def sentence(self) -> str:
        """How it ended, in a line."""
        return _how(self.ended)


class Exit(NamedTuple):
    """An exit of the run without a fault: its name, the instruction, the registers as the guest set them."""

    call: str
    instruction: int
    before: list[int]


@dataclass
class Report:
    """All runs of a program."""

    program: list[str]
    exits: list[Exit]
    reference: Ended
    faults: list[str]
    cases: list[Case] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """How many runs ended in which way."""
        found = Counter(case.outcome for case in self.cases)
        return {outcome: found[outcome] for outcome in OUTCOMES}

    def failures(self, kinds: Iterable[str] = FAILURES) -> list[Case]:
        """The cases that ended in one of these ways."""
        wanted = frozenset(kinds)
        return [case for case in self.cases if case.outcome in wanted]

    def as_json(self) -> dict[str, Any]:
        """The report as one JSON object; outputs as text, cut."""
        return {
            "sweep": "vmtools-sim",
            "version": 1,
            "program": self.program,
            "exits": [exit_.call for exit_ in self.exits],
            "reference": _ended_json(self.reference),
            "counts": self.counts(),
            "runs": [
                {
                    "fault": str(case.fault),
                    "exit": case.fault.at,
                    "call": case.call,
                    "outcome": case.outcome,
                    **_ended_json(case.ended),
                }
                for case in self.cases
            ],
        }


def sweep(
    argv: Words,
    make_host: MakeHost,
    *,
    faults: Sequence[str] = FAULTS,
    exits: range | None = None,
    timeout: float = TIMEOUT,
    jobs: int = 1,
    env: Environment | None = None,
    disguise: MakeDisguise = lambda host: None,
    unprotected: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Run a program under each fault at each exit.

    :param make_host: gives a new host, with the faults that it gets; each run has its own.
    :param faults: what to put there, as in :data:`FAULTS`.
    :param exits: at which exits, from 1; None: at all that the run without a fault makes.
    :param timeout: seconds that one run may take.
    :param jobs: how many runs go on side by side.
    :param disguise: what the program sees of a host besides its backdoor; None: this machine itself.
    :param unprotected: as for :func:`vmtools.sim.run.run`.
    :param progress: is told how many runs of how many have ended.
    :raises SweepError: without a fault the program makes no backdoor call, or does not end, or crashes.
    :raises ValueError: a fault that there is not.
    :raises OSError: it can't be executed; :raises VMToolsError: programs can't be traced here.
    """
    patterns = [_pattern(fault) for fault in faults]
    bench = _Bench(timeout, env, disguise, unprotected)
    seen: list[Exit] = []
    reference = _run(argv, make_host(FaultPlan()), MIN_EXITS * PATIENCE, bench, seen)
    again = _run(argv, make_host(FaultPlan()), MIN_EXITS * PATIENCE, bench)
    _check_reference(reference, again)
    report = Report([_text(os.fsencode(word)) for word in argv], seen, reference, list(faults))
    wanted = exits if exits is not None else range(1, len(seen) + 1)
    plans = [
        pattern._replace(at=at)
        for pattern in patterns
        for at in wanted
        if at <= len(seen) and applies(pattern.kind, seen[at - 1].instruction, seen[at - 1].before)
    ]
    most = max(MIN_EXITS, PATIENCE * reference.exits)

    def one(fault: Fault) -> Case:
        ended = _run(argv, make_host(FaultPlan([fault])), most, bench)
        return Case(fault, seen[fault.at - 1].call, judge(reference, ended), ended)

    progress(0, len(plans))
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for case in pool.map(one, plans):
                report.cases.append(case)
                progress(len(report.cases), len(plans))
        except BaseException:
            bench.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return report


def judge(reference: Ended, ended: Ended) -> str:
    """Which of :data:`OUTCOMES` a run is."""
    if ended.endless or ended.status is None:
        return "hang"
    if ended.status < 0 or ended.status in _CRASHES or _UNCAUGHT.search(ended.stderr.data):
        return "crash"
    if ended.leaked > reference.leaked:
        return "leak"
    same = (ended.status, ended.stdout) == (reference.status, reference.stdout)
    if same and (ended.status == 0 or ended.stderr == reference.stderr):
        return "answer"
    if ended.status == 0:
        return "wrong"
    silent = _NOTHING_SAID.match(ended.stderr.data) and _NOTHING_SAID.match(ended.stdout.data)
    return "unclear" if silent else "error"


def table(report: Report, width: int = 120) -> list[str]:
    """The cases as lines of text: a row for each fault, a column for each exit; several tables where they are many."""
    cells = {(str(case.fault._replace(at=1)), case.fault.at): case for case in report.cases}
    shown = sorted({case.fault.at for case in report.cases})
    head = max((len(fault) for fault in report.faults), default=0) + 2
    lines: list[str] = []
    while shown:
        widths: list[int] = []
        for at in shown:
            cell = max(len(report.exits[at - 1].call), 7) + 1
            if widths and head + sum(widths) + cell > width:
                break
            widths.append(cell)
        block, shown = shown[: len(widths)], shown[len(widths) :]
        rows = [("exit", [str(at) for at in block]), ("", [report.exits[at - 1].call for at in block])]
        for fault in report.faults:
            found = [cells.get((str(_pattern(fault)), at)) for at in block]
            rows.append((fault, ["-" if case is None else _word(case.outcome) for case in found]))
        for name, words in rows:
            row = "".join(word.ljust(space) for word, space in zip(words, widths, strict=True))
            lines.append(f"{name:<{head}}{row}".rstrip())
        lines.append("")
    return lines


def _how(ended: Ended) -> str:
    if ended.endless:
        return f"still going after {ended.exits} exits"
    if ended.status is None:
        return f"no end within {ended.seconds:.0f} s, {ended.exits} exits"
    if ended.status < 0:
        return f"killed by {signal.Signals(-ended.status).name}"
    said = ended.stderr.data or ended.stdout.data
    line = said.strip().splitlines()[-1] if said.strip() else b""
    channels = f", {ended.leaked} channel{'s' if ended.leaked > 1 else ''} left open" if ended.leaked else ""
    return f"exit status {ended.status}{channels}" + (f": {_text(line[:100])}" if line else "")


def _word(outcome: str) -> str:
    return outcome.upper() if outcome in (*FAILURES, "wrong") else outcome


def _pattern(text: str) -> Fault:
    """``KIND[+][:VALUE]`` as a fault at the first exit."""
    kind, colon, value = text.partition(":")
    onwards = kind.endswith("+")
    (fault,) = FaultPlan([f"{kind.removesuffix('+')}@1{'+' if onwards else ''}{colon}{value}"]).faults
    return fault


def _check_reference(first: Ended, second: Ended) -> None:
    for ended in (first, second):
        if ended.status is None:
            raise SweepError(f"without a fault the program does not end within {ended.seconds:.0f} s")
        if ended.status < 0:
            raise SweepError(f"without a fault the program is killed by {signal.Signals(-ended.status).name}")
    if first.exits == 0:
        raise SweepError(f"the program makes no backdoor call, so no fault can reach it ({_how(first)})")
    if (first.status, first.stdout) != (second.status, second.stdout):
        raise SweepError("without a fault the program answers differently each time, so no answer can be called wrong")


# -- one run ----------------------------------------------------------------------------------------------------------


@dataclass
class _Bench:
    """What is the same for each run of a sweep; ``stop``: break off."""

    timeout: float
    env: Environment | None
    disguise: MakeDisguise
    unprotected: bool
    stop: threading.Event = field(default_factory=threading.Event)


class _EndlessError(Exception):
    """The program makes too many exits, or the sweep is broken off."""


class _Watched:
    """Answers the exits of one run, and follows which channels the guest knows of and has not tried to close."""

    def __init__(self, backdoor: Backdoor, most: int, stop: threading.Event, seen: list[Exit] | None) -> None:
        self.backdoor = backdoor
        self.count = 0
        self._most = most
        self._stop = stop
        self._seen = seen
        self._decoder = Decoder()
        self._held: set[int] = set()

    def exit(self, instruction: int, regs: list[int], memory: Memory, who: Guest) -> bool:
        """As :meth:`vmtools.sim.backdoor.Backdoor.exit`."""
        if self.count >= self._most or self._stop.is_set():
            raise _EndlessError
        self.count += 1
        before = regs.copy()
        answered = self.backdoor.exit(instruction, regs, memory, who)
        meaning = self._decoder.feed(instruction, before, regs, answered, b"")
        if meaning is not None and meaning.channel is not None:
            if meaning.op == "OPEN" and meaning.channel >= 0:
                self._held.add(meaning.channel)
            elif meaning.op == "CLOSE":
                self._held.discard(meaning.channel)
        if self._seen is not None:
            self._seen.append(Exit(meaning.op if meaning is not None else "?", instruction, before))
        return answered

    def leaked(self) -> int:
        """Channels that the host has open still, and that the guest never tried to close."""
        return len(self._held & set(self.backdoor.channels.open_channels))


class _Sink:
    """A pipe whose reader keeps the beginning of what comes."""

    def __init__(self) -> None:
        self._read, self.write = os.pipe()
        self._data = bytearray()
        self._size = 0
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        while piece := os.read(self._read, 1 << 16):
            self._size += len(piece)
            self._data += piece[: max(0, MAX_OUTPUT - len(self._data))]

    def close(self) -> Output:
        """What came, once nobody can write any more."""
        os.close(self.write)
        self._thread.join()
        os.close(self._read)
        return Output(bytes(self._data), self._size)


def _run(
    argv: Words,
    backdoor: Backdoor,
    most: int,
    bench: _Bench,
    seen: list[Exit] | None = None,
) -> Ended:
    watched = _Watched(backdoor, most, bench.stop, seen)
    out, err = _Sink(), _Sink()
    status: int | None = None
    endless = False
    begun = time.monotonic()
    stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = run(
            argv,
            watched,
            env=bench.env,
            stdin=stdin,
            stdout=out.write,
            stderr=err.write,
            signals=False,
            disguise=bench.disguise(backdoor),
            unprotected=bench.unprotected,
            timeout=bench.timeout,
        )
    except TimeoutError:
        status = None
    except _EndlessError:
        endless = True
    finally:
        os.close(stdin)
        outputs = out.close(), err.close()
    return Ended(status, *outputs, watched.count, watched.leaked(), time.monotonic() - begun, endless)


def _ended_json(ended: Ended) -> dict[str, Any]:
    return {
        "status": ended.status,
        "stdout": _text(ended.stdout.data[:2000]),
        "stderr": _text(ended.stderr.data[:2000]),
        "exits": ended.exits,
        "leaked": ended.leaked,
        "seconds": round(ended.seconds, 3),
    }


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
