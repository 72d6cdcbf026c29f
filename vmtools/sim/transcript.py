"""Transcripts: every exit as a line of JSON, and back.

Schema, version 1.  The first line is ``{"transcript": "vmtools-sim", "version": 1, "started": SECONDS}``.  Each further
line is one exit::

    seq       count from 1
    time      seconds since "started"
    who       {"pid", "tid", "name"}: who trapped
    insn      IN, OUTS, INS, VMCALL, VMMCALL, RDPMC
    before    the registers as the guest set them: {"ax": "0x…", …, "bp": "0x…"}
    after     the same as the host left them
    answered  false: the program got the fault
    data      what a high-bandwidth call carried, base64 (absent where it carried nothing)
    fault     kinds of the faults that were put here (absent where none)
    means     what it says at the level of messages: see :class:`vmtools.sim.decode.Meaning` (absent: no backdoor call)

A reader must accept keys that it does not know.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from vmtools.sim.backdoor import MASK64, NOBODY, PORT_IN, PORT_LOW, PORT_OUT, RDPMC, VMCALL, VMMCALL, Guest, Memory
from vmtools.sim.decode import Decoder, Meaning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

NAME = "vmtools-sim"
VERSION = 1
REGISTERS = ("ax", "bx", "cx", "dx", "si", "di", "bp")
INSTRUCTIONS = {
    PORT_LOW: "IN",
    PORT_OUT: "OUTS",
    PORT_IN: "INS",
    VMCALL: "VMCALL",
    VMMCALL: "VMMCALL",
    RDPMC: "RDPMC",
}
NUMBERS = {name: number for number, name in INSTRUCTIONS.items()}


class TranscriptError(Exception):
    """The file is no transcript, or a damaged one; ``str()`` names the line."""


class Record(NamedTuple):
    """One exit, as it was recorded."""

    seq: int
    time: float
    who: Guest
    instruction: int
    before: list[int]
    after: list[int]
    answered: bool
    data: bytes
    fault: str


class _RecordingMemory(Memory):
    """Passes on to the guest's memory and keeps what went through."""

    def __init__(self, memory: Memory) -> None:
        self.inner = memory
        self.data = b""

    def read(self, address: int, size: int) -> bytes:
        self.data = self.inner.read(address, size)
        return self.data

    def write(self, address: int, data: bytes) -> None:
        self.inner.write(address, data)
        self.data = bytes(data)


class Lines(Protocol):
    """What takes a transcript's lines: a text file, or what keeps them in memory."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


class Transcript:
    """Writes the exits of one backdoor: :meth:`begin` before each is served, :meth:`end` after.

    :param file: gets the lines; it is flushed after each, so that a killed host leaves all it answered.
    """

    def __init__(self, file: Lines, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock
        self._started = clock()
        self._seq = 0
        self._decoder = Decoder()
        self._instruction = PORT_LOW
        self._before: list[int] = [0] * len(REGISTERS)
        self.memory = _RecordingMemory(_NoMemory())
        """The guest's memory, to be used between :meth:`begin` and :meth:`end`."""
        self._write({"transcript": NAME, "version": VERSION, "started": round(self._started, 6)})

    def begin(self, instruction: int, regs: list[int], memory: Memory) -> None:
        """Keep what the guest set."""
        self._instruction = instruction
        self._before = regs.copy()
        self.memory = _RecordingMemory(memory)

    def end(self, regs: list[int], who: Guest, answered: bool, fault: str) -> None:
        """Write the record."""
        self._seq += 1
        now = round(self._clock() - self._started, 6)
        data = self.memory.data
        record = Record(self._seq, now, who, self._instruction, self._before, regs.copy(), answered, data, fault)
        self._write(to_json(record, self._decoder.feed(self._instruction, self._before, regs, answered, data)))

    def _write(self, value: dict[str, Any]) -> None:
        self._file.write(json.dumps(value, separators=(",", ":")) + "\n")
        self._file.flush()


class _NoMemory(Memory):
    def read(self, address: int, size: int) -> bytes:
        raise OSError("no memory")

    def write(self, address: int, data: bytes) -> None:
        raise OSError("no memory")


def to_json(record: Record, meaning: Meaning | None) -> dict[str, Any]:
    """A record as the object of its line."""
    value: dict[str, Any] = {
        "seq": record.seq,
        "time": record.time,
        "who": {"pid": record.who.pid, "tid": record.who.tid, "name": record.who.name},
        "insn": INSTRUCTIONS.get(record.instruction, str(record.instruction)),
        "before": {name: hex(word) for name, word in zip(REGISTERS, record.before, strict=True)},
        "after": {name: hex(word) for name, word in zip(REGISTERS, record.after, strict=True)},
        "answered": record.answered,
    }
    if record.data:
        value["data"] = base64.b64encode(record.data).decode()
    if record.fault:
        value["fault"] = record.fault
    if meaning is not None:
        value["means"] = meaning.as_json()
    return value


