"""Scripts: what the host does at which time, and what it expects of the guest (``--script FILE``).

A script is TOML: a list of steps, each with one action.

.. code-block:: toml

    [[step]]
    guestinfo = { hello = "world" }   # at the start

    [[step]]
    at = "ready"                      # when a guest service has answered its greeting; else "start"
    after = "2s"                      # so much later; numbers are seconds
    send = "Set_Option synctime 0"    # a TCLO message …
    expect = "OK "                    # … whose whole answer is this; or match = "OK.*", a regular expression

    [[step]]
    at = "ready"
    every = 10                        # again and again
    times = 3                         # so many times in all
    send = 'f \\x00\\x01'
    escaped = true                    # \\xNN stands for a byte

Actions: ``send`` (with ``app``: which service, ``timeout``: 10 s), ``power`` (an operation that the guest must report
as done; halt and reboot need ``really = true``: a service may shut this computer down), ``guestinfo``, ``option``,
``device``, ``guestlib`` (tables: names and values), ``check`` (a table: each guestinfo variable must match its regular
expression), ``clock`` (``+90s``, ``@2026-01-01``), ``snapshot`` (``vmotion``, ``suspend-resume``; with ``leap``),
``fault`` (text or a list; replaces the plan, exits count from then on), ``stop`` (true: end the program or the server).

An expectation is not met by another answer, by none within the time-out, and by a step that never had its turn.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vmtools.sim import snapshot
from vmtools.sim.clock import ClockError, duration
from vmtools.sim.devices import DeviceError
from vmtools.sim.faults import FaultPlan
from vmtools.sim.guestlib import StatisticError
from vmtools.sim.machine import GuestInfoError, bytes_of, full_key, text_of
from vmtools.sim.options import OptionError
from vmtools.sim.services import OPERATIONS, REAL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vmtools.sim.backdoor import Backdoor
    from vmtools.sim.channels import TcloRequest

__all__ = ["Play", "Script", "ScriptError", "Step", "load", "parse", "unescape"]

TIMEOUT = 10.0
RETRY = 0.05
"""Seconds after which a message is offered again while no service listens."""

MAX_STEPS = 10_000
MAX_FILE = 1 << 22
SHOWN = 200

_TABLES = ("guestinfo", "option", "device", "guestlib", "check")
_TEXTS = ("send", "power", "clock", "snapshot")
ACTIONS = (*_TEXTS, *_TABLES, "fault", "stop")
_OF_ACTION = {
    "send": {"expect", "match", "escaped", "app", "timeout"},
    "power": {"app", "timeout", "really"},
    "snapshot": {"leap"},
}
_TIMING = {"at", "after", "every", "times"}
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\"}


class ScriptError(ValueError):
    """The script can't be understood; ``str()`` says where and why."""


def unescape(text: str) -> bytes:
    """Text with ``\\xNN``, ``\\n``, ``\\r``, ``\\t``, ``\\0`` and ``\\\\`` as the bytes that it stands for.

    :raises ValueError: another character follows a backslash.
    """
    parts: list[bytes] = []
    at = 0
    for match in _ESCAPE.finditer(text):
        parts.append(bytes_of(text[at : match.start()]))
        at = match.end()
        if match[1] is not None:
            parts.append(bytes.fromhex(match[1]))
        elif match[2] in _CONTROLS:
            parts.append(_CONTROLS[match[2]].encode())
        else:
            raise ValueError(f"\\{match[2]} is no escape; there are \\xNN, \\n, \\r, \\t, \\0 and \\\\")
    rest = text[at:]
    if rest.endswith("\\"):
        raise ValueError("a backslash at the end escapes nothing")
    return b"".join([*parts, bytes_of(rest)])


