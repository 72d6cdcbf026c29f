"""Faults at chosen exits, for tests of guests: what a host can do to one, at each step.

A plan counts exits from 1.  ``checkpoint@5`` puts a fault at the 5th exit, ``checkpoint@5+`` at each from the 5th on,
``size@7:0xffffffff`` gives it a value.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from vmtools.constants import FLAG_HIGH, MASK32, UNSUPPORTED, Command, Message, Status
from vmtools.sim.backdoor import MASK64, PORT_IN, PORT_LOW, PORT_OUT, RDPMC, VMCALL, VMMCALL
from vmtools.sim.channels import AX, BX, CX, DI, DX, SI, UPPER

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterable

    from vmtools.sim.backdoor import Backdoor, Guest, Memory

KINDS = {
    "checkpoint": "the call is not done; its status says: restart the transfer (at CLOSE: the channel is gone too)",
    "lost": "the host has forgotten the channel before the call (at OPEN: right after it)",
    "refused": "the call is not done; status 0 (no message call: unsupported)",
    "type": "VALUE (7) in the high half of EDX where the type or the channel belongs",
    "size": "VALUE (0xffffffff) in EBX where a size belongs, after RECVSIZE only",
    "echo": "the registers stay as the guest set them, as on a host that knows nothing of this",
    "slow": "VALUE (1) seconds pass before the call is done",
    "garbage": "the next reply reads VALUE (bytes that are no reply); the size is kept once it was announced",
    "never": "RECVSIZE finds nothing to receive",
    "cookie": "the channel's cookie is another from here on (at OPEN: the guest gets a wrong one)",
}
"""Each kind, and what it does."""

GARBAGE = b"\xff\xfe\0 garbage \x80"
MAX_SLOW = 3600.0


class Fault(NamedTuple):
    """One fault: its kind, the exit that it is put at (from 1), whether at all later ones too, its value."""

    kind: str
    at: int
    onwards: bool = False
    value: str = ""


def parse(text: str) -> Fault:
    """``KIND@N[+][:VALUE]``; :raises ValueError: with a sentence for the user."""
    kind, at_sign, rest = text.partition("@")
    number, colon, value = rest.partition(":")
    onwards = number.endswith("+")
    number = number.removesuffix("+")
    if not at_sign or not (number.isascii() and number.isdigit()) or int(number) < 1:
        raise ValueError(f"{text!r} is not KIND@N, KIND@N+ or KIND@N:VALUE with N from 1 on")
    fault = Fault(kind, int(number), onwards, value)
    _check(fault)
    if colon and not value:
        raise ValueError(f"{text!r} has a colon and no value")
    return fault


def _check(fault: Fault) -> None:
    if fault.kind not in KINDS:
        raise ValueError(f"no fault is called {fault.kind!r}; there are: {', '.join(KINDS)}")
    if fault.value and fault.kind == "slow" and not 0 <= float(fault.value) <= MAX_SLOW:
        raise ValueError(f"'slow' takes 0 to {MAX_SLOW:.0f} seconds, not {fault.value}")
    if fault.value and fault.kind in ("type", "size") and not 0 <= int(fault.value, 0) <= MASK32:
        raise ValueError(f"{fault.kind!r} takes a 32-bit number, not {fault.value}")


class FaultPlan:
    """Faults, and the count of exits so far.

    :param faults: as :class:`Fault` or as text for :func:`parse`.
    :param sleep: waits that many seconds, for ``slow``.
    """

    def __init__(self, faults: Iterable[Fault | str] = (), *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.faults = [parse(fault) if isinstance(fault, str) else fault for fault in faults]
        for fault in self.faults:
            _check(fault)
        self.count = 0
        self.applied = ""
        """What was done to the last exit: kinds joined by commas, for the transcript."""
        self._sleep = sleep

    def exit(self, backdoor: Backdoor, instruction: int, regs: list[int], memory: Memory, who: Guest) -> bool:
        """Serve one exit through the plan: ``slow`` ones first, then the first of the others."""
        self.count += 1
        due = [f for f in self.faults if f.at == self.count or (f.onwards and f.at < self.count)]
        self.applied = ""
        chosen = None
        for fault in due:
            if fault.kind == "slow":
                self._sleep(float(fault.value or "1"))
                self.applied = "slow"
            elif chosen is None:
                chosen = fault
        if chosen is None:
            return backdoor.serve(instruction, regs, memory, who)
        self.applied = f"{self.applied},{chosen.kind}" if self.applied else chosen.kind
        return _KINDS[chosen.kind](chosen, _Exit(backdoor, instruction, regs, memory, who))


class _Exit:
    """One exit under a fault: what it is, and how it is served."""

    def __init__(self, backdoor: Backdoor, instruction: int, regs: list[int], memory: Memory, who: Guest) -> None:
        self.backdoor, self.instruction, self.regs, self.memory, self.who = backdoor, instruction, regs, memory, who
        hypercall = instruction in (VMCALL, VMMCALL)
        self.high = instruction in (PORT_OUT, PORT_IN) or (hypercall and bool(regs[DX] & FLAG_HIGH))
        low = instruction == PORT_LOW or (hypercall and not regs[DX] & 0xFFFF)
        self.message = self.high or (low and regs[CX] & 0xFFFF == Command.MESSAGE)
        self.type = regs[CX] >> 16 & 0xFFFF if self.message and not self.high else -1
        self.channel = regs[DX] >> 16 & 0xFFFF

    def serve(self) -> bool:
        return self.backdoor.serve(self.instruction, self.regs, self.memory, self.who)

    def status(self, bits: int) -> bool:
        """Answer with nothing but a status; the instruction itself has run."""
        regs = self.regs
        if not self.message:
            if self.instruction == RDPMC:
                return False
            regs[AX] = regs[AX] & UPPER | UNSUPPORTED
        elif self.high:
            regs[BX] = regs[BX] & UPPER | bits << 16
            self.run_through()
        else:
            regs[CX] = regs[CX] & UPPER | bits << 16
        return True

    def run_through(self) -> None:
        """What a string instruction does to the registers, whoever answers it."""
        if self.instruction in (PORT_OUT, PORT_IN):
            pointer = SI if self.instruction == PORT_OUT else DI
            self.regs[pointer] = self.regs[pointer] + self.regs[CX] & MASK64
            self.regs[CX] = 0


def _checkpoint(fault: Fault, at: _Exit) -> bool:
    channel = at.backdoor.channels.open_channels.get(at.channel)
    if channel is not None and at.message and at.type != Message.OPEN:
        channel.restart()
        if at.type == Message.CLOSE:
            at.backdoor.channels.lose(channel.id)
    return at.status(Status.CPT)


def _lost(fault: Fault, at: _Exit) -> bool:
    channels = at.backdoor.channels
    if at.type == Message.OPEN:
        answered = at.serve()
        channels.lose(at.regs[DX] >> 16 & 0xFFFF)
        return answered
    channels.lose(at.channel if at.message else None)
    return at.serve()


def _refused(fault: Fault, at: _Exit) -> bool:
    return at.status(0)


def _type(fault: Fault, at: _Exit) -> bool:
    answered = at.serve()
    if at.message and not at.high:
        at.regs[DX] = at.regs[DX] & UPPER | int(fault.value or "7", 0) << 16 & MASK32
    return answered


def _size(fault: Fault, at: _Exit) -> bool:
    answered = at.serve()
    if at.type == Message.RECVSIZE:
        at.regs[BX] = at.regs[BX] & UPPER | int(fault.value or "0xffffffff", 0)
    return answered


def _echo(fault: Fault, at: _Exit) -> bool:
    at.run_through()  # EBX stays, and so looks like success
    return at.instruction != RDPMC


def _garbage(fault: Fault, at: _Exit) -> bool:
    text = fault.value.encode("utf-8", "surrogateescape") or GARBAGE
    channel = at.backdoor.channels.open_channels.get(at.channel) if at.message else None
    if channel is not None and channel.outbox:  # a reply waits, or is being read
        _replace(channel.outbox, text, keep_size=channel.position >= 0 and at.type != Message.RECVSIZE)
        return at.serve()
    answered = at.serve()  # this call may be the one that brings it about
    if channel is not None and channel.outbox:
        _replace(channel.outbox, text, keep_size=False)
    return answered


def _replace(outbox: deque[bytes], text: bytes, *, keep_size: bool) -> None:
    size = len(outbox[0])
    outbox[0] = (text * (size // len(text) + 1))[:size] if keep_size else text


def _never(fault: Fault, at: _Exit) -> bool:
    if at.type != Message.RECVSIZE:
        return at.serve()
    at.regs[BX] &= UPPER
    at.regs[DX] &= ~0xFFFF
    return at.status(Status.SUCCESS)


def _cookie(fault: Fault, at: _Exit) -> bool:
    channels = at.backdoor.channels
    opening = at.type == Message.OPEN
    answered = at.serve() if opening else True
    channel = channels.open_channels.get(at.regs[DX] >> 16 & 0xFFFF)
    if channel is not None and at.message:
        channel.cookied = True
        channel.cookie_high ^= 0x5A5A5A5A
        channel.cookie_low ^= 0xA5A5A5A5
    return answered if opening else at.serve()


_KINDS: dict[str, Callable[[Fault, _Exit], bool]] = {
    "checkpoint": _checkpoint,
    "lost": _lost,
    "refused": _refused,
    "type": _type,
    "size": _size,
    "echo": _echo,
    "garbage": _garbage,
    "never": _never,
    "cookie": _cookie,
}
