"""The guest library's wire: ``guestlib.info.get``, ``guestlib.stat.get``, ``guestlib.ioctl`` (specification 5.10).

The reply to ``guestlib.info.get VERSION`` has two forms.  Version 2 is a C structure with the first 18 statistics;
version 3 a list that grows with the host, of which 38 are known here.  The ids are the same in both.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from vmtools.wire import WireError
from vmtools.wire.bounded import Reader, at_most, from_bytes, from_field, pack, to_bytes, to_field
from vmtools.wire.xdr import XdrReader, XdrWriter

INFO_GET = b"guestlib.info.get "
STAT_GET = b"guestlib.stat.get "
IOCTL = b"guestlib.ioctl "

FIRST_VERSION = 3
"""With which a guest begins; it falls back to 2."""

MAX_STRING = 512
MAX_OPAQUE = 1 << 16
"""Bytes of a resource pool's long path: our own limit, that of a message."""

MAX_COMMAND = 255
"""Bytes of a ``guestlib.stat.get`` command."""

Value = int | str | bytes


class Kind(Enum):
    """What a statistic's value is on the wire."""

    U32 = "u32"
    U64 = "u64"
    STRING = "string"
    OPAQUE = "opaque"


class Statistic(NamedTuple):
    """``unit``: as a person writes it, empty for pure numbers and text."""

    id: int
    name: str
    kind: Kind
    unit: str


STATISTICS = (
    Statistic(1, "CPU_RESERVATION_MHZ", Kind.U32, "MHz"),
    Statistic(2, "CPU_LIMIT_MHZ", Kind.U32, "MHz"),
    Statistic(3, "CPU_SHARES", Kind.U32, ""),
    Statistic(4, "CPU_USED_MS", Kind.U64, "ms"),
    Statistic(5, "HOST_MHZ", Kind.U32, "MHz"),
    Statistic(6, "MEM_RESERVATION_MB", Kind.U32, "MB"),
    Statistic(7, "MEM_LIMIT_MB", Kind.U32, "MB"),
    Statistic(8, "MEM_SHARES", Kind.U32, ""),
    Statistic(9, "MEM_MAPPED_MB", Kind.U32, "MB"),
    Statistic(10, "MEM_ACTIVE_MB", Kind.U32, "MB"),
    Statistic(11, "MEM_OVERHEAD_MB", Kind.U32, "MB"),
    Statistic(12, "MEM_BALLOONED_MB", Kind.U32, "MB"),
    Statistic(13, "MEM_SWAPPED_MB", Kind.U32, "MB"),
    Statistic(14, "MEM_SHARED_MB", Kind.U32, "MB"),
    Statistic(15, "MEM_SHARED_SAVED_MB", Kind.U32, "MB"),
    Statistic(16, "MEM_USED_MB", Kind.U32, "MB"),
    Statistic(17, "ELAPSED_MS", Kind.U64, "ms"),
    Statistic(18, "RESOURCE_POOL_PATH", Kind.STRING, ""),
    Statistic(19, "CPU_STOLEN_MS", Kind.U64, "ms"),
    Statistic(20, "MEM_TARGET_SIZE_MB", Kind.U64, "MB"),
    Statistic(21, "HOST_CPU_NUM_CORES", Kind.U32, ""),
    Statistic(22, "HOST_CPU_USED_MS", Kind.U64, "ms"),
    Statistic(23, "HOST_MEM_SWAPPED_MB", Kind.U64, "MB"),
    Statistic(24, "HOST_MEM_SHARED_MB", Kind.U64, "MB"),
    Statistic(25, "HOST_MEM_USED_MB", Kind.U64, "MB"),
    Statistic(26, "HOST_MEM_PHYS_MB", Kind.U64, "MB"),
    Statistic(27, "HOST_MEM_PHYS_FREE_MB", Kind.U64, "MB"),
    Statistic(28, "HOST_MEM_KERN_OVHD_MB", Kind.U64, "MB"),
    Statistic(29, "HOST_MEM_MAPPED_MB", Kind.U64, "MB"),
    Statistic(30, "HOST_MEM_UNMAPPED_MB", Kind.U64, "MB"),
    Statistic(31, "MEM_ZIPPED_MB", Kind.U32, "MB"),
    Statistic(32, "MEM_ZIPSAVED_MB", Kind.U32, "MB"),
    Statistic(33, "MEM_LLSWAPPED_MB", Kind.U32, "MB"),
    Statistic(34, "MEM_SWAP_TARGET_MB", Kind.U32, "MB"),
    Statistic(35, "MEM_BALLOON_TARGET_MB", Kind.U32, "MB"),
    Statistic(36, "MEM_BALLOON_MAX_MB", Kind.U32, "MB"),
    Statistic(37, "RESOURCE_POOL_PATH_LONG", Kind.OPAQUE, ""),
    Statistic(38, "MEM_SHARES_64", Kind.U64, ""),
)
"""All that are known; the id of ``STATISTICS[i]`` is ``i + 1``."""

