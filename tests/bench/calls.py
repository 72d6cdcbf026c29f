"""Our own time in a call, outside the exits: the library on a gate that answers in place."""

from __future__ import annotations

import time
from itertools import cycle
from typing import TYPE_CHECKING

from vmtools import Rpci
from vmtools._gate import Frame
from vmtools.constants import Message, Status
from vmtools.errors import GateError, NoDevice

from .figures import Figure, Section, median

if TYPE_CHECKING:
    from pathlib import Path

TITLE = "Our own time per call"
HOW = (
    "info-get on an open channel; each exit is a Python method that sets three registers from a constant; "
    "medians of 15 x 5000 calls"
)

REQUEST = b"info-get guestinfo.hello"
REPLY = b"1 world"
CALLS = 5000
REPEATS = 15

OK = (Status.SUCCESS | Status.HB) << 16
ANSWERS = [
    (0, OK, 0),  # SENDSIZE
    (Status.SUCCESS << 16, 0, 0),  # high-bandwidth out
    (len(REPLY), OK | Status.DORECV << 16, Message.SENDSIZE << 16),  # RECVSIZE
    (Status.SUCCESS << 16, 0, 0),  # high-bandwidth in
    (0, OK, 0),  # RECVSTATUS
]
"""EBX, ECX, EDX of each exit of a call."""


class NullGate:
    """Answers without a host: OPEN once, then the exits of a call, over and over."""

    name = "null"

    def __init__(self) -> None:
        self._answers = cycle(ANSWERS)
        self._open = False

    def low(self, frame: Frame) -> None:
        if not self._open:
            self._open = True
            frame.cx = OK
            return
        frame.bx, frame.cx, frame.dx = next(self._answers)

    def high_out(self, frame: Frame, data: bytes) -> None:
        frame.bx, frame.cx, frame.dx = next(self._answers)

    def high_in(self, frame: Frame, buffer: bytearray) -> None:
        buffer[:] = REPLY
        frame.bx, frame.cx, frame.dx = next(self._answers)

    def unanswered(self) -> GateError:
        return NoDevice("the null gate always answers")


def whole() -> float:
    """Microseconds of a call, the gate's own included."""
    rpci = Rpci(NullGate())
    if rpci.call(REQUEST) != REPLY[2:]:
        raise RuntimeError("the null gate gives a wrong answer")
    call = rpci.call
    start = time.perf_counter()
    for _ in range(CALLS):
        call(REQUEST)
    return (time.perf_counter() - start) / CALLS * 1e6


def gate_alone() -> float:
    """Microseconds of the gate's five answers, called by nothing but a loop."""
    gate, frame, buffer = NullGate(), Frame(), bytearray(len(REPLY))
    gate.low(frame)
    start = time.perf_counter()
    for _ in range(CALLS):
        gate.low(frame)
        gate.high_out(frame, REQUEST)
        gate.low(frame)
        gate.high_in(frame, buffer)
        gate.low(frame)
    return (time.perf_counter() - start) / CALLS * 1e6


def measure(folder: Path) -> Section:
    pairs = [(whole(), gate_alone()) for _ in range(REPEATS)]
    return Section(
        TITLE,
        HOW,
        [
            Figure("a call, less the gate's own time", median(a - b for a, b in pairs), "us", at_most=10),
            Figure("a call, the null gate's time included", median(a for a, _ in pairs), "us"),
            Figure("the null gate's own time for five exits", median(b for _, b in pairs), "us"),
        ],
    )