def from_json(value: dict[str, Any]) -> Record:
    """The reverse; :raises ValueError, KeyError, TypeError: it is no record."""
    who = value.get("who", {})
    insn = value["insn"]
    return Record(
        _whole(value["seq"]),
        _seconds(value["time"]),
        Guest(_whole(who.get("pid", 0)), _whole(who.get("tid", 0)), str(who.get("name", ""))) if who else NOBODY,
        NUMBERS[insn] if insn in NUMBERS else _whole(int(str(insn))),
        [_whole(int(value["before"][name], 16)) for name in REGISTERS],
        [_whole(int(value["after"][name], 16)) for name in REGISTERS],
        bool(value["answered"]),
        base64.b64decode(value.get("data", ""), validate=True),
        str(value.get("fault", "")),
    )


def _whole(value: object) -> int:
    """A number that fits into 64 bits; JSON has others, infinity among them."""
    if type(value) is not int or not 0 <= value <= MASK64:
        raise ValueError("a whole number of 64 bits is expected")
    return value


def _seconds(value: object) -> float:
    """Before the start too: clocks are set back."""
    if not isinstance(value, int | float) or not abs(value) <= MASK64:
        raise ValueError("a time in seconds is expected")
    return float(value)


def read(lines: Iterable[str]) -> Iterator[Record]:
    """The records of a transcript.

    A last line without its end is left out: its writer was killed.

    :raises TranscriptError: with the number of the line.
    """
    seen_header = False
    for number, line in enumerate(lines, 1):
        if not line.endswith("\n"):
            break
        try:
            value = json.loads(line)
            if seen_header:
                yield from_json(value)
            elif value["transcript"] != NAME or value["version"] != VERSION:
                raise ValueError(f"this is {value['transcript']!r} version {value['version']!r}")
            seen_header = True
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
            raise TranscriptError(f"line {number} is not of a {NAME} transcript, version {VERSION}: {error}") from None
    if not seen_header:
        raise TranscriptError(f"no {NAME} transcript: it has no first line")


class Operation(NamedTuple):
    """One exit without what differs between two runs of equal programs: channel id, cookie, addresses, time."""

    type: str
    protocol: str
    length: int
    payload: bytes
    reply: str


class Exchange(NamedTuple):
    """A message and its answer: RPCI guest→host→guest, TCLO host→guest→host.  None: none was seen."""

    protocol: str
    request: bytes
    reply: bytes | None


def meanings(records: Iterable[Record]) -> Iterator[Meaning]:
    """What the records say, those that say something."""
    decoder = Decoder()
    for record in records:
        meaning = decoder.feed(record.instruction, record.before, record.after, record.answered, record.data)
        if meaning is not None:
            yield meaning


def operations(records: Iterable[Record]) -> list[Operation]:
    """The calls of the message channel, to be compared with another program's."""
    return [
        Operation(m.op, m.protocol, m.size, m.payload, m.status_text())
        for m in meanings(records)
        if m.channel is not None
    ]


def exchanges(records: Iterable[Record]) -> list[Exchange]:
    """Messages and their answers, in the order of the messages."""
    found: list[Exchange] = []
    waiting: dict[int, int] = {}
    for meaning in meanings(records):
        if meaning.channel is None:
            continue
        if meaning.op in ("OPEN", "CLOSE"):
            waiting.pop(meaning.channel, None)
        if meaning.message is None:
            continue
        asks = meaning.outward == (meaning.protocol == "RPCI")
        at = waiting.pop(meaning.channel, None)
        if asks:
            waiting[meaning.channel] = len(found)
            found.append(Exchange(meaning.protocol, meaning.message, None))
        elif at is not None:
            found[at] = found[at]._replace(reply=meaning.message)
    return found


def show(records: Iterable[Record]) -> Iterator[str]:
    """One line an exit, for people."""
    decoder = Decoder()
    for record in records:
        meaning = decoder.feed(record.instruction, record.before, record.after, record.answered, record.data)
        who = f"{record.who.name or '?'}[{record.who.tid or record.who.pid}]"
        insn = INSTRUCTIONS.get(record.instruction, "?")
        said = meaning.sentence() if meaning is not None else "no backdoor call"
        if not record.answered:
            said += "  (the program gets the fault)"
        if record.fault:
            said += f"  [fault: {_printable(record.fault)}]"
        yield f"{record.seq:5} {record.time:10.6f}  {_printable(who):<24} {insn:<7} {said}"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
