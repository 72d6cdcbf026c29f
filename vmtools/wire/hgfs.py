"""HGFS packets, the protocol of shared folders: headers and the listing of folders (specification 5.16 and 6.9).

A request goes as ``f `` and the packet, guest→host over RPCI or host→guest over TCLO.  Versions 1 to 3 have a header of
two words; version 4 one of 52 bytes, told apart by 0xff where the others have their operation.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from vmtools.wire import WireError
from vmtools.wire.bounded import Reader, at_most, from_bytes, pack, to_bytes

COMMAND = b"f "
"""What stands before a packet; alone it asks whether HGFS is enabled."""

SMALL_PACKET = 6144
LARGE_PACKET_OLD = 63488
LARGE_PACKET = 522240


class Op(IntEnum):
    """Operations; those of version 4 that the specification does not name are known by number alone."""

    OPEN = 0
    READ = 1
    WRITE = 2
    CLOSE = 3
    SEARCH_OPEN = 4
    SEARCH_READ = 5
    SEARCH_CLOSE = 6
    GETATTR = 7
    SETATTR = 8
    CREATE_DIR = 9
    DELETE_FILE = 10
    DELETE_DIR = 11
    RENAME = 12
    QUERY_VOLUME = 13
    OPEN_V2 = 14
    GETATTR_V2 = 15
    SETATTR_V2 = 16
    SEARCH_READ_V2 = 17
    CREATE_SYMLINK = 18
    LOCK_CHANGE = 19
    CREATE_DIR_V2 = 20
    DELETE_FILE_V2 = 21
    DELETE_DIR_V2 = 22
    RENAME_V2 = 23
    OPEN_V3 = 24
    READ_V3 = 25
    WRITE_V3 = 26
    CLOSE_V3 = 27
    SEARCH_OPEN_V3 = 28
    SEARCH_READ_V3 = 29
    SEARCH_CLOSE_V3 = 30
    GETATTR_V3 = 31
    SETATTR_V3 = 32
    CREATE_DIR_V3 = 33
    DELETE_FILE_V3 = 34
    DELETE_DIR_V3 = 35
    RENAME_V3 = 36
    QUERY_VOLUME_V3 = 37
    CREATE_SYMLINK_V3 = 38
    CREATE_SESSION_V4 = 41
    DESTROY_SESSION_V4 = 42
    READ_FAST_V4 = 43
    WRITE_FAST_V4 = 44
    SET_WATCH_V4 = 45
    SET_EAS_V4 = 64


class Status(IntEnum):
    """How an operation ended."""

    OK = 0
    NO_SUCH_FILE = 1
    BAD_HANDLE = 2
    NOT_PERMITTED = 3
    EXISTS = 4
    NOT_DIRECTORY = 5
    NOT_EMPTY = 6
    PROTOCOL = 7
    ACCESS_DENIED = 8
    INVALID_NAME = 9
    GENERIC = 10
    SHARING_VIOLATION = 11
    NO_SPACE = 12
    UNSUPPORTED = 13
    NAME_TOO_LONG = 14
    INVALID_PARAMETER = 15
    CROSS_DEVICE = 16
    STALE_SESSION = 17
    TOO_MANY_SESSIONS = 18
    TRANSPORT = 19


@dataclass(frozen=True, slots=True)
class Request:
    """Versions 1 to 3: ``op`` is an :class:`Op` or a number not known here."""

    id: int
    op: int
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """Versions 1 to 3: ``status`` is a :class:`Status` or a number not known here."""

    id: int
    status: int
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class PacketV4:
    """Version 4, a request or a reply (``flags`` tell)."""

    id: int
    op: int
    status: int = 0
    flags: int = 0
    information: int = 0
    session: int = 0
    body: bytes = b""


_WORDS = struct.Struct("<II")
_V4 = struct.Struct("<B3x8IQ8x")
_V4_VERSION = 1
_V4_MARK = 0xFF


def encode_request(request: Request | PacketV4) -> bytes:
    """The packet; :raises WireError: over :data:`LARGE_PACKET` bytes, or a number is out of range."""
    if isinstance(request, PacketV4):
        return _encode_v4(request)
    if request.op == _V4_MARK:
        raise WireError(f"an operation {_V4_MARK:#x}, which marks version 4")
    return _limited(pack(_WORDS, request.id, request.op) + request.body)


def decode_request(packet: bytes) -> Request | PacketV4:
    """The packet; :raises WireError: it is none."""
    number, op = Reader(_limited(packet)).unpack(_WORDS)
    return _decode_v4(packet) if op == _V4_MARK else Request(number, op, packet[_WORDS.size :])


def encode_reply(reply: Reply | PacketV4) -> bytes:
    """The packet; :raises WireError: over :data:`LARGE_PACKET` bytes, or a number is out of range."""
    if isinstance(reply, PacketV4):
        return _encode_v4(reply)
    return _limited(pack(_WORDS, reply.id, reply.status) + reply.body)


def decode_reply(packet: bytes) -> Reply | PacketV4:
    """The packet; :raises WireError: it is none."""
    number, status = Reader(_limited(packet)).unpack(_WORDS)
    return _decode_v4(packet) if status == _V4_MARK else Reply(number, status, packet[_WORDS.size :])


def _limited(packet: bytes) -> bytes:
    if len(packet) > LARGE_PACKET:
        raise WireError(f"a packet of {len(packet)} bytes; at most {LARGE_PACKET} are allowed")
    return packet


def _encode_v4(packet: PacketV4) -> bytes:
    numbers = packet.id, packet.op, packet.status, packet.flags, packet.information, packet.session
    size = _V4.size + len(packet.body)
    return _limited(pack(_V4, _V4_VERSION, _V4_MARK, size, _V4.size, *numbers) + packet.body)


def _decode_v4(packet: bytes) -> PacketV4:
    reader = Reader(packet)
    version, _, size, header, number, op, status, flags, information, session = reader.unpack(_V4)
    if version != _V4_VERSION or header != _V4.size or size != len(packet):
        raise WireError(f"a header of version {version} with {header} bytes, for a packet of {size}")
    return PacketV4(number, op, status, flags, information, session, reader.take(reader.left))


# -- listing a folder, by version 1 ------------------------------------------------------------------------------------

_WORD = struct.Struct("<I")
_ATTRIBUTES = struct.Struct("<IQQQQQB")
MAX_NAME = 6144
"""Bytes of a file's name: a small packet's."""


class FileType(IntEnum):
    """What an entry is."""

    REGULAR = 0
    DIRECTORY = 1
    SYMLINK = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a listing, as version 1 has it (seen in open-vm-tools 12.2's answers).

    ``size``: bytes; the times in 100 ns since 1601; ``permissions``: the owner's, 4 read, 2 write, 1 execute.
    """

    name: str
    type: int
    size: int
    created: int
    accessed: int
    written: int
    changed: int
    permissions: int


