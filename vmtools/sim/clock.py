"""The host's clock, and the guest's idea of time beside it.

Three times run side by side.  The *time of day* is what GETTIME and its kin tell; it may be off from this computer's,
drift, and be set.  *Real time* is the host's nanosecond counter (RDPMC 0x10001): it drifts alike and is never set.
*Apparent time* is the guest's (RDPMC 0x10002): it stands still while the virtual machine is suspended or on its way to
another host, so after a leap it is behind by as much.

All three are read off the kernel's raw monotonic clock: a guest program that runs as root and corrects "its" clock
corrects this computer's, and the host's must not move with it.
"""

from __future__ import annotations

import math
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

NANO = 1_000_000_000
MAX_PPM = 100_000.0
"""The largest drift, in parts per million: a tenth; real clocks have less than a hundred."""

MAX_SECONDS = 1 << 40
"""The largest shift, and the latest time of day: 35,000 years."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)(ms|s|m|h|d|)")


class ClockError(ValueError):
    """No time, or one that no clock can show; ``str()`` says why."""


def raw_monotonic() -> int:
    """This computer's nanoseconds that nobody can set or slew."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)


def duration(text: str) -> float:
    """Seconds of ``90s``, ``1.5m``, ``250ms``, ``2h``, ``1d``, ``7``; :raises ClockError: it is no duration."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ClockError(f"{text!r} is no duration such as 90s, 250ms, 5m, 2h or 1d")
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > MAX_SECONDS:
        raise ClockError(f"{text!r} is too long")
    return seconds


class HostClock:
    """The clock of one host.

    :param wall: the time of day to begin with, in nanoseconds since 1970.
    :param monotonic: nanoseconds of elapsed time.
    """

    def __init__(self, *, wall: Callable[[], int] = time.time_ns, monotonic: Callable[[], int] = raw_monotonic) -> None:
        self._monotonic = monotonic
        self._anchor = self._real = monotonic()
        self._wall = wall()
        self._ppb = 0
        self._absent = 0
        """Nanoseconds for which the guest did not run."""

    @property
    def drift_ppm(self) -> float:
        """How much faster than this computer's the host's clock runs, in parts per million."""
        return self._ppb / 1000

    @drift_ppm.setter
    def drift_ppm(self, ppm: float) -> None:
        if not (math.isfinite(ppm) and abs(ppm) <= MAX_PPM):
            raise ClockError(f"a drift of {ppm} ppm; at most {MAX_PPM:.0f} either way")
        now = self._monotonic()
        passed = self._passed(now)
        self._wall, self._real, self._anchor = self._wall + passed, self._real + passed, now
        self._ppb = round(ppm * 1000)

    def now(self) -> int:
        """The time of day: nanoseconds since 1970."""
        return self._wall + self._passed(self._monotonic())

    def real(self) -> int:
        """The host's real time in nanoseconds, from an arbitrary start."""
        return self._real + self._passed(self._monotonic())

    def apparent(self) -> int:
        """The guest's time in nanoseconds: real time at the guest's own pace, without what it missed."""
        return self._monotonic()

    def shift(self, seconds: float) -> None:
        """Set the time of day on or back; :raises ClockError: that would be before 1970, or too late."""
        if not math.isfinite(seconds):
            raise ClockError("no number of seconds")
        change = round(seconds * NANO)
        if not 0 <= self.now() + change <= MAX_SECONDS * NANO:
            raise ClockError(f"{seconds:+g} s from now is before 1970, or too far off")
        self._wall += change

    def set(self, seconds: float) -> None:
        """Set the time of day to so many seconds since 1970; :raises ClockError: as :meth:`shift`."""
        self.shift(seconds - self.now() / NANO)

    def leap(self, seconds: float) -> None:
        """The guest misses so much of the host's time; :raises ClockError: less than nothing, or too much."""
        if not 0 <= seconds <= MAX_SECONDS:
            raise ClockError("a guest can only miss time that has passed")
        self.shift(seconds)
        self._real += round(seconds * NANO)
        self._absent += round(seconds * NANO)

    def adjust(self, text: str) -> None:
        """``+90s`` and ``-5m`` shift the time of day, ``@2026-01-01T12:00:00Z`` sets it (UTC where it names no zone).

        :raises ClockError: it is none of these, or out of range.
        """
        text = text.strip()
        if text[:1] in ("+", "-"):
            self.shift(duration(text[1:]) * (1 if text[0] == "+" else -1))
        elif text.startswith("@"):
            try:
                moment = datetime.fromisoformat(text[1:])
            except ValueError:
                raise ClockError(f"{text!r} is no time such as @2026-01-01T12:00:00Z") from None
            self.set((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
        else:
            raise ClockError(f"{text!r} is none of +90s, -5m, @2026-01-01T12:00:00Z")

    def status(self) -> dict[str, float | str]:
        """For the status: the time of day, the shift from this computer's in seconds, the drift, the time missed."""
        now = self.now()
        return {
            "now": datetime.fromtimestamp(now // NANO, UTC).isoformat() if now < 10**20 else f"{now // NANO} s",
            "offset": round((now - time.time_ns()) / NANO, 3) + 0.0,  # no -0
            "drift_ppm": self.drift_ppm,
            "missed": self._absent / NANO,
        }

    def _passed(self, monotonic: int) -> int:
        passed = monotonic - self._anchor
        return passed + passed * self._ppb // NANO
