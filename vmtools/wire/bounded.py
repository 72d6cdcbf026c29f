"""Reading and writing bytes within their bounds: what all layouts here share."""

from __future__ import annotations

import struct
from typing import Any

from vmtools.wire import WireError


class Reader:
    """Takes pieces off the front of ``data``; every taker raises :class:`WireError` where less is left."""

    __slots__ = ("_at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes not taken yet."""
        return len(self.data) - self._at

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        if not 0 <= size <= self.left:
            raise WireError(f"{size} bytes are announced at offset {self._at}; {self.left} are left")
        self._at += size
        return self.data[self._at - size : self._at]

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """The values of ``layout``, which the next bytes hold."""
        return layout.unpack(self.take(layout.size))

    def end(self) -> None:
        """:raises WireError: something is left."""
        if self.left:
            raise WireError(f"{self.left} bytes follow the end, at offset {self._at}")


def pack(layout: struct.Struct, *values: object) -> bytes:
    """``layout.pack``; :raises WireError: a value is out of the range of its field."""
    try:
        return layout.pack(*values)
    except struct.error as error:
        raise WireError(f"out of range: {error}") from None


def to_bytes(text: str, what: str, limit: int) -> bytes:
    """Text as a C program sends it; :raises WireError: over ``limit`` bytes, has a NUL, or can't be encoded."""
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise WireError(f"{what}: {error.reason}") from None
    if len(data) > limit:
        raise WireError(f"{what} has {len(data)} bytes; at most {limit} are allowed")
    if b"\0" in data:
        raise WireError(f"{what} has a NUL in it")
    return data


def from_bytes(data: bytes, what: str) -> str:
    """The text in ``data``; :raises WireError: it has a NUL, which no C program would see behind."""
    if b"\0" in data:
        raise WireError(f"{what} has a NUL in it")
    return data.decode("utf-8", "surrogateescape")


def to_field(text: str, what: str, size: int) -> bytes:
    """A C array ``char[size]``: the text, then NULs, at least one; :raises WireError: it does not fit."""
    return to_bytes(text, what, size - 1).ljust(size, b"\0")


def from_field(data: bytes, what: str) -> str:
    """The text of a C array, up to its NUL; what follows that may be anything; :raises WireError: there is no NUL."""
    text, nul, _ = data.partition(b"\0")
    if not nul:
        raise WireError(f"{what} has no NUL in its {len(data)} bytes")
    return from_bytes(text, what)


def number(digits: bytes, what: str, limit: int) -> int:
    """An unsigned decimal; :raises WireError: it is none, or over ``limit``.  Its length is checked first."""
    if not digits.isdigit() or len(digits) > len(str(limit)) or int(digits) > limit:
        raise WireError(f"{what} is no number up to {limit}")
    return int(digits)


def at_most(count: int, what: str, limit: int) -> int:
    """``count``; :raises WireError: more than ``limit``."""
    if count > limit:
        raise WireError(f"{count} {what}; at most {limit} are allowed")
    return count
