"""The guest's file systems: the JSON of ``SetGuestDiskInfo`` and the older binary form, class 3 (specification 5.6).

The JSON is no free one: the host reads it in a fixed order with fixed blanks and line ends, so it is written and read
here byte by byte.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmtools.wire import WireError
from vmtools.wire.bounded import Reader, at_most, from_bytes, from_field, number, pack, to_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMAND = b"SetGuestDiskInfo "
"""What stands before the JSON."""

MAX_DISKS = 255
"""Of the binary form, whose count is a byte."""

MAX_NAME = 4096
"""Bytes of a mount point: Linux' ``PATH_MAX``."""

BINARY_NAME = 100
"""Bytes of a name in the binary form, the NUL included; longer ones are cut."""

_U64_MAX = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Disk:
    """A mounted file system.

    ``name``: its mount point; ``free``, ``size``: bytes; ``fs_type``: as the kernel calls it, None where not said;
    ``devices``: what it lies on (``scsi0:1``), None where not known.  The binary form has neither of the last two.
    """

    name: str
    free: int
    size: int
    fs_type: str | None = None
    devices: tuple[str, ...] | None = None


# -- JSON --------------------------------------------------------------------------------------------------------------

_HEAD = b'{\n"version":"1",\n"disks":[\n'
_TAIL = b"]}"
_PLAIN = rb"[ !#-\[\]-~]*"
"""Characters that JSON writes as they are."""

_DISK = re.compile(
    rb'\{"name":"([A-Za-z0-9+/=]*)","free":"([0-9]{1,20})","size":"([0-9]{1,20})"'
    rb'(?:,"fstype":"(%b)")?(?:,"devices":\[((?:"%b"(?:,"%b")*)?)\])?\}' % (_PLAIN, _PLAIN, _PLAIN)
)


def encode_json(disks: Sequence[Disk]) -> bytes:
    """What follows :data:`COMMAND`, the NUL included; :raises WireError: a value can't be written."""
    lines = b",\n".join([_encode_disk(disk) for disk in disks])
    return _HEAD + lines + (b"\n" if disks else b"") + _TAIL + b"\0"


def decode_json(payload: bytes) -> tuple[Disk, ...]:
    """What follows :data:`COMMAND`, with its NUL or without; :raises WireError: it is not in the one form."""
    text = payload.removesuffix(b"\0")
    if not text.startswith(_HEAD) or not text.endswith(_TAIL):
        raise WireError("the disks' JSON does not begin and end as it must")
    body = text[len(_HEAD) : -len(_TAIL)]
    if not body:
        return ()
    if not body.endswith(b"\n"):
        raise WireError("no line end after the last disk")
    return tuple([_decode_disk(line) for line in body[:-1].split(b",\n")])


def _encode_disk(disk: Disk) -> bytes:
    for value in (disk.free, disk.size):
        if not 0 <= value <= _U64_MAX:
            raise WireError(f"a disk of {value} bytes")
    name = base64.b64encode(to_bytes(disk.name, "a mount point", MAX_NAME))
    line = b'{"name":"%b","free":"%d","size":"%d"' % (name, disk.free, disk.size)
    if disk.fs_type is not None:
        line += b',"fstype":"%b"' % _plain(disk.fs_type)
    if disk.devices is not None:
        line += b',"devices":[%b]' % b",".join([b'"%b"' % _plain(device) for device in disk.devices])
    return line + b"}"


def _decode_disk(line: bytes) -> Disk:
    match = _DISK.fullmatch(line)
    if match is None:
        raise WireError("a disk is not written as it must be")
    encoded, free, size, fs_type, devices = match.groups()
    try:
        name = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise WireError(f"a disk's name: {error}") from None
    at_most(len(name), "bytes of a mount point", MAX_NAME)
    return Disk(
        from_bytes(name, "a mount point"),
        number(free, "free bytes", _U64_MAX),
        number(size, "size", _U64_MAX),
        None if fs_type is None else fs_type.decode("ascii"),
        None if devices is None else tuple([text.decode("ascii") for text in devices.split(b'"')[1::2]]),
    )


def _plain(text: str) -> bytes:
    data = to_bytes(text, "a name in the disks' JSON", MAX_NAME)
    if not re.fullmatch(_PLAIN, data):
        raise WireError(f"{text!r} would have to be escaped, which the format does not know")
    return data


# -- binary ------------------------------------------------------------------------------------------------------------

_ENTRY = struct.Struct(f"<QQ{BINARY_NAME}s")
_SPARE = 2
"""Zero bytes at the end: the original counts its prefix two bytes too long."""


def encode_binary(disks: Sequence[Disk]) -> bytes:
    """The payload of class 3; names are cut as the original does; :raises WireError: too many, or out of range."""
    parts = [bytes([at_most(len(disks), "disks", MAX_DISKS)])]
    for disk in disks:
        name = to_bytes(disk.name, "a mount point", MAX_NAME)[: BINARY_NAME - 1]
        parts.append(pack(_ENTRY, disk.free, disk.size, name))
    return b"".join(parts) + bytes(_SPARE)


def decode_binary(payload: bytes) -> tuple[Disk, ...]:
    """The payload of class 3; :raises WireError: it is none."""
    reader = Reader(payload)
    (count,) = reader.take(1)
    disks = []
    for _ in range(count):
        free, size, name = reader.unpack(_ENTRY)
        disks.append(Disk(from_field(name, "a mount point"), free, size))
    if reader.left > _SPARE or any(reader.take(reader.left)):
        raise WireError(f"more follows the {count} disks")
    return tuple(disks)
