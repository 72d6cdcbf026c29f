"""VIX messages, the host's guest operations: headers, the TCLO commands that carry them, answers (specification 6.8).

A request is ``header(51) | body | credential``, packed and little endian; bodies are in :mod:`vmtools.wire.vixops`, the
codings of strings and credentials in :mod:`vmtools.wire.vixtext`, property lists in :mod:`vmtools.wire.vixprops`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag

from vmtools.wire import WireError
from vmtools.wire.bounded import Reader, at_most, number, pack, to_bytes

MAGIC = 0xD00D0001
VERSION = 5
MAX_MESSAGE = 16 << 20
MAX_RESULT = 65536 - 92
"""Bytes of an answer's text."""

NO_TIMEOUT = 0xFFFFFFFF
AUTH_SIZE = 44
"""Bytes at the end of a request with :attr:`RequestFlag.AUTH_DATA`: nonce, sequence number, hash."""


class Code(IntEnum):
    """Errors, as far as the specification names them."""

    OK = 0
    FAIL = 1
    OUT_OF_MEMORY = 2
    INVALID_ARG = 3
    FILE_NOT_FOUND = 4
    OBJECT_IS_BUSY = 5
    NOT_SUPPORTED = 6
    FILE_ERROR = 7
    DISK_FULL = 8
    CANCELLED = 10
    FILE_READ_ONLY = 11
    FILE_ALREADY_EXISTS = 12
    FILE_ACCESS_ERROR = 13
    FILE_TOO_BIG = 21
    FILE_NAME_INVALID = 22
    ALREADY_EXISTS = 23
    BUFFER_TOO_SMALL = 24
    OBJECT_NOT_FOUND = 25
    INVALID_UTF8 = 27
    TIMEOUT_WAITING_FOR_TOOLS = 3000
    UNRECOGNIZED_COMMAND = 3001
    OP_NOT_SUPPORTED_ON_GUEST = 3003
    PROGRAM_NOT_STARTED = 3004
    HOST_USER_PERMISSIONS = 3014
    GUEST_USER_PERMISSIONS = 3015
    TOOLS_NOT_RUNNING = 3016
    GUEST_OPERATIONS_PROHIBITED = 3017
    CANNOT_AUTHENTICATE = 3024
    UNRECOGNIZED_COMMAND_IN_GUEST = 3025
    CONSOLE_GUEST_OPERATIONS_PROHIBITED = 3026
    MUST_BE_CONSOLE_USER = 3027
    OP_NOT_ALLOWED_FOR_LOGIN_TYPE = 3031
    LOGIN_TYPE_NOT_SUPPORTED = 3032
    EMPTY_PASSWORD_NOT_ALLOWED = 3033
    INTERACTIVE_SESSION_MISSING = 3034
    INTERACTIVE_SESSION_MISMATCH = 3035
    NOT_SUPPORTED_ON_NON_VMWARE_VM = 3038
    TOO_MANY_LOGONS = 3046
    INVALID_AUTHENTICATION_SESSION = 3047
    VI_OP_NOT_SUPPORTED_ON_GUEST = 3048
    INVALID_LOGIN_CREDENTIALS = 3050
    AUTH_TYPE_DISABLED = 3051
    INVALID_MESSAGE_HEADER = 10000
    INVALID_MESSAGE_BODY = 10001
    VOLUMES_NOT_FROZEN = 20000
    NOT_A_FILE = 20001
    NOT_A_DIRECTORY = 20002
    NO_SUCH_PROCESS = 20003
    FILE_NAME_TOO_LONG = 20004
    OPERATION_DISABLED = 20005
    DIRECTORY_NOT_EMPTY = 20006
    MULTIPLE_MAPPINGS = 20007
    HGFS_MOUNT_FAIL = 20050
    INCORRECT_REGISTRY_TYPE = 25000


