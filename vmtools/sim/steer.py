"""Commands that steer a served machine: its clock, devices, options, power, snapshots, guest operations."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

from vmtools.sim.clock import duration
from vmtools.sim.machineargs import UsageError, seconds
from vmtools.sim.services import OPERATIONS, REAL
from vmtools.sim.snapshot import KINDS
from vmtools.sim.view import plain

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from vmtools.sim.client import Control

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

PAUSE = 0.05
"""Seconds between two looks for what the guest has done."""


def add(commands: Commands) -> None:
    """Add the commands."""

    def command(name: str, action: Callable[[argparse.Namespace, Control], int], text: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=text, description=text)
        parser.add_argument("socket", metavar="SOCKET")
        parser.set_defaults(action=_controlled(action))
        return parser

    clock = command("clock", _clock, "show or set the host's clock")
    clock.add_argument("set", nargs="?", metavar="TIME", help="+90s, -5m, @2026-01-01T12:00:00Z")
    clock.add_argument("--drift", type=float, metavar="PPM", help="how much faster than this computer's it runs")

    device = command("device", _device, "list the removable devices, connect or disconnect one")
    device.add_argument("name", nargs="?", metavar="NAME")
    device.add_argument("state", nargs="?", choices=("on", "off"))

    option = command("option", _option, "list the options of Set_Option; set one and tell the guest")
    option.add_argument("name", nargs="?", metavar="NAME")
    option.add_argument("value", nargs="?", metavar="VALUE")

    guestlib = command("guestlib", _guestlib, "list what the guest library is told; fix a value")
    guestlib.add_argument("name", nargs="?", metavar="NAME")
    guestlib.add_argument(
        "value", nargs="?", metavar="VALUE", help="a number, a text; none: this host does not have it"
    )

    power = command("power", _power, "ask the guest for a power operation and wait until it has reported it done")
    power.add_argument("operation", choices=OPERATIONS)
    power.add_argument(
        "--really",
        action="store_true",
        help="needed for halt and reboot: the guest's service may shut this computer down",
    )

    snapshot = command("snapshot", _snapshot, "interrupt the machine: all channels are lost, a new session begins")
    snapshot.add_argument("kind", choices=KINDS, help="; ".join(f"{kind}: {text}" for kind, text in KINDS.items()))
    snapshot.add_argument("--leap", type=duration, default=0.0, metavar="TIME", help="the time that the guest misses")

    vix = command("vix", _vix, "ask the guest's service for a guest operation and print its answer as JSON")
    vix.add_argument("operation", metavar="OPERATION", help="its name, such as get-tools-state, or its number")
    vix.add_argument("fields", nargs="*", metavar="FIELD=VALUE", help="of the operation's request")
    vix.add_argument("--user", help="in whose name; the password is in the environment: VMTOOLS_SIM_PASSWORD")

    hgfs = command("hgfs", _hgfs, "list a folder that the guest's service shares by HGFS")
    hgfs.add_argument("path", nargs="?", default="", metavar="PATH", help="default: the root, which lists the shares")

    for parser in (power, vix, hgfs):
        parser.add_argument(
            "--timeout", type=seconds, default=30.0, metavar="SECONDS", help="how long to wait (default: 30)"
        )


def _controlled(action: Callable[[argparse.Namespace, Control], int]) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        from vmtools.sim.client import Control

        with Control(arguments.socket) as control:
            return action(arguments, control)

    return run


def _clock(arguments: argparse.Namespace, control: Control) -> int:
    clock = control.ask("clock", set=arguments.set, drift_ppm=arguments.drift)["clock"]
    print(f"{clock['now']} ({clock['offset']:+g} s, drift {clock['drift_ppm']:g} ppm)")
    return 0


def _device(arguments: argparse.Namespace, control: Control) -> int:
    if arguments.name is not None and arguments.state is None:
        raise UsageError("device: 'on' or 'off'?")
    connected = arguments.state == "on"
    for name, on in control.ask("device", name=arguments.name, connected=connected)["devices"].items():
        print(f"{plain(name)}: {'connected' if on else 'disconnected'}")
    return 0


def _option(arguments: argparse.Namespace, control: Control) -> int:
    if arguments.name is not None and arguments.value is None:
        raise UsageError("option: which value?")
    report = control.ask("option", name=arguments.name, value=arguments.value)
    for name, value in report["options"].items():
        if arguments.name in (None, name):
            print(f"{plain(name)} {plain(value)}")
    return 0


def _guestlib(arguments: argparse.Namespace, control: Control) -> int:
    if arguments.name is None:
        report = control.ask("guestlib")
    elif arguments.value is None:
        raise UsageError("guestlib: which value?")
    else:
        value = int(arguments.value) if arguments.value.isdecimal() else arguments.value
        report = control.ask("guestlib", name=arguments.name, value=None if value == "none" else value)
    for name, value in report["values"].items():
        if arguments.name in (None, name):
            print(f"{name} {plain(value)}")
    return 0


def _power(arguments: argparse.Namespace, control: Control) -> int:
    if arguments.operation in REAL and not arguments.really:
        raise UsageError(
            f"power {arguments.operation}: the guest's service runs shutdown, and may shut this computer down; "
            "add --really if it runs where that does no harm"
        )
    before = control.ask("status")["status"]["state_change_count"]
    end = time.monotonic() + arguments.timeout
    answer = control.send(OPERATIONS[arguments.operation], timeout=arguments.timeout)
    print(plain(answer))
    if not answer.startswith("OK"):
        return 1
    while time.monotonic() < end:
        status = control.ask("status")["status"]
        if status["state_change_count"] > before:
            done = status["state_changes"][-1]["ok"]
            print(f"{arguments.operation}: {'done' if done else 'failed'}")
            return 0 if done else 1
        time.sleep(PAUSE)
    print(f"{arguments.operation}: not reported within {arguments.timeout:g} s")
    return 1


def _snapshot(arguments: argparse.Namespace, control: Control) -> int:
    print(f"session {control.ask('snapshot', kind=arguments.kind, leap=arguments.leap)['session']}")
    return 0


def _vix(arguments: argparse.Namespace, control: Control) -> int:
    from vmtools.sim import guestops

    fields = dict(_field(text) for text in arguments.fields)
    password = os.environ.get("VMTOOLS_SIM_PASSWORD", "")
    try:
        op = guestops.operation(arguments.operation)
        message = guestops.vix_message(op, fields, arguments.user, password)
        answer = guestops.vix_answer(op, _exchange(control, message, arguments.timeout))
    except guestops.OperationError as error:
        raise UsageError(f"vix: {error}") from None
    print(json.dumps(answer, indent=2))
    return 0 if answer["error"] == 0 else 1


def _hgfs(arguments: argparse.Namespace, control: Control) -> int:
    from vmtools.sim import guestops

    try:
        entries = guestops.hgfs_list(lambda text: _exchange(control, text, arguments.timeout), arguments.path)
    except guestops.OperationError as error:
        raise UsageError(f"hgfs: {error}") from None
    for entry in entries:
        print(plain(entry.name))
    return 0


def _exchange(control: Control, message: bytes, timeout: float) -> bytes:
    return os.fsencode(control.send(os.fsdecode(message), timeout=timeout))


def _field(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{text}: FIELD=VALUE is expected")
    return name, value
