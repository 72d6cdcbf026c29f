"""The options that a host tells its guest by ``Set_Option`` (specification 6.1), and the bit that mirrors one of them.

The names and their meaning are the specification's; which ones a host pushes at the start and in what order is its own
choice.  Here they are those that the tools for Linux act on, with synchronization of time off: a guest program that
runs as root would set the clock of this computer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SYNC_TIME = "synctime"
GUI_SYNC_TIME = 0x400
"""The bit of GETGUIOPTIONS that mirrors ``synctime``."""

GUI_MASK = 0xFFF
MAX_NAME = 128
MAX_VALUE = 1024
MAX_OPTIONS = 48
"""All of them must fit into a service's queue (:data:`vmtools.sim.channels.MAX_QUEUE`) when it is greeted."""

DEFAULTS = {
    "synctime.period": "60",
    "time.synchronize.tools.startup.backward": "0",
    "time.synchronize.tools.startup": "0",
    "time.synchronize.tools.slewCorrection": "1",
    "time.synchronize.tools.percentCorrection": "50",
    "time.synchronize.tools.enable": "1",
    SYNC_TIME: "0",
    "toolScripts.afterPowerOn": "1",
    "toolScripts.afterResume": "1",
    "toolScripts.beforeSuspend": "1",
    "toolScripts.beforePowerOff": "1",
    "enableAppInfo": "1",
    "broadcastIP": "1",
}
"""In the order in which they are pushed: what describes the synchronization stands before what turns it on."""


class OptionError(ValueError):
    """No option's name, or no value; ``str()`` says why."""


class Options:
    """The options of one machine.

    ``changed``: called with name and value after each change; whoever talks to the guest pushes it.
    """

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = dict(DEFAULTS)
        self._gui = 0
        self.changed: Callable[[str, str], None] = lambda name, value: None
        for name, value in (values or {}).items():
            self.set(name, value)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def items(self) -> list[tuple[str, str]]:
        """Name and value, in the order in which they are pushed."""
        return list(self._values.items())

    def set(self, name: str, value: str) -> None:
        """Set an option; :raises OptionError: a guest could not read it."""
        if not 0 < len(name) <= MAX_NAME or not name.isprintable() or " " in name:
            raise OptionError(f"{name!r} is no option's name")
        if not 0 < len(value) <= MAX_VALUE or "\0" in value:
            raise OptionError(f"an option's value has 1 to {MAX_VALUE} characters")
        if name not in self._values and len(self._values) >= MAX_OPTIONS:
            raise OptionError("too many options")
        self._values[name] = value
        self.changed(name, value)

    @property
    def gui(self) -> int:
        """What GETGUIOPTIONS answers."""
        return self._gui & ~GUI_SYNC_TIME | (GUI_SYNC_TIME if self._values[SYNC_TIME] == "1" else 0)

    @gui.setter
    def gui(self, bits: int) -> None:
        self._gui = bits & GUI_MASK
        wanted = "1" if bits & GUI_SYNC_TIME else "0"
        if wanted != self._values[SYNC_TIME]:
            self.set(SYNC_TIME, wanted)
