"""What the host asks of its guest's services by TCLO, of its own accord.

A service that has opened a TCLO channel and answered ``reset`` is greeted as VMware does: ``Capabilities_Register``,
each option by ``Set_Option``, and, to the main service, the change of power state that it has not been told yet
(specification 3.4 and A.3).  Later it gets each option that changes, and a ``ping`` now and then.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from vmtools.constants import Protocol
from vmtools.sim.machine import text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from vmtools.sim.channels import Channel, Channels, TcloRequest
    from vmtools.sim.machine import Machine
    from vmtools.sim.schedule import Schedule

MAIN = b"toolbox"
"""The main service's name (specification 3.4); only it is told of power states."""

PING_SECONDS = 30.0
ALIVE_SECONDS = 30.0
"""A service that has not polled for so long is not running."""

REPORT_SECONDS = 10.0
"""How long the end of a power script is waited for before the service counts as ready."""

POWER = {
    1: ("halt", "off"),
    2: ("reboot", "restarting"),
    3: ("poweron", "on"),
    4: ("resume", "on"),
    5: ("suspend", "suspended"),
}
"""State change ids (specification 6.2): the operation, and what the machine's power is when the guest has done it."""

OPERATIONS = {
    "halt": "OS_Halt",
    "reboot": "OS_Reboot",
    "poweron": "OS_PowerOn",
    "resume": "OS_Resume",
    "suspend": "OS_Suspend",
}
"""Power operations and the TCLO command that asks for each."""

REAL = ("halt", "reboot")
"""Operations after which a guest's service runs the system's shutdown: of this computer, if nothing keeps it from that.
open-vm-tools does so even where its script failed, if it failed the time before too (specification 6.3)."""


class Services:
    """The guest's services, as their host sees them."""

    def __init__(self, machine: Machine, channels: Channels, schedule: Schedule) -> None:
        self._machine = machine
        self._channels = channels
        self._schedule = schedule
        self._pinging = False
        self._busy: bytes | None = None
        self.on_ready: Callable[[bytes], None] = lambda app: None
        """Called with a service's name when it has answered its greeting, and has reported its power script's end."""
        channels.on_ready = self._greet
        machine.options.changed = self._push
        machine.on_state_change = self._state_changed

    def listening(self) -> list[Channel]:
        """The channels on which a service has answered ``reset``."""
        return [
            channel
            for channel in self._channels.open_channels.values()
            if channel.protocol == Protocol.TCLO and channel.app is not None
        ]

    def running(self) -> dict[str, float]:
        """The services that run, by name: seconds since each was heard of."""
        now = time.monotonic()
        silent = {text_of(channel.app or b""): now - channel.used for channel in self.listening()}
        return {app: seconds for app, seconds in silent.items() if seconds <= ALIVE_SECONDS}

    def _greet(self, channel: Channel) -> None:
        app = channel.app or b""
        if not self._machine.handshake:
            self.on_ready(app)
            return
        messages = [b"Capabilities_Register"]
        messages += [_set_option(name, value) for name, value in self._machine.options.items()]
        for message in messages[:-1]:
            self._channels.send_on(channel, message)
        power = self._machine.pending_power if app == MAIN else None
        if power is None:
            self._channels.send_on(channel, messages[-1], lambda request: self.on_ready(app))
        else:
            self._channels.send_on(channel, messages[-1])
            before = self._machine.state_change_count
            self._channels.send_on(channel, power, lambda request: self._told(app, request, before))
        if not self._pinging:
            self._pinging = True
            self._schedule.after(PING_SECONDS, self._ping)

    def _told(self, app: bytes, request: TcloRequest, before: int) -> None:
        done = request.answer is not None and request.answer.startswith(b"OK")
        if done:
            self._machine.pending_power = None
        if not done or self._machine.state_change_count != before:  # its report may come before its answer
            self.on_ready(app)
            return
        self._busy = app  # its script runs now; until it has reported, it takes no other power operation
        self._schedule.after(REPORT_SECONDS, self._reported)

    def _reported(self) -> None:
        if self._busy is not None:
            app, self._busy = self._busy, None
            self.on_ready(app)

    def _push(self, name: str, value: str) -> None:
        if self._machine.handshake:
            for channel in self.listening():
                self._channels.send_on(channel, _set_option(name, value))

    def _ping(self) -> None:
        listening = self.listening()
        for channel in listening:
            if not channel.outbox and channel.taken is None:
                self._channels.send_on(channel, b"ping")
        self._pinging = bool(listening)
        if listening:
            self._schedule.after(PING_SECONDS, self._ping)

    def _state_changed(self, state: int, ok: bool) -> None:
        if ok and state in POWER:
            self._machine.power = POWER[state][1]
        self._reported()


def _set_option(name: str, value: str) -> bytes:
    return f"Set_Option {name} {value}".encode("utf-8", "surrogateescape")
