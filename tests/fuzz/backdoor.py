"""A hostile guest program: any exits, in any order, over any memory.

What must hold: the host never raises; every register is a 64-bit number, and only those change that the instruction
and the host may change; guest memory is touched only where the frame points; what the guest makes the host keep is
bounded; and afterwards an honest guest gets its answer.
"""

from __future__ import annotations

import errno
import random
import uuid
from typing import TYPE_CHECKING

from tests.fuzz.bounds import check_bounded
from tests.fuzz.source import Source
from tests.unit.naive_guest import CLOSE, COOKIE, OPEN, RECVSIZE, RPCI, SENDSIZE, TCLO, NaiveGuest
from vmtools.constants import HB_MESSAGE, MAGIC, MASK32, MAX_CHANNELS, PORT, PORT_HIGH
from vmtools.sim.backdoor import MASK64, PORT_IN, PORT_LOW, PORT_OUT, RDPMC, VMCALL, VMMCALL, Backdoor, Guest
from vmtools.sim.channels import AX, BP, CX, DI, DX, SI, UPPER, Channels
from vmtools.sim.clock import HostClock
from vmtools.sim.faults import KINDS, Fault, FaultPlan
from vmtools.sim.machine import Machine
from vmtools.sim.rpci import COMMANDS
from vmtools.sim.transcript import Transcript

if TYPE_CHECKING:
    from vmtools.sim.channels import Channel

HONEST = b"guestinfo.honest"
WHO = Guest(666, 666, "hostile\n\x1b[2J")
ADDRESS = 0x7000_0000_1000
MAPPED = 1 << 17
MOST_OPS = 300
INSTRUCTIONS = (PORT_LOW, PORT_OUT, PORT_IN, VMCALL, VMMCALL, RDPMC, 6)
WORDS = [*COMMANDS, b"tools.capability.x", b"vmx.no.such", b"", b"info-get guestinfo.honest", b"info-set guestinfo.a 1"]
SIZES = (0, 1, 3, 4, 5, 65535, 65536, 65537, 1 << 20, MASK32)


