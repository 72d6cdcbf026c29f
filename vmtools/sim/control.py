"""What a control client can ask of a served machine: JSON objects in and out, no sockets.

A request is ``{"do": NAME, …}``; a report ``{"ok": true, …}`` or ``{"ok": false, "error": SENTENCE}``.  Bytes travel as
text with surrogate escapes (:func:`vmtools.sim.machine.text_of`).

==========  ===========================================  ==========================================
do          takes                                        gives
==========  ===========================================  ==========================================
clock       set (optional: +90s, -5m, @ISO), drift_ppm   clock: the time of day, drift …
device      name, connected (optional: sets it)          devices: name and whether it is connected
guestlib    name, value (optional: fixes it; null: none) values: all statistics
option      name, value (optional: sets and pushes it)   options: all
snapshot    kind, leap (seconds, optional)               session: the new one
status                                                   status: :func:`vmtools.sim.report.status`
guestinfo   key (optional), value (optional: sets it)    value; with no key: values (long ones cut), sizes, left_off
log                                                      lines
send        text, app (optional), timeout (seconds)      answer: the guest's, when it has answered
==========  ===========================================  ==========================================
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from vmtools.sim import snapshot
from vmtools.sim.clock import ClockError
from vmtools.sim.devices import DeviceError
from vmtools.sim.guestlib import StatisticError
from vmtools.sim.machine import SHOWN, GuestInfoError, bytes_of, full_key, text_of
from vmtools.sim.options import OptionError
from vmtools.sim.report import status as report_status

if TYPE_CHECKING:
    from collections.abc import Callable

    from vmtools.sim.backdoor import Backdoor
    from vmtools.sim.channels import TcloRequest

MAX_TIMEOUT = 3600.0
DEFAULT_TIMEOUT = 10.0
MAX_TEXT = 65536

LIST_ROOM = 900 << 10
"""Bytes of JSON for the list of all guestinfo variables."""


class ControlError(Exception):
    """The request is refused; ``str()`` says why."""


class Pending:
    """A send that waits for the guest's answer; it reports once."""

    def __init__(self, backdoor: Backdoor, request: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> None:
        self.timeout = _seconds(request.get("timeout", DEFAULT_TIMEOUT))
        self.done = False
        self._report = report
        self._channels = backdoor.channels
        text = bytes_of(_string(request, "text"))
        if not 0 < len(text) <= MAX_TEXT:
            raise ControlError(f"a message has 1 to {MAX_TEXT} bytes")
        app = bytes_of(_string(request, "app")) if request.get("app") is not None else None
        sent = self._channels.send(text, app, self._finished)
        if sent is None:
            raise ControlError("no guest service listens, or its queue is full")
        self._sent = sent

    def _finished(self, sent: TcloRequest) -> None:
        self.done = True
        if sent.state == "answered":
            self._report({"ok": True, "answer": text_of(sent.answer or b"")})
        else:
            self._report({"ok": False, "error": f"the message was {sent.state}"})

    def expire(self) -> None:
        """Give up: the time is over, or nobody waits any more."""
        if not self.done:
            self._sent.on_done = None
            withdrawn = self._channels.withdraw(self._sent)
            self.done = True
            what = "did not read the message" if withdrawn else "read the message and did not answer"
            self._report({"ok": False, "error": f"the guest {what} within {self.timeout:g} s"})


def perform(backdoor: Backdoor, request: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> Pending | None:
    """Do what is asked and report it: at once, or later where a :class:`Pending` is returned."""
    action = _ACTIONS.get(str(request.get("do")))
    try:
        if request.get("do") == "send":
            pending = Pending(backdoor, request, report)
            return None if pending.done else pending
        if action is None:
            raise ControlError(f"this host can do: {', '.join([*_ACTIONS, 'send'])}")
        report({"ok": True, **action(backdoor, request)})
    except (ControlError, ClockError, DeviceError, OptionError, StatisticError) as error:
        report({"ok": False, "error": str(error)})
    return None


def _status(backdoor: Backdoor, request: dict[str, Any]) -> dict[str, Any]:
    return {"status": report_status(backdoor)}


def _guestinfo(backdoor: Backdoor, request: dict[str, Any]) -> dict[str, Any]:
    machine = backdoor.machine
    if request.get("key") is None:
        values: dict[str, str] = {}
        sizes: dict[str, int] = {}
        room = LIST_ROOM
        for key, value in sorted(machine.guestinfo.items()):
            name, shown = text_of(key), text_of(value[:SHOWN])
            room -= 2 * len(json.dumps(name)) + len(json.dumps(shown)) + 16
            if room < 0:
                break
            values[name], sizes[name] = shown, len(value)
        return {"values": values, "sizes": sizes, "left_off": len(machine.guestinfo) - len(values)}
    key = full_key(bytes_of(_string(request, "key")))
    if request.get("value") is not None:
        try:
            machine.set_guestinfo(key, bytes_of(_string(request, "value")))
        except GuestInfoError as error:
            raise ControlError(str(error)) from None
    if key not in machine.guestinfo:
        raise ControlError("No value found")
    return {"value": text_of(machine.guestinfo[key])}


def _log(backdoor: Backdoor, request: dict[str, Any]) -> dict[str, Any]:
    lines: list[str] = []
    room = 1 << 17  # characters; JSON may take six bytes for each, and a packet has 1 MiB
    for line in reversed(backdoor.machine.log):
        room -= len(line) + 1
        if room < 0:
            break
        lines.append(text_of(line))
    return {"lines": lines[::-1]}


def _clock(backdoor: Backdoor, request: dict[str, Any]) -> dict[str, Any]:
    clock = backdoor.machine.clock
    if request.get("set") is not None:
        clock.adjust(_string(request, "set"))
    if request.get("drift_ppm") is not None:
        clock.drift_ppm = _number(request, "drift_ppm")
    return {"clock": clock.status()}


def _snapshot(backdoor: Backdoor, request: dict[str, Any]) -> dict[str, Any]:
    kind = _string(request, "kind")
    leap = _number(request, "leap") if request.get("leap") is not None else 0.0
    if kind not in snapshot.KINDS:
        raise ControlError(f"'kind' is one of {', '.join(snapshot.KINDS)}")
    snapshot.take(backdoor, kind, leap)
    return {"session": f"{backdoor.machine.guestlib.session:#x}"}


def _option(backdoor: Backdoor, request: dict[str, Any]) -> dict[str, Any]:
    options = backdoor.machine.options
    if request.get("name") is not None:
        options.set(_string(request, "name"), _string(request, "value"))
    return {"options": dict(options.items())}


def _device(backdoor: Backdoor, request: dict[str, Any]) -> dict[str, Any]:
    devices = backdoor.machine.devices
    if request.get("name") is not None:
        devices.find(_string(request, "name")).connected = request.get("connected") is True
    return {"devices": {device.name: device.connected for device in devices.all}}


def _guestlib(backdoor: Backdoor, request: dict[str, Any]) -> dict[str, Any]:
    statistics = backdoor.machine.guestlib
    if request.get("name") is not None:
        value = request.get("value")
        if not (value is None or isinstance(value, str) or type(value) is int):
            raise ControlError("'value' must be a number, text, or null for a value that the host has not")
        statistics.fix(_string(request, "name"), value)
    values = statistics.values()
    return {"values": {k: text_of(v) if isinstance(v, bytes) else v for k, v in values.items()}}


_ACTIONS: dict[str, Callable[[Backdoor, dict[str, Any]], dict[str, Any]]] = {
    "clock": _clock,
    "device": _device,
    "guestlib": _guestlib,
    "option": _option,
    "snapshot": _snapshot,
    "status": _status,
    "guestinfo": _guestinfo,
    "log": _log,
}


def _string(request: dict[str, Any], name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str):
        raise ControlError(f"{name!r} must be text")
    try:
        bytes_of(value)
    except UnicodeEncodeError:
        raise ControlError(f"{name!r} is no text that stands for bytes") from None
    return value


def _number(request: dict[str, Any], name: str) -> float:
    value = request.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ControlError(f"{name!r} must be a number")
    return float(min(max(value, -1e18), 1e18))


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= MAX_TIMEOUT:
        raise ControlError(f"'timeout' must be 0 to {MAX_TIMEOUT:.0f} seconds")
    return float(value)