def search_open(path: str = "", number: int = 0) -> Request:
    """Begin to list the folder; an empty path lists the shares.

    Components of ``path`` are parted by NULs on the wire, by slashes here.
    """
    name = to_bytes(path, "a path", MAX_NAME).replace(b"/", b"\0")
    return Request(number, Op.SEARCH_OPEN, pack(_WORD, len(name)) + name + b"\0")


def search_opened(reply: Reply) -> int:
    """The search's handle; :raises WireError: the reply has none."""
    return int(Reader(reply.body).unpack(_WORD)[0])


def search_read(handle: int, offset: int, number: int = 0) -> Request:
    """Ask for the entry at ``offset``."""
    return Request(number, Op.SEARCH_READ, pack(_WORDS, handle, offset))


def encode_entry(entry: Entry | None) -> bytes:
    """The body of a reply to :func:`search_read`; None: there is no more."""
    if entry is None:
        return bytes(_ATTRIBUTES.size + _WORD.size + 1)
    name = to_bytes(entry.name, "a file's name", MAX_NAME)
    if not name:
        raise WireError("a file without a name")
    times = entry.created, entry.accessed, entry.written, entry.changed
    attributes = pack(_ATTRIBUTES, entry.type, entry.size, *times, entry.permissions)
    return attributes + pack(_WORD, len(name)) + name + b"\0"


def decode_entry(body: bytes) -> Entry | None:
    """The entry in the reply to :func:`search_read`; None: there is no more; :raises WireError: neither."""
    reader = Reader(body)
    kind, size, created, accessed, written, changed, permissions = reader.unpack(_ATTRIBUTES)
    length = at_most(int(reader.unpack(_WORD)[0]), "bytes of a file's name", MAX_NAME)
    if not length:
        return None
    name = from_bytes(reader.take(length), "a file's name")
    return Entry(name, kind, size, created, accessed, written, changed, permissions)


def search_close(handle: int, number: int = 0) -> Request:
    """End the search."""
    return Request(number, Op.SEARCH_CLOSE, pack(_WORD, handle))
