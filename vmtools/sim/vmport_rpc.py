"""The message channel of the public vmport_rpc device for QEMU, quirks included.

Measured on the device in a QEMU 7.2, and read in its source (specification, peers 3); a guest that gets on with it can
get on with loose hosts:

* Low words of ECX and EDX stay as the guest set them; the upper halves of RBX to RDI become 0.
* A wrong cookie or a channel that is not open changes nothing at all: ECX still holds the call's type, and 1, 3 and 5
  look like SUCCESS.  A channel number from 8 on gives status 0; an unknown type clears ECX.
* The size of a message is 16 bits wide, and a SENDSIZE of 0 is no message.
* A channel has four places for messages to the guest, of which three may wait unread; more are dropped in silence.
  OPEN empties none, it only begins with the first again: what an earlier owner left may be read (as NULs, if it
  was read before).
* RECVSTATUS always moves on, whatever it says; RECVPAYLOAD goes on where the last one stopped, past the end with 0.
* Each reply but that of a successful ``info-get`` has a NUL at its end that counts.  Unknown commands are answered
  ``1 ``.  Keys have at most 128 bytes, values 8192, and there are at most 256.
* 80 idle seconds end a channel without a word; after 14 seconds without a message to the guest it gets ``reset``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from vmtools.constants import MASK32, OPEN_COOKIE, Message, Protocol, Status
from vmtools.sim.channels import BX, CX, DI, DX, MAX_APP, SI, Channel, Channels, TcloRequest
from vmtools.sim.machine import GUESTINFO, GuestInfoError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vmtools.sim.backdoor import Guest
    from vmtools.sim.machine import Machine

CHANNELS = 8
PLACES = 4
IDLE_SECONDS = 80.0
RESET_SECONDS = 14.0
MAX_KEY = 128
MAX_VALUE = 8192
MAX_KEYS = 256

GET = b"info-get " + GUESTINFO
SET = b"info-set " + GUESTINFO


class Place:
    """Room for one message to the guest; ``offset``: how far it was read."""

    __slots__ = ("offset", "request", "text")

    def __init__(self) -> None:
        self.text = b""
        self.offset = 0
        self.request: TcloRequest | None = None


class RingChannel(Channel):
    """A channel with its places; they outlive it."""

    __slots__ = ("places", "read", "write")

    def __init__(self, number: int, protocol: int, cookie: int, owner: Guest, places: list[Place]) -> None:
        super().__init__(number, protocol, (cookie >> 16 & 0xFFFF, cookie & 0xFFFF), owner)
        self.places = places
        self.read = self.write = 0

    @property
    def place(self) -> Place:
        """The one to be read."""
        return self.places[self.read]

    def put(self, text: bytes, request: TcloRequest | None = None) -> None:
        """A message for the guest; where there is no room it is lost."""
        after = (self.write + 1) % PLACES
        if after == self.read:
            return
        place = self.places[self.write]
        place.text, place.offset, place.request = text, 0, request
        self.write = after

    def waiting(self) -> bytes | None:
        """As :meth:`vmtools.sim.channels.Channel.waiting`."""
        return self.place.text or None

    def substitute(self, text: bytes) -> None:
        """As :meth:`vmtools.sim.channels.Channel.substitute`."""
        self.place.text = text

    def restart(self) -> None:
        """As :meth:`vmtools.sim.channels.Channel.restart`."""
        super().restart()
        self.place.offset = 0


class RingChannels(Channels):
    """All channels of the device.  :param clock: seconds that only go forward."""

    open_channels: dict[int, RingChannel]  # type: ignore[assignment]  # a dict that only this class fills

    def __init__(self, machine: Machine, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(machine, lambda request: answer(machine, request))
        self._clock = clock
        self._cookies = 0
        self._places = [[Place() for _ in range(PLACES)] for _ in range(CHANNELS)]
        self._sent = clock() - RESET_SECONDS - 1
        self._types: dict[int, Callable[[RingChannel, list[int]], None]] = {
            Message.SENDSIZE: self._take_size,
            Message.SENDPAYLOAD: self._take_payload,
            Message.RECVSIZE: self._give_size,
            Message.RECVPAYLOAD: self._give_payload,
            Message.RECVSTATUS: self._move_on,
            Message.CLOSE: self._end,
        }

    # -- what a guest calls ------------------------------------------------------------------------------------------

    def call(self, regs: list[int], who: Guest) -> None:
        """Serve one call of command MESSAGE."""
        for place in (BX, CX, DX, SI, DI):
            regs[place] &= MASK32
        self._keep_house()
        kind, number = regs[CX] >> 16, regs[DX] >> 16
        if kind == Message.OPEN:
            self._begin(regs, who)
            return
        if number >= CHANNELS:
            regs[CX] &= 0xFFFF
            return
        channel = self.open_channels.get(number)
        if channel is None or (regs[SI] << 16 & MASK32 | regs[DI] & 0xFFFF) != (
            channel.cookie_high << 16 | channel.cookie_low
        ):
            return
        channel.used = self._clock()
        serve = self._types.get(kind)
        if serve is None:
            regs[CX] = 0
        else:
            serve(channel, regs)

    def _begin(self, regs: list[int], who: Guest) -> None:
        number = next((n for n in range(CHANNELS) if n not in self.open_channels), None)
        if number is None:
            regs[CX] &= 0xFFFF
            return
        protocol = regs[BX] & ~OPEN_COOKIE
        channel = RingChannel(number, protocol, self._cookies, who, self._places[number])
        channel.used = self._clock()
        self._cookies += 1
        self.open_channels[number] = channel
        regs[DX] = number << 16 | regs[DX] & 0xFFFF
        regs[SI], regs[DI] = channel.cookie_high, channel.cookie_low
        if protocol == Protocol.TCLO:
            self._queue(channel, b"reset", None)
        _succeed(regs)

    def _take_size(self, channel: RingChannel, regs: list[int]) -> None:
        channel.expected = regs[BX] & 0xFFFF
        channel.incoming.clear()
        _succeed(regs)

    def _take_payload(self, channel: RingChannel, regs: list[int]) -> None:
        _succeed(regs)
        if len(channel.incoming) <= 0xFFFF:
            channel.incoming += regs[BX].to_bytes(4, "little")
        if len(channel.incoming) >= channel.expected >= 0:
            self._whole(channel, bytes(channel.incoming[: channel.expected]))

    def _give_size(self, channel: RingChannel, regs: list[int]) -> None:
        size = len(channel.place.text)
        if not size:
            _succeed(regs)
            return
        regs[BX] = size
        regs[DX] = Message.SENDSIZE << 16 | regs[DX] & 0xFFFF
        _succeed(regs, Status.DORECV)

    @staticmethod
    def _give_payload(channel: RingChannel, regs: list[int]) -> None:
        place = channel.place
        regs[BX] = int.from_bytes(place.text[place.offset : place.offset + 4], "little")
        place.offset += 4
        regs[DX] = Message.SENDPAYLOAD << 16 | regs[DX] & 0xFFFF
        _succeed(regs)

    @staticmethod
    def _move_on(channel: RingChannel, regs: list[int]) -> None:
        request = channel.place.request
        if request is not None and request.state == "queued":
            if channel.taken is not None:
                channel.taken.finish("unanswered")
            request.state = "taken"
            channel.taken = request
        channel.read = (channel.read + 1) % PLACES
        _succeed(regs)

    def _end(self, channel: RingChannel, regs: list[int]) -> None:
        self.lose(channel.id)
        _succeed(regs)

    # -- messages ----------------------------------------------------------------------------------------------------

    def _whole(self, channel: RingChannel, message: bytes) -> None:
        if channel.protocol == Protocol.RPCI:
            channel.put(self._reply(message))
            return
        channel.places[channel.read - 1].text = b""
        if channel.taken is not None:
            request, channel.taken = channel.taken, None
            if request.text == b"reset" and message.startswith(b"OK ATR "):
                channel.app = message[7:].removesuffix(b"\0")[:MAX_APP]
            request.finish("answered", message)

    def send(
        self, text: bytes, app: bytes | None = None, on_done: Callable[[TcloRequest], None] | None = None
    ) -> TcloRequest | None:
        """As :meth:`vmtools.sim.channels.Channels.send`."""
        self._sent = self._clock()
        return super().send(text, app, on_done)

    def withdraw(self, request: TcloRequest) -> bool:
        """The device can't take a message back: it is only forgotten that somebody waits for the answer."""
        return request.state == "queued"

    def lose(self, number: int | None = None) -> None:
        """As :meth:`vmtools.sim.channels.Channels.lose`."""
        for key in [number] if number is not None else list(self.open_channels):
            if key in self.open_channels:
                for place in self.open_channels[key].places:
                    if place.request is not None and place.request.state == "queued":
                        place.request.finish("lost")
                    place.request = None
        super().lose(number)

    @staticmethod
    def _queue(channel: Channel, text: bytes, on_done: Callable[[TcloRequest], None] | None) -> TcloRequest:
        assert isinstance(channel, RingChannel)  # noqa: S101 - nobody else's channels are here
        request = TcloRequest(text, on_done)
        channel.put(text + b"\0", request)
        return request

    def _keep_house(self) -> None:
        now = self._clock()
        if now - self._sent > RESET_SECONDS:
            self._sent = now
            for channel in self.open_channels.values():
                if channel.protocol == Protocol.TCLO:
                    self._queue(channel, b"reset", None)
        for idle in [c.id for c in self.open_channels.values() if now - c.used >= IDLE_SECONDS]:
            self.lose(idle)


