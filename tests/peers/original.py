"""Other programs of open-vm-tools, each under a simulated host: no twins of ours to compare them with yet."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmtools.sim.backdoor import Backdoor
from vmtools.sim.disguise import Disguise
from vmtools.sim.run import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmtools.sim.machine import Machine


@dataclass(frozen=True)
class Result:
    """How a program ended and what it printed, as text."""

    status: int
    out: str
    err: str


class Original:
    """Runs programs that see VMware."""

    @staticmethod
    def run(words: Sequence[str], machine: Machine | Backdoor) -> Result:
        """Run a program to its end."""
        backdoor = machine if isinstance(machine, Backdoor) else Backdoor(machine)
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        disguise = Disguise(backdoor.machine.status())
        with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            status = run(words, backdoor, env=environment, stdin=stdin, stdout=out, stderr=err, disguise=disguise)
            out.seek(0)
            err.seek(0)
            return Result(status, out.read().decode(), err.read().decode())
