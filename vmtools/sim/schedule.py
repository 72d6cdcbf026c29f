"""What is to happen at a time: pings, the steps of a script.

Nobody waits here.  Whoever serves an exit, and the server's loop, calls :meth:`Schedule.run` when something is due: a
guest notices what its host did at its next exit, not before.
"""

from __future__ import annotations

import heapq
import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Schedule:
    """Actions by time; ``due``: when the next is, infinite where there is none."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.monotonic = monotonic
        self.due = math.inf
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Call ``action`` in so many seconds; those of one moment in the order of the calls."""
        self._count += 1
        heapq.heappush(self._heap, (self.monotonic() + seconds, self._count, action))
        self.due = self._heap[0][0]

    def run(self) -> None:
        """Do what is due; what that schedules for now waits for the next time."""
        now, last = self.monotonic(), self._count
        later: list[tuple[float, int, Callable[[], None]]] = []
        while self._heap and self._heap[0][0] <= now:
            entry = heapq.heappop(self._heap)
            if entry[1] > last:
                later.append(entry)
            else:
                self.due = math.inf  # an action that causes another exit must not find itself due again
                entry[2]()
        for entry in later:
            heapq.heappush(self._heap, entry)
        self.due = self._heap[0][0] if self._heap else math.inf

    def left(self) -> float | None:
        """Seconds until the next is due; None: there is none."""
        return None if self.due == math.inf else max(0.0, self.due - self.monotonic())
