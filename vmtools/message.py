"""The GuestRPC message channel, guest half: a sequence of register frames, and no line that knows who carries them.

A :class:`Channel` is the state that OPEN gave; its methods are generators that yield the steps of
:mod:`vmtools.backdoor` and read the answer from the frame that they yielded, which whoever carries out the step changes
in place.  Each fault can therefore be put at each step by a test.

What the host says is checked as if it were hostile:

* A status counts only if its SUCCESS bit is set.  A host without the command leaves ECX alone, and then the "status" is
  the type that we sent: OPEN (0) fails as it should, but SENDSIZE (1), RECVSIZE (3) and RECVSTATUS (5) look like
  success, so no answer is looked at unless OPEN succeeded (EAX not all ones, SUCCESS set).
* RECVSIZE goes out with EBX all ones, a size that no host can mean: with our command still in ECX it is an echo.
* A size is believed up to the caller's limit, a type only if it is the expected one.  What we reject, the host is told
  (EBX 0).
* A checkpoint (the virtual machine was snapshotted, suspended or moved) may hit any step and restarts that transfer,
  a bounded number of times and slower each time.

Source: specification of the protocol, "Message channel"; of the hypercalls, "MESSAGE wire facts" and "Traps".
"""

from __future__ import annotations

from . import errors
from ._gate import Frame
from .backdoor import HIGH_IN, HIGH_OUT, LOW, PAUSE
from .constants import HB_MESSAGE, MAGIC, MASK32, OPEN_COOKIE, UNSUPPORTED, Command, Message, Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .backdoor import Steps

RESTARTS = 32
"""How many checkpoints one transfer survives; Linux' vmwgfx gives up after 3, open-vm-tools never."""

_PAUSES = (0.0, *[min(0.001 * 2**n, 0.1) for n in range(RESTARTS - 1)])
"""Seconds before the nth restart: the first at once, then 1 ms doubling to 100 ms; 2.8 s in all."""

_ACCEPTED = 1
_REJECTED = 0
_HIGH_WORD = 0xFFFF0000
_IMPOSSIBLE_SIZE = MASK32
_TYPES = ("OPEN", "SENDSIZE", "SENDPAYLOAD", "RECVSIZE", "RECVPAYLOAD", "RECVSTATUS", "CLOSE")


