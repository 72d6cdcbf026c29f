"""VIX operations: their numbers and the bodies of their requests, as one table (specification 6.8.4)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from vmtools.wire import WireError
from vmtools.wire.bounded import Reader, pack, to_bytes
from vmtools.wire.vix import HEADER, MAX_MESSAGE, Code, VixError

if TYPE_CHECKING:
    from collections.abc import Mapping

Value = int | str | bytes | tuple[int, ...] | None


class Op(IntEnum):
    """Operations by number."""

    RUN_PROGRAM = 4
    REGISTRY_READ = 8
    REGISTRY_WRITE = 10
    DELETE_GUEST_FILE = 18
    GUEST_FILE_EXISTS = 19
    REGISTRY_KEY_EXISTS = 22
    WAIT_FOR_TOOLS = 38
    RUN_SCRIPT = 46
    CAPTURE_SCREEN = 58
    GET_TOOLS_STATE = 62
    DIRECTORY_EXISTS = 70
    REGISTRY_DELETE = 71
    DELETE_GUEST_DIRECTORY = 72
    DELETE_GUEST_EMPTY_DIRECTORY = 73
    CREATE_TEMPORARY_FILE = 74
    LIST_PROCESSES = 75
    MOVE_GUEST_FILE = 76
    CREATE_DIRECTORY = 77
    CHECK_USER_ACCOUNT = 78
    LIST_DIRECTORY = 79
    HGFS_SEND_PACKET = 84
    KILL_PROCESS = 85
    LOGOUT_IN_GUEST = 87
    READ_VARIABLE = 88
    WRITE_VARIABLE = 89
    GET_FILE_INFO = 94
    GET_GUEST_NETWORKING_CONFIG = 116
    SET_GUEST_NETWORKING_CONFIG = 117
    LIST_FILESYSTEMS = 169
    LIST_FILES = 177
    CREATE_DIRECTORY_EX = 178
    MOVE_FILE_EX = 179
    MOVE_DIRECTORY = 180
    CREATE_TEMPORARY_FILE_EX = 181
    CREATE_TEMPORARY_DIRECTORY = 182
    SET_GUEST_FILE_ATTRIBUTES = 183
    START_PROGRAM = 185
    LIST_PROCESSES_EX = 186
    READ_ENV_VARIABLES = 187
    INITIATE_FILE_TRANSFER_FROM_GUEST = 188
    INITIATE_FILE_TRANSFER_TO_GUEST = 189
    ACQUIRE_CREDENTIALS = 190
    RELEASE_CREDENTIALS = 191
    VALIDATE_CREDENTIALS = 192
    TERMINATE_PROCESS = 193
    DELETE_GUEST_FILE_EX = 194
    DELETE_GUEST_DIRECTORY_EX = 195
    ADD_AUTH_ALIAS = 197
    REMOVE_AUTH_ALIAS = 198
    LIST_AUTH_PROVIDER_ALIASES = 199
    LIST_AUTH_MAPPED_ALIASES = 200
    CREATE_REGISTRY_KEY = 201
    REMOVE_AUTH_ALIAS_BY_CERT = 207


@dataclass(frozen=True, slots=True)
class Layout:
    """A body: the fixed part, then what its sizes announce, in order.

    ``fixed``: ``name:type``, the type a character of :mod:`struct`, or ``n`` for the size (u32) of the part of that
    name.  ``parts``: names, with a mark:

    ==== ================================================================
    none text; a NUL follows that its size does not count
    ?    the same, and with a size of 0 there is no NUL either
    \\*   text or None; its size counts the NUL, 0 is None
    =    bytes
    #    numbers of 8 bytes, as many as its size says
    ==== ================================================================
    """

    fixed: str = ""
    parts: str = ""

    @property
    def _fixed(self) -> list[tuple[str, str]]:
        pairs = [item.partition(":") for item in self.fixed.split()]
        return [(name, kind) for name, _, kind in pairs]

    @property
    def _parts(self) -> list[tuple[str, str]]:
        return [(item.rstrip("?*=#"), item[-1] if item[-1] in "?*=#" else "") for item in self.parts.split()]

    def encode(self, values: Mapping[str, Value]) -> bytes:
        """The body; what is not given is 0 or empty; :raises WireError: a value does not fit, or is not of here."""
        fixed, parts = self._fixed, self._parts
        if unknown := set(values) - {name for name, _ in fixed + parts}:
            raise WireError(f"no such field: {', '.join(sorted(unknown))}")
        encoded = {name: _encode_part(name, mark, values.get(name)) for name, mark in parts}
        numbers = []
        for name, kind in fixed:
            number = encoded[name][0] if kind == "n" else values.get(name, 0)
            numbers.append(number)
        return pack(_struct(fixed), *numbers) + b"".join([data for _, data in encoded.values()])

    def decode(self, body: bytes) -> dict[str, Value]:
        """Value by name; :raises VixError: malformed: its code is 10000, 10001 or 27.

        What follows the last part is not looked at.
        """
        fixed = self._fixed
        layout = _struct(fixed)
        if len(body) < layout.size:
            raise VixError(
                Code.INVALID_MESSAGE_HEADER, f"a body of {len(body)} bytes; its fixed part has {layout.size}"
            )
        reader = Reader(body)
        numbers = dict(zip([name for name, _ in fixed], reader.unpack(layout), strict=True))
        values: dict[str, Value] = {name: numbers[name] for name, kind in fixed if kind != "n"}
        for name, mark in self._parts:
            values[name] = _decode_part(name, mark, numbers[name], reader)
        return values


class _ListDirectory(Layout):
    """LIST_DIRECTORY has an offset only where bit 0 of its options says so."""

    __slots__ = ()

    def encode(self, values: Mapping[str, Value]) -> bytes:
        options = values.get("options", 0)
        return (_WITH_OFFSET if isinstance(options, int) and options & 1 else _NO_OFFSET).encode(values)

    def decode(self, body: bytes) -> dict[str, Value]:
        return (_WITH_OFFSET if body[:1] and body[0] & 1 else _NO_OFFSET).decode(body)


_NO_OFFSET = Layout("options:i path:n", "path")
_WITH_OFFSET = Layout("options:i path:n offset:q", "path")

_NOTHING = Layout()
_PATH = Layout("options:i path:n", "path")
_MOVE = Layout("options:i old_path:n new_path:n properties_size:I overwrite:B", "old_path new_path")
_LIST_FILES = Layout("options:i path:n pattern:n index:i max_results:i offset:Q", "path pattern?")
_PROCESS = Layout("pid:Q options:I")
_SESSION = Layout("session:q")
_TEMPORARY = Layout("options:i prefix:n suffix:n directory:n properties:n", "prefix suffix directory properties=")
_REMOVE_ALIAS = Layout("options:I user:n certificate:n subject_type:i subject:n", "user* certificate* subject*")

BODIES: dict[int, Layout] = {
    Op.RUN_PROGRAM: Layout("options:i program:n arguments:n", "program arguments?"),
    Op.DELETE_GUEST_FILE: _PATH,
    Op.GUEST_FILE_EXISTS: _PATH,
    Op.WAIT_FOR_TOOLS: _NOTHING,
    Op.RUN_SCRIPT: Layout("options:i interpreter:n script:n properties:n", "interpreter properties script"),
    Op.CAPTURE_SCREEN: _NOTHING,
    Op.GET_TOOLS_STATE: _NOTHING,
    Op.DIRECTORY_EXISTS: _PATH,
    Op.DELETE_GUEST_DIRECTORY: _PATH,
    Op.DELETE_GUEST_EMPTY_DIRECTORY: _PATH,
    Op.LIST_PROCESSES: _NOTHING,
    Op.MOVE_GUEST_FILE: Layout("options:i old_path:n new_path:n properties_size:I", "old_path new_path"),
    Op.CREATE_DIRECTORY: Layout("options:i path:n properties_size:I", "path"),
    Op.CHECK_USER_ACCOUNT: _NOTHING,
    Op.LIST_DIRECTORY: _ListDirectory(),
    Op.HGFS_SEND_PACKET: Layout("packet:n timeout:i", "packet="),
    Op.KILL_PROCESS: _PROCESS,
    Op.LOGOUT_IN_GUEST: _NOTHING,
    Op.READ_VARIABLE: Layout("type:i options:i name:n", "name"),
    Op.WRITE_VARIABLE: Layout("type:i options:i name:n value:n", "name value"),
    Op.GET_FILE_INFO: _PATH,
    Op.GET_GUEST_NETWORKING_CONFIG: Layout("options:i"),
    Op.SET_GUEST_NETWORKING_CONFIG: Layout("options:i properties:n", "properties="),
    Op.LIST_FILESYSTEMS: _NOTHING,
    Op.LIST_FILES: _LIST_FILES,
    Op.CREATE_DIRECTORY_EX: Layout("options:i path:n properties_size:I create_parents:B", "path"),
    Op.MOVE_FILE_EX: _MOVE,
    Op.MOVE_DIRECTORY: _MOVE,
    Op.CREATE_TEMPORARY_FILE_EX: _TEMPORARY,
    Op.CREATE_TEMPORARY_DIRECTORY: _TEMPORARY,
    Op.SET_GUEST_FILE_ATTRIBUTES: Layout(
        "options:i access_time:q modification_time:q uid:i gid:i permissions:i hidden:B read_only:B path:n", "path"
    ),
    Op.START_PROGRAM: Layout(
        "minimized:B program:n arguments:n directory:n environment_count:I environment:n",
        "program* arguments* directory* environment=",
    ),
    Op.LIST_PROCESSES_EX: Layout("key:I offset:I pids:n", "pids#"),
    Op.READ_ENV_VARIABLES: Layout("count:I names:n", "names="),
    Op.INITIATE_FILE_TRANSFER_FROM_GUEST: _LIST_FILES,
    Op.INITIATE_FILE_TRANSFER_TO_GUEST: Layout("options:i path:n overwrite:B", "path"),
    Op.ACQUIRE_CREDENTIALS: _SESSION,
    Op.RELEASE_CREDENTIALS: _SESSION,
    Op.VALIDATE_CREDENTIALS: _NOTHING,
    Op.TERMINATE_PROCESS: _PROCESS,
    Op.DELETE_GUEST_FILE_EX: _PATH,
    Op.DELETE_GUEST_DIRECTORY_EX: Layout("options:i path:n properties_size:I recursive:B", "path"),
    Op.ADD_AUTH_ALIAS: Layout(
        "options:I user:n certificate:n add_mapping:B subject_type:i subject:n comment:n",
        "user* certificate* subject* comment*",
    ),
    Op.REMOVE_AUTH_ALIAS: _REMOVE_ALIAS,
    Op.LIST_AUTH_PROVIDER_ALIASES: Layout("options:I user:n", "user*"),
    Op.LIST_AUTH_MAPPED_ALIASES: Layout("options:I"),
    Op.REMOVE_AUTH_ALIAS_BY_CERT: _REMOVE_ALIAS,
}
"""By operation.  Those of Windows' registry are missing, and CREATE_TEMPORARY_FILE, whose parts are not known."""


