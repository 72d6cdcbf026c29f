"""Options of ``run`` and ``serve`` that describe the machine."""

from __future__ import annotations

import argparse
import os
import uuid
from typing import TYPE_CHECKING, Any

from vmtools.sim.clock import ClockError, HostClock, duration
from vmtools.sim.devices import DeviceError, Devices, parse
from vmtools.sim.options import OptionError, Options

if TYPE_CHECKING:
    from collections.abc import Sequence

PRODUCTS = {"esx": 2, "server": 3, "workstation": 4}
MAX_MEMORY_MB = 1 << 26
MAX_MHZ = 1 << 20
MAX_SCREEN = 65535


class UsageError(Exception):
    """The command line asks for what can't be done; ``str()`` says why."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group("the machine")
    group.add_argument("--machine-id", metavar="TEXT", help="what machine.id.get answers")
    group.add_argument("--product", choices=PRODUCTS, help="what the host says it is (default: workstation)")
    group.add_argument("--memory", type=_whole(1, MAX_MEMORY_MB), metavar="MB", help="memory (default: 4096)")
    group.add_argument("--mhz", type=_whole(1, MAX_MHZ), metavar="MHZ", help="processor speed (default: 2400)")
    group.add_argument("--uuid", type=uuid.UUID, metavar="UUID", help="the BIOS UUID (default: a random one)")
    group.add_argument("--screen", type=_screen, metavar="WxH", help="screen size (default: 1024x768)")
    group.add_argument(
        "--host-clock",
        metavar="TIME",
        help="the host's time of day: +90s or -5m from this computer's, or @2026-01-01T12:00:00Z",
    )
    group.add_argument(
        "--drift", type=float, metavar="PPM", help="how much faster than this computer's the host's clock runs"
    )
    group.add_argument(
        "--device",
        action="append",
        default=[],
        metavar="NAME[=STATE]",
        help="a removable device, on, off, fixed-on or fixed-off (default: ethernet0=on, sata0:0, floppy0)",
    )
    group.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option that the guest is told by Set_Option",
    )
    group.add_argument(
        "--privileged", action="store_true", help="channels may use privileged namespaces, as over vsock"
    )
    group.add_argument(
        "--no-handshake", action="store_true", help="after 'reset', ask nothing of a guest service unbidden"
    )


def shielded(argv: Sequence[str]) -> list[str]:
    """The words, with a blank before a ``-5m`` where a time is meant: argparse takes it for an option."""
    words = list(argv)
    for place, word in enumerate(words):
        if word == "--":
            break
        if word[:1] == "-" and word[1:2].isdigit() and (words[place - 1] == "--host-clock" or words[0] == "clock"):
            words[place] = f" {word}"
    return words


def given(arguments: argparse.Namespace) -> bool:
    """Whether any of them was given."""
    return bool(settings(arguments))


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments of :class:`vmtools.sim.machine.Machine` that were given; :raises UsageError: one is wrong."""
    found: dict[str, Any] = {}
    if arguments.machine_id is not None:
        found["machine_id"] = os.fsencode(arguments.machine_id)
    if arguments.product is not None:
        found["product"] = PRODUCTS[arguments.product]
    for name, key in (("memory", "memory_mb"), ("mhz", "mhz"), ("uuid", "machine_uuid"), ("screen", "screen")):
        if getattr(arguments, name) is not None:
            found[key] = getattr(arguments, name)
    if arguments.privileged:
        found["privileged"] = True
    if arguments.no_handshake:
        found["handshake"] = False
    try:
        if arguments.host_clock is not None or arguments.drift is not None:
            found["clock"] = clock = HostClock()
            clock.drift_ppm = arguments.drift or 0.0
            if arguments.host_clock is not None:
                clock.adjust(arguments.host_clock)
        if arguments.device:
            found["devices"] = tuple([parse(text) for text in arguments.device])
            Devices(found["devices"])
        if arguments.option:
            pairs = [text.partition("=") for text in arguments.option]
            found["options"] = {name: value for name, _, value in pairs}
            Options(found["options"])
    except ClockError as error:
        raise UsageError(f"--host-clock, --drift: {error}") from None
    except DeviceError as error:
        raise UsageError(f"--device: {error}") from None
    except OptionError as error:
        raise UsageError(f"--option: {error}") from None
    return found


def seconds(text: str) -> float:
    """A time-out, at most an hour; :raises ValueError: it is none."""
    value = duration(text)
    if value > 3600:
        raise ValueError(text)
    return value


def _whole(least: int, most: int) -> Any:
    def whole(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text}: {least} to {most}")
        return value

    return whole


def _screen(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    size = int(width), int(height)
    if not all(0 < side <= MAX_SCREEN for side in size):
        raise ValueError(text)
    return size
