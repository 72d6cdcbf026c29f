"""Test programs that speak to a VMware host, without VMware: a simulated host to run them under.

::

    from vmtools.testing import SimulatedHost

    with SimulatedHost(guestinfo={"hello": "world"}) as host:
        result = host.run("vmware-rpctool", "info-get guestinfo.hello").check()
        assert result.stdout == "world\n"
        assert host.said == [(b"RPCI", b"info-get guestinfo.hello", b"1 world")]

For pytest there is a fixture: :mod:`vmtools.pytest_plugin`.  The guide is docs/testing-your-agent.md.

This module stands above both halves, the guest's and the host's, and so may join them.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmtools.cli.umbrella import LINKS
from vmtools.guest import Guest
from vmtools.rpci import Rpci
from vmtools.sim.guests import GuestProgram, Result
from vmtools.sim.host import ExpectationFailed, GuestSilent, Host, HostGuestInfo
from vmtools.sim.recording import Recording
from vmtools.sim.transcript import Exchange

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Exchange",
    "ExpectationFailed",
    "Guest",
    "GuestProgram",
    "GuestSilent",
    "HostGuestInfo",
    "Recording",
    "Result",
    "SimulatedHost",
]

SCRIPT = """\
#!{python}
import sys

sys.path.insert(0, {home!r})
from vmtools.cli.{module} import main

sys.exit(main())
"""


class SimulatedHost(Host):
    """A VMware host with one virtual machine, whose guests are programs and code under test.

    :param drop_in: programs find our ``vmware-rpctool`` and ``vmware-checkvm`` before any other in their PATH, whatever
        this machine has; else they find what is installed.

    Everything else: :class:`vmtools.sim.host.Host`.
    """

    def __init__(self, *, drop_in: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._commands = self._drop_in() if drop_in else None

    def connect(self) -> Guest:
        """The guest's side of this host, in this process, as :func:`vmtools.connect` gives it; closed with the host."""
        return self._open.enter_context(Guest(Rpci(self.gate)))

    def _drop_in(self) -> str:
        """A folder with our commands under the original names."""
        folder = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="vmtools-commands-")))
        home = str(Path(__file__).resolve().parent.parent)
        for name in LINKS:
            script = folder / name
            module = name.removeprefix("vmware-")
            script.write_text(SCRIPT.format(python=sys.executable, home=home, module=module), encoding="utf-8")
            script.chmod(0o755)
        return str(folder)

    def _environment(self, env: Mapping[str, str] | None) -> Mapping[str, str] | None:
        if self._commands is None:
            return env
        environment = os.environ if env is None else env
        path = environment.get("PATH", os.defpath)
        return {**environment, "PATH": f"{self._commands}{os.pathsep}{path}"}
