"""A recorded host for a live guest: it answers as the transcript has it, as long as the guest asks as it did then.

What counts as the same question is in :mod:`vmtools.sim.calls`: the words that a call defines.  Channel numbers and
cookies are the recorded ones, since the guest got them from the recording.  Exits are taken in their recorded order,
those of several threads too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vmtools.constants import MASK32, UNSUPPORTED, Command
from vmtools.sim import calls
from vmtools.sim.backdoor import MASK64, PORT_IN, PORT_OUT, RDPMC
from vmtools.sim.channels import AX, BX, CX, DI, SI, UPPER
from vmtools.sim.compare import is_knock
from vmtools.sim.decode import Decoder, quoted
from vmtools.sim.transcript import INSTRUCTIONS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from vmtools.sim.backdoor import Guest, Memory
    from vmtools.sim.decode import Meaning
    from vmtools.sim.transcript import Record, Transcript

DEVIATED = 125
"""Exit status of a replay in which the guest did not ask as recorded (that of timeout(1) for its own failures)."""

SHOWN = 3
"""Recorded exits that are named when the guest ends too early."""


class Deviation(NamedTuple):
    """Where the guest left the recording: the position from 1, what was due, what came, which words differ."""

    position: int
    expected: str
    got: str
    words: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The same for people."""
        return [
            f"the program left the recording at exit {self.position}",
            f"  expected: {self.expected}",
            f"  got:      {self.got}",
            *(f"  {word}" for word in self.words),
        ]


class Replay:
    """Answers exits from a recording (:class:`vmtools.sim.backdoor.Exits`).

    :param ignore: ``knocks``: GETVERSION may come at any time, or not, and is answered as it was once recorded.
    :param lose: what a guest that deviates gets from then on: True: the host knows no channels and no commands any
        more; False: each exit is the fault that the instruction caused.
    :param transcript: records this run.
    """

    def __init__(
        self,
        records: Iterable[Record],
        *,
        ignore: Collection[str] = (),
        lose: bool = True,
        transcript: Transcript | None = None,
    ) -> None:
        decoder = Decoder()
        self._due: list[tuple[Record, Meaning | None]] = []
        self._knock: Record | None = None
        for record in records:
            meaning = decoder.feed(record.instruction, record.before, record.after, record.answered, record.data)
            if "knocks" in ignore and is_knock(record):
                self._knock = record
            else:
                self._due.append((record, meaning))
        self._lose = lose
        self._transcript = transcript
        self._live = Decoder()
        self._taken = 0
        self.position = 0
        """How many exits the guest has made."""
        self.deviation: Deviation | None = None

    def exit(self, instruction: int, regs: list[int], memory: Memory, who: Guest) -> bool:
        """As :meth:`vmtools.sim.backdoor.Backdoor.exit`."""
        if self._transcript is None:
            return self._serve(instruction, regs, memory)
        self._transcript.begin(instruction, regs, memory)
        answered = self._serve(instruction, regs, self._transcript.memory)
        self._transcript.end(regs, who, answered, "deviation" if self.deviation is not None else "")
        return answered

    def finish(self) -> Deviation | None:
        """The deviation, if there was one; that the guest has ended too early is one too."""
        left = self._due[self._taken :]
        if self.deviation is None and left:
            named = "; ".join(_line(record.instruction, meaning) for record, meaning in left[:SHOWN])
            more = f"; {len(left) - SHOWN} more" if len(left) > SHOWN else ""
            self.deviation = Deviation(self.position + 1, named + more, "the program's end")
        return self.deviation

    def _serve(self, instruction: int, regs: list[int], memory: Memory) -> bool:
        self.position += 1
        if self.deviation is not None:
            return self._refuse(instruction, regs)
        if self._knock is not None and calls.command(instruction, regs) == Command.GETVERSION:
            return _answer(self._knock, instruction, regs, memory)
        if self._taken == len(self._due):
            return self._deviate(instruction, regs, "the end of the recording")
        record, meaning = self._due[self._taken]
        wrong = _differing(record, meaning, instruction, regs, memory)
        if wrong:
            return self._deviate(instruction, regs, _line(record.instruction, meaning), tuple(wrong))
        self._taken += 1
        answered = _answer(record, instruction, regs, memory)
        self._live.feed(instruction, record.before, record.after, record.answered, record.data)
        return answered

    def _deviate(self, instruction: int, regs: list[int], expected: str, words: tuple[str, ...] = ()) -> bool:
        meaning = self._live.feed(instruction, regs.copy(), regs.copy(), False, b"")
        self.deviation = Deviation(self.position, expected, _line(instruction, meaning), words)
        return self._refuse(instruction, regs)

    def _refuse(self, instruction: int, regs: list[int]) -> bool:
        if not self._lose or instruction == RDPMC:
            return False
        form = calls.form(instruction, regs)
        if form in (calls.OUT, calls.IN):
            regs[BX] &= UPPER
            _run_through(instruction, regs)
        elif calls.command(instruction, regs) == Command.MESSAGE:
            regs[CX] &= UPPER
        else:
            regs[AX] = regs[AX] & UPPER | UNSUPPORTED
        return True


def _differing(record: Record, meaning: Meaning | None, instruction: int, regs: list[int], memory: Memory) -> list[str]:
    """The words in which a live exit is not the recorded one."""
    if instruction != record.instruction:
        return [f"instruction: {_insn(record.instruction)} recorded, {_insn(instruction)} now"]
    size = max(0, meaning.size) if meaning is not None and meaning.op == "SENDPAYLOAD" else 4
    then = calls.asked(record.instruction, record.before, size)
    now = calls.asked(instruction, regs, size)
    wrong = [
        f"{name}: {_hex(then.get(name))} recorded, {_hex(now.get(name))} now"
        for name in {**then, **now}
        if then.get(name) != now.get(name)
    ]
    if not wrong and record.data and calls.form(instruction, regs) == calls.OUT:
        try:
            data = memory.read(regs[SI], len(record.data))
        except OSError:
            return ["data: the program's buffer can't be read"]
        if data != record.data:
            wrong.append(f"data: {quoted(record.data)} recorded, {quoted(data)} now")
    return wrong


def _answer(record: Record, instruction: int, regs: list[int], memory: Memory) -> bool:
    """Leave the registers as the recorded host did."""
    if not record.answered:
        return False
    if record.data and calls.form(instruction, regs) == calls.IN:
        try:
            memory.write(regs[DI], record.data)
        except OSError:
            return False
    before, after = record.before, record.after
    moved = (calls.pointer(instruction), CX if calls.pointer(instruction) is not None else None)
    always = calls.answered_in(instruction, before, after)
    for place in range(len(regs)):
        if place in moved:
            continue
        if after[place] & UPPER != before[place] & UPPER:
            regs[place] = after[place]
        elif place in always or after[place] != before[place]:
            regs[place] = regs[place] & UPPER | after[place] & MASK32
    _run_through(instruction, regs)
    return True


def _run_through(instruction: int, regs: list[int]) -> None:
    """What a string instruction does to the registers, whoever answers it."""
    if instruction in (PORT_OUT, PORT_IN):
        place = SI if instruction == PORT_OUT else DI
        regs[place] = regs[place] + regs[CX] & MASK64
        regs[CX] = 0


def _line(instruction: int, meaning: Meaning | None) -> str:
    return f"{_insn(instruction)} {meaning.sentence() if meaning is not None else 'no backdoor call'}"


def _insn(instruction: int) -> str:
    return INSTRUCTIONS.get(instruction, str(instruction))


def _hex(value: int | None) -> str:
    return "-" if value is None else hex(value)
