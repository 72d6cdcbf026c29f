"""What register frames say at the level of messages: for transcripts, from the frames alone.

The decoder follows each channel through OPEN, sizes, payloads and CLOSE by what the guest set and what the host left,
and knows nothing of the host's own state: so it also reads transcripts of other hosts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vmtools.constants import (
    FLAG_HIGH,
    FLAG_OUT,
    MAGIC,
    MASK32,
    OPEN_COOKIE,
    PORT,
    PORT_HIGH,
    PRODUCTS,
    UNSUPPORTED,
    Command,
    Message,
    Protocol,
    Status,
)
from vmtools.sim.backdoor import PORT_IN, PORT_LOW, PORT_OUT, RDPMC, VMCALL, VMMCALL
from vmtools.sim.channels import AX, BX, CX, DX, SI


def _names(numbers: type) -> dict[int, str]:
    return {value: name for name, value in vars(numbers).items() if not name.startswith("_")}


COMMANDS = _names(Command)
MESSAGES = _names(Message)
STATUSES = _names(Status)
PROTOCOLS = _names(Protocol)

SHOWN = 160
"""Characters of a message that a line shows."""


@dataclass
class Meaning:
    """What one exit says.

    ``op``: a command's name (GETVERSION), a message call's (OPEN … CLOSE), or HIGH-OUT, HIGH-IN.  ``size``: announced
    (SENDSIZE, RECVSIZE) or carried, else -1.  ``payload``: the bytes carried.  ``message``: a whole message, with the
    call that completes it.  ``outward``: it goes guest→host.  ``status``: the status bits, -1 where there are none.
    """

    op: str
    channel: int | None = None
    protocol: str = ""
    size: int = -1
    payload: bytes = b""
    message: bytes | None = None
    outward: bool = True
    status: int = -1
    detail: str = ""

    def status_text(self) -> str:
        """The status bits by name: ``SUCCESS DORECV HB``; ``REFUSED`` where none is set."""
        if self.status < 0:
            return ""
        names = [name for bit, name in STATUSES.items() if self.status & bit]
        rest = self.status & ~sum(STATUSES)
        return " ".join(names + ([hex(rest)] if rest else [])) or "REFUSED"

    def as_json(self) -> dict[str, Any]:
        """The value of a record's ``means``; messages as text, what is not UTF-8 escaped as ``\\xNN``."""
        value: dict[str, Any] = {"op": self.op}
        if self.channel is not None:
            value["channel"] = self.channel
        if self.protocol:
            value["protocol"] = self.protocol
        if self.size >= 0:
            value["size"] = self.size
        if self.status >= 0:
            value["status"] = self.status_text()
        if self.message is not None:
            value["to_host" if self.outward else "to_guest"] = self.message.decode("utf-8", "backslashreplace")
        if self.detail:
            value["detail"] = self.detail
        return value

    def sentence(self) -> str:
        """The same for people, in a line."""
        left = self.op
        if self.channel is not None and self.op != "OPEN":
            left += f" {self.channel}"
        if self.op == "OPEN":
            left += f" {self.protocol}"
        elif self.outward and self.size >= 0:
            left += f": {count(self.size)}"
        right = self.status_text().lower()
        if self.op == "OPEN" and self.channel is not None and self.channel >= 0:
            right += f", channel {self.channel}"
        elif not self.outward and self.size >= 0:
            right += f", {count(self.size)}"
        if self.detail:
            right = f"{right}, {self.detail}" if right else self.detail
        line = f"{left:<26} -> {right}" if right else left
        if self.message is not None and (self.message or not self.outward):
            line = f"{line:<52} {'>>' if self.outward else '<<'} {quoted(self.message)}"
        return line


def count(size: int) -> str:
    return f"{size} byte{'' if size == 1 else 's'}"


