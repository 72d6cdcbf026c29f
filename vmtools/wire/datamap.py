"""DataMap: the packets of GuestRPC, GuestStore and others over vsock (specification 4.3).

A packet is ``i32 length`` of what follows and a list of fields with a type, an id and a value, all big endian; only a
64-bit number has its low word first.  :class:`RpcPacket` is the one that carries GuestRPC.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmtools.wire import WireError
from vmtools.wire.bounded import Reader, at_most, pack

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_LENGTH = (1 << 20) + 4096
"""The largest length that is believed: our own limit, well over what a message may have."""

MAX_FIELDS = 1024
"""Fields of a packet: our own limit; those that are known have three."""

INT64 = 1
STRING = 2
INT64_LIST = 3
STRING_LIST = 4

_LENGTH = struct.Struct(">i")
_ENTRY = struct.Struct(">ii")
_INT64 = struct.Struct(">Ii")
_COUNT = struct.Struct(">i")


class Ints(tuple[int, ...]):
    """The value of a field that is a list of numbers."""

    __slots__ = ()


class Strings(tuple[bytes, ...]):
    """The value of a field that is a list of strings."""

    __slots__ = ()


Value = int | bytes | Ints | Strings


def encode(fields: Mapping[int, Value]) -> bytes:
    """A whole packet, its fields in the order of ``fields``; :raises WireError: a string is empty, or out of range."""
    at_most(len(fields), "fields", MAX_FIELDS)
    body = b"".join([_put_field(number, value) for number, value in fields.items()])
    return pack(_LENGTH, at_most(len(body), "bytes in a packet", MAX_LENGTH)) + body


def length(header: bytes) -> int:
    """How many bytes follow the first four; :raises WireError: not four, or more than are believed."""
    reader = Reader(header)
    (size,) = reader.unpack(_LENGTH)
    reader.end()
    if not 0 <= size <= MAX_LENGTH:
        raise WireError(f"a packet announces {size} bytes; at most {MAX_LENGTH} are allowed")
    return int(size)


def decode(packet: bytes) -> dict[int, Value]:
    """The fields of one whole packet by id; :raises WireError: it is none."""
    reader = Reader(packet)
    if length(reader.take(_LENGTH.size)) != reader.left:
        raise WireError(f"a packet of {len(packet)} bytes announces another length")
    fields: dict[int, Value] = {}
    while reader.left:
        at_most(len(fields) + 1, "fields", MAX_FIELDS)
        kind, number = reader.unpack(_ENTRY)
        if number in fields:
            raise WireError(f"field {number} comes twice")
        fields[number] = _take_value(reader, kind)
    return fields


def _put_field(number: int, value: Value) -> bytes:
    match value:
        case bytes():
            return pack(_ENTRY, STRING, number) + _put_string(value)
        case Ints():
            return pack(_ENTRY, INT64_LIST, number) + _put_count(value) + b"".join([_put_int(item) for item in value])
        case Strings():
            parts = b"".join([_put_string(item) for item in value])
            return pack(_ENTRY, STRING_LIST, number) + _put_count(value) + parts
        case _:
            return pack(_ENTRY, INT64, number) + _put_int(value)


def _take_value(reader: Reader, kind: int) -> Value:
    if kind == INT64:
        return _take_int(reader)
    if kind == STRING:
        return _take_string(reader)
    if kind == INT64_LIST:
        return Ints([_take_int(reader) for _ in range(_take_count(reader, _INT64.size))])
    if kind == STRING_LIST:
        return Strings([_take_string(reader) for _ in range(_take_count(reader, _COUNT.size + 1))])
    raise WireError(f"a field of type {kind}")


def _put_int(value: int) -> bytes:
    return pack(_INT64, value & 0xFFFFFFFF, value >> 32)


def _take_int(reader: Reader) -> int:
    low, high = reader.unpack(_INT64)
    return int(high << 32 | low)


def _put_string(value: bytes) -> bytes:
    if not value:
        raise WireError("an empty string, which no receiver takes")
    return pack(_COUNT, len(value)) + value


def _take_string(reader: Reader) -> bytes:
    (size,) = reader.unpack(_COUNT)
    if size <= 0:
        raise WireError(f"a string of {size} bytes")
    return reader.take(size)


def _put_count(values: Ints | Strings) -> bytes:
    return pack(_COUNT, len(values))


def _take_count(reader: Reader, each: int) -> int:
    """The number of items, each of at least ``each`` bytes."""
    (count,) = reader.unpack(_COUNT)
    if not 0 <= count <= reader.left // each:
        raise WireError(f"{count} items are announced, {reader.left} bytes are left")
    return int(count)


# -- GuestRPC ----------------------------------------------------------------------------------------------------------

TYPE = 1
PAYLOAD = 2
FAST_CLOSE = 3
"""Ids of the fields."""

DATA = 1
PING = 2
"""Values of :data:`TYPE`."""


@dataclass(frozen=True, slots=True)
class RpcPacket:
    """One request or reply; ``payload`` is not empty.

    ``fast_close``: the host is to hang up after its reply.
    """

    payload: bytes
    fast_close: bool = False


def encode_rpc(packet: RpcPacket) -> bytes:
    """A DATA packet."""
    fields: dict[int, Value] = {TYPE: DATA, PAYLOAD: packet.payload}
    if packet.fast_close:
        fields[FAST_CLOSE] = 1
    return encode(fields)


def encode_ping() -> bytes:
    """A PING packet: the guest's service is alive."""
    return encode({TYPE: PING})


def decode_rpc(packet: bytes) -> RpcPacket | None:
    """The packet; None for a PING; :raises WireError: neither.

    Of what has a payload the type is not looked at, as VMware's receivers don't.
    """
    fields = decode(packet)
    payload = fields.get(PAYLOAD)
    if payload is None and fields == {TYPE: PING}:
        return None
    if not isinstance(payload, bytes):
        raise WireError("a packet without a payload")
    return RpcPacket(payload, fields.get(FAST_CLOSE) == 1)