class HostileMemory:
    """A guest's memory: :data:`MAPPED` bytes at :data:`ADDRESS`, nothing elsewhere."""

    def __init__(self, regs: list[int], instruction: int, content: bytes) -> None:
        self.pointers = {regs[SI], regs[DI]}
        self.most = regs[CX] if instruction in (PORT_OUT, PORT_IN) else regs[CX] & MASK32
        self.content = content or b"\0"

    def _check(self, address: int, size: int) -> None:
        assert address in self.pointers, "the host looks where the frame does not point"
        assert 0 <= size <= self.most, "the host wants more than the frame says"
        if not ADDRESS <= address <= address + size <= ADDRESS + MAPPED:
            raise OSError(errno.EFAULT, "bad address")

    def read(self, address: int, size: int) -> bytes:
        self._check(address, size)
        return (self.content * (size // len(self.content) + 1))[:size]

    def write(self, address: int, data: bytes) -> None:
        assert isinstance(data, bytes)
        self._check(address, len(data))


class Nowhere:
    """Takes a transcript and forgets it."""

    def write(self, text: str) -> None:
        assert text.endswith("\n")
        assert text.count("\n") == 1

    def flush(self) -> None:
        """Nothing is kept."""


class Attack:
    """One input, as it is carried out."""

    def __init__(self, source: Source) -> None:
        self.source = source
        options = source.byte()
        self.machine = Machine(
            guestinfo={HONEST: b"value"},
            machine_uuid=uuid.UUID(int=options),
            high_bandwidth=not options & 1,
            clock=HostClock(wall=lambda: 1_700_000_000_000_000_000, monotonic=lambda: 5_000_000_000),
            privileged=bool(options & 8),
        )
        channels = Channels(self.machine, self._rpci, random.Random(options).randbytes)
        self.backdoor = Backdoor(
            self.machine,
            channels=channels,
            transcript=Transcript(Nowhere(), clock=lambda: 1.7e9) if options & 6 == 6 else None,
            faults=FaultPlan(self._faults(), sleep=lambda _: None) if options & 4 else None,
        )
        self.last = [0] * 7

    def _rpci(self, request: bytes) -> bytes:
        return self.backdoor._rpci(request)

    def _faults(self) -> list[Fault]:
        kinds = sorted(KINDS)
        return [
            Fault(self.source.choice(kinds), 1 + self.source.byte(), self.source.flag())
            for _ in range(self.source.below(4))
        ]

    # -- one exit ----------------------------------------------------------------------------------------------------

    def exit(self, instruction: int, regs: list[int], content: bytes = b"") -> None:
        """Put one exit to the host and check what it leaves."""
        before = self.last = list(regs)
        answered = self.backdoor.exit(instruction, regs, HostileMemory(regs, instruction, content), WHO)
        assert isinstance(answered, bool)
        assert len(regs) == 7
        assert all(type(word) is int and 0 <= word <= MASK64 for word in regs), "not 64-bit words"
        if not answered:
            return
        changed = {place for place in range(7) if before[place] & UPPER != regs[place] & UPPER}
        string = instruction in (PORT_OUT, PORT_IN)
        assert changed <= ({AX, DX} if instruction == RDPMC else {CX, SI, DI} if string else set())
        if string:
            pointer, other = (SI, DI) if instruction == PORT_OUT else (DI, SI)
            assert regs[pointer] == before[pointer] + before[CX] & MASK64
            assert (regs[CX], regs[other], regs[DX]) == (0, before[other], before[DX])
        assert regs[BP] == before[BP]

    def word(self) -> int:
        """A register: something that means something, or anything."""
        source = self.source
        kind = source.below(8)
        if kind < 6:
            fixed = (0, MAGIC, HB_MESSAGE, ADDRESS, MASK64, RPCI | COOKIE)
            return fixed[kind]
        return source.number(4 if kind == 6 else 8)

    def channel(self) -> Channel | None:
        found = list(self.backdoor.channels.open_channels.values())
        return self.source.choice(found) if found else None

    # -- what a guest may do -----------------------------------------------------------------------------------------

    def any_frame(self) -> None:
        self.exit(self.source.choice(INSTRUCTIONS), [self.word() for _ in range(7)], self.source.text(8))

    def command(self) -> None:
        regs = [MAGIC, self.word(), self.source.number(2), PORT, 0, 0, 0]
        self.exit(PORT_LOW, regs)

    def message(self) -> None:
        """A call of the message channel, most often on one that is open."""
        source, channel = self.source, self.channel()
        kind = source.below(8)
        argument = source.choice((1, 0, 4, *SIZES)) if source.flag() else source.number(4)
        regs = [MAGIC, argument, kind << 16 | 30, PORT, 0, 0, 0]
        if channel is not None:
            regs[DX] |= channel.id << 16
            regs[SI], regs[DI] = channel.cookie_high, channel.cookie_low
        if source.byte() == 255:
            regs[source.below(7)] = self.word()
        self.exit(PORT_LOW, regs)

    def high(self) -> None:
        """A high-bandwidth call, by a port or a hypercall."""
        source, channel = self.source, self.channel()
        out, hypercall = source.flag(), source.flag()
        size = source.choice(SIZES) if source.flag() else source.byte()
        regs = [MAGIC, HB_MESSAGE, size, 1 | out << 1 if hypercall else PORT_HIGH, 0, 0, 0]
        if channel is not None:
            regs[DX] |= channel.id << 16
            regs[BP], regs[DI] = channel.cookie_high, channel.cookie_low
            if not out:
                regs[SI], regs[BP] = channel.cookie_high, channel.cookie_low
        regs[SI if out else DI] = ADDRESS + (MAPPED - 100) * source.flag()
        instruction = source.choice((VMCALL, VMMCALL)) if hypercall else PORT_OUT if out else PORT_IN
        self.exit(instruction, regs, source.text(40))

    def open_channel(self) -> None:
        protocol = self.source.choice((RPCI | COOKIE, TCLO | COOKIE, RPCI, TCLO, 0x12345678, MASK32))
        self.exit(PORT_LOW, [MAGIC, protocol, OPEN << 16 | 30, PORT, 0, 0, 0])

    def request(self) -> None:
        """A whole request, by high bandwidth where the host has it."""
        channel = self.channel()
        request = self.source.choice(WORDS) + self.source.choice((b" ", b"", b"  ", b"\0")) + self.source.text()
        if self.source.byte() == 255:
            request += bytes(60_000)
        if channel is None or not request:
            return
        cookie = channel.cookie_high, channel.cookie_low
        self.exit(PORT_LOW, [MAGIC, len(request), SENDSIZE << 16 | 30, channel.id << 16 | PORT, *cookie, 0])
        if self.machine.high_bandwidth:
            regs = [MAGIC, HB_MESSAGE, len(request), channel.id << 16 | PORT_HIGH, ADDRESS, cookie[1], cookie[0]]
            self.exit(PORT_OUT, regs, request)
            return
        for at in range(0, min(len(request), 2000), 4):
            piece = int.from_bytes(request[at : at + 4], "little")
            self.exit(PORT_LOW, [MAGIC, piece, 2 << 16 | 30, channel.id << 16 | PORT, *cookie, 0])

    def receive(self) -> None:
        channel = self.channel()
        if channel is None:
            return
        cookie = channel.cookie_high, channel.cookie_low
        for kind, argument in ((RECVSIZE, 0), (4, self.source.below(2)), (5, 1)):
            self.exit(PORT_LOW, [MAGIC, argument, kind << 16 | 30, channel.id << 16 | PORT, *cookie, 0])

    def again(self) -> None:
        """The last exit, once more or more often than there are channels."""
        for _ in range(self.source.choice((1, 2, 5, 1, 2, 5, 1, 140))):
            self.exit(PORT_LOW, list(self.last))

    def host_acts(self) -> None:
        """What the host does by itself: it sends, it takes back, it loses channels."""
        channels = self.backdoor.channels
        sent = channels.send(b"x" * self.source.byte())
        act = self.source.below(4)
        if act == 0 and sent is not None:
            channels.withdraw(sent)
        elif act == 1:
            channels.lose(self.source.byte())
        elif act == 2:
            channels.lose()

    def close(self) -> None:
        channel = self.channel()
        if channel is not None:
            cookie = channel.cookie_high, channel.cookie_low
            self.exit(PORT_LOW, [MAGIC, 0, CLOSE << 16 | 30, channel.id << 16 | PORT, *cookie, 0])

    ACTS = (any_frame, command, message, high, open_channel, request, receive, again, host_acts, close)

    def run(self) -> None:
        for _ in range(MOST_OPS):
            if self.source.empty:
                break
            self.source.choice(self.ACTS)(self)
        check_bounded(self.backdoor)


def honest_guest_is_answered(backdoor: Backdoor) -> None:
    """Time passes, nothing goes wrong any more, and a guest that keeps to the protocol comes."""
    backdoor.faults = None
    if len(backdoor.channels.open_channels) >= MAX_CHANNELS:
        for channel in backdoor.channels.open_channels.values():
            channel.used -= 100
    for high in (False, True) if backdoor.machine.high_bandwidth else (False,):
        guest = NaiveGuest(backdoor, high=high)
        assert guest.open().cx == 0x00010000
        assert guest.rpc(b"info-get guestinfo.honest") == b"1 " + backdoor.machine.guestinfo[HONEST]
        guest.close()


def one(data: bytes) -> None:
    attack = Attack(Source(data))
    attack.run()
    honest_guest_is_answered(attack.backdoor)