@dataclass
class Step:
    """One step; times are seconds, ``every`` 0 for once, ``times`` 0 for without end."""

    number: int
    action: str
    value: Any
    at_ready: bool = False
    after: float = 0.0
    every: float = 0.0
    times: int = 0
    details: dict[str, Any] = field(default_factory=dict)
    done: int = 0
    """How often it has had its turn, expectations and all."""

    @property
    def expects(self) -> bool:
        """Whether something is asked of the guest."""
        return self.action in ("power", "check") or bool(self.details.keys() & {"expect", "match"})

    def __str__(self) -> str:
        text = self.value if isinstance(self.value, str) else ", ".join(map(str, self.value)) if self.value else ""
        return f"step {self.number} ({self.action} {text[:SHOWN]!r})"


@dataclass(frozen=True)
class Script:
    """Steps, in the file's order."""

    steps: tuple[Step, ...]


def load(path: Path) -> Script:
    """The script in a file; :raises ScriptError: it can't be read, or is none."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise ScriptError(f"{path}: more than {MAX_FILE} bytes")
        return parse(data.decode("utf-8"))
    except OSError as error:
        raise ScriptError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ScriptError(f"{path}: not UTF-8") from None
    except ScriptError as error:
        raise ScriptError(f"{path}: {error}") from None


def parse(text: str) -> Script:
    """The script in a text; :raises ScriptError: it is none."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ScriptError(str(error)) from None
    steps = document.pop("step", None)
    if document or not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise ScriptError("a script is a list of [[step]] and nothing else")
    if len(steps) > MAX_STEPS:
        raise ScriptError(f"{len(steps)} steps; at most {MAX_STEPS}")
    return Script(tuple([_step(number, step) for number, step in enumerate(steps, 1)]))


def _step(number: int, given: dict[str, Any]) -> Step:
    try:
        actions = [name for name in ACTIONS if name in given]
        if len(actions) != 1:
            raise ScriptError(f"a step has one action of {', '.join(ACTIONS)}")
        action = actions[0]
        unknown = given.keys() - _TIMING - {action} - _OF_ACTION.get(action, set())
        if unknown:
            raise ScriptError(f"{action} knows no {', '.join(sorted(unknown))}")
        at, times = given.get("at", "start"), given.get("times", 0)
        if at not in ("start", "ready") or type(times) is not int or times < 0 or (times and "every" not in given):
            raise ScriptError("'at' is \"start\" or \"ready\", 'times' a number beside 'every'")
        every = _seconds(given, "every", 0.0)
        if "every" in given and every < RETRY:
            raise ScriptError(f"'every' is at least {RETRY} s")
        details = {name: given[name] for name in _OF_ACTION.get(action, ()) if name in given}
        for name in ("timeout", "leap"):
            if name in details:
                details[name] = _seconds(details, name, 0.0)
        value = _checked(action, given[action], details)
        return Step(number, action, value, at == "ready", _seconds(given, "after", 0.0), every, times, details)
    except (ValueError, TypeError, re.error) as error:
        raise ScriptError(f"step {number}: {error}") from None


