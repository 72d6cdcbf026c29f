"""The removable devices that a guest may list, connect and disconnect: GETDEVICELISTELEMENT and TOGGLEDEVICE."""

from __future__ import annotations

import struct
from dataclasses import dataclass

RECORD = struct.Struct("<32sIB3x")
"""A device's record (specification 1.8): name, number, whether it is connected."""

MAX_DEVICES = 50
"""A guest asks for numbers 0 to 49."""

MAX_NAME = 31
CONNECT = 0x80000000


class DeviceError(ValueError):
    """No such device, or no name for one; ``str()`` says why."""


@dataclass
class Device:
    """``fixed``: the host refuses to connect or disconnect it."""

    name: str
    connected: bool = False
    fixed: bool = False


DEFAULTS = (Device("ethernet0", connected=True), Device("sata0:0"), Device("floppy0"))
WORDS = {"on": (True, False), "off": (False, False), "fixed-on": (True, True), "fixed-off": (False, True)}
"""How a device is described: connected, fixed."""


def parse(text: str) -> Device:
    """``NAME`` or ``NAME=on|off|fixed-on|fixed-off``; :raises DeviceError: it is neither."""
    name, _, word = text.partition("=")
    if not 0 < len(name.encode("utf-8", "surrogateescape")) <= MAX_NAME or not name.isprintable():
        raise DeviceError(f"{name!r}: a device's name has 1 to {MAX_NAME} bytes")
    if word and word not in WORDS:
        raise DeviceError(f"{text}: a device is one of {', '.join(WORDS)}")
    return Device(name, *WORDS[word or "off"])


class Devices:
    """The devices of one machine; their numbers are their places."""

    def __init__(self, devices: tuple[Device, ...] | None = None) -> None:
        chosen = DEFAULTS if devices is None else devices
        if len(chosen) > MAX_DEVICES:
            raise DeviceError(f"{len(chosen)} devices; at most {MAX_DEVICES}")
        self.all = [Device(device.name, device.connected, device.fixed) for device in chosen]

    def word(self, number: int, offset: int) -> int | None:
        """Four bytes of a device's record; None: no such device, or beyond the record."""
        if number >= len(self.all) or offset + 4 > RECORD.size:
            return None
        device = self.all[number]
        record = RECORD.pack(device.name.encode("utf-8", "surrogateescape"), number, device.connected)
        return int.from_bytes(record[offset : offset + 4], "little")

    def toggle(self, argument: int) -> bool:
        """Serve TOGGLEDEVICE: the number, and :data:`CONNECT`; False: refused."""
        number = argument & ~CONNECT
        if number >= len(self.all) or self.all[number].fixed:
            return False
        self.all[number].connected = bool(argument & CONNECT)
        return True

    def find(self, name: str) -> Device:
        """The device of that name; :raises DeviceError: there is none."""
        for device in self.all:
            if device.name == name:
                return device
        raise DeviceError(f"no device {name}; there are: {', '.join(device.name for device in self.all)}")
