"""Faults at chosen exits or at random ones, for tests of guests: what a host can do to one, at each step.

A plan counts exits from 1.  ``checkpoint@5`` puts a fault at the 5th exit, ``checkpoint@5+`` at each from the 5th on,
``size@7:0xffffffff`` gives it a value.  ``random:SEED:RATE`` puts some fault that can strike there (:data:`STRAY`) at
about that part of all exits, and the same ones again for the same seed and the same exits.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, NamedTuple

from vmtools.constants import FLAG_HIGH, MASK32, UNSUPPORTED, Command, Message, Status
from vmtools.sim.backdoor import MASK64, PORT_IN, PORT_LOW, PORT_OUT, RDPMC, VMCALL, VMMCALL
from vmtools.sim.channels import AX, BX, CX, DI, DX, SI, UPPER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vmtools.sim.backdoor import Backdoor, Guest, Memory

KINDS = {
    "checkpoint": "the call is not done; its status says: restart the transfer (at CLOSE: the channel is gone too)",
    "lost": "the host has forgotten the channel before the call (at OPEN: right after it)",
    "refused": "the call is not done; status 0 (no message call: unsupported)",
    "type": "VALUE (7) in the high half of EDX where the type or the channel belongs",
    "size": "VALUE (0xffffffff, 4 GiB but one) in EBX where a size belongs, after RECVSIZE only; +N, -N: so much off",
    "echo": "the registers stay as the guest set them, as on a host that knows nothing of this",
    "slow": "VALUE (1) seconds pass before the call is done; 20ms: milliseconds",
    "garbage": "the next reply reads VALUE (bytes that are no reply); the size is kept once it was announced",
    "never": "RECVSIZE finds nothing to receive",
    "cookie": "the channel's cookie is another from here on (at OPEN: the guest gets a wrong one)",
}
"""Each kind, and what it does."""

STRAY = (
    *("checkpoint", "lost", "refused", "type", "type:0", "size", "size:0", "size:+1", "size:-1"),
    *("echo", "slow:10ms", "garbage", "never", "cookie"),
)
"""What strikes at random: a kind, or a kind and its value."""

RATE = 0.05
"""Which part of all exits ``random`` strikes by default."""

GARBAGE = b"\xff\xfe\0 garbage \x80"
MAX_SLOW = 3600.0


class Fault(NamedTuple):
    """One fault: its kind, the exit that it is put at (from 1), whether at all later ones too, its value."""

    kind: str
    at: int
    onwards: bool = False
    value: str = ""

    def __str__(self) -> str:
        return f"{self.kind}@{self.at}{'+' if self.onwards else ''}{':' if self.value else ''}{self.value}"


class Stray(NamedTuple):
    """Faults at random exits."""

    seed: str
    rate: float = RATE

    def __str__(self) -> str:
        return f"random:{self.seed}:{self.rate:g}"


def parse(text: str) -> Fault | Stray:
    """``KIND@N[+][:VALUE]`` or ``random:SEED[:RATE]``; :raises ValueError: with a sentence for the user."""
    if text.partition(":")[0] == "random":
        return _parse_stray(text)
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


def _parse_stray(text: str) -> Stray:
    _, _, rest = text.partition(":")
    seed, colon, rate = rest.partition(":")
    if not seed or (colon and not rate):
        raise ValueError(f"{text!r} is not random:SEED or random:SEED:RATE")
    stray = Stray(seed, float(rate) if rate else RATE)
    if not 0 <= stray.rate <= 1:
        raise ValueError(f"'random' strikes a part of all exits, 0 to 1, not {rate}")
    return stray


def _check(fault: Fault) -> None:
    if fault.kind not in KINDS:
        raise ValueError(f"no fault is called {fault.kind!r}; there are: {', '.join(KINDS)}, random")
    if fault.value and fault.kind == "slow" and not 0 <= _seconds(fault.value) <= MAX_SLOW:
        raise ValueError(f"'slow' takes 0 to {MAX_SLOW:.0f} seconds, not {fault.value}")
    if fault.value and fault.kind in ("type", "size"):
        signed = fault.kind == "size" and fault.value[0] in "+-"
        if not (-MASK32 if signed else 0) <= int(fault.value, 0) <= MASK32:
            raise ValueError(f"{fault.kind!r} takes a 32-bit number, not {fault.value}")


def _seconds(value: str) -> float:
    number = value.removesuffix("ms")
    return float(number) / 1000 if number != value else float(number)


def applies(kind: str, instruction: int, regs: list[int]) -> bool:
    """Whether a fault of this kind changes anything at an exit: at others it is not worth a test.

    :param regs: as the guest set them.
    """
    call = _Call(instruction, regs)
    if kind in ("size", "never"):
        return call.type == Message.RECVSIZE
    if kind == "type":
        return call.type in (Message.OPEN, Message.RECVSIZE, Message.RECVPAYLOAD)
    if kind == "garbage":
        carries = (Message.SENDPAYLOAD, Message.RECVSIZE, Message.RECVPAYLOAD)
        return call.high or call.type in carries
    if kind == "cookie":
        return call.message
    return True


class FaultPlan:
    """Faults, and the count of exits so far.

    :param faults: as :class:`Fault`, :class:`Stray` or as text for :func:`parse`.
    :param sleep: waits that many seconds, for ``slow``.
    """

    def __init__(
        self, faults: Iterable[Fault | Stray | str] = (), *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.faults: list[Fault] = []
        self.strays: list[tuple[random.Random, float]] = []
        self.count = 0
        self.applied = ""
        """What was done to the last exit: ``KIND`` or ``KIND:VALUE``, joined by commas, for the transcript."""
        self._sleep = sleep
        self.add(faults)

    def add(self, faults: Iterable[Fault | Stray | str]) -> None:
        """More of them; their exits are counted from the next.  :raises ValueError: what is no fault; none is added."""
        given = [parse(fault) if isinstance(fault, str) else fault for fault in faults]
        for fault in given:
            if isinstance(fault, Fault):
                _check(fault)
        for fault in given:
            if isinstance(fault, Fault):
                self.faults.append(fault._replace(at=fault.at + self.count))
            else:
                # S311: it is to be had again, not to be secret
                self.strays.append((random.Random(fault.seed), fault.rate))  # noqa: S311

    @property
    def size(self) -> int:
        """How many faults are planned; one that strikes at random counts once."""
        return len(self.faults) + len(self.strays)

    def exit(self, backdoor: Backdoor, instruction: int, regs: list[int], memory: Memory, who: Guest) -> bool:
        """Serve one exit through the plan: ``slow`` ones first, then the first of the others."""
        self.count += 1
        due = [f for f in self.faults if f.at == self.count or (f.onwards and f.at < self.count)]
        for source, rate in self.strays:
            if source.random() < rate:
                due.append(self._stray(source, instruction, regs))
        self.applied = ""
        chosen = None
        for fault in due:
            if fault.kind == "slow":
                self._sleep(_seconds(fault.value or "1"))
                self.applied = _join(self.applied, fault)
            elif chosen is None:
                chosen = fault
        if chosen is None:
            return backdoor.serve(instruction, regs, memory, who)
        self.applied = _join(self.applied, chosen)
        return _KINDS[chosen.kind](chosen, _Exit(backdoor, instruction, regs, memory, who))

    def _stray(self, source: random.Random, instruction: int, regs: list[int]) -> Fault:
        words = [word.partition(":") for word in STRAY]
        kind, _, value = source.choice([w for w in words if applies(w[0], instruction, regs)])
        return Fault(kind, self.count, value=value)


def _join(applied: str, fault: Fault) -> str:
    text = f"{fault.kind}:{fault.value}" if fault.value else fault.kind
    return f"{applied},{text}" if applied else text


class _Call:
    """What an exit is: ``type`` of a low-bandwidth message call (else -1), ``channel`` that it names."""

    def __init__(self, instruction: int, regs: list[int]) -> None:
        hypercall = instruction in (VMCALL, VMMCALL)
        self.high = instruction in (PORT_OUT, PORT_IN) or (hypercall and bool(regs[DX] & FLAG_HIGH))
        low = instruction == PORT_LOW or (hypercall and not regs[DX] & 0xFFFF)
        self.message = self.high or (low and regs[CX] & 0xFFFF == Command.MESSAGE)
        self.type = regs[CX] >> 16 & 0xFFFF if self.message and not self.high else -1
        self.channel = regs[DX] >> 16 & 0xFFFF


class _Exit(_Call):
    """One exit under a fault: what it is, and how it is served."""

    def __init__(self, backdoor: Backdoor, instruction: int, regs: list[int], memory: Memory, who: Guest) -> None:
        super().__init__(instruction, regs)
        self.backdoor, self.instruction, self.regs, self.memory, self.who = backdoor, instruction, regs, memory, who

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
        value = fault.value or "0xffffffff"
        size = int(value, 0) + (at.regs[BX] & MASK32 if value[0] in "+-" else 0)
        at.regs[BX] = at.regs[BX] & UPPER | size & MASK32
    return answered


def _echo(fault: Fault, at: _Exit) -> bool:
    at.run_through()  # EBX stays, and so looks like success
    return at.instruction != RDPMC


def _garbage(fault: Fault, at: _Exit) -> bool:
    text = fault.value.encode("utf-8", "surrogateescape") or GARBAGE
    channel = at.backdoor.channels.open_channels.get(at.channel) if at.message else None
    if channel is not None and (reply := channel.waiting()) is not None:  # a reply waits, or is being read
        announced = channel.position >= 0 and at.type != Message.RECVSIZE
        channel.substitute((text * (len(reply) // len(text) + 1))[: len(reply)] if announced else text)
        return at.serve()
    answered = at.serve()  # this call may be the one that brings it about
    if channel is not None and channel.waiting() is not None:
        channel.substitute(text)
    return answered


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
