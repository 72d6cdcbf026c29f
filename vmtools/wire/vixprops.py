"""VIX property lists, and the properties by which tools describe their guest (specification 6.8.6).

A list is records of ``u32 id, u32 type, u32 length, value``, little endian.  As an answer it is sent in base64.
"""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import dataclass
from enum import IntEnum

from vmtools.wire import WireError
from vmtools.wire.bounded import Reader, at_most, from_bytes, pack, to_bytes
from vmtools.wire.vix import MAX_RESULT

MAX_PROPERTIES = 4096
"""Our own limit; tools send about forty."""


class Type(IntEnum):
    """What a property's value is."""

    INT32 = 1
    STRING = 2
    BOOL = 3
    HANDLE = 4
    INT64 = 5
    BLOB = 6


@dataclass(frozen=True, slots=True)
class Property:
    """``id``: :data:`NAMES`; ``value``: an int, text, a bool, or bytes, as ``type`` says."""

    id: int
    type: int
    value: int | str | bytes


NAMES = {
    203: "guest temporary directory",
    4500: "tools version",
    4501: "supports handle state",
    4502: "OS family",
    4503: "OS full name",
    4504: "packages",
    4505: "host name",
    4506: "power off script",
    4507: "power on script",
    4508: "resume script",
    4509: "suspend script",
    4511: "product name",
    4514: "IPv4 address",
    4519: "word size",
    4520: "OS name",
    4525: "shared folders path",
    4540: "start program",
    4541: "list processes",
    4542: "terminate process",
    4543: "read environment variables",
    4544: "validate credentials",
    4545: "acquire credentials",
    4546: "release credentials",
    4547: "make directory",
    4548: "delete file",
    4549: "delete directory",
    4550: "move directory",
    4551: "move file",
    4552: "create temporary file",
    4553: "create temporary directory",
    4554: "list files",
    4555: "change file attributes",
    4556: "transfer file from guest",
    4557: "transfer file to guest",
    4558: "add alias",
    4559: "remove alias",
    4560: "list aliases",
    4561: "list mapped aliases",
    4562: "create registry key",
    4563: "list registry keys",
    4564: "delete registry key",
    4565: "set registry value",
    4566: "list registry values",
    4567: "delete registry value",
    4568: "remove alias by certificate",
}
"""What a property is.  Of 4540 and up, which are bools, true means that the operation is *disabled*."""

_HEAD = struct.Struct("<III")
_INTS = {Type.INT32: struct.Struct("<i"), Type.HANDLE: struct.Struct("<i"), Type.INT64: struct.Struct("<q")}
_BOOL = struct.Struct("<B")


def encode(properties: tuple[Property, ...]) -> bytes:
    """The list; :raises WireError: a value is not of its type."""
    at_most(len(properties), "properties", MAX_PROPERTIES)
    parts = []
    for item in properties:
        data = _encode_value(item)
        parts += [pack(_HEAD, item.id, item.type, len(data)), data]
    return b"".join(parts)


def decode(data: bytes) -> tuple[Property, ...]:
    """The list; :raises WireError: it is none."""
    reader = Reader(data)
    properties: list[Property] = []
    while reader.left:
        at_most(len(properties) + 1, "properties", MAX_PROPERTIES)
        number, kind, size = reader.unpack(_HEAD)
        properties.append(Property(number, kind, _decode_value(kind, reader.take(size))))
    return tuple(properties)


def encode_text(properties: tuple[Property, ...]) -> bytes:
    """The list as an answer has it, in base64."""
    return base64.b64encode(encode(properties))


def decode_text(text: bytes) -> tuple[Property, ...]:
    """The list in an answer; :raises WireError: it is none.

    ``Vix_1_Get_ToolsProperties`` of open-vm-tools cuts long lists at 1023 bytes: that raises too.
    """
    at_most(len(text), "bytes of base64", MAX_RESULT)
    try:
        return decode(base64.b64decode(text, validate=True))
    except binascii.Error as error:
        raise WireError(f"no base64: {error}") from None


def _encode_value(item: Property) -> bytes:
    match item.type, item.value:
        case (Type.BOOL, bool() as flag):
            return pack(_BOOL, flag)
        case (Type.INT32 | Type.HANDLE | Type.INT64 as kind, int() as number):
            return pack(_INTS[Type(kind)], number)
        case (Type.STRING, str() as text):
            return to_bytes(text, "a property", MAX_RESULT) + b"\0"
        case (Type.BLOB, bytes() as blob):
            return blob
    raise WireError(f"{type(item.value).__name__} for a property of type {item.type}")


def _decode_value(kind: int, data: bytes) -> int | str | bytes:
    if kind == Type.STRING:
        if not data.endswith(b"\0"):
            raise WireError("a property's text has no NUL at its end")
        return from_bytes(data[:-1], "a property")
    if kind == Type.BLOB:
        return data
    layout = _BOOL if kind == Type.BOOL else _INTS.get(Type(kind)) if kind in _INTS else None
    if layout is None or len(data) != layout.size:
        raise WireError(f"a property of type {kind} with {len(data)} bytes")
    (value,) = layout.unpack(data)
    return bool(value) if kind == Type.BOOL else int(value)
