"""A guest that speaks the message channel step by step, written from the specification for tests of the host.

It checks nothing by itself and hides nothing: each call returns the registers as the host left them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vmtools.sim.backdoor import PORT_IN, PORT_LOW, PORT_OUT, VMCALL, Guest
from vmtools.sim.inprocess import ADDRESS, BufferMemory

if TYPE_CHECKING:
    from vmtools.sim.backdoor import Exits, Memory

MAGIC = 0x564D5868
RPCI = 0x49435052
TCLO = 0x4F4C4354
COOKIE = 0x80000000
JUNK = 0xDEAD_BEEF_0000_0000
"""What a 64-bit guest may have in the upper half of a register."""

OPEN, SENDSIZE, SENDPAYLOAD, RECVSIZE, RECVPAYLOAD, RECVSTATUS, CLOSE = range(7)


class Regs(NamedTuple):
    ax: int
    bx: int
    cx: int
    dx: int
    si: int
    di: int
    bp: int


class Faulted(Exception):
    """The host reflected the fault."""


class NaiveGuest:
    """``high``: use high bandwidth; ``hypercall``: VMCALL and not the ports; ``junk``: dirty upper halves."""

    def __init__(self, exits: Exits, *, high: bool = True, hypercall: bool = False, junk: bool = False) -> None:
        self.exits = exits
        self.high = high
        self.hypercall = hypercall
        self.junk = JUNK if junk else 0
        self.who = Guest(7, 7, "naive")
        self.id = self.cookie_high = self.cookie_low = 0

    def raw(self, instruction: int, *regs: int, memory: Memory | None = None) -> Regs:
        frame = [*regs] + [0] * (7 - len(regs))
        if not self.exits.exit(instruction, frame, memory or BufferMemory(b""), self.who):
            raise Faulted
        return Regs(*frame)

    def low(self, command: int, bx: int = 0, cx_high: int = 0, dx_high: int = 0, si: int = 0, di: int = 0) -> Regs:
        """Any low-bandwidth call."""
        j = self.junk
        dx = dx_high << 16 | (0 if self.hypercall else 0x5658)
        return self.raw(
            VMCALL if self.hypercall else PORT_LOW,
            j | MAGIC, j | bx, j | cx_high << 16 | command, j | dx, j | si, j | di,
        )  # fmt: skip

    def message(self, kind: int, bx: int = 0) -> Regs:
        """A low-bandwidth call on this guest's channel."""
        return self.low(30, bx, kind, self.id, self.cookie_high, self.cookie_low)

    def open(self, protocol: int = RPCI, *, cookie: bool = True) -> Regs:
        regs = self.low(30, protocol | (COOKIE if cookie else 0), OPEN)
        self.id = regs.dx >> 16 & 0xFFFF
        if cookie:
            self.cookie_high, self.cookie_low = regs.si & 0xFFFFFFFF, regs.di & 0xFFFFFFFF
        return regs

    def high_out(self, data: bytes, size: int | None = None) -> Regs:
        return self.raw(
            VMCALL if self.hypercall else PORT_OUT,
            MAGIC, 0x00010000, len(data) if size is None else size, self.id << 16 | (3 if self.hypercall else 0x5659),
            ADDRESS, self.cookie_low, self.cookie_high, memory=BufferMemory(data),
        )  # fmt: skip

    def high_in(self, buffer: bytearray, size: int | None = None) -> Regs:
        return self.raw(
            VMCALL if self.hypercall else PORT_IN,
            MAGIC, 0x00010000, len(buffer) if size is None else size, self.id << 16 | (1 if self.hypercall else 0x5659),
            self.cookie_high, ADDRESS, self.cookie_low, memory=BufferMemory(buffer),
        )  # fmt: skip

    def send(self, data: bytes) -> None:
        status = self.message(SENDSIZE, len(data)).cx >> 16 & 0xFFFF
        assert status & 1
        if self.high and data:
            assert status & 0x80
            assert self.high_out(data).bx & 0xFFFFFFFF == 0x00010000
        elif not self.high:
            for at in range(0, len(data), 4):
                word = int.from_bytes(data[at : at + 4], "little")
                assert self.message(SENDPAYLOAD, word).cx & 0xFFFFFFFF == 0x00010000

    def receive(self) -> bytes | None:
        regs = self.message(RECVSIZE)
        assert regs.cx >> 16 & 1
        if not regs.cx >> 16 & 2:
            return None
        assert regs.dx >> 16 & 0xFFFF == 1
        size = regs.bx & 0xFFFFFFFF
        assert size <= 1 << 21
        data = bytearray(size)
        if self.high and size:
            assert self.high_in(data).bx & 0xFFFFFFFF == 0x00010000
        elif not self.high:
            for at in range(0, size, 4):
                regs = self.message(RECVPAYLOAD, 1)
                assert regs.cx & 0xFFFFFFFF == 0x00010000
                assert regs.dx >> 16 & 0xFFFF == 2
                data[at : at + 4] = (regs.bx & 0xFFFFFFFF).to_bytes(4, "little")[: size - at]
        assert self.message(RECVSTATUS, 1).cx & 0xFFFFFFFF == 0x00010000
        return bytes(data)

    def rpc(self, request: bytes) -> bytes:
        self.send(request)
        reply = self.receive()
        assert reply is not None
        return reply

    def close(self) -> Regs:
        return self.message(CLOSE)