class VixError(WireError):
    """A malformed message; ``code`` is what the guest answers (:class:`Code`)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class CommonFlag(IntFlag):
    """``flags`` of every message."""

    REQUEST = 0x01
    EVENT = 0x02
    FORWARD_TO_GUEST = 0x04
    RETURNS_STRING = 0x08
    RETURNS_INTEGER = 0x10
    RETURNS_PROPERTIES = 0x40
    RETURNS_BINARY = 0x80


class RequestFlag(IntFlag):
    """``request_flags`` of a request."""

    ONLY_RELOAD_NETWORKS = 0x01
    RETURN_ON_INITIATING_UPGRADE = 0x02
    RUN_IN_ANY_VMX_STATE = 0x04
    REQUIRES_INTERACTIVE = 0x08
    AUTH_DATA = 0x10
    REQUIRES_VMDB_NOTIFICATION = 0x20
    ESCAPE_XML = 0x40
    HASHED_SHARED_SECRET = 0x80
    VIGOR = 0x100


class ResponseFlag(IntFlag):
    """``response_flags`` of a response."""

    SOFT_POWER_OP = 0x01
    EXTENDED_RESULT = 0x02
    TRUNCATED = 0x04
    FSR = 0x08
    VMDB_NOTIFICATION_POSTED = 0x10
    VIGOR = 0x20


_COMMON = struct.Struct("<IHIIIIB")
_REQUEST = struct.Struct("<IIIQII")
_RESPONSE = struct.Struct("<QIIIII")
HEADER = _COMMON.size + _REQUEST.size
"""51 bytes, for requests and responses."""


@dataclass(frozen=True, slots=True)
class Request:
    """``op``: :class:`vmtools.wire.vixops.Op`; ``timeout``: seconds; ``auth``: 44 bytes where its flag is set."""

    op: int
    body: bytes = b""
    credential: bytes = field(default=b"", repr=False)
    credential_type: int = 0
    flags: int = CommonFlag.REQUEST | CommonFlag.FORWARD_TO_GUEST | CommonFlag.RETURNS_STRING
    request_flags: int = 0
    timeout: int = NO_TIMEOUT
    cookie: int = 0
    client: int = 0
    auth: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Response:
    """The binary answer, which TCLO does not use; ``error_size``: how much of what follows describes the error."""

    cookie: int
    error: int = 0
    additional_error: int = 0
    response_flags: int = 0
    duration: int = 0
    error_size: int = 0
    flags: int = 0
    body: bytes = b""
    credential: bytes = field(default=b"", repr=False)


def encode_request(request: Request) -> bytes:
    """The whole message; :raises WireError: too long, or a number is out of range."""
    if len(request.auth) != (AUTH_SIZE if request.request_flags & RequestFlag.AUTH_DATA else 0):
        raise WireError(f"{len(request.auth)} bytes of authentication data")
    numbers = request.op, request.request_flags, request.timeout, request.cookie, request.client
    header = pack(_REQUEST, *numbers, request.credential_type)
    return _message(request.flags, header, request.body, request.credential, request.auth)


def decode_request(message: bytes) -> Request:
    """The request at the front of ``message``; what follows it is not looked at.

    :raises VixError: malformed: its code is 10000.
    """
    reader, flags, sizes = _header(message)
    *numbers, credential_type = reader.unpack(_REQUEST)
    op, request_flags, timeout, cookie, client = numbers
    auth = AUTH_SIZE if request_flags & RequestFlag.AUTH_DATA else 0
    total, body, credential = sizes
    if total != HEADER + body + credential + auth:
        raise _bad_header("the total is not the sum of the parts")
    parts = reader.take(body), reader.take(credential), credential_type
    return Request(op, *parts, flags, request_flags, timeout, cookie, client, reader.take(auth))


def encode_response(response: Response) -> bytes:
    """The whole message; :raises WireError: too long, or a number is out of range."""
    errors = response.error, response.additional_error, response.error_size
    header = pack(_RESPONSE, response.cookie, response.response_flags, response.duration, *errors)
    return _message(response.flags, header, response.body, response.credential, b"")


def decode_response(message: bytes) -> Response:
    """The response; :raises VixError: malformed: its code is 10000."""
    reader, flags, (total, body, credential) = _header(message)
    cookie, response_flags, duration, error, additional, error_size = reader.unpack(_RESPONSE)
    if total != HEADER + body + credential:
        raise _bad_header("the total is not the sum of the parts")
    numbers = error, additional, response_flags, duration, error_size, flags
    return Response(cookie, *numbers, reader.take(body), reader.take(credential))


def _message(flags: int, header: bytes, body: bytes, credential: bytes, auth: bytes) -> bytes:
    total = at_most(HEADER + len(body) + len(credential) + len(auth), "bytes of a message", MAX_MESSAGE)
    common = pack(_COMMON, MAGIC, VERSION, total, HEADER, len(body), len(credential), flags)
    return common + header + body + credential + auth


def _header(message: bytes) -> tuple[Reader, int, tuple[int, int, int]]:
    """A reader behind the common header, the flags, and the sizes: total, body, credential."""
    if len(message) < HEADER:
        raise _bad_header(f"{len(message)} bytes are no header")
    reader = Reader(message)
    magic, version, total, header, body, credential, flags = reader.unpack(_COMMON)
    if (magic, version, header) != (MAGIC, VERSION, HEADER):
        raise _bad_header(f"magic {magic:#x}, version {version}, {header} bytes of header")
    if not HEADER + body + credential <= total <= min(len(message), MAX_MESSAGE):
        raise _bad_header(f"{total} bytes are announced, {len(message)} are there")
    return reader, flags, (total, body, credential)


def _bad_header(message: str) -> VixError:
    return VixError(Code.INVALID_MESSAGE_HEADER, message)


# -- TCLO --------------------------------------------------------------------------------------------------------------

RELAYED = b"Vix_1_Relayed_Command"
RUN_PROGRAM = b"Vix_1_Run_Program"
GET_PROPERTIES = b"Vix_1_Get_ToolsProperties"
MOUNT_VOLUMES = b"Vix_1_Mount_Volumes"
FREEZE = b"Vix_1_SyncDriver_Freeze"
THAW = b"Vix_1_SyncDriver_Thaw"
DONE = b"Run_Program_Done"

MAX_NAME = 256
"""Bytes of a request's name: our own limit."""


