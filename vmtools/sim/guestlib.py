"""What VMware's guest library asks: ``guestlib.info.get``, ``guestlib.stat.get`` (specification 5.10).

The statistics are invented and plausible: counters rise with the guest's time, a load goes up and down in a minute,
shares and limits stay as they are set.  A session lasts until the machine is suspended or moved; then counters begin
anew.
"""

from __future__ import annotations

import json
import math
import secrets
from typing import TYPE_CHECKING

from vmtools.constants import PRODUCTS
from vmtools.sim.refusal import BAD_ARGUMENT, NO_VALUE, RefusedError, number, text
from vmtools.wire import WireError, guestlib

if TYPE_CHECKING:
    from collections.abc import Callable

    from vmtools.sim.machine import Machine

Value = guestlib.Value

UNLIMITED = 0xFFFFFFFF
"""A limit where none is set: what a host says, and guests print."""

WAVE = 60.0
"""Seconds from one peak of the load to the next."""

HOST_CORES = 16
HOST_MEMORY_MB = 262_144


class StatisticError(ValueError):
    """No such statistic, or not a value of its kind; ``str()`` says why."""


class GuestLib:
    """The statistics of one machine.

    ``set``: values that somebody fixed, by their names (:data:`vmtools.wire.guestlib.STATISTICS`); None: the host has
    none and says so.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.set: dict[str, Value | None] = {}
        self.session = 0
        self._started = 0
        self.begin_session()

    def begin_session(self) -> None:
        """The machine was resumed, or came from another host."""
        self.session = secrets.randbits(62) | 1
        self._started = self._machine.clock.apparent()

    def fix(self, name: str, value: Value | None) -> None:
        """Set a statistic; :raises StatisticError: there is none of this name, or it can't have this value."""
        if name not in guestlib.BY_NAME:
            raise StatisticError(f"no statistic {name}; there are: {', '.join(guestlib.BY_NAME)}")
        before = dict(self.set)
        self.set[name] = value
        try:
            guestlib.encode(self.info(3))
        except WireError as error:
            self.set = before
            raise StatisticError(str(error)) from None

    def info(self, version: int) -> guestlib.Info:
        """All values, as they are now."""
        values = self.values()
        count = guestlib.V2_COUNT if version == 2 else len(guestlib.STATISTICS)
        return guestlib.Info(version, self.session, tuple([values[s.name] for s in guestlib.STATISTICS[:count]]))

    def values(self) -> dict[str, Value | None]:
        """Value by name."""
        machine = self._machine
        elapsed = max(0, machine.clock.apparent() - self._started) / 1e9
        phase = 2 * math.pi * elapsed / WAVE
        load = 0.3 + 0.2 * math.sin(phase)
        # the integral of the load, so that the counter and the load tell one story
        used = 0.3 * elapsed + 0.2 * WAVE / (2 * math.pi) * (1 - math.cos(phase))
        memory = machine.memory_mb
        active = round(memory * load)
        host_used = HOST_MEMORY_MB // 4 + active
        values: dict[str, Value | None] = {
            "CPU_RESERVATION_MHZ": 0,
            "CPU_LIMIT_MHZ": UNLIMITED,
            "CPU_SHARES": 1000,
            "CPU_USED_MS": round(used * 1000),
            "HOST_MHZ": machine.mhz,
            "MEM_RESERVATION_MB": 0,
            "MEM_LIMIT_MB": UNLIMITED,
            "MEM_SHARES": memory * 10,
            "MEM_MAPPED_MB": memory,
            "MEM_ACTIVE_MB": active,
            "MEM_OVERHEAD_MB": 32 + memory // 100,
            "MEM_BALLOONED_MB": 0,
            "MEM_SWAPPED_MB": 0,
            "MEM_SHARED_MB": memory // 16,
            "MEM_SHARED_SAVED_MB": memory // 20,
            "MEM_USED_MB": memory - memory // 20,
            "ELAPSED_MS": round(elapsed * 1000),
            "RESOURCE_POOL_PATH": "host/user",
            "CPU_STOLEN_MS": round(elapsed * 5),
            "MEM_TARGET_SIZE_MB": memory,
            "HOST_CPU_NUM_CORES": HOST_CORES,
            "HOST_CPU_USED_MS": round(used * 1000 * HOST_CORES),
            "HOST_MEM_SWAPPED_MB": 0,
            "HOST_MEM_SHARED_MB": HOST_MEMORY_MB // 16,
            "HOST_MEM_USED_MB": host_used,
            "HOST_MEM_PHYS_MB": HOST_MEMORY_MB,
            "HOST_MEM_PHYS_FREE_MB": HOST_MEMORY_MB - host_used,
            "HOST_MEM_KERN_OVHD_MB": 2048,
            "HOST_MEM_MAPPED_MB": host_used,
            "HOST_MEM_UNMAPPED_MB": HOST_MEMORY_MB - host_used,
            "MEM_ZIPPED_MB": 0,
            "MEM_ZIPSAVED_MB": 0,
            "MEM_LLSWAPPED_MB": 0,
            "MEM_SWAP_TARGET_MB": 0,
            "MEM_BALLOON_TARGET_MB": 0,
            "MEM_BALLOON_MAX_MB": memory * 65 // 100,
            "RESOURCE_POOL_PATH_LONG": b"host/user",
            "MEM_SHARES_64": memory * 10,
        }
        return values | self.set