def quoted(message: bytes) -> str:
    """A message as one safe line: control characters and what is not UTF-8 escaped, long ones cut."""
    text = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode()
        for c in message[: SHOWN * 4].decode("utf-8", "backslashreplace")
    )
    if len(text) <= SHOWN and len(message) <= SHOWN * 4:
        return f'"{text}"'
    return f'"{text[:SHOWN]}"… ({count(len(message))})'


class _Channel:
    """One channel as the frames show it."""

    def __init__(self, protocol: str) -> None:
        self.protocol = protocol
        self.buffers = {True: bytearray(), False: bytearray()}
        self.expected = {True: -1, False: -1}

    def begin(self, outward: bool, size: int) -> bytes | None:
        self.buffers[outward].clear()
        self.expected[outward] = size
        return self._whole(outward)

    def carry(self, outward: bool, data: bytes) -> bytes | None:
        self.buffers[outward] += data
        return self._whole(outward)

    def left(self, outward: bool) -> int:
        return max(0, self.expected[outward] - len(self.buffers[outward]))

    def _whole(self, outward: bool) -> bytes | None:
        if len(self.buffers[outward]) != self.expected[outward]:
            return None
        message = bytes(self.buffers[outward])
        self.buffers[outward].clear()
        self.expected[outward] = -1
        return message