def quoted(arguments: bytes) -> tuple[bytes, bytes]:
    """The first quoted string and what follows it, as VMware's reader has it.

    What stands before the first quote is skipped, and the blanks after the last.  A backslash keeps the next character
    from ending the string, and stays.  Without an end, it is all the rest.
    """
    _, _, text = arguments.partition(b'"')
    at = 0
    while at < len(text) and text[at] != ord('"'):
        at += 2 if text[at] == ord("\\") else 1
    return text[:at], text[at + 1 :].lstrip(b" ")


def _quotable(label: bytes) -> bool:
    """Whether it comes out of quotes as it went in: escapes stay as they are."""
    return quoted(b'"%b"' % label) == (label, b"")


def encode_relayed(name: str, request: Request) -> bytes:
    """The TCLO message that carries ``request``; the guest may name it in later messages."""
    label = to_bytes(name, "the request's name", MAX_NAME)
    if not _quotable(label):
        raise WireError("the request's name has a quote, or ends in a backslash")
    return RELAYED + b' "' + label + b'"\0' + encode_request(request)


def decode_relayed(message: bytes) -> tuple[str, Request]:
    """Name and request; :raises VixError: malformed: its code is 10000."""
    head, nul, binary = message.partition(b"\0")
    command, blank, arguments = head.partition(b" ")
    name, _ = quoted(arguments)
    if command != RELAYED or not blank or not nul or len(name) > MAX_NAME or not _quotable(name):
        raise _bad_header("no relayed command")
    return name.decode("utf-8", "surrogateescape"), decode_request(binary)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the guest says after ``OK ``; ``error``: a :class:`Code`, in its low 16 bits; ``additional``: errno."""

    error: int
    additional: int = 0
    result: bytes = b""
    binary: bool = False
    """The request asked for a binary result (:attr:`CommonFlag.RETURNS_BINARY`)."""


def encode_answer(answer: Answer) -> bytes:
    """``error additional result NUL``, or with ``#`` and no NUL; :raises WireError: too long, out of range."""
    for value in (answer.error, answer.additional):
        if not 0 <= value < 1 << 64:
            raise WireError(f"an error of {value}")
    at_most(len(answer.result), "bytes of result", MAX_RESULT)
    head = b"%d %d " % (answer.error, answer.additional)
    if answer.binary:
        return head + b"#" + answer.result
    if b"\0" in answer.result:
        raise WireError("a NUL in the text of an answer")
    return head + answer.result + b"\0"


def decode_answer(text: bytes, *, binary: bool = False) -> Answer:
    """What follows ``OK ``; ``binary``: as the request asked; :raises WireError: it is no answer."""
    error, blank, rest = text.partition(b" ")
    additional, second, result = rest.partition(b" ")
    numbers = number(error, "the error", (1 << 64) - 1), number(additional.removesuffix(b"\0"), "errno", (1 << 64) - 1)
    if not blank or (binary and not second):
        raise WireError("no answer")
    if binary:
        if not result.startswith(b"#"):
            raise WireError("a binary answer without its #")
        return Answer(*numbers, _result(result[1:]), binary=True)
    result = result.removesuffix(b"\0")
    if b"\0" in result:
        raise WireError("a NUL in the text of an answer")
    return Answer(*numbers, _result(result))


def _result(data: bytes) -> bytes:
    at_most(len(data), "bytes of result", MAX_RESULT)
    return data


def encode_done(name: str, answer: Answer, exit_code: int, pid: int) -> bytes:
    """The RPCI message that a program has ended; ``answer``: error and errno of the run."""
    label = to_bytes(name, "the request's name", MAX_NAME)
    return DONE + b" %b %d %d %d %d\0" % (label, answer.error, answer.additional, exit_code, pid)
