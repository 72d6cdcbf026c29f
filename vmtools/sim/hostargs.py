"""What the commands of ``vmtools sim`` share: from their arguments to a host, a transcript, a program."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vmtools.sim import machineargs
from vmtools.sim.machineargs import UsageError

if TYPE_CHECKING:
    import argparse
    from contextlib import ExitStack
    from typing import Any

    from vmtools.sim.backdoor import Backdoor
    from vmtools.sim.disguise import Disguise
    from vmtools.sim.faults import FaultPlan
    from vmtools.sim.transcript import Record, Transcript


def backdoor(arguments: argparse.Namespace, files: ExitStack) -> Backdoor:
    """The machine that the options describe; its transcript is closed with ``files``."""
    from vmtools.sim.faults import FaultPlan

    try:
        plan = FaultPlan(arguments.fault) if arguments.fault else None
    except ValueError as error:
        raise UsageError(f"--fault: {error}") from None
    return host(arguments, plan, transcript(arguments, files))


def host(arguments: argparse.Namespace, plan: FaultPlan | None, transcript: Transcript | None) -> Backdoor:
    """A new host as the options describe it; :raises UsageError: one of them is wrong."""
    from vmtools.sim.machine import GuestInfoError, Machine
    from vmtools.sim.personalities import backdoor

    values: dict[bytes, bytes] = {}
    for item in arguments.set:
        key, equals, value = os.fsencode(item).partition(b"=")
        if not key or not equals:
            raise UsageError(f"--set {item}: KEY=VALUE is expected")
        values[key] = value
    try:
        machine = Machine(
            guestinfo=values,
            hypercalls=not arguments.no_hypercalls,
            **machineargs.settings(arguments),
        )
    except GuestInfoError as error:
        raise UsageError(f"--set: {error}") from None
    return backdoor(arguments.personality, machine, transcript=transcript, faults=plan)


def transcript(arguments: argparse.Namespace, files: ExitStack) -> Transcript | None:
    """What records, if that is wanted; its file is closed with ``files``."""
    from vmtools.sim.transcript import Transcript

    if arguments.transcript is None:
        return None
    path = Path(arguments.transcript)
    try:
        return Transcript(files.enter_context(path.open("w", encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"--transcript {arguments.transcript}: {error.strerror}") from None


def program(arguments: argparse.Namespace, command: str) -> list[str]:
    """The program's words; :raises UsageError: there are none."""
    words: list[str] = arguments.program[1:] if arguments.program[:1] == ["--"] else arguments.program
    if not words:
        raise UsageError(f"{command}: which program? Name it after '--'")
    return words


def describes_host(arguments: argparse.Namespace) -> bool:
    """Whether any option was given that says what the host is like."""
    described = arguments.set or arguments.fault or arguments.no_hypercalls
    return bool(described or arguments.personality != "vmware" or machineargs.given(arguments))


def disguise(arguments: argparse.Namespace, shown: Backdoor | dict[str, Any], *, complain: bool = True) -> Disguise:
    """What programs see of a host besides its backdoor.

    :param shown: the host, or its status.
    :param complain: tell a person what can't be shown here.
    """
    from vmtools.sim.disguise import NO_CAPSTONE, Disguise, appearance

    made = Disguise(
        shown if isinstance(shown, dict) else appearance(shown), cpuid=not arguments.no_cpuid, dmi=not arguments.no_dmi
    )
    if complain and NO_CAPSTONE in made.limits and sys.stderr.isatty():  # a person; not into what a program says
        print(f"vmtools sim run: {NO_CAPSTONE}; --no-cpuid silences this", file=sys.stderr)
    return made


def read(name: str) -> list[Record]:
    """All records of a transcript; ``-`` is standard input."""
    from vmtools.sim.transcript import TranscriptError, read

    try:
        if name == "-":
            return list(read(sys.stdin))
        with Path(name).open(encoding="utf-8") as file:
            return list(read(file))
    except TranscriptError as error:
        raise UsageError(f"{name}: {error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{name}: not UTF-8, so no transcript") from None
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from None
