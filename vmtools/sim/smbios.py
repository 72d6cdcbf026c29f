"""What the firmware of a virtual machine of VMware's says about it: pure, a UUID in, text fields and SMBIOS tables out.

The fields are those of a machine with BIOS firmware, as dmidecode prints them on VMware (the values are public in many
bug reports).  The layout is that of SMBIOS 2.7 (DSP0134), the version of VMware's tables since hardware version 9.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping

VENDOR = "VMware, Inc."
PRODUCT = "VMware Virtual Platform"
BIOS = ("Phoenix Technologies LTD", "6.00", "11/12/2020")
BOARD = ("Intel Corporation", "440BX Desktop Reference Platform", "None")
ENCLOSURE = ("No Enclosure", "N/A")

VERSION = (2, 7)
TABLES_AT = 0xE0010
"""The tables' physical address, in the entry point; nobody can look there."""

PRIVATE = frozenset({"board_serial", "chassis_serial", "product_serial", "product_uuid"})
"""Fields that the kernel shows to root only."""


def serial(machine: uuid.UUID) -> str:
    """The serial number: ``VMware-56 4d 9f 6e 4b 32 1c 0a-b5 0f 7d 3e 2a 91 c8 47``."""
    pairs = [f"{byte:02x}" for byte in machine.bytes]
    return f"VMware-{' '.join(pairs[:8])}-{' '.join(pairs[8:])}"


def fields(machine: uuid.UUID) -> dict[str, str]:
    """The files of ``/sys/class/dmi/id`` and their text."""
    values = {
        "bios_vendor": BIOS[0],
        "bios_version": BIOS[1],
        "bios_date": BIOS[2],
        "bios_release": "4.6",
        "sys_vendor": VENDOR,
        "product_name": PRODUCT,
        "product_version": "None",
        "product_serial": serial(machine),
        # SMBIOS 2.6 and later has its first three fields in little-endian order
        "product_uuid": str(type(machine)(bytes_le=machine.bytes)),
        "product_family": "",
        "product_sku": "",
        "board_vendor": BOARD[0],
        "board_name": BOARD[1],
        "board_version": BOARD[2],
        "board_serial": "None",
        "board_asset_tag": "",
        "chassis_vendor": ENCLOSURE[0],
        "chassis_version": ENCLOSURE[1],
        "chassis_type": "1",
        "chassis_serial": "None",
        "chassis_asset_tag": "No Asset Tag",
    }
    return {**values, "modalias": _modalias(values)}


def _modalias(values: Mapping[str, str]) -> str:
    words = {
        "bvn": "bios_vendor",
        "bvr": "bios_version",
        "bd": "bios_date",
        "br": "bios_release",
        "svn": "sys_vendor",
        "pn": "product_name",
        "pvr": "product_version",
        "rvn": "board_vendor",
        "rn": "board_name",
        "rvr": "board_version",
        "cvn": "chassis_vendor",
        "ct": "chassis_type",
        "cvr": "chassis_version",
        "sku": "product_sku",
    }
    plain = {short: "".join(c for c in values[name] if c not in " :") for short, name in words.items()}
    return "dmi:" + "".join(f"{short}{text}:" for short, text in plain.items())


def tables(machine: uuid.UUID) -> tuple[bytes, bytes]:
    """The entry point and the tables, as ``/sys/firmware/dmi/tables`` has them."""
    system = (VENDOR, PRODUCT, "None", serial(machine))
    structures = [
        # BIOS: segment, ROM of 64 KiB, what it can (PCI, upgradeable), release 4.6
        _structure(0, struct.pack("<BBHBBQBBBBBB", 1, 2, 0xEA48, 3, 0, 0x0A90, 1, 0, 4, 6, 0, 0), *BIOS),
        # System: woken by the power switch
        _structure(1, struct.pack("<BBBB16sBBB", 1, 2, 3, 4, machine.bytes, 6, 0, 0), *system),
        _structure(2, struct.pack("<BBBB", 1, 2, 3, 4), *BOARD, "None"),
        # Chassis: type "other", states "safe", security "none"
        _structure(
            3,
            struct.pack("<BBBBBBBBBIBBBBB", 1, 1, 2, 3, 4, 3, 3, 3, 3, 0, 0, 0, 0, 0, 0),
            *ENCLOSURE,
            "None",
            "No Asset Tag",
        ),
        _structure(127, b""),
    ]
    body = b"".join(_numbered(structures))
    version = VERSION[0] << 4 | VERSION[1]
    intermediate = _summed(b"_DMI_" + struct.pack("<BHIHB", 0, len(body), TABLES_AT, len(structures), version), 5)
    largest = max(map(len, structures))
    entry = b"_SM_" + struct.pack("<BBBBHB5x", 0, 31, *VERSION, largest, 0) + intermediate
    return _summed(entry, 4), body


def _structure(kind: int, formatted: bytes, *strings: str) -> bytes:
    """Header (type, length, handle: filled in later), formatted part, strings."""
    text = b"".join(string.encode("ascii") + b"\0" for string in strings) or b"\0"
    return struct.pack("<BBH", kind, 4 + len(formatted), 0) + formatted + text + b"\0"


def _numbered(structures: list[bytes]) -> list[bytes]:
    return [item[:2] + struct.pack("<H", handle) + item[4:] for handle, item in enumerate(structures)]


def _summed(data: bytes, at: int) -> bytes:
    """With the byte at a place such that all add up to 0."""
    return data[:at] + bytes([-sum(data) & 0xFF]) + data[at + 1 :]
