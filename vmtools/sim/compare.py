"""Two transcripts side by side: what they say that may not differ.

Each exit becomes a :class:`Step`: the words that its call defines, with those replaced that are different in each run
of the same program.  Steps are compared in their order.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import TYPE_CHECKING, NamedTuple

from vmtools.constants import Command
from vmtools.sim import calls
from vmtools.sim.decode import Decoder, quoted
from vmtools.sim.transcript import INSTRUCTIONS, exchanges

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from vmtools.sim.decode import Meaning
    from vmtools.sim.transcript import Exchange, Record

CONTEXT = 2
"""Equal exits that are shown before a difference."""


class Step(NamedTuple):
    """An exit as it is compared.  ``number``, ``line``: its count in the transcript and the exit for people."""

    number: int
    line: str
    call: str
    words: tuple[tuple[str, str], ...]
    data: bytes

    @property
    def key(self) -> tuple[str, tuple[tuple[str, str], ...], bytes]:
        """What is equal in two steps that are the same."""
        return self.call, self.words, self.data


def steps(records: Iterable[Record], ignore: Collection[str] = ()) -> list[Step]:
    """What of a transcript is compared."""
    namer = _Namer("transport" in ignore)
    found = [(namer.step(record, number), record, namer.meaning) for number, record in enumerate(records, 1)]
    kept = []
    for at, (step, record, meaning) in enumerate(found):
        if "knocks" in ignore and is_knock(record):
            continue
        if "polls" in ignore and _is_idle(meaning, [m for _, _, m in found[at + 1 : at + 2]]):
            continue
        kept.append(step)
    return kept


def is_knock(record: Record) -> bool:
    """Whether an exit is GETVERSION."""
    return calls.command(record.instruction, record.before) == Command.GETVERSION


def _is_idle(meaning: Meaning | None, after: Sequence[Meaning | None]) -> bool:
    """A TCLO guest's question for more (an empty message) that gets nothing, and the answer "nothing"."""
    if meaning is None or meaning.protocol != "TCLO":
        return False
    if meaning.op == "RECVSIZE":
        return meaning.detail == "nothing"
    return meaning.op == "SENDSIZE" and meaning.size == 0 and any(_is_idle(m, ()) for m in after)


def differences(first: Iterable[Record], second: Iterable[Record], *, ignore: Collection[str] = ()) -> list[str]:
    """Lines for people that say in what two transcripts differ; none where they do not.

    ``-`` is the first transcript's, ``+`` the second's, a blank both's; ``?`` names the words.
    """
    left, right = steps(first, ignore), steps(second, ignore)
    lines: list[str] = []
    shown = 0
    for tag, a, b, c, d in _opcodes([step.key for step in left], [step.key for step in right]):
        if tag == "equal":
            continue
        lines += [f"  {step.number:5} {step.line}" for step in left[max(shown, a - CONTEXT) : a]]
        shown = b
        pairs = b - a == d - c
        for at in range(a, b):
            lines.append(f"- {left[at].number:5} {left[at].line}")
            if pairs:
                other = right[c + at - a]
                lines += [f"+ {other.number:5} {other.line}", *_words_apart(left[at], other)]
        lines += [f"+ {step.number:5} {step.line}" for step in right[c:d] if not pairs]
    return lines


def message_differences(first: Iterable[Record], second: Iterable[Record]) -> list[str]:
    """The same for messages and their answers alone, however they were carried."""
    left, right = exchanges(first), exchanges(second)
    lines: list[str] = []
    for tag, a, b, c, d in _opcodes(left, right):
        if tag != "equal":
            lines += [f"- {number + 1:5} {_sentence(left[number])}" for number in range(a, b)]
            lines += [f"+ {number + 1:5} {_sentence(right[number])}" for number in range(c, d)]
    return lines


def _sentence(exchange: Exchange) -> str:
    reply = "(no answer)" if exchange.reply is None else quoted(exchange.reply)
    return f"{exchange.protocol} {quoted(exchange.request)} -> {reply}"


def _opcodes(left: Sequence[object], right: Sequence[object]) -> Iterator[tuple[str, int, int, int, int]]:
    """As difflib's, with what is equal at both ends taken off before: that is most, and difflib is slow."""
    start, shortest = 0, min(len(left), len(right))
    while start < shortest and left[start] == right[start]:
        start += 1
    end = 0
    while end < shortest - start and left[-1 - end] == right[-1 - end]:
        end += 1
    middle = SequenceMatcher(None, left[start : len(left) - end], right[start : len(right) - end])
    for tag, a, b, c, d in middle.get_opcodes():
        yield tag, a + start, b + start, c + start, d + start


def _words_apart(left: Step, right: Step) -> list[str]:
    if left.call != right.call:
        return []
    ours, theirs = dict(left.words), dict(right.words)
    apart = [
        f"{name}: {ours.get(name, '-')} / {theirs.get(name, '-')}"
        for name in {**ours, **theirs}
        if ours.get(name) != theirs.get(name)
    ]
    if left.data != right.data:
        apart.append(f"data: {quoted(left.data)} / {quoted(right.data)}")
    return [f"?       {words}" for words in apart]


class _Namer:
    """Makes steps of records: gives channels and cookies names that are the same in each run."""

    def __init__(self, any_transport: bool) -> None:
        self._any_transport = any_transport
        self._decoder = Decoder()
        self._channels: dict[int, tuple[str, int, int]] = {}
        self._opened = 0
        self.meaning: Meaning | None = None
        """What the last record says."""

    def step(self, record: Record, number: int) -> Step:
        meaning = self._decoder.feed(record.instruction, record.before, record.after, record.answered, record.data)
        self.meaning = meaning
        form = calls.form(record.instruction, record.before)
        insn = INSTRUCTIONS.get(record.instruction, str(record.instruction))
        call = f"{form if self._any_transport else insn} {meaning.op if meaning is not None else '?'}"
        size = max(0, meaning.size) if meaning is not None and meaning.op.endswith("PAYLOAD") else 4
        asked = calls.asked(record.instruction, record.before, size)
        told = calls.told(record.instruction, record.before, record.after, size) if record.answered else {}
        opened = meaning is not None and meaning.op == "OPEN" and meaning.channel is not None and meaning.channel >= 0
        if opened:
            self._opened += 1
            place = told["channel"]
            cookie = told.pop("cookie high", 0), told.pop("cookie low", 0)
            self._channels[place] = (f"channel {self._opened}", *cookie)
        if self._any_transport:
            asked.pop("dx low", None)
        words = [(name, self._name(name, asked)) for name in asked]
        words += [(f"{name} after", self._name(name, {"channel": asked.get("channel", -1), **told})) for name in told]
        if not record.answered:
            words.append(("answered", "no"))
        line = f"{insn:<7} {meaning.sentence() if meaning is not None else 'no backdoor call'}"
        return Step(number, line, call, tuple(words), record.data if form in (calls.OUT, calls.IN) else b"")

    def _name(self, word: str, words: dict[str, int]) -> str:
        value = words[word]
        known = self._channels.get(words.get("channel", -1))
        if word == "channel":
            return known[0] if known is not None else "unknown"
        if word.startswith("cookie") and known is not None:
            own = known[1] if word == "cookie high" else known[2]
            return "its cookie" if value == own else "another's"
        return hex(value)
