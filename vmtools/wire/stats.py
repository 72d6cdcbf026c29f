"""Guest statistics, class 8: a header and records of tagged data (specification 5.7).

A record is a word of flags and, for each flag from the lowest up, a size and that many bytes.  Numbers take as few
bytes as will do: none for zero, else 1, 2, 4 or 8; floating ones none, 4 or 8.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vmtools.wire import WireError
from vmtools.wire.bounded import Reader, from_bytes, pack, to_bytes
from vmtools.wire.statnames import FLOATS, INTEGERS, SIGNED, WIDTHS, Type

VERSION = 5
NAMESPACE = "_tools/v1"
"""Of all statistics that the tools send; said in the first record, and the later ones inherit it."""

MAX_DATUM = 0xFFFF
"""Bytes of one datum."""

HAS_MEM_TOTAL = 1 << 0
HAS_HUGE_PAGES_TOTAL = 1 << 10
HAS_MEM_NEEDED = 1 << 13
"""Flags of the header."""

_PRAGMA = 0x01
_NAMESPACE = 0x02
_ID = 0x04
_TYPE = 0x08
_TYPE_NAME = 0x10
_UNIT = 0x20
_UNIT_NAME = 0x40
_VALUE = 0x80
_KNOWN = 0xFF

_HEADER = struct.Struct("<IIQ72xQ16x")
_FLAGS = struct.Struct("<I")
_SIZE = struct.Struct("<H")
_FLOAT = struct.Struct("<f")
_DOUBLE = struct.Struct("<d")
_UNSIGNED = {0: 0, 1: 0xFF, 2: 0xFFFF, 4: 0xFFFFFFFF, 8: 0xFFFFFFFFFFFFFFFF}
"""Width to the largest number that it holds."""


@dataclass(frozen=True, slots=True)
class Record:
    """One statistic; what is None was not said.

    ``value``: an int, a float, or text for the types that are so; bytes for all other types.  None: no sample yet.
    ``type`` and ``unit`` are numbers of :mod:`vmtools.wire.statnames`; a guest may name them in words too.
    """

    id: int | None = None
    type: int | None = None
    unit: int | None = None
    value: int | float | str | bytes | None = None
    namespace: str | None = None
    type_name: str | None = None
    unit_name: str | None = None
    pragma: bytes | None = None


@dataclass(frozen=True, slots=True)
class Statistics:
    """``mem_total``: KiB; ``huge_pages_total``: pages; None where the flag that makes them valid is missing."""

    mem_total: int | None = None
    huge_pages_total: int | None = None
    mem_needed: bool = False
    records: tuple[Record, ...] = ()


def encode(statistics: Statistics) -> bytes:
    """The payload of class 8; :raises WireError: a value does not fit its type."""
    flags = HAS_MEM_NEEDED if statistics.mem_needed else 0
    if statistics.mem_total is not None:
        flags |= HAS_MEM_TOTAL
    if statistics.huge_pages_total is not None:
        flags |= HAS_HUGE_PAGES_TOTAL
    header = pack(_HEADER, VERSION, flags, statistics.mem_total or 0, statistics.huge_pages_total or 0)
    return header + b"".join([encode_record(record) for record in statistics.records])


def decode(payload: bytes) -> Statistics:
    """The payload of class 8; :raises WireError: it is none.  Fields of old that no guest fills are not looked at."""
    reader = Reader(payload)
    version, flags, memory, huge_pages = reader.unpack(_HEADER)
    if version != VERSION:
        raise WireError(f"statistics of version {version}; {VERSION} is known")
    records = []
    while reader.left:
        records.append(_take_record(reader))
    return Statistics(
        memory if flags & HAS_MEM_TOTAL else None,
        huge_pages if flags & HAS_HUGE_PAGES_TOTAL else None,
        bool(flags & HAS_MEM_NEEDED),
        tuple(records),
    )


def encode_record(record: Record) -> bytes:
    """One record; :raises WireError: a value does not fit its type."""
    data: list[bytes | None] = [
        record.pragma,
        _text(record.namespace, "a namespace"),
        _unsigned(record.id),
        _unsigned(record.type),
        _text(record.type_name, "a type's name"),
        _unsigned(record.unit),
        _text(record.unit_name, "a unit's name"),
        None if record.value is None else _encode_value(record.type, record.value),
    ]
    parts = []
    flags = 0
    for bit, datum in enumerate(data):
        if datum is not None:
            flags |= 1 << bit
            parts.append(pack(_SIZE, len(datum)) + datum)
    if not flags:
        raise WireError("an empty record")
    return pack(_FLAGS, flags) + b"".join(parts)


def _take_record(reader: Reader) -> Record:
    (flags,) = reader.unpack(_FLAGS)
    if not flags or flags & ~_KNOWN:
        raise WireError(f"a record with the flags {flags:#x}")

    def take(flag: int) -> bytes | None:
        return reader.take(reader.unpack(_SIZE)[0]) if flags & flag else None

    pragma, namespace, number, kind = take(_PRAGMA), take(_NAMESPACE), take(_ID), take(_TYPE)
    kind_name, unit, unit_name, value = take(_TYPE_NAME), take(_UNIT), take(_UNIT_NAME), take(_VALUE)
    type_number = _integer(kind)
    return Record(
        id=_integer(number),
        type=type_number,
        unit=_integer(unit),
        value=None if value is None else _decode_value(type_number, value),
        namespace=_decode_text(namespace, "a namespace"),
        type_name=_decode_text(kind_name, "a type's name"),
        unit_name=_decode_text(unit_name, "a unit's name"),
        pragma=pragma,
    )


# -- data --------------------------------------------------------------------------------------------------------------


def _text(text: str | None, what: str) -> bytes | None:
    return None if text is None else to_bytes(text, what, MAX_DATUM - 1) + b"\0"


def _decode_text(data: bytes | None, what: str) -> str | None:
    if data is None:
        return None
    if not data.endswith(b"\0"):
        raise WireError(f"{what} has no NUL at its end")
    return from_bytes(data[:-1], what)


def _unsigned(value: int | None) -> bytes | None:
    if value is None:
        return None
    for width, largest in _UNSIGNED.items():
        if 0 <= value <= largest:
            return value.to_bytes(width, "little")
    raise WireError(f"{value} is no number of at most 8 bytes")


def _integer(data: bytes | None) -> int | None:
    if data is None:
        return None
    if len(data) not in _UNSIGNED:
        raise WireError(f"a number of {len(data)} bytes")
    return int.from_bytes(data, "little")


def _encode_value(kind: int | None, value: int | float | str | bytes) -> bytes:
    if kind in INTEGERS and isinstance(value, int):
        return _encode_int(kind, value)
    if kind in FLOATS and isinstance(value, float):
        return _encode_float(value)
    if kind == Type.STRING and isinstance(value, str):
        return to_bytes(value, "a value", MAX_DATUM - 1) + b"\0"
    if kind not in INTEGERS | FLOATS | {Type.STRING} and isinstance(value, bytes):
        return value
    raise WireError(f"{type(value).__name__} for a value of type {kind}")


def _decode_value(kind: int | None, data: bytes) -> int | float | str | bytes:
    if kind in INTEGERS:
        return _decode_int(kind, data)
    if kind in FLOATS:
        return _decode_float(data)
    if kind == Type.STRING:
        return _decode_text(data, "a value") or ""
    return data


def _encode_int(kind: int, value: int) -> bytes:
    width = WIDTHS[kind]
    if kind in SIGNED and value < 0:
        # No guest that was seen sends one.  At its type's full width it can't be taken for a positive number.
        if value < -(1 << 8 * width - 1):
            raise WireError(f"{value} does not fit {width} bytes")
        return value.to_bytes(width, "little", signed=True)
    if value >= 1 << 8 * width - (kind in SIGNED):
        raise WireError(f"{value} does not fit {width} bytes")
    return _unsigned(value) or b""


def _decode_int(kind: int, data: bytes) -> int:
    width = WIDTHS[kind]
    value = _integer(data) or 0
    if len(data) > width:
        raise WireError(f"{len(data)} bytes for a number of {width}")
    if kind in SIGNED and value >> 8 * width - 1:
        value -= 1 << 8 * width
    return value


def _encode_float(value: float) -> bytes:
    if value == 0.0:
        return b""
    try:
        short = _FLOAT.pack(value)
    except OverflowError:
        return _DOUBLE.pack(value)
    return short if _FLOAT.unpack(short)[0] == value else _DOUBLE.pack(value)


def _decode_float(data: bytes) -> float:
    layouts = {0: None, _FLOAT.size: _FLOAT, _DOUBLE.size: _DOUBLE}
    if len(data) not in layouts:
        raise WireError(f"a floating number of {len(data)} bytes")
    layout = layouts[len(data)]
    return float(layout.unpack(data)[0]) if layout is not None else 0.0
