"""The GuestRPC message channel, host half: each call is one register frame in and one out.

A guest sends a message as SENDSIZE and its bytes, four at a time (SENDPAYLOAD) or at once by high bandwidth; it gets
one by RECVSIZE, the bytes likewise, RECVSTATUS.  On an RPCI channel each message from the guest puts a reply into the
outbox; on a TCLO channel the outbox holds what the host asks, ``reset`` first, and a message from the guest is the
answer to the last one taken.

The register words are those that strict guests compare (specification, hypercalls 7): all of ECX is the status word,
its low half 0; EDX low half 0; EBX of a high-bandwidth call likewise.  Only the low 32 bits of a register are written.
A call that the host won't serve gets status 0 and changes nothing else.
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING

from vmtools.constants import (
    MASK32,
    MAX_CHANNELS,
    OPEN_COOKIE,
    Message,
    Protocol,
    Status,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from vmtools.sim.backdoor import Guest, Memory
    from vmtools.sim.machine import Machine

AX, BX, CX, DX, SI, DI, BP = range(7)
"""Where a register is in a frame."""

UPPER = 0xFFFFFFFF00000000
"""What the host leaves alone of a 64-bit register."""

OK = Status.SUCCESS << 16
OK_HIGH = (Status.SUCCESS | Status.HB) << 16
WAITING = (Status.SUCCESS | Status.DORECV) << 16
WAITING_HIGH = (Status.SUCCESS | Status.DORECV | Status.HB) << 16

IDLE_SECONDS = 80.0
"""A channel that sent nothing for so long may be taken away when all are in use (vmport_rpc's figure)."""

MAX_QUEUE = 64
"""TCLO messages that wait for one guest."""

MAX_APP = 64
"""Bytes of a service's name."""

PROTOCOLS = {Protocol.RPCI: "RPCI", Protocol.TCLO: "TCLO"}


class TcloRequest:
    """One host→guest message on its way.

    ``state``: queued, taken (the guest has read it), then one of answered, unanswered (the guest went on to the next),
    rejected (it said that it could not read this one), lost (the channel went away).  ``answer`` is the guest's, whole
    ("OK …" or "ERROR …").
    """

    __slots__ = ("answer", "on_done", "state", "text")

    def __init__(self, text: bytes, on_done: Callable[[TcloRequest], None] | None = None) -> None:
        self.text = text
        self.state = "queued"
        self.answer: bytes | None = None
        self.on_done = on_done

    def finish(self, state: str, answer: bytes | None = None) -> None:
        self.state, self.answer = state, answer
        if self.on_done is not None:
            self.on_done(self)


class Channel:
    """One open channel.  ``expected`` is -1 before SENDSIZE; ``position`` is -1 before RECVSIZE."""

    __slots__ = (
        "app",
        "cookie_high",
        "cookie_low",
        "cookied",
        "expected",
        "id",
        "incoming",
        "outbox",
        "owner",
        "position",
        "protocol",
        "requests",
        "taken",
        "used",
    )

    def __init__(self, number: int, protocol: int, cookie: tuple[int, int] | None, owner: Guest) -> None:
        self.id = number
        self.protocol = protocol
        self.cookied = cookie is not None
        self.cookie_high, self.cookie_low = cookie or (0, 0)
        self.owner = owner
        self.app: bytes | None = None
        """TCLO: the name that the guest answered to ``reset`` (OK ATR name)."""
        self.incoming = bytearray()
        self.expected = -1
        self.outbox: deque[bytes] = deque()
        self.position = -1
        self.requests: deque[TcloRequest] = deque()
        """TCLO: one for each message in the outbox."""
        self.taken: TcloRequest | None = None
        self.used = time.monotonic()

    def admits(self, high: int, low: int) -> bool:
        """Is this its cookie?  Registers, of which the low halves count; one opened without a cookie asks for none."""
        return not self.cookied or (high & MASK32 == self.cookie_high and low & MASK32 == self.cookie_low)

    def waiting(self) -> bytes | None:
        """The message that the guest would read next."""
        return self.outbox[0] if self.outbox else None

    def substitute(self, text: bytes) -> None:
        """Put another message in the place of the one that waits."""
        self.outbox[0] = text

    def restart(self) -> None:
        """Forget how far the transfers under way are: a checkpoint."""
        self.expected = -1
        self.incoming.clear()
        self.position = -1


class Channels:
    """All channels of one machine.

    :param answer: what an RPCI request is answered, whole (``1 value``).
    :param random: gives n random bytes for cookies.
    """

    def __init__(
        self, machine: Machine, answer: Callable[[bytes], bytes], random: Callable[[int], bytes] = os.urandom
    ) -> None:
        self.machine = machine
        self.open_channels: dict[int, Channel] = {}
        self.on_ready: Callable[[Channel], None] = lambda channel: None
        """Called when a TCLO channel's guest has answered ``reset`` and so has a name."""
        self.heard: Callable[[bytes, bytes], None] | None = None
        """Is told each RPCI request and its reply."""
        self._answer = answer
        self._random = random
        self._calls: dict[int, Callable[[Channel, list[int]], None]] = {
            Message.SENDSIZE: self._send_size,
            Message.SENDPAYLOAD: self._send_payload,
            Message.RECVSIZE: self._receive_size,
            Message.RECVPAYLOAD: self._receive_payload,
            Message.RECVSTATUS: self._receive_status,
            Message.CLOSE: self._close,
        }

    # -- what a guest calls ------------------------------------------------------------------------------------------

    def call(self, regs: list[int], who: Guest) -> None:
        """Serve one low-bandwidth call of command MESSAGE."""
        kind = regs[CX] >> 16 & 0xFFFF
        if kind == Message.OPEN:
            self._open(regs, who)
            return
        channel = self.open_channels.get(regs[DX] >> 16 & 0xFFFF)
        serve = self._calls.get(kind)
        if channel is None or serve is None or not channel.admits(regs[SI], regs[DI]):
            regs[CX] &= UPPER
            return
        serve(channel, regs)

    def high_out(self, regs: list[int], size: int, memory: Memory) -> bool:
        """Take ``size`` bytes guest→host; False: refused.  :raises OSError: the guest's buffer can't be read."""
        channel = self.open_channels.get(regs[DX] >> 16 & 0xFFFF)
        if (
            channel is None
            or not self.machine.high_bandwidth
            or not channel.admits(regs[BP], regs[DI])
            or channel.expected < 0
            or size > channel.expected - len(channel.incoming)
        ):
            return False
        if size:
            channel.incoming += memory.read(regs[SI], size)
            if len(channel.incoming) == channel.expected:
                self._arrived(channel)
        return True

    def high_in(self, regs: list[int], size: int, memory: Memory) -> bool:
        """Give ``size`` bytes host→guest; False: refused.  :raises OSError: the guest's buffer can't be written."""
        channel = self.open_channels.get(regs[DX] >> 16 & 0xFFFF)
        if (
            channel is None
            or not self.machine.high_bandwidth
            or not channel.admits(regs[SI], regs[BP])
            or channel.position < 0
            or size > len(channel.outbox[0]) - channel.position
        ):
            return False
        if size:
            memory.write(regs[DI], channel.outbox[0][channel.position : channel.position + size])
            channel.position += size
        return True

    # -- what the host does ------------------------------------------------------------------------------------------

    def lose(self, number: int | None = None) -> None:
        """Forget one channel, or all, as a suspend, a vMotion or a reset does."""
        for key in [number] if number is not None else list(self.open_channels):
            channel = self.open_channels.pop(key, None)
            if channel is not None:
                self._abandon(channel)

    def send(
        self, text: bytes, app: bytes | None = None, on_done: Callable[[TcloRequest], None] | None = None
    ) -> TcloRequest | None:
        """Queue a TCLO message for the guest service ``app``, or for the first one that listens.

        None where nobody listens or the queue is full.
        """
        for channel in self.open_channels.values():
            if channel.protocol == Protocol.TCLO and app in (None, channel.app):
                request = self.send_on(channel, text, on_done)
                if request is not None:
                    return request
        return None

    def send_on(
        self, channel: Channel, text: bytes, on_done: Callable[[TcloRequest], None] | None = None
    ) -> TcloRequest | None:
        """As :meth:`send`, to the service on this channel; None where its queue is full."""
        return self._queue(channel, text, on_done) if len(channel.outbox) < MAX_QUEUE else None

    def withdraw(self, request: TcloRequest) -> bool:
        """Take back a message that the guest has not begun to read; False where it is too late."""
        for channel in self.open_channels.values():
            if request in channel.requests:
                place = channel.requests.index(request)
                if place == 0 and channel.position >= 0:
                    return False
                del channel.requests[place]
                del channel.outbox[place]
                return True
        return False

    # -- each call ---------------------------------------------------------------------------------------------------

    def _open(self, regs: list[int], who: Guest) -> None:
        protocol = regs[BX] & MASK32 & ~OPEN_COOKIE
        number = self._free_number() if protocol in PROTOCOLS else None
        if number is None:
            regs[CX] &= UPPER
            return
        cookie = None
        if regs[BX] & OPEN_COOKIE:
            word = int.from_bytes(self._random(8), "little")
            cookie = word >> 32, word & MASK32
            regs[SI] = regs[SI] & UPPER | cookie[0]
            regs[DI] = regs[DI] & UPPER | cookie[1]
        # without the flag ESI and EDI stay: iPXE, which runs on VMware, doesn't expect them to change
        channel = Channel(number, protocol, cookie, who)
        self.open_channels[number] = channel
        regs[CX] = regs[CX] & UPPER | OK
        regs[DX] = regs[DX] & UPPER | number << 16
        if protocol == Protocol.TCLO:
            self._queue(channel, b"reset", None)

    def _free_number(self) -> int | None:
        if len(self.open_channels) >= MAX_CHANNELS:
            before = time.monotonic() - IDLE_SECONDS
            for idle in [c.id for c in self.open_channels.values() if c.used < before]:
                self.lose(idle)
        return next((n for n in range(MAX_CHANNELS) if n not in self.open_channels), None)

    def _send_size(self, channel: Channel, regs: list[int]) -> None:
        size = regs[BX] & MASK32
        # an RPCI reply must be taken before the next request (specification 10, no. 10)
        if size > self.machine.max_message or (channel.outbox and channel.protocol == Protocol.RPCI):
            regs[CX] &= UPPER
            return
        channel.used = time.monotonic()
        channel.expected = size
        channel.incoming.clear()
        regs[CX] = regs[CX] & UPPER | (OK_HIGH if self.machine.high_bandwidth else OK)
        regs[DX] &= ~0xFFFF
        if size == 0:
            self._arrived(channel)

    def _send_payload(self, channel: Channel, regs: list[int]) -> None:
        left = channel.expected - len(channel.incoming)
        if left <= 0:
            regs[CX] &= UPPER
            return
        word = (regs[BX] & MASK32).to_bytes(4, "little")
        channel.incoming += word if left >= 4 else word[:left]
        regs[CX] = regs[CX] & UPPER | OK
        regs[DX] &= ~0xFFFF
        if left <= 4:
            self._arrived(channel)

    def _receive_size(self, channel: Channel, regs: list[int]) -> None:
        if not channel.outbox:
            regs[BX] &= UPPER
            regs[CX] = regs[CX] & UPPER | OK
            regs[DX] &= ~0xFFFF
            return
        channel.position = 0
        regs[BX] = regs[BX] & UPPER | len(channel.outbox[0])
        regs[CX] = regs[CX] & UPPER | (WAITING_HIGH if self.machine.high_bandwidth else WAITING)
        regs[DX] = regs[DX] & UPPER | Message.SENDSIZE << 16

    def _receive_payload(self, channel: Channel, regs: list[int]) -> None:
        if channel.position < 0:
            regs[CX] &= UPPER
            return
        if not regs[BX] & Status.SUCCESS:
            self._rejected(channel, regs)
            return
        piece = channel.outbox[0][channel.position : channel.position + 4]
        if not piece:
            regs[CX] &= UPPER
            return
        channel.position += len(piece)
        regs[BX] = regs[BX] & UPPER | int.from_bytes(piece, "little")
        regs[CX] = regs[CX] & UPPER | OK
        regs[DX] = regs[DX] & UPPER | Message.SENDPAYLOAD << 16

    def _receive_status(self, channel: Channel, regs: list[int]) -> None:
        if channel.position < 0:
            regs[CX] &= UPPER
            return
        if not regs[BX] & Status.SUCCESS:
            self._rejected(channel, regs)
            return
        if channel.position < len(channel.outbox[0]):  # "received well" what it has not read
            regs[CX] &= UPPER
            return
        self._drop_first(channel, None)
        regs[CX] = regs[CX] & UPPER | OK
        regs[DX] &= ~0xFFFF

    def _close(self, channel: Channel, regs: list[int]) -> None:
        self.lose(channel.id)
        regs[CX] = regs[CX] & UPPER | OK
        regs[DX] &= ~0xFFFF

    # -- messages ----------------------------------------------------------------------------------------------------

    def _arrived(self, channel: Channel) -> None:
        message = bytes(channel.incoming)
        channel.expected = -1
        channel.incoming.clear()
        if channel.protocol == Protocol.RPCI:
            channel.outbox.append(self._reply(message))
            channel.position = -1
        elif channel.taken is not None:
            request, channel.taken = channel.taken, None
            if request.text == b"reset" and message.startswith(b"OK ATR "):
                channel.app = message[7:].removesuffix(b"\0")[:MAX_APP]
                self.on_ready(channel)
            request.finish("answered", message)

    def _reply(self, request: bytes) -> bytes:
        reply = self._answer(request)
        if self.heard is not None:
            self.heard(request, reply)
        return reply

    def _rejected(self, channel: Channel, regs: list[int]) -> None:
        protocol, size = PROTOCOLS[channel.protocol], len(channel.outbox[0])
        self.machine.rejections.append((protocol, channel.id, size))
        self.machine.write_log(
            f"GuestRpc: the guest rejected a message of {size} bytes on {protocol} channel {channel.id}".encode()
        )
        self._drop_first(channel, "rejected")
        regs[CX] = regs[CX] & UPPER | OK
        regs[DX] &= ~0xFFFF

    def _drop_first(self, channel: Channel, failed: str | None) -> None:
        channel.outbox.popleft()
        channel.position = -1
        if channel.requests:
            request = channel.requests.popleft()
            if failed is None:
                if channel.taken is not None:  # the guest took the next one without a word on the last
                    channel.taken.finish("unanswered")
                request.state = "taken"
                channel.taken = request
            else:
                request.finish(failed)

    @staticmethod
    def _queue(channel: Channel, text: bytes, on_done: Callable[[TcloRequest], None] | None) -> TcloRequest:
        request = TcloRequest(text, on_done)
        channel.outbox.append(text)
        channel.requests.append(request)
        return request

    @staticmethod
    def _abandon(channel: Channel) -> None:
        if channel.taken is not None:
            channel.taken.finish("lost")
        for request in channel.requests:
            request.finish("lost")
