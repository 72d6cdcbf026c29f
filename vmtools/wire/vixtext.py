"""VIX's codings of strings and credentials (specification 6.8.1 and 6.8.7).

They hide nothing: base64.  Encoded strings begin with ``a`` and have the byte 1 for ``=``, to be safe in quotes.
Credentials have neither: open-vm-tools 12.2 crashes on an escape there, although the specification allows it.
"""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import dataclass, field
from enum import IntEnum

from vmtools.wire import WireError
from vmtools.wire.bounded import Reader, from_bytes, pack, to_bytes

MAX_TEXT = 1 << 16
"""Bytes of a string before it is encoded: our own limit, that of a message."""

_MARK = b"a"
_ESCAPES = bytes.maketrans(b"\1\2\3\4\5\6\7", b"='\" \r\n\t")
_PAIR = struct.Struct("<II")
_WORD = struct.Struct("<I")


class CredentialType(IntEnum):
    """``credential_type`` of a request."""

    NONE = 0
    NAME_PASSWORD = 1
    ANONYMOUS = 2
    ROOT = 3
    NAME_PASSWORD_OBFUSCATED = 4
    CONSOLE_USER = 5
    HOST_CONFIG_SECRET = 6
    HOST_CONFIG_HASHED_SECRET = 7
    NAMED_INTERACTIVE_USER = 8
    TICKETED_SESSION = 9
    SSPI = 10
    SAML_BEARER = 11
    SAML_BEARER_HOST_VERIFIED = 12


@dataclass(frozen=True, slots=True)
class NamePassword:
    """A user's name and password."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SamlToken:
    """A token, and the user it is to stand for."""

    token: str = field(repr=False)
    user: str


@dataclass(frozen=True, slots=True)
class Ticket:
    """A session's ticket."""

    ticket: str = field(repr=False)


Credential = NamePassword | SamlToken | Ticket


def encode_string(text: str) -> bytes:
    """``text`` as an encoded string: ``a`` and its base64."""
    return _MARK + base64.b64encode(to_bytes(text, "a string", MAX_TEXT)).replace(b"=", b"\1")


def decode_string(data: bytes) -> str:
    """The text; :raises WireError: no ``a`` at the front (VIX error 3), no base64, a NUL within."""
    if not data.startswith(_MARK):
        raise WireError("an encoded string begins with 'a'")
    return from_bytes(_decode(data.removeprefix(_MARK).translate(_ESCAPES)), "an encoded string")


def obfuscate(credential: NamePassword) -> bytes:
    """``user NUL password NUL`` in base64, as ``Vix_1_Run_Program`` and credential areas have it."""
    return base64.b64encode(_two(credential.user, credential.password))


def reveal(data: bytes) -> NamePassword:
    """The inverse of :func:`obfuscate`; :raises WireError: it is none."""
    return NamePassword(*_apart(_decode(data)))


def encode_credential(credential: Credential) -> bytes:
    """A request's credential area; :raises WireError: a text is too long, or has a NUL."""
    match credential:
        case NamePassword(user, password):
            return _area(_two(user, password), len(_bytes(user)), len(_bytes(password)))
        case SamlToken(token, user):
            return _area(_two(token, user), len(_bytes(token)), len(_bytes(user)))
        case Ticket(ticket):
            return pack(_WORD, len(_bytes(ticket))) + _bytes(ticket) + b"\0"


def decode_credential(kind: int, area: bytes) -> Credential | None:
    """What a request's credential area holds; None for the kinds that have none.

    :raises WireError: it is not what ``kind`` promises.
    """
    match kind:
        case CredentialType.NAME_PASSWORD | CredentialType.NAME_PASSWORD_OBFUSCATED:
            return reveal(_encoded(area))
        case CredentialType.SAML_BEARER | CredentialType.SAML_BEARER_HOST_VERIFIED:
            return SamlToken(*_apart(_decode(_encoded(area))))
        case CredentialType.TICKETED_SESSION:
            reader = Reader(area)
            ticket = reader.take(int(reader.unpack(_WORD)[0]))
            if reader.take(reader.left) != b"\0":
                raise WireError("the ticket does not end in one NUL")
            return Ticket(from_bytes(ticket, "the ticket"))
    return None


def _bytes(text: str) -> bytes:
    return to_bytes(text, "a credential", MAX_TEXT)


def _two(first: str, second: str) -> bytes:
    return _bytes(first) + b"\0" + _bytes(second) + b"\0"


def _apart(data: bytes) -> tuple[str, str]:
    texts = data.split(b"\0")
    if len(texts) != 3 or texts[2]:
        raise WireError("credentials are two texts that end in a NUL each")
    return from_bytes(texts[0], "a credential"), from_bytes(texts[1], "a credential")


def _area(pair: bytes, first: int, second: int) -> bytes:
    # the sizes are those before the encoding; VMware's reader does not compare them
    return pack(_PAIR, first, second) + base64.b64encode(pair) + b"\0"


def _encoded(area: bytes) -> bytes:
    reader = Reader(area)
    reader.unpack(_PAIR)
    text, nul, rest = reader.take(reader.left).partition(b"\0")
    if not nul or rest:
        raise WireError("credentials end in one NUL")
    return text


def _decode(data: bytes) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise WireError(f"no base64: {error}") from None
