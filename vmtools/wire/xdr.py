"""XDR (RFC 4506) within its bounds: the pieces that VMware's records are made of.

Everything is big endian in units of four bytes.  Padding must be zero, a boolean 0 or 1: what no XDR library sends is
refused.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeVar

from vmtools.wire import WireError
from vmtools.wire.bounded import Reader, at_most, from_bytes, pack, to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

_I32 = struct.Struct(">i")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")


class XdrReader(Reader):
    """Takes XDR values off the front; every method raises :class:`WireError` for what is none."""

    __slots__ = ()

    def i32(self) -> int:
        """An int or an enum."""
        return int(self.unpack(_I32)[0])

    def u32(self) -> int:
        return int(self.unpack(_U32)[0])

    def u64(self) -> int:
        """An unsigned hyper."""
        return int(self.unpack(_U64)[0])

    def boolean(self) -> bool:
        value = self.u32()
        if value > 1:
            raise WireError(f"a boolean is {value}")
        return bool(value)

    def opaque(self, limit: int, what: str = "opaque data") -> bytes:
        """Variable-length opaque data of at most ``limit`` bytes."""
        size = at_most(self.u32(), f"bytes of {what}", limit)
        data = self.take(size)
        if any(self.take(-size % 4)):
            raise WireError(f"the padding of {what} is not zero")
        return data

    def string(self, limit: int, what: str) -> str:
        """A string of at most ``limit`` bytes."""
        return from_bytes(self.opaque(limit, what), what)

    def optional(self, take: Callable[[], T]) -> T | None:
        """An optional value (XDR writes ``*``), taken by ``take`` if present."""
        return take() if self.boolean() else None

    def array(self, limit: int, what: str, take: Callable[[], T]) -> tuple[T, ...]:
        """A variable-length array of at most ``limit`` items, each taken by ``take``."""
        count = at_most(self.u32(), what, limit)
        return tuple([take() for _ in range(count)])


class XdrWriter:
    """Collects XDR values; every method raises :class:`WireError` for what can't be written."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def written(self) -> bytes:
        """All of it."""
        return b"".join(self._parts)

    def i32(self, value: int) -> None:
        self._parts.append(pack(_I32, value))

    def u32(self, value: int) -> None:
        self._parts.append(pack(_U32, value))

    def u64(self, value: int) -> None:
        self._parts.append(pack(_U64, value))

    def boolean(self, value: bool) -> None:
        self.u32(1 if value else 0)

    def opaque(self, data: bytes, limit: int, what: str = "opaque data") -> None:
        self.u32(at_most(len(data), f"bytes of {what}", limit))
        self._parts.append(data + bytes(-len(data) % 4))

    def string(self, text: str, limit: int, what: str) -> None:
        self.opaque(to_bytes(text, what, limit), limit, what)

    def optional(self, value: T | None, put: Callable[[T], None]) -> None:
        self.boolean(value is not None)
        if value is not None:
            put(value)

    def array(self, values: Sequence[T], limit: int, what: str, put: Callable[[T], None]) -> None:
        self.u32(at_most(len(values), what, limit))
        for value in values:
            put(value)
