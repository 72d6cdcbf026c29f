"""RPCI: a request from the guest, an answer from the host.

One channel is kept open over many calls.  When it is lost (suspend, vMotion, reset, idle for long) it is opened anew,
once, and the call repeated if that can do no harm: the host can't have got it, or it only reads.

Source: specification of the protocol, "RPCI reply parsing and errors".
"""

from __future__ import annotations

import atexit
import os
from _thread import RLock
from time import monotonic

from . import errors, gates
from .backdoor import PAUSE, Backdoor, carry_out
from .constants import MAX_MESSAGE, Protocol
from .message import Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from .backdoor import Carrier, Steps

REPLY_LIMIT = 1 << 20
"""Bytes of a reply, by default: the most that VMware keeps in all of a machine's guestinfo."""

TIMEOUT = 30.0
"""Seconds for one call, by default: as long as a host may be busy with a snapshot of a small machine."""

READS = (b"info-get ", b"machine.id.get", b"guestlib.info.get", b"guestlib.stat.get", b"namespace-get-values")
"""Requests that change nothing: they may be made twice."""

_READY_PAUSES = (0.0, *[min(0.001 * 2**n, 0.1) for n in range(24)])
"""Seconds between questions for an answer that is not ready; hosts have it ready at once, so 1.9 s are patience."""

_NO_SUCH_VALUE = (b"no value found", b"no such value")
_DENIED = (b"permission denied", b"guest is not privileged", b"rejected: permission denied")

_open: dict[int, tuple[Carrier, Channel]] = {}
"""Channels that this process has open, by the identity of their owner: what an interpreter that ends has to close."""

_forks = 0
"""How many forks lie between this process and the one that imported us."""


class Rpci:
    """A connection for requests to the host.  Thread-safe; usable after a fork; a context manager.

    :param gate: a gate, or what :func:`vmtools.gates.choose` takes.
    :param reply_limit: the largest reply to accept, in bytes.
    :param timeout: seconds for one call; one trapped instruction can't be cut short.

    Nothing is opened before the first call.
    """

    def __init__(
        self,
        gate: Carrier | str | None = None,
        *,
        reply_limit: int = REPLY_LIMIT,
        timeout: float = TIMEOUT,
    ) -> None:
        self.gate: Carrier = gates.choose(gate) if gate is None or isinstance(gate, str) else gate
        self.reply_limit = reply_limit
        self.timeout = timeout
        self._begin()

    def _begin(self) -> None:
        """A new life: at first, and in a forked child, which must not talk into its parent's conversation."""
        self._channel = Channel(Protocol.RPCI)
        self._lock = RLock()
        self._forks = _forks

    def call(self, request: bytes, *, repeat: bool | None = None, timeout: float | None = None) -> bytes:
        """Send a request and return what the host answered after ``1``.

        :param repeat: may the host get the request twice, if the channel is lost after it may have arrived?
            By default only a request that reads (:data:`READS`) may.
        :param timeout: seconds, instead of the connection's.
        :raises HostRefused: the host answered ``0``; see its subclasses.
        :raises ChannelLost: the channel was lost twice, or once where repeating may do harm.
        :raises RequestTooLarge: the host takes no message of this size.
        :raises NoMessageChannel: the host opens no channel.
        :raises ProtocolViolation: the answer was none; MalformedReply, if it said neither yes nor no.
        :raises GateError: there is no host.
        """
        if repeat is None:
            repeat = request.startswith(READS)
        deadline = monotonic() + (self.timeout if timeout is None else timeout)
        if self._forks != _forks:
            self._begin()
        with self._lock:
            try:
                reply = self._exchange(request, deadline)
            except errors.ChannelLost as lost:
                if monotonic() > deadline or (lost.arrived and not repeat):
                    raise
                reply = self._repeated(request, deadline)
        if reply[:2] == b"1 ":
            return reply[2:]
        if reply[:2] == b"0 ":
            raise refused(reply[2:])
        raise errors.MalformedReply(f"the host's reply begins neither with '1 ' nor with '0 ': {reply[:32]!r}")

    def _exchange(self, request: bytes, deadline: float) -> bytes:
        channel = self._channel
        try:
            if not channel.is_open:
                self._open(deadline)
            return carry_out(self.gate, self._steps(request), deadline=deadline)
        except errors.ChannelLost as lost:
            lost.arrived = channel.arrived
            self.close()
            raise
        except BaseException:
            # The host is in the middle of something that we shall not finish: leave it no half-made exchange.
            self.close()
            raise

    def _repeated(self, request: bytes, deadline: float) -> bytes:
        try:
            return self._exchange(request, deadline)
        except errors.ChannelLost as lost:
            # Refused twice, and the second time on a new channel: then it is not the channel.
            if lost.arrived or len(request) <= MAX_MESSAGE or monotonic() > deadline:
                raise
            raise errors.RequestTooLarge(len(request), MAX_MESSAGE) from lost

    def _open(self, deadline: float) -> None:
        self._channel.arrived = False
        _open[id(self)] = self.gate, self._channel
        try:
            carry_out(self.gate, self._channel.opening(), deadline=deadline)
        except errors.NoMessageChannel:
            Backdoor(self.gate).version()  # says it better, where there is no backdoor either
            raise

    def _steps(self, request: bytes) -> Steps[bytes]:
        yield from self._channel.sending(request)
        for pause in _READY_PAUSES:
            if pause:
                yield PAUSE, None, pause
            if (reply := (yield from self._channel.receiving(self.reply_limit))) is not None:
                return reply
        raise errors.ChannelLost("the host took the request and never had an answer ready")

    @property
    def high_bandwidth(self) -> bool:
        """Did the host offer high bandwidth in the last call?"""
        return self._channel.high_bandwidth

    def close(self) -> None:
        """Close the channel; the next call opens another."""
        if self._forks != _forks:
            return
        with self._lock:
            try:
                _close(self.gate, self._channel)
            finally:
                if not self._channel.is_open:
                    _open.pop(id(self), None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_lock"):
            self.close()


def refused(text: bytes) -> errors.HostRefused:
    """The error for the host's words after ``0``."""
    words = text.rstrip(b"\0\n").lower()
    if words.startswith(_NO_SUCH_VALUE):
        return errors.NoSuchValue(text)
    if words.startswith(_DENIED):
        return errors.PermissionDenied(text)
    return errors.HostRefused(text)


def _close(gate: Carrier, channel: Channel, *, again: bool = True) -> None:
    """CLOSE, whatever state the conversation is in; a host that is gone needs no farewell."""
    try:
        carry_out(gate, channel.closing())
    except errors.VMToolsError:
        channel.is_open = False
    except BaseException:
        # An interrupt, perhaps before the host had it.  Closing twice does no harm.
        if again:
            _close(gate, channel, again=False)
        raise


def _close_all() -> None:
    while _open:
        _close(*_open.popitem()[1])


def _after_fork() -> None:
    global _forks
    _forks += 1
    _open.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork)
