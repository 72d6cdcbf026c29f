"""The commands of the test bench: ``sweep``, ``diff`` and ``run --replay``."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from typing import TYPE_CHECKING

from vmtools.sim.hostargs import describes_host, disguise, host, program, read, transcript
from vmtools.sim.machineargs import UsageError, seconds
from vmtools.sim.view import plain

if TYPE_CHECKING:
    from contextlib import ExitStack
    from typing import Any

    from vmtools.sim.sweep import Report

NAMED = 8
"""How many faults that ended alike are named."""


def add_sweep(commands: Any, *parents: argparse.ArgumentParser) -> None:
    """The options of ``sweep``; ``parents`` have those that describe the host."""
    from vmtools.sim.outcomes import FAILURES, FAULTS, OUTCOMES, TIMEOUT

    sweep = commands.add_parser(
        "sweep",
        parents=parents,
        usage="vmtools sim sweep [options] -- PROGRAM [ARG ...]",
        help="run a program once for each fault and exit, and table how it ended",
        epilog="; ".join(f"{outcome}: {text}" for outcome, text in OUTCOMES.items()),
    )
    sweep.add_argument("--faults", type=_words, default=FAULTS, metavar="KIND,…", help=f"default: {','.join(FAULTS)}")
    sweep.add_argument("--exits", type=_range, metavar="N[-M]", help="only at these exits, from 1")
    sweep.add_argument(
        "--timeout",
        type=seconds,
        default=TIMEOUT,
        metavar="SECONDS",
        help=f"a run that takes longer hangs (default: {TIMEOUT:g})",
    )
    sweep.add_argument("--jobs", type=_jobs, default=1, metavar="N", help="runs side by side (default: 1)")
    sweep.add_argument("--json", action="store_true", help="the report as JSON")
    sweep.add_argument(
        "--fail-on",
        type=_words,
        default=FAILURES,
        metavar="OUTCOME,…",
        help=f"the exit status is 1 if one of these occurs (default: {','.join(FAILURES)})",
    )
    sweep.add_argument("program", nargs=argparse.REMAINDER, metavar="-- PROGRAM [ARG ...]")
    sweep.set_defaults(action=_sweep)


def add_diff(commands: Any) -> None:
    """The options of ``diff``."""
    from vmtools.sim.calls import MAY_DIFFER, OPTIONAL

    diff = commands.add_parser(
        "diff",
        help="compare two transcripts; the exit status is 1 where they differ",
        epilog="May always differ: " + "; ".join(MAY_DIFFER) + ".",
    )
    diff.add_argument("first", metavar="A")
    diff.add_argument("second", metavar="B")
    diff.add_argument(
        "--ignore",
        action="append",
        default=[],
        choices=OPTIONAL,
        help="; ".join(f"{name}: {text}" for name, text in OPTIONAL.items()),
    )
    diff.add_argument("--messages", action="store_true", help="compare messages and their answers, not each call")
    diff.set_defaults(action=_diff)


def run_replay(arguments: argparse.Namespace, words: list[str], files: ExitStack) -> int:
    """``run --replay``."""
    from vmtools.sim.backdoor import VMCALL, VMMCALL, Backdoor
    from vmtools.sim.machine import Machine
    from vmtools.sim.replay import DEVIATED, Replay
    from vmtools.sim.run import run_command

    if describes_host(arguments) or arguments.host is not None or arguments.script is not None:
        raise UsageError("with --replay the host is the transcript's: no options that describe a machine go with it")
    records = read(arguments.replay)
    replay = Replay(
        records,
        ignore=arguments.ignore,
        lose=arguments.on_deviation == "lost",
        transcript=transcript(arguments, files),
    )
    shown = Backdoor(Machine(hypercalls=any(record.instruction in (VMCALL, VMMCALL) for record in records)))

    def ended(status: int) -> int:
        deviation = replay.finish()
        if deviation is None:
            return status
        for line in deviation.lines():
            print(f"vmtools sim run: {plain(line)}", file=sys.stderr)
        return DEVIATED

    return run_command(
        words, replay, ended=ended, disguise=disguise(arguments, shown), unprotected=arguments.unprotected
    )


def _sweep(arguments: argparse.Namespace) -> int:
    from vmtools.sim.outcomes import OUTCOMES
    from vmtools.sim.sweep import SweepError, sweep

    words = program(arguments, "sweep")
    for outcome in arguments.fail_on:
        if outcome not in OUTCOMES:
            raise UsageError(f"--fail-on: no outcome is called {outcome!r}; there are: {', '.join(OUTCOMES)}")
    disguise(arguments, host(arguments, None, None))  # both say what is wrong, once

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done} of {total} runs", end="" if done < total else "\n", file=sys.stderr, flush=True)

    try:
        report = sweep(
            words,
            lambda plan: host(arguments, plan, None),
            faults=arguments.faults,
            exits=arguments.exits,
            timeout=arguments.timeout,
            jobs=arguments.jobs,
            disguise=lambda shown: disguise(arguments, shown, complain=False),
            unprotected=arguments.unprotected,
            progress=progress,
        )
    except SweepError as error:
        raise UsageError(f"sweep: {error}") from None
    except ValueError as error:
        raise UsageError(f"--faults: {error}") from None
    except OSError as error:
        raise UsageError(f"sweep: {error.filename or words[0]}: {error.strerror}") from None
    failures = report.failures(arguments.fail_on)
    if arguments.json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        width = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else 120
        for line in report_lines(report, max(60, width)):
            print(plain(line) if line else "")
    return 1 if failures else 0


def report_lines(report: Report, width: int) -> list[str]:
    """What ``sweep`` prints: the table, how many ended how, and those that gave neither an answer nor an error."""
    from vmtools.sim.sweep import table

    lines = [f"{shlex.join(report.program)}: {len(report.exits)} exits, {len(report.cases)} runs", ""]
    lines += table(report, width)
    lines.append(", ".join(f"{number} {outcome}" for outcome, number in report.counts().items() if number))
    alike: dict[tuple[str, str], list[str]] = {}
    for case in report.cases:
        if case.outcome not in ("answer", "error"):
            alike.setdefault((case.outcome, case.sentence()), []).append(str(case.fault))
    for (outcome, sentence), faults in alike.items():
        more = f" and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
        lines.append(f"{outcome}, {sentence}: {' '.join(faults[:NAMED])}{more}")
    return lines


def _diff(arguments: argparse.Namespace) -> int:
    from vmtools.sim.compare import differences, message_differences

    first, second = read(arguments.first), read(arguments.second)
    if arguments.messages:
        lines = message_differences(first, second)
    else:
        lines = differences(first, second, ignore=arguments.ignore)
    for line in lines:
        print(plain(line))
    return 1 if lines else 0


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _range(text: str) -> range:
    first, dash, last = text.partition("-")
    found = range(int(first), (int(last) if dash else int(first)) + 1)
    if not found or found[0] < 1:
        raise ValueError(text)
    return found


def _jobs(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 64:
        raise ValueError(text)
    return value
