"""Structure out of the fuzzer's bytes: every input means something, a shorter one means less."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

Item = TypeVar("Item")


def says_why(error: Exception) -> None:
    """:raises AssertionError: an error of ours that leaves its reader without a word."""
    assert str(error)


class Source:
    """Takes values off the front of ``data``; past the end everything is 0, empty, the first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def empty(self) -> bool:
        return self._at >= len(self._data)

    def take(self, size: int) -> bytes:
        """Up to ``size`` bytes."""
        piece = self._data[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def rest(self) -> bytes:
        return self.take(len(self._data))

    def number(self, size: int) -> int:
        """Of ``size`` bytes, little endian."""
        return int.from_bytes(self.take(size), "little")

    def byte(self) -> int:
        return self.number(1)

    def flag(self) -> bool:
        return bool(self.byte() & 1)

    def below(self, limit: int) -> int:
        return self.byte() % limit

    def choice(self, items: Sequence[Item]) -> Item:
        return items[self.below(len(items))]

    def text(self, longest: int = 255) -> bytes:
        """A byte for the length, then so many."""
        return self.take(self.byte() % (longest + 1))