def _seconds(given: dict[str, Any], name: str, default: float) -> float:
    value = given.get(name, default)
    if isinstance(value, str):
        return duration(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1e9:
        raise ScriptError(f'{name!r} is a number of seconds or a text such as "5s"')
    return float(value)


def _checked(action: str, value: Any, details: dict[str, Any]) -> Any:
    """The action's value in the form in which it is done; :raises ValueError: it has not the right form."""
    if action in _TABLES:
        if not isinstance(value, dict) or not value:
            raise ScriptError(f"{action!r} is a table of names and values")
        wanted: type = bool if action == "device" else str
        if action != "guestlib" and not all(isinstance(item, wanted) for item in value.values()):
            raise ScriptError(f"the values of {action!r} are {'true or false' if action == 'device' else 'texts'}")
        return {k: re.compile(bytes_of(v), re.DOTALL) for k, v in value.items()} if action == "check" else value
    if action == "stop":
        if value is not True:
            raise ScriptError("'stop' is true")
    elif action == "fault":
        value = [value] if isinstance(value, str) else value
        FaultPlan(value)
    elif not isinstance(value, str):
        raise ScriptError(f"{action!r} is a text")
    elif action == "power":
        if value not in OPERATIONS:
            raise ScriptError(f"'power' is one of {', '.join(OPERATIONS)}")
        if value in REAL and details.get("really") is not True:
            raise ScriptError(f"{value} needs 'really = true': the guest's service may shut this computer down")
    elif action == "snapshot" and value not in snapshot.KINDS:
        raise ScriptError(f"'snapshot' is one of {', '.join(snapshot.KINDS)}")
    elif action == "send":
        _check_send(value, details)
    return value


def _check_send(value: str, details: dict[str, Any]) -> None:
    if not all(isinstance(details.get(name, ""), str) for name in ("expect", "match", "app")):
        raise ScriptError("'expect', 'match' and 'app' are texts")
    if {"expect", "match"} <= details.keys() or not isinstance(details.get("escaped", False), bool) or not value:
        raise ScriptError("'send' is not empty, has 'expect' or 'match', not both, and 'escaped' is true or false")
    if details.get("escaped"):
        unescape(value)
        unescape(details.get("expect", ""))
    re.compile(bytes_of(details.get("match", "")))


class Play:
    """A script under way on one backdoor.

    :param stop: ends the program, or the server.
    :param say: told each expectation that is not met, as a sentence.
    """

    def __init__(
        self, script: Script, backdoor: Backdoor, *, stop: Callable[[], None], say: Callable[[str], None]
    ) -> None:
        self.failures: list[str] = []
        self.stopped = False
        self._steps = script.steps
        self._backdoor = backdoor
        self._stop = stop
        self._say = say
        self._ready = False
        backdoor.services.on_ready = self._when_ready
        for step in self._steps:
            if not step.at_ready:
                self._plan(step, step.after)

    def finish(self) -> bool:
        """The program has ended, or the server: whether all expectations were met."""
        for step in self._steps:
            if step.expects and not step.done and not any(text.startswith(str(step)) for text in self.failures):
                self._fail(step, "it never came to an end")
        return not self.failures

    def _when_ready(self, app: bytes) -> None:
        if not self._ready:
            self._ready = True
            for step in self._steps:
                if step.at_ready:
                    self._plan(step, step.after)

    def _plan(self, step: Step, seconds: float, turn: int = 1) -> None:
        self._backdoor.schedule.after(seconds, lambda: self._perform(step, turn))

    def _perform(self, step: Step, turn: int) -> None:
        if step.every and (not step.times or turn < step.times):
            self._plan(step, step.every, turn + 1)
        try:
            _PERFORM[step.action](self, step)
        except (GuestInfoError, OptionError, DeviceError, StatisticError, ClockError) as error:
            self._fail(step, str(error))

    def _fail(self, step: Step, reason: str) -> None:
        sentence = f"{step}: {reason}"
        if len(self.failures) < MAX_STEPS:
            self.failures.append(sentence)
        self._say(sentence)

    # -- messages ----------------------------------------------------------------------------------------------------

    def _send(self, step: Step) -> None:
        text = unescape(step.value) if step.details.get("escaped") else bytes_of(step.value)
        self._offer(step, text, self._answered)

    def _power(self, step: Step) -> None:
        before = self._backdoor.machine.state_change_count
        self._offer(
            step, OPERATIONS[step.value].encode(), lambda step, request: self._power_answered(step, request, before)
        )

    def _offer(self, step: Step, text: bytes, then: Callable[[Step, TcloRequest], None]) -> None:
        """Send as soon as the service listens; ``then`` when it is answered or lost, a failure after the time-out."""
        schedule = self._backdoor.schedule
        deadline = schedule.monotonic() + step.details.get("timeout", TIMEOUT)
        app = bytes_of(step.details["app"]) if "app" in step.details else None

        def attempt() -> None:
            request = self._backdoor.channels.send(text, app, lambda request: then(step, request))
            if request is not None:
                schedule.after(max(0.0, deadline - schedule.monotonic()), lambda: self._expire(step, request))
            elif schedule.monotonic() < deadline:
                schedule.after(RETRY, attempt)
            elif step.expects:
                self._fail(step, "no service listened")

        attempt()

    def _expire(self, step: Step, request: TcloRequest) -> None:
        if request.state in ("queued", "taken"):
            request.on_done = None
            self._backdoor.channels.withdraw(request)
            if step.expects:
                self._fail(step, "it was not answered in time")

    def _answered(self, step: Step, request: TcloRequest) -> None:
        answer, details = request.answer, step.details
        if not step.expects:
            return
        if answer is None:
            self._fail(step, f"the message was {request.state}")
        elif "expect" in details and answer != (
            unescape(details["expect"]) if details.get("escaped") else bytes_of(details["expect"])
        ):
            self._fail(step, f"the answer was {answer[:SHOWN]!r}, expected {details['expect']!r}")
        elif "match" in details and not re.fullmatch(bytes_of(details["match"]), answer, re.DOTALL):
            self._fail(step, f"the answer was {answer[:SHOWN]!r}, which does not match {details['match']!r}")
        else:
            step.done += 1

    def _power_answered(self, step: Step, request: TcloRequest, before: int) -> None:
        if request.answer is None or not request.answer.startswith(b"OK"):
            self._fail(step, f"the answer was {(request.answer or request.state.encode())[:SHOWN]!r}")
            return
        machine, schedule = self._backdoor.machine, self._backdoor.schedule
        deadline = schedule.monotonic() + step.details.get("timeout", TIMEOUT)

        def look() -> None:
            if machine.state_change_count > before:
                if machine.state_changes[-1][1]:
                    step.done += 1
                else:
                    self._fail(step, "the guest reported that it failed")
            elif schedule.monotonic() < deadline:
                schedule.after(RETRY, look)
            else:
                self._fail(step, "the guest did not report that it was done")

        look()

    # -- the others --------------------------------------------------------------------------------------------------

    def _check(self, step: Step) -> None:
        for key, pattern in step.value.items():
            value = self._backdoor.machine.guestinfo.get(full_key(bytes_of(key)))
            if value is None or not pattern.fullmatch(value):
                shown = "not set" if value is None else repr(text_of(value[:SHOWN]))
                self._fail(step, f"{key} is {shown}")
                return
        step.done += 1

    def _guestinfo(self, step: Step) -> None:
        for key, value in step.value.items():
            self._backdoor.machine.set_guestinfo(bytes_of(key), bytes_of(value))

    def _option(self, step: Step) -> None:
        for name, value in step.value.items():
            self._backdoor.machine.options.set(name, value)

    def _device(self, step: Step) -> None:
        for name, connected in step.value.items():
            self._backdoor.machine.devices.find(name).connected = connected

    def _guestlib(self, step: Step) -> None:
        for name, value in step.value.items():
            self._backdoor.machine.guestlib.fix(name, value)

    def _clock(self, step: Step) -> None:
        self._backdoor.machine.clock.adjust(step.value)

    def _snapshot(self, step: Step) -> None:
        snapshot.take(self._backdoor, step.value, step.details.get("leap", 0.0))

    def _fault(self, step: Step) -> None:
        self._backdoor.faults = FaultPlan(step.value)

    def _end(self, step: Step) -> None:
        self.stopped = True
        self._stop()


_PERFORM: dict[str, Callable[[Play, Step], None]] = {
    "send": Play._send,
    "power": Play._power,
    "check": Play._check,
    "guestinfo": Play._guestinfo,
    "option": Play._option,
    "device": Play._device,
    "guestlib": Play._guestlib,
    "clock": Play._clock,
    "snapshot": Play._snapshot,
    "fault": Play._fault,
    "stop": Play._end,
}