class Channel:
    """One channel: its id and cookie once :meth:`opening` has run, nothing before and after.

    ``is_open`` stays true until :meth:`closing` has run, whatever goes wrong in between: who opened it closes it, and
    closing twice does no harm.  ``arrived`` tells whether the host may have got the whole of the last message sent.
    ``id`` is kept where EDX wants it, in the high word.  ``high_bandwidth``: what the host last offered when we sent.
    """

    __slots__ = ("arrived", "cookie_high", "cookie_low", "high_bandwidth", "id", "is_open", "protocol")

    def __init__(self, protocol: int) -> None:
        self.protocol = protocol
        self.is_open = False
        self.arrived = False
        self.high_bandwidth = False
        self.id = 0
        self.cookie_high = 0
        self.cookie_low = 0

    def opening(self) -> Steps[None]:
        """OPEN with a cookie, else without, as old hosts want it.

        :raises NoMessageChannel: the host has no channel for us, or knows no messages.
        :raises CheckpointStorm: see :data:`RESTARTS`.
        """
        for flag in (OPEN_COOKIE, 0):
            for restart in range(RESTARTS + 1):
                if restart:
                    yield PAUSE, None, _PAUSES[restart - 1]
                frame = Frame(ax=MAGIC, bx=self.protocol | flag, cx=Message.OPEN << 16 | Command.MESSAGE)
                try:
                    yield LOW, frame, None
                finally:
                    # Also on the way out of an interrupt that struck after the host had answered.  No call stands in
                    # these lines: it is at calls that the interpreter looks for interrupts.
                    if frame.ax & MASK32 != UNSUPPORTED and frame.cx >> 16 & Status.SUCCESS:
                        self.id = frame.dx & _HIGH_WORD
                        self.cookie_high = frame.si & MASK32
                        self.cookie_low = frame.di & MASK32
                        self.is_open = True
                if self.is_open:
                    return
                if not _status(frame) & Status.CPT or frame.ax & MASK32 == UNSUPPORTED:
                    break
            else:
                raise _storm("OPEN")
        raise errors.NoMessageChannel("the host opened no message channel")

    def sending(self, data: bytes) -> Steps[None]:
        """Send one message; an empty one is a single SENDSIZE, the poll of TCLO.

        :raises ChannelLost: the host did not take it; ``arrived`` as in the class.
        :raises CheckpointStorm: see :data:`RESTARTS`.
        """
        size = len(data)
        for restart in range(RESTARTS + 1):
            if restart:
                yield PAUSE, None, _PAUSES[restart - 1]
            self.arrived = False
            frame = self._frame(Message.SENDSIZE, size)
            yield LOW, frame, None
            kind, status = Message.SENDSIZE, _status(frame)
            self.high_bandwidth = bool(status & Status.HB)
            if status & Status.SUCCESS and size:
                kind = Message.SENDPAYLOAD
                if self.high_bandwidth:
                    frame = self._high_frame(size)
                    frame.di = self.cookie_low
                    frame.bp = self.cookie_high
                    self.arrived = True
                    yield HIGH_OUT, frame, data
                    status = frame.bx >> 16 & 0xFFFF
                else:
                    for offset in range(0, size, 4):
                        self.arrived = offset + 4 >= size
                        frame = self._frame(kind, int.from_bytes(data[offset : offset + 4], "little"))
                        yield LOW, frame, None
                        status = _status(frame)
                        if not status & Status.SUCCESS:
                            break
            if status & Status.SUCCESS:
                self.arrived = True
                return
            if not status & Status.CPT:
                raise self._lost(kind, status)
        raise _storm("sending")

    def receiving(self, limit: int) -> Steps[bytes | None]:
        """Receive one message, or None where none is waiting.

        :param limit: the largest size to accept, in bytes.
        :raises ReplyTooLarge: the host announced more; it has been told that we reject it.
        :raises ProtocolViolation: an answer of the wrong type; likewise.
        :raises ChannelLost: the host broke off.
        :raises CheckpointStorm: see :data:`RESTARTS`.
        """
        for restart in range(RESTARTS + 1):
            if restart:
                yield PAUSE, None, _PAUSES[restart - 1]
            frame = self._frame(Message.RECVSIZE, _IMPOSSIBLE_SIZE)
            yield LOW, frame, None
            kind, status = Message.RECVSIZE, _status(frame)
            if status & Status.SUCCESS:
                if not status & Status.DORECV:
                    return None
                size = frame.bx & MASK32
                if size == _IMPOSSIBLE_SIZE and frame.cx & 0xFFFF == Command.MESSAGE:
                    raise errors.ChannelLost("the host gave our registers back: it knows no such channel")
                if (answer := frame.dx >> 16 & 0xFFFF) != Message.SENDSIZE:
                    yield from self._rejecting(size)
                    raise _violation("a size", answer)
                if size > limit:
                    yield from self._rejecting(size)
                    raise errors.ReplyTooLarge(size, limit)
                buffer = bytearray(size)
                if size:
                    kind = Message.RECVPAYLOAD
                    if status & Status.HB:
                        status = yield from self._filling_high(buffer)
                    else:
                        status = yield from self._filling_low(buffer)
                if status & Status.SUCCESS:
                    kind = Message.RECVSTATUS
                    frame = self._frame(kind, _ACCEPTED)
                    yield LOW, frame, None
                    status = _status(frame)
                    if status & Status.SUCCESS:
                        return bytes(buffer)
                elif not status & Status.CPT:
                    yield from self._rejecting(size)
            if not status & Status.CPT:
                raise self._lost(kind, status)
        raise _storm("receiving")

    def _filling_high(self, buffer: bytearray) -> Steps[int]:
        frame = self._high_frame(len(buffer))
        frame.si = self.cookie_high
        frame.bp = self.cookie_low
        yield HIGH_IN, frame, buffer
        return frame.bx >> 16 & 0xFFFF

    def _filling_low(self, buffer: bytearray) -> Steps[int]:
        size = len(buffer)
        for offset in range(0, size, 4):
            frame = self._frame(Message.RECVPAYLOAD, _ACCEPTED)
            yield LOW, frame, None
            if not (status := _status(frame)) & Status.SUCCESS:
                return status
            if (answer := frame.dx >> 16 & 0xFFFF) != Message.SENDPAYLOAD:
                yield from self._rejecting(size - offset)
                raise _violation("a payload", answer)
            rest = min(4, size - offset)
            buffer[offset : offset + rest] = (frame.bx & MASK32).to_bytes(4, "little")[:rest]
        return Status.SUCCESS

    def _rejecting(self, remaining: int) -> Steps[None]:
        """Tell the host that we failed; what it says to that doesn't matter any more."""
        yield LOW, self._frame(Message.RECVPAYLOAD if remaining else Message.RECVSTATUS, _REJECTED), None

    def closing(self) -> Steps[None]:
        """CLOSE; nothing where the channel is not open.  The host's answer is of no consequence."""
        if self.is_open:
            yield LOW, self._frame(Message.CLOSE, 0), None
            self.is_open = False

    def _frame(self, kind: int, argument: int) -> Frame:
        return Frame(
            ax=MAGIC,
            bx=argument,
            cx=kind << 16 | Command.MESSAGE,
            dx=self.id,
            si=self.cookie_high,
            di=self.cookie_low,
        )

    def _high_frame(self, size: int) -> Frame:
        """The cookie goes where the buffer's address does not: DI and BP going out, SI and BP coming in."""
        return Frame(ax=MAGIC, bx=HB_MESSAGE, cx=size, dx=self.id)

    def _lost(self, kind: int, status: int) -> errors.ChannelLost:
        return errors.ChannelLost(f"the host refused {_TYPES[kind]} ({describe(status)})", arrived=self.arrived)


def describe(status: int) -> str:
    """A status in words: ``status 0x0012: DORECV, CPT``."""
    names = [name for name, bit in vars(Status).items() if name.isupper() and status & bit]
    return f"status 0x{status:04x}" + (f": {', '.join(names)}" if names else "")


def _status(frame: Frame) -> int:
    return frame.cx >> 16 & 0xFFFF


def _storm(doing: str) -> errors.CheckpointStorm:
    return errors.CheckpointStorm(f"{doing} was restarted {RESTARTS} times by checkpoints")


def _violation(expected: str, answer: int) -> errors.ProtocolViolation:
    return errors.ProtocolViolation(f"the host answered type {answer} where {expected} was due")