def encode_body(op: int, values: Mapping[str, Value]) -> bytes:
    """The body of a request; :raises WireError: it is not known, or a value does not fit."""
    layout = BODIES.get(op)
    if layout is None:
        raise WireError(f"the body of operation {op} is not known")
    return layout.encode(values)


def decode_body(op: int, body: bytes) -> dict[str, Value]:
    """Value by name; :raises VixError: malformed, or an operation that is not known (3025)."""
    layout = BODIES.get(op)
    if layout is None:
        raise VixError(Code.UNRECOGNIZED_COMMAND_IN_GUEST, f"the body of operation {op} is not known")
    return layout.decode(body)


def _struct(fixed: list[tuple[str, str]]) -> struct.Struct:
    return struct.Struct("<" + "".join(["I" if kind == "n" else kind for _, kind in fixed]))


def _encode_part(name: str, mark: str, value: Value) -> tuple[int, bytes]:
    """The size that is announced, and the bytes."""
    match mark, value:
        case ("=", bytes()):
            return len(value), value
        case ("#", tuple()):
            return len(value), pack(struct.Struct(f"<{len(value)}Q"), *value)
        case ("*" | "=" | "#", None):
            return 0, b""
        case ("" | "?", None | ""):
            return 0, b"" if mark else b"\0"
        case ("" | "?" | "*", str()):
            data = to_bytes(value, name, MAX_MESSAGE - HEADER) + b"\0"
            return len(data) - (mark != "*"), data
    raise WireError(f"{name} is {type(value).__name__}")


def _decode_part(name: str, mark: str, size: int, reader: Reader) -> Value:
    if (not size and mark in ("?", "*")) or mark == "=":
        return _taken(reader, size) if mark == "=" else ("" if mark == "?" else None)
    if mark == "#":
        return struct.unpack(f"<{size}Q", _taken(reader, 8 * size))
    text = _taken(reader, size if mark == "*" else size + 1)
    if text.find(b"\0") != len(text) - 1:
        raise VixError(Code.INVALID_MESSAGE_BODY, f"{name} does not end in its one NUL")
    try:
        return text[:-1].decode("utf-8")
    except UnicodeDecodeError:
        raise VixError(Code.INVALID_UTF8, f"{name} is no UTF-8") from None


def _taken(reader: Reader, size: int) -> bytes:
    if size > reader.left:
        raise VixError(Code.INVALID_MESSAGE_BODY, f"{size} bytes are announced, {reader.left} are left")
    return reader.take(size)
