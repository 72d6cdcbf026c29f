"""Programs under the simulated host with its disguise, and what this machine allows of it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any

from vmtools.sim.backdoor import Backdoor
from vmtools.sim.disguise import Disguise
from vmtools.sim.machine import Machine
from vmtools.sim.run import run


@dataclass
class Seen:
    """How a program ended, and what it printed."""

    status: int
    output: str

    @property
    def words(self) -> list[tuple[int, ...]]:
        """Each line's hexadecimal words."""
        return [tuple(int(word, 16) for word in line.split()) for line in self.output.splitlines()]


def run_disguised(
    argv: list[str], *, machine: Machine | None = None, cpuid: bool = True, dmi: bool = False, **options: Any
) -> Seen:
    """Run a program under a simulated host; DMI is left alone unless asked for."""
    machine = machine or Machine()
    with tempfile.TemporaryFile("w+") as output:
        disguise = Disguise(machine.status(), cpuid=cpuid, dmi=dmi)
        status = run(argv, Backdoor(machine), disguise=disguise, stdout=output, **options)
        output.seek(0)
        return Seen(status, output.read())
