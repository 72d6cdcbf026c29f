"""OS_DETAILED, class 11: the guest's two names and a list of ``key='value'`` (specification 5.8)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vmtools.wire import WireError
from vmtools.wire.bounded import Reader, from_bytes, from_field, pack, to_bytes, to_field

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1
SHORT_NAME = 129
FULL_NAME = 513
"""Bytes of the two names' arrays, the NULs included."""

MAX_VALUE = 1024
MAX_DETAILS = 1 << 15
"""Bytes of the whole list: well over what the ten known keys can fill."""

KEYS = (
    "architecture",
    "bitness",
    "buildNumber",
    "cpeString",
    "distroAddlVersion",
    "distroName",
    "distroVersion",
    "familyName",
    "kernelVersion",
    "prettyName",
)
"""The keys that guests send; a decoder takes others too."""

_HEADER = struct.Struct(f"<I{SHORT_NAME}s{FULL_NAME}s2x")
_KEY = re.compile(rb"[A-Za-z0-9_.-]{1,64}")
_DETAIL = re.compile(rb"(%b)='((?:[^'\\]|\\.)*)'(?: (?!\Z)|\Z)" % _KEY.pattern, re.DOTALL)
_SPECIAL = re.compile(rb"(['\\])")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_SPACE = b" \t\n\v\f\r"


@dataclass(frozen=True, slots=True)
class OsDetail:
    """``short_name``: the guest id, as ``debian12-64``; ``details``: value by key (:data:`KEYS`)."""

    short_name: str
    full_name: str
    details: Mapping[str, str] = field(default_factory=dict)


def encode(detail: OsDetail) -> bytes:
    """The payload of class 11; :raises WireError: a name or value is too long, a key is none."""
    short = to_field(detail.short_name, "the short name", SHORT_NAME)
    full = to_field(detail.full_name, "the full name", FULL_NAME)
    return pack(_HEADER, VERSION, short, full) + encode_details(detail.details) + b"\0"


def decode(payload: bytes) -> OsDetail:
    """The payload of class 11; :raises WireError: it is none."""
    reader = Reader(payload)
    version, short, full = reader.unpack(_HEADER)
    if version != VERSION:
        raise WireError(f"an OS record of version {version}; {VERSION} is known")
    text = reader.take(reader.left)
    if not text.endswith(b"\0"):
        raise WireError("the OS details have no NUL at their end")
    names = from_field(short, "the short name"), from_field(full, "the full name")
    return OsDetail(*names, decode_details(text[:-1]))


def encode_details(details: Mapping[str, str]) -> bytes:
    """The list, by key; white space at the end of a value is dropped, and so is a value that is empty then.

    :raises WireError: a value or the list is too long, or a key is none.
    """
    parts = []
    for key, value in sorted(details.items()):
        name = to_bytes(key, "a key", MAX_VALUE)
        if not _KEY.fullmatch(name):
            raise WireError(f"{key!r} is no key")
        data = to_bytes(value, key, MAX_VALUE).rstrip(_SPACE)
        if data:
            parts.append(name + b"='" + _SPECIAL.sub(rb"\\\1", data) + b"'")
    text = b" ".join(parts)
    if len(text) > MAX_DETAILS:
        raise WireError(f"the OS details have {len(text)} bytes; at most {MAX_DETAILS} are allowed")
    return text


def decode_details(text: bytes) -> dict[str, str]:
    """Value by key, less what :func:`encode_details` drops.

    :raises WireError: it is no such list, a key comes twice, a value is too long.
    """
    if len(text) > MAX_DETAILS:
        raise WireError(f"the OS details have {len(text)} bytes; at most {MAX_DETAILS} are allowed")
    details: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _DETAIL.match(text, at)
        if match is None:
            raise WireError(f"no key='value' at offset {at} of the OS details")
        key, value = match[1].decode("ascii"), _ESCAPED.sub(rb"\1", match[2])
        if key in details or len(value) > MAX_VALUE:
            raise WireError(f"{key} comes twice, or has more than {MAX_VALUE} bytes")
        details[key] = from_bytes(value.rstrip(_SPACE), key)
        at = match.end()
    return {key: value for key, value in sorted(details.items()) if value}