BY_NAME = {statistic.name: statistic for statistic in STATISTICS}
V2_COUNT = 18

ERRORS = (
    "No error",
    "Other error",
    "VMware Guest API is not running in a Virtual Machine",
    "VMware Guest API is not enabled on the host",
    "This value is not available on this host",
    "VMGuestLib_UpdateInfo() has not been called",
    "There is not enough system memory",
    "The provided memory buffer is too small",
    "The provided handle is invalid",
    "One or more arguments were invalid",
    "Host does not support this request.",
)
"""The library's words for its error codes."""


@dataclass(frozen=True, slots=True)
class Info:
    """One reply: ``values[i]`` is the statistic ``i + 1``, None where the host says that it is not valid.

    ``session`` changes when the machine was resumed or moved: then counters start anew.  A host gives as many values as
    it knows: 18 in version 2.
    """

    version: int
    session: int
    values: tuple[Value | None, ...]

    def __getitem__(self, name: str) -> Value | None:
        """The value of that name (:data:`STATISTICS`); None: not valid, or not known to this host."""
        index = BY_NAME[name].id - 1
        return self.values[index] if index < len(self.values) else None


# -- guestlib.info.get -------------------------------------------------------------------------------------------------

_SUPPORTED = re.compile(rb"([0-9]{1,4}):")
_HEADER = struct.Struct("<IQ")
_SIZE = struct.Struct("<I")
_V2_NUMBERS = {Kind.U32: struct.Struct("<?3xI"), Kind.U64: struct.Struct("<?3xQ")}
_V2_PATH = struct.Struct(f"<?{MAX_STRING}s")
V2_SIZE = 669


def encode_request(version: int) -> bytes:
    """The request, which has no NUL."""
    return INFO_GET + b"%d" % version


def decode_request(request: bytes) -> int:
    """The version that is asked for; :raises WireError: it is no such request."""
    digits = request.removeprefix(INFO_GET).removesuffix(b"\0")
    if not request.startswith(INFO_GET) or not digits.isdigit() or len(digits) > 10:
        raise WireError("no guestlib.info.get request")
    return int(digits)


def fallback(version: int, refusal: bytes) -> int | None:
    """Which version to ask for after ``version`` was refused in these words; None: the library is not enabled."""
    if version <= 2 or refusal == b"Unknown command":
        return None
    if version > FIRST_VERSION:
        match = _SUPPORTED.match(refusal)
        return max(2, min(int(match[1]), version - 1)) if match else FIRST_VERSION
    return 2


def encode(info: Info) -> bytes:
    """The host's reply in the form of ``info.version``; :raises WireError: a value does not fit."""
    header = pack(_HEADER, info.version, info.session)
    if info.version == 2:
        return header + _encode_v2(info.values)
    if info.version != 3:
        raise WireError(f"version {info.version}; 2 and 3 are known")
    data = _encode_v3(info.values)
    return header + pack(_SIZE, len(data)) + data


def decode(reply: bytes) -> Info:
    """The host's reply; :raises WireError: it is none, or of a version not known here.

    What a host knows beyond :data:`STATISTICS` is left out, and what follows the announced data is not looked at:
    VMware's library does the same.
    """
    reader = Reader(reply)
    version, session = reader.unpack(_HEADER)
    if version == 2:
        if len(reply) != V2_SIZE:
            raise WireError(f"a reply of version 2 has {V2_SIZE} bytes, not {len(reply)}")
        return Info(version, session, _decode_v2(reader))
    if version != 3:
        raise WireError(f"a reply of version {version}; 2 and 3 are known")
    (size,) = reader.unpack(_SIZE)
    return Info(version, session, _decode_v3(XdrReader(reader.take(size))))


def _encode_v2(values: tuple[Value | None, ...]) -> bytes:
    if len(values) != V2_COUNT:
        raise WireError(f"version 2 has {V2_COUNT} values, not {len(values)}")
    parts = []
    for statistic, value in zip(STATISTICS, values, strict=False):
        checked = _checked(statistic, value)
        if isinstance(checked, int):
            parts.append(pack(_V2_NUMBERS[statistic.kind], value is not None, checked))
        else:
            path = to_field(str(checked), statistic.name, MAX_STRING)
            parts.append(pack(_V2_PATH, value is not None, path))
    return b"".join(parts)


