"""Hosts for the tests of the guest side: simulated ones to look into, and gates to tamper with."""

from __future__ import annotations

import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vmtools import errors
from vmtools._gate import Frame
from vmtools.backdoor import HIGH_IN, HIGH_OUT, LOW
from vmtools.constants import MASK32
from vmtools.sim.backdoor import Backdoor
from vmtools.sim.channels import Channels
from vmtools.sim.faults import FaultPlan
from vmtools.sim.inprocess import InProcessGate
from vmtools.sim.machine import Machine
from vmtools.sim.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vmtools.backdoor import Carrier

REGISTERS = ("ax", "bx", "cx", "dx", "si", "di", "bp")


class Exit(NamedTuple):
    """One exit: its form (LOW, HIGH_OUT, HIGH_IN), the registers before, the thread."""

    form: int
    ax: int
    bx: int
    cx: int
    dx: int
    si: int
    di: int
    bp: int
    thread: int

    @property
    def kind(self) -> int:
        """The type of a low-bandwidth message call."""
        return self.cx >> 16


def nothing(number: int, frame: Frame) -> None:
    """Tamper with nothing."""


class Tap:
    """A gate in front of a gate: keeps each exit, and calls ``before`` and ``after`` with its number, from 1 on."""

    name = "tap"

    def __init__(
        self,
        inner: Carrier,
        *,
        before: Callable[[int, Frame], None] = nothing,
        after: Callable[[int, Frame], None] = nothing,
    ) -> None:
        self.inner = inner
        self.before = before
        self.after = after
        self.exits: list[Exit] = []

    def low(self, frame: Frame) -> None:
        number = self._count(LOW, frame)
        self.inner.low(frame)
        self.after(number, frame)

    def high_out(self, frame: Frame, data: bytes) -> None:
        number = self._count(HIGH_OUT, frame)
        self.inner.high_out(frame, data)
        self.after(number, frame)

    def high_in(self, frame: Frame, buffer: bytearray) -> None:
        number = self._count(HIGH_IN, frame)
        self.inner.high_in(frame, buffer)
        self.after(number, frame)

    def unanswered(self) -> errors.GateError:
        return self.inner.unanswered()

    def _count(self, form: int, frame: Frame) -> int:
        registers = (frame.ax, frame.bx, frame.cx, frame.dx, frame.si, frame.di, frame.bp)
        self.exits.append(Exit(form, *registers, threading.get_ident()))
        number = len(self.exits)
        self.before(number, frame)
        return number


class Answering:
    """A gate whose host is one function: form, frame, what goes out or room for what comes in."""

    name = "answering"

    def __init__(self, answer: Callable[[int, Frame, bytes | bytearray], None]) -> None:
        self.answer = answer

    def low(self, frame: Frame) -> None:
        self.answer(LOW, frame, b"")

    def high_out(self, frame: Frame, data: bytes) -> None:
        self.answer(HIGH_OUT, frame, data)

    def high_in(self, frame: Frame, buffer: bytearray) -> None:
        self.answer(HIGH_IN, frame, buffer)

    def unanswered(self) -> errors.GateError:
        return errors.NoDevice("nobody answers here")


class Host:
    """A simulated machine whose RPCI answer the test chooses; ``requests`` is what it was asked.

    :param reply: the whole reply (``1 value``) to each request, or what makes it from the request; None: RPCI as the
        machine speaks it.
    :param faults: as :class:`vmtools.sim.faults.FaultPlan` takes them; ``slow`` ones only note their seconds.
    """

    def __init__(
        self,
        reply: bytes | Callable[[bytes], bytes] | None = b"1 ok",
        *,
        high: bool = True,
        faults: Iterable[str] = (),
        max_message: int = 65536,
    ) -> None:
        self.requests: list[bytes] = []
        self.slept: list[float] = []
        self.machine = Machine(high_bandwidth=high, max_message=max_message, handshake=False)
        channels = None if reply is None else Channels(self.machine, self._answer)
        self._reply = reply
        self.backdoor = Backdoor(
            self.machine,
            channels=channels,
            faults=FaultPlan(faults, sleep=self.slept.append) if faults else None,
        )
        self.gate = Tap(InProcessGate(self.backdoor))

    def _answer(self, request: bytes) -> bytes:
        self.requests.append(request)
        return self._reply(request) if callable(self._reply) else self._reply or b""

    @property
    def exits(self) -> int:
        return len(self.gate.exits)

    @property
    def open_channels(self) -> int:
        return len(self.backdoor.channels.open_channels)


def set_registers(frame: Frame, values: Iterable[int]) -> None:
    for name, value in zip(REGISTERS, values, strict=True):
        setattr(frame, name, value)


def put_low(frame: Frame, **values: int) -> None:
    """Write the low halves of registers, as hosts do."""
    for name, value in values.items():
        setattr(frame, name, getattr(frame, name) & ~MASK32 | value & MASK32)


@contextmanager
def serving(backdoor: Backdoor) -> Iterator[str]:
    """The path of a socket where a real server serves ``backdoor``; short, whatever the test is called."""
    with tempfile.TemporaryDirectory(prefix="vmtools") as folder:
        path = str(Path(folder) / "host")
        with Server(path, backdoor) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield path
            finally:
                server.stop()
                thread.join(20)
                assert not thread.is_alive()