class Decoder:
    """Reads exits in their order; keeps what it must know of each channel."""

    def __init__(self) -> None:
        self._channels: dict[int, _Channel] = {}

    def feed(
        self, instruction: int, before: list[int], after: list[int], answered: bool, data: bytes
    ) -> Meaning | None:
        """What this exit says; None where it is no backdoor call at all."""
        if instruction == RDPMC:
            value = (after[DX] & MASK32) << 32 | after[AX] & MASK32
            return Meaning("RDPMC", detail=f"counter {before[CX] & MASK32:#x}" + (f" = {value}" if answered else ""))
        port = before[DX] & 0xFFFF
        hypercall = instruction in (VMCALL, VMMCALL)
        if before[AX] & MASK32 != MAGIC:
            return None
        if (instruction == PORT_LOW and port == PORT) or (hypercall and port == 0):
            if before[CX] & 0xFFFF == Command.MESSAGE:
                return self._message(before, after, answered)
            return self._command(before, after, answered)
        if instruction in (PORT_OUT, PORT_IN) and port == PORT_HIGH:
            return self._high(instruction == PORT_OUT, before, after, answered, data)
        if hypercall and port in (FLAG_HIGH, FLAG_HIGH | FLAG_OUT):
            return self._high(bool(port & FLAG_OUT), before, after, answered, data)
        return None

    def _message(self, before: list[int], after: list[int], answered: bool) -> Meaning:
        kind = before[CX] >> 16 & 0xFFFF
        status = after[CX] >> 16 & 0xFFFF if answered else -1
        if after[AX] & MASK32 == UNSUPPORTED:
            return Meaning(MESSAGES.get(kind, f"MESSAGE-{kind}"), channel=-1, detail="unsupported")
        good = answered and bool(status & Status.SUCCESS)
        if kind == Message.OPEN:
            return self._open(before, after, good, status)
        number = before[DX] >> 16 & 0xFFFF
        channel = self._channels.get(number)
        meaning = Meaning(MESSAGES.get(kind, f"MESSAGE-{kind}"), number, status=status)
        if channel is None:
            return meaning
        meaning.protocol = channel.protocol
        if kind == Message.SENDSIZE:
            meaning.size = before[BX] & MASK32
            meaning.message = channel.begin(True, meaning.size) if good else None
        elif kind == Message.SENDPAYLOAD:
            meaning.size = min(4, channel.left(True))
            meaning.payload = _word(before)[: meaning.size]
            meaning.message = channel.carry(True, meaning.payload) if good and meaning.size else None
        elif kind == Message.RECVSIZE:
            meaning.outward = False
            if good and status & Status.DORECV:
                meaning.size = after[BX] & MASK32
                meaning.detail = _type(after, Message.SENDSIZE)
                meaning.message = channel.begin(False, meaning.size)
            elif good:
                meaning.detail = "nothing"
        elif kind == Message.RECVPAYLOAD:
            self._received(meaning, channel, before, after, good)
        elif kind == Message.RECVSTATUS and not before[BX] & Status.SUCCESS:
            meaning.detail = "the guest rejected it"
        elif kind == Message.CLOSE and good:
            del self._channels[number]
        return meaning

    @staticmethod
    def _received(meaning: Meaning, channel: _Channel, before: list[int], after: list[int], good: bool) -> None:
        meaning.outward = False
        if not before[BX] & Status.SUCCESS:
            meaning.detail = "the guest rejected it"
        elif good:
            meaning.size = min(4, channel.left(False))
            meaning.payload = _word(after)[: meaning.size]
            meaning.detail = _type(after, Message.SENDPAYLOAD)
            meaning.message = channel.carry(False, meaning.payload) if meaning.size else None

    def _open(self, before: list[int], after: list[int], good: bool, status: int) -> Meaning:
        number = before[BX] & MASK32 & ~OPEN_COOKIE
        protocol = PROTOCOLS.get(number, hex(number))
        meaning = Meaning("OPEN", -1, protocol, status=status)
        if not before[BX] & OPEN_COOKIE:
            meaning.detail = "without a cookie"
        if good:
            meaning.channel = after[DX] >> 16 & 0xFFFF
            self._channels[meaning.channel] = _Channel(protocol)
        return meaning

    def _high(self, outward: bool, before: list[int], after: list[int], answered: bool, data: bytes) -> Meaning:
        number = before[DX] >> 16 & 0xFFFF
        status = after[BX] >> 16 & 0xFFFF if answered else -1
        channel = self._channels.get(number)
        meaning = Meaning("HIGH-OUT" if outward else "HIGH-IN", number, outward=outward, status=status)
        meaning.size = before[CX] & MASK32
        if after[AX] & MASK32 == UNSUPPORTED:
            meaning.detail = "unsupported"
        if channel is not None:
            meaning.protocol = channel.protocol
            if status & Status.SUCCESS and answered:
                meaning.payload = data
                meaning.message = channel.carry(outward, data) if data else None
        return meaning

    @staticmethod
    def _command(before: list[int], after: list[int], answered: bool) -> Meaning:
        number = before[CX] & 0xFFFF
        meaning = Meaning(COMMANDS.get(number, f"command {number}"))
        ax, bx = after[AX] & MASK32, after[BX] & MASK32
        if not answered:
            return meaning
        if ax == UNSUPPORTED:
            meaning.detail = "unsupported"
        elif number == Command.GETVERSION and bx == MAGIC:
            meaning.detail = f"version {ax}, {PRODUCTS.get(after[CX] & MASK32, 'product ' + hex(after[CX] & MASK32))}"
        elif number in (Command.GETTIMEFULL, Command.GETTIMEFULL_WITH_LAG):
            meaning.detail = f"{(after[SI] & MASK32) << 32 | after[DX] & MASK32}.{bx:06} s"
        elif number == Command.GETTIME:
            meaning.detail = f"{ax}.{bx:06} s"
        elif number == Command.GETUUID:
            words = [after[place] & MASK32 for place in (AX, BX, CX, DX)]
            meaning.detail = b"".join(word.to_bytes(4, "little") for word in words).hex()
        elif number == Command.GETHZ:
            meaning.detail = f"{bx << 32 | ax} Hz"
        elif ax != MAGIC:
            meaning.detail = f"{ax} ({ax:#x})"
        return meaning


def _word(regs: list[int]) -> bytes:
    return (regs[BX] & MASK32).to_bytes(4, "little")


def _type(after: list[int], wanted: int) -> str:
    """A word on a wrong type in EDX."""
    found = after[DX] >> 16 & 0xFFFF
    return "" if found == wanted else f"type {found} for {wanted}"