def _decode_v2(reader: Reader) -> tuple[Value | None, ...]:
    values: list[Value | None] = []
    for statistic in STATISTICS[: V2_COUNT - 1]:
        valid, value = reader.unpack(_V2_NUMBERS[statistic.kind])
        values.append(value if valid else None)
    valid, path = reader.unpack(_V2_PATH)
    values.append(from_field(path, "RESOURCE_POOL_PATH") if valid else None)
    return tuple(values)


def _encode_v3(values: tuple[Value | None, ...]) -> bytes:
    out = XdrWriter()
    out.u32(at_most(len(values), "statistics", len(STATISTICS)))
    for statistic, value in zip(STATISTICS, values, strict=False):
        checked = _checked(statistic, value)
        out.i32(statistic.id)
        out.boolean(value is not None)
        if isinstance(checked, str):
            out.string(checked, MAX_STRING, statistic.name)
        elif isinstance(checked, bytes):
            out.opaque(checked, MAX_OPAQUE, statistic.name)
        elif statistic.kind is Kind.U32:
            out.u32(checked)
        else:
            out.u64(checked)
    return out.written()


def _decode_v3(xdr: XdrReader) -> tuple[Value | None, ...]:
    values: list[Value | None] = []
    count = xdr.u32()
    for statistic in STATISTICS[:count]:
        found = xdr.i32()
        if found != statistic.id:
            raise WireError(f"statistic {found} where {statistic.id} was due")
        valid = xdr.boolean()
        value: Value
        match statistic.kind:
            case Kind.U32:
                value = xdr.u32()
            case Kind.U64:
                value = xdr.u64()
            case Kind.STRING:
                value = xdr.string(MAX_STRING, statistic.name)
            case Kind.OPAQUE:
                value = xdr.opaque(MAX_OPAQUE, statistic.name)
        values.append(value if valid else None)
    if count <= len(STATISTICS):
        xdr.end()
    return tuple(values)


def _checked(statistic: Statistic, value: Value | None) -> Value:
    """``value``, or what stands for it where it is not valid; :raises WireError: it is of another type."""
    nothing: Value = "" if statistic.kind is Kind.STRING else b"" if statistic.kind is Kind.OPAQUE else 0
    if value is None:
        return nothing
    if not isinstance(value, type(nothing)):
        raise WireError(f"{statistic.name} is {type(value).__name__}")
    return value


# -- the others --------------------------------------------------------------------------------------------------------

ENCODINGS = ("text", "json", "xml", "yaml")
_COOKIE = 1


def encode_stat_request(encoding: str = "", statistic: str = "") -> bytes:
    """``guestlib.stat.get``; with neither, the host lists what it has."""
    text = to_bytes(f"{encoding} {statistic}", "the request", MAX_COMMAND)
    if len(STAT_GET + text) > MAX_COMMAND or " " in encoding:
        raise WireError(f"the request has more than {MAX_COMMAND} bytes, or a blank in its encoding")
    return STAT_GET + text


def decode_stat_request(request: bytes) -> tuple[str, str]:
    """Encoding and statistic; :raises WireError: it is no such request."""
    text = request.removesuffix(b"\0")
    if not text.startswith(STAT_GET) or len(text) > MAX_COMMAND:
        raise WireError("no guestlib.stat.get request")
    encoding, _, statistic = text.removeprefix(STAT_GET).partition(b" ")
    return from_bytes(encoding, "the encoding"), from_bytes(statistic, "the statistic")


def encode_atomic_update(source: str, destination: str) -> bytes:
    """The ``guestlib.ioctl`` that updates a cookie atomically; each text has at most 256 bytes."""
    out = XdrWriter()
    out.i32(_COOKIE)
    out.string(source, 256, "the source")
    out.string(destination, 256, "the destination")
    return IOCTL + out.written()


def decode_atomic_update(request: bytes) -> tuple[str, str]:
    """Source and destination; :raises WireError: it is no such request."""
    if not request.startswith(IOCTL):
        raise WireError("no guestlib.ioctl request")
    xdr = XdrReader(request.removeprefix(IOCTL))
    if xdr.i32() != _COOKIE:
        raise WireError("an ioctl that is not known")
    texts = xdr.string(256, "the source"), xdr.string(256, "the destination")
    xdr.end()
    return texts