def info_get(machine: Machine, rest: bytes) -> bytes:
    """``guestlib.info.get VERSION``; a version that is not served is refused with the highest that is, and a colon."""
    version = number(text(rest))
    if version < 2:
        raise RefusedError(BAD_ARGUMENT)
    if version > guestlib.FIRST_VERSION:
        raise RefusedError(b"%d: the highest version" % guestlib.FIRST_VERSION)
    return guestlib.encode(machine.guestlib.info(version))


# -- guestlib.stat.get: the specification names the encodings; statistics and layout are our own -----------------------


def _session(machine: Machine) -> dict[str, str | int]:
    return {
        "session": machine.guestlib.session,
        "uptime": machine.clock.apparent() // 1000,
        "version": f"VMware {PRODUCTS.get(machine.product, 'unknown')} build-{machine.build}",
        "uuid.bios": " ".join(f"{byte:02x}" for byte in machine.uuid.bytes),
    }


def _named(machine: Machine, host: bool) -> dict[str, str | int]:
    found: dict[str, str | int] = {}
    for name, value in machine.guestlib.values().items():
        if value is not None and not isinstance(value, bytes) and name.startswith("HOST_") is host:
            found[name.removeprefix("HOST_").lower().replace("_", ".")] = value
    return found


STATS: dict[str, Callable[[Machine], dict[str, str | int]]] = {
    "host": lambda machine: _named(machine, host=True),
    "resources": lambda machine: _named(machine, host=False),
    "session": _session,
}


def _yaml(name: str, values: dict[str, str | int]) -> str:
    return f"{name}:\n" + "".join(f"  {key}: {json.dumps(value)}\n" for key, value in values.items())


def _escaped(text: str) -> str:
    """As xml.sax.saxutils has it, which imports urllib, HTTP and TLS: 15 ms before each command of `vmtools sim`."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _xml(name: str, values: dict[str, str | int]) -> str:
    items = "".join(f"  <{key}>{_escaped(str(value))}</{key}>\n" for key, value in values.items())
    return f"<{name}>\n{items}</{name}>\n"


ENCODERS: dict[str, Callable[[str, dict[str, str | int]], str]] = {
    "text": lambda name, values: "".join(f"{key} = {value}\n" for key, value in values.items()),
    "json": lambda name, values: json.dumps({name: values}) + "\n",
    "xml": _xml,
    "yaml": _yaml,
}


def stat_get(machine: Machine, rest: bytes) -> bytes:
    """``guestlib.stat.get ENCODING STAT [PARAMETER]``; with neither, the names of the statistics."""
    try:
        encoding, words = guestlib.decode_stat_request(guestlib.STAT_GET + rest)
    except WireError:
        raise RefusedError(BAD_ARGUMENT) from None
    name, _, parameter = words.strip().partition(" ")  # open-vm-tools puts a blank before a parameter that is not there
    if not encoding and not name:
        return "".join(f"{stat}\n" for stat in STATS).encode()
    encode, stat = ENCODERS.get(encoding), STATS.get(name)
    if encode is None:
        raise RefusedError(BAD_ARGUMENT)
    if stat is None or parameter:
        raise RefusedError(NO_VALUE)
    return encode(name, stat(machine)).encode("utf-8", "surrogateescape")


def ioctl(machine: Machine, rest: bytes) -> bytes:
    """``guestlib.ioctl``: the one that is known updates a cookie of the host's, which this host has not."""
    try:
        guestlib.decode_atomic_update(guestlib.IOCTL + rest)
    except WireError:
        raise RefusedError(BAD_ARGUMENT) from None
    raise RefusedError(NO_VALUE)
