"""The backdoor: a register frame in, one out.

:class:`Backdoor` issues single commands; :func:`carry_out` walks a protocol's exchanges (see :mod:`vmtools.message`)
over a gate.  Registers: specification of the backdoor, "Register ABI" and "Commands".
"""

from __future__ import annotations

from time import monotonic, sleep

from . import errors
from ._gate import Frame
from .constants import MAGIC, MASK32, PRODUCTS, UNSUPPORTED, Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Literal, Protocol, TypeAlias, TypeVar

    class Carrier(Protocol):
        """What carries a frame to a host: any of :mod:`vmtools.gates`, a simulated host in this process, a test."""

        name: str

        def low(self, frame: Frame) -> None: ...
        def high_out(self, frame: Frame, data: bytes) -> None: ...
        def high_in(self, frame: Frame, buffer: bytearray) -> None: ...
        def unanswered(self) -> errors.GateError: ...

    Result = TypeVar("Result")
    Step: TypeAlias = (
        tuple[Literal[0], Frame, None]
        | tuple[Literal[1], Frame, bytes]
        | tuple[Literal[2], Frame, bytearray]
        | tuple[Literal[3], None, float]
    )
    Steps: TypeAlias = Generator[Step, None, Result]

LOW: Literal[0] = 0
"""A low-bandwidth call: ``(LOW, frame, None)``."""

HIGH_OUT: Literal[1] = 1
"""A high-bandwidth call to the host: ``(HIGH_OUT, frame, data)``."""

HIGH_IN: Literal[2] = 2
"""A high-bandwidth call from the host: ``(HIGH_IN, frame, buffer)``."""

PAUSE: Literal[3] = 3
"""Nothing for a while: ``(PAUSE, None, seconds)``."""

_UNSET = 0xFFFF
"""High word of ECX in GETVERSION: a host that knows no product type leaves it."""


def carry_out(
    gate: Carrier,
    steps: Steps[Result],
    *,
    deadline: float | None = None,
    pause: Callable[[float], None] = sleep,
) -> Result:
    """Carry out a protocol's steps over a gate and return its result.

    :param deadline: a value of :func:`time.monotonic` after which no further step is begun.
    :raises ChannelLost: the deadline passed.
    """
    try:
        while True:
            step = next(steps)
            if deadline is not None and monotonic() > deadline:
                raise errors.ChannelLost("the host did not finish within the time allowed")
            if step[0] == LOW:
                gate.low(step[1])
            elif step[0] == HIGH_OUT:
                gate.high_out(step[1], step[2])
            elif step[0] == HIGH_IN:
                gate.high_in(step[1], step[2])
            else:
                pause(step[2])
    except StopIteration as stop:
        result: Result = stop.value
        return result
    finally:
        steps.close()


class Version:
    """``version``: 6 on every host seen; ``product``: a key of :data:`vmtools.constants.PRODUCTS`, 0 where unset."""

    __slots__ = ("product", "version")

    def __init__(self, version: int, product: int) -> None:
        self.version = version
        self.product = product

    @property
    def product_name(self) -> str:
        return PRODUCTS.get(self.product, f"product {self.product}")


class Backdoor:
    """Single commands over a gate."""

    __slots__ = ("gate",)

    def __init__(self, gate: Carrier) -> None:
        self.gate = gate

    def call(self, command: int, argument: int = 0, *, sub: int = 0) -> Frame:
        """One command, answered in a frame whose registers carry 32 bits.

        :param argument: EBX.
        :param sub: high word of ECX, the sub-command.
        :raises GateError: the host can't be reached.
        """
        frame = Frame(ax=MAGIC, bx=argument, cx=sub << 16 | command)
        self.gate.low(frame)
        for register in ("ax", "bx", "cx", "dx", "si", "di"):
            setattr(frame, register, getattr(frame, register) & MASK32)
        return frame

    def version(self) -> Version:
        """GETVERSION, the knock: EBX must come back as the magic, which no echo and no empty port gives.

        :raises GateError: nobody answers; the class says why.
        """
        frame = self.call(Command.GETVERSION, ~MAGIC & MASK32, sub=_UNSET)
        if frame.ax == UNSUPPORTED or frame.bx != MAGIC:
            raise self.gate.unanswered()
        return Version(frame.ax, 0 if frame.cx >> 16 == _UNSET else frame.cx)
