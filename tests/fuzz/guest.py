"""A hostile host: any answer to each exit of the guest side.

What must hold: each call ends, in a value or in one of the errors that it documents, within its time and a moderate
number of exits; no buffer is larger than the limit; and once closed, the guest side has no channel left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fuzz.source import Source, says_why
from vmtools import backdoor, errors, rpci
from vmtools.constants import MAGIC, MASK32
from vmtools.errors import BadValue, VMToolsError
from vmtools.guest import Guest
from vmtools.rpci import Rpci
from vmtools.sim.backdoor import Backdoor
from vmtools.sim.inprocess import InProcessGate
from vmtools.sim.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable

    from vmtools._gate import Frame

LIMIT = 4096
TIMEOUT = 2.0
EXIT_SECONDS = 0.001
"""What an exit takes on the virtual clock: a call ends by its time-out, if by nothing else."""

LONGEST_PAUSE = 0.1
MOST_CALLS = 6
REGISTERS = ("ax", "bx", "cx", "dx", "si", "di", "bp")
WORDS = (0, 1, MAGIC, MASK32, 1 << 16, 2 << 16, 0x83 << 16, 0x10 << 16, 0x11 << 16, 0x7 << 16, LIMIT, LIMIT + 1)
VALUES = (
    b"", b"1 ", b"0 ", b"1", b"0", b"1 H4sI", b"1 \x1f\x8b", b"1 base64", b"1 gzip+base64", b"0 No value found\0",
    b'1 <Environment xmlns="x"><PropertySection><Property/>', b"1 " + b"\0" * 4, b"1 ---", b"0 Permission denied",
)  # fmt: skip


class Clock:
    """Virtual time for the guest side: pauses cost none of ours."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        assert 0 <= seconds <= LONGEST_PAUSE
        self.now += seconds


CLOCK = Clock()
for module in (backdoor, rpci):
    vars(module)["monotonic"] = CLOCK.monotonic
(backdoor.carry_out.__kwdefaults__ or {})["pause"] = CLOCK.pause


class HostileGate:
    """Has a real host behind it, and changes as much of what that answers as the input says."""

    name = "hostile"

    def __init__(self, source: Source) -> None:
        self.source = source
        self.machine = Machine(guestinfo={b"a": b"value", b"a.encoding": b"base64"}, high_bandwidth=source.flag())
        self.honest = InProcessGate(Backdoor(self.machine))
        self.endless = source.rest() if source.flag() else b""

    def low(self, frame: Frame) -> None:
        self._exit(frame, lambda: self.honest.low(frame))

    def high_out(self, frame: Frame, data: bytes) -> None:
        self._exit(frame, lambda: self.honest.high_out(frame, data))

    def high_in(self, frame: Frame, buffer: bytearray) -> None:
        assert len(buffer) <= LIMIT, "a buffer over the limit"
        if self.source.byte() & 7 == 7:
            buffer[:] = (self.source.choice(VALUES) + self.source.text()).ljust(len(buffer), b" ")[: len(buffer)]
        self._exit(frame, lambda: self.honest.high_in(frame, buffer))

    def unanswered(self) -> errors.NoDevice:
        return errors.NoDevice("a hostile host")

    def _exit(self, frame: Frame, honest: Callable[[], None]) -> None:
        CLOCK.now += EXIT_SECONDS
        source = self.source
        if source.empty and self.endless:  # over and over the same
            source = self.source = Source(self.endless)
        act = source.below(8)
        if act < 4:
            honest()
        if act in (2, 3, 4):
            for _ in range(1 + source.below(3)):
                word = source.choice(WORDS) if source.flag() else source.number(4)
                setattr(frame, source.choice(REGISTERS), word)
        elif act == 5:
            for register in REGISTERS:
                setattr(frame, register, source.number(8))
        elif act == 6 and source.below(8) == 0:
            raise source.choice((errors.GateFaulted, errors.NoDevice))("so says the host")
        # act 7: the registers stay as they are
        if source.byte() == 255:
            self.machine.guestinfo[b"guestinfo.a"] = source.choice(VALUES)[2:] + source.text()
            self.machine.guestinfo[b"guestinfo.a.encoding"] = source.choice((b"gzip+base64", b"base64", b""))


def _decode(guest: Guest) -> object:
    return guest.guestinfo.decoded("a", b"", limit=LIMIT)


def _text(guest: Guest) -> object:
    try:
        return guest.guestinfo.text.get("a")
    except UnicodeDecodeError:  # documented
        return None


def _ovfenv(guest: Guest) -> object:
    try:
        return guest.guestinfo.ovfenv()
    except KeyError:  # documented
        return None


CALLS: tuple[Callable[[Guest], object], ...] = (
    lambda guest: guest.info_get("a"),
    lambda guest: guest.info_set("a", b"x" * 70),
    lambda guest: guest.call(b"", repeat=True),
    lambda guest: guest.log("text"),
    lambda guest: guest.machine_id(),
    lambda guest: "a" in guest.guestinfo,
    lambda guest: guest.guestinfo.clear("a", "dashes"),
    lambda guest: backdoor.Backdoor(guest._rpci.gate).version(),  # type: ignore[attr-defined]
    _decode,
    _text,
    _ovfenv,
)
MOST_RPCS = 3
"""RPCs that one of these makes."""


def one(data: bytes) -> None:
    source = Source(data)
    calls = [source.choice(CALLS) for _ in range(1 + source.below(MOST_CALLS))]
    connection = Rpci(HostileGate(source), reply_limit=LIMIT, timeout=TIMEOUT)
    guest = Guest(connection)
    for call in calls:
        start = CLOCK.now
        try:
            call(guest)
        except VMToolsError as error:
            says_why(error)
            if isinstance(error, BadValue) and call not in (_decode, _ovfenv):
                raise
        # at the end: one more step, a last pause, CLOSE
        assert CLOCK.now - start <= MOST_RPCS * (TIMEOUT + LONGEST_PAUSE + 10 * EXIT_SECONDS), "it goes on too long"
    guest.close()
    assert not connection._channel.is_open
    assert id(connection) not in rpci._open
