"""The tools' version as one number: ``(major << 10) + (minor << 5) + base`` (specification 5.3)."""

from __future__ import annotations

from typing import NamedTuple

from vmtools.wire import WireError

UNMANAGED = 0x7FFFFFFF
"""Said instead of a version by tools that the host is not to upgrade."""

_FIELD = 32
"""Values of the minor number and of the base."""


class Version(NamedTuple):
    """``12.2.0`` is ``Version(12, 2, 0)``; compares as versions do."""

    major: int
    minor: int
    base: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.base}"


def encode(version: Version | None) -> int:
    """The number, :data:`UNMANAGED` for None; :raises WireError: a part is out of its range."""
    if version is None:
        return UNMANAGED
    major, minor, base = version
    value = (major << 10) + (minor << 5) + base
    if not (0 <= minor < _FIELD and 0 <= base < _FIELD and 0 <= value < UNMANAGED):
        raise WireError(f"{version} is no version: minor and base go from 0 to {_FIELD - 1}")
    return value


def decode(number: int) -> Version | None:
    """The version; None for :data:`UNMANAGED`; :raises WireError: out of range."""
    if not 0 <= number <= UNMANAGED:
        raise WireError(f"{number} is no version number")
    if number == UNMANAGED:
        return None
    return Version(number >> 10, number >> 5 & _FIELD - 1, number & _FIELD - 1)