def _succeed(regs: list[int], more: int = 0) -> None:
    regs[CX] = (Status.SUCCESS | more) << 16 | regs[CX] & 0xFFFF


def answer(machine: Machine, request: bytes) -> bytes:
    """What the device replies to one request."""
    if request.startswith(GET):
        key = request.removeprefix(GET)
        if len(key) > MAX_KEY:
            return b"0 Key is too long\0"
        value = machine.guestinfo.get(GUESTINFO + key.partition(b"\0")[0])
        return b"0 No value found\0" if value is None else b"1 " + value
    if request.startswith(SET):
        return _set(machine, request.removeprefix(SET))
    return b"1 \0"


def _set(machine: Machine, rest: bytes) -> bytes:
    key, blank, value = rest.partition(b" ")
    if not blank:
        return b"0 Two and exactly two arguments expected\0"
    if len(key) > MAX_KEY:
        return b"0 Key is too long\0"
    if len(value) > MAX_VALUE:
        return b"0 Value too long\0"
    full = GUESTINFO + key.partition(b"\0")[0]
    if full not in machine.guestinfo and len(machine.guestinfo) >= MAX_KEYS:
        return b"0 Too many keys\0"
    try:
        machine.set_guestinfo(full, value)
    except GuestInfoError:  # the machine's own limits are wider, but its store may be small
        return b"0 Out of memory\0"
    return b"1 \0"
