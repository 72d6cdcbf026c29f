"""``vmware-rpctool``, the original and ours, side by side: output, exit status, what the host saw and what it kept.

The differences that are wanted, and no others, are named below.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from .side_by_side import Outcome, Side, Word, machine

KNOCKS = {"original": 2, "ours": 0, "ours, no channel needed": 1}
"""GETVERSION calls: the original asks twice before anything else; for ours the answer to OPEN tells as much, and where
no channel is opened it asks once."""

REPEATED = 2
"""Conversations about a request that the host refuses at SENDSIZE: the original gives up, ours tries once more on a new
channel, since a channel that was lost looks the same."""

VALUES = {
    b"hello": b"world",
    b"empty": b"",
    b"controls": b"\x01\x1b[31m\x7f\r\x08",
    b"format": b"%s%d%n\\n",
    b"lines": b"a\nb\n\n",
    b"nul": b"a\0b",
    b"latin": b"\xff\xfe\xe9",
    b"utf8": "wörld ✓".encode(),
    b"blanks": b"  a  ",
    b"words": b"x" * 1000,
    b"64k-3": b"x" * (65536 - 3),
    b"64k-2": b"x" * (65536 - 2),
    b"64k": b"x" * 65536,
    b"200000": b"x" * 200_000,
}

SET = b"info-set guestinfo.x "


@dataclass(frozen=True)
class Case:
    """A command line, and what is special about it: no channel is opened, the host refuses the request for its size,
    what the machine's id is, and whether it also runs by low bandwidth (64 KiB are 16384 exits)."""

    words: tuple[Word, ...]
    opens: bool = True
    refused: bool = False
    machine_id: bytes | None = None
    low_too: bool = True

    def __str__(self) -> str:
        words = [word if isinstance(word, str) else word.decode("utf-8", "backslashreplace") for word in self.words]
        text = " ".join(f"<{word}>" if len(word) < 60 else f"<{word[:25]}…{len(word)}>" for word in words)
        return (text or "nothing") + ("" if self.machine_id is None else f" with {self.machine_id!r}")


def case(
    *words: Word, opens: bool = True, refused: bool = False, machine_id: bytes | None = None, low_too: bool = True
) -> Case:
    return Case(words, opens, refused, machine_id, low_too)


CASES = [
    # the command line itself
    case(opens=False),
    case("-h", opens=False),
    case("--help", opens=False),
    case("-hx", opens=False),
    case("--helpme", opens=False),
    case("-x"),
    case("--hel"),
    case("--"),
    case("-"),
    case("--raw"),
    case(""),
    case(" "),
    case("  "),
    case("\n"),
    case("info-get guestinfo.hello", "more"),
    case("info-get", "guestinfo.hello"),
    case("info-get guestinfo.hello", "-h"),
    # reading
    case("info-get guestinfo.hello "),
    case("info-get guestinfo.hello\n"),
    case("info-get  guestinfo.hello"),
    case("info-get\tguestinfo.hello"),
    case("info-get guestinfo.missing"),
    case("info-get hello"),
    case("info-get "),
    case("info-get"),
    case("Info-Get guestinfo.hello"),
    *[case(f"info-get guestinfo.{key.decode()}", low_too=len(value) < 65534) for key, value in VALUES.items()],
    # writing
    case("info-set guestinfo.x y"),
    case("info-set guestinfo.x a b  c"),
    case("info-set guestinfo.x trailing  "),
    case("info-set guestinfo.x  leading"),
    case("info-set guestinfo.x "),
    case("info-set guestinfo.x"),
    case("info-set guestinfo.x two\nlines\n"),
    case("info-set guestinfo.ü ä"),
    case(b"info-set guestinfo.x \xff\x80\xfe\x01"),
    case("info-set x y"),
    case("info-set guestinfo.hello ---"),
    case(SET + b"x" * (65535 - len(SET))),
    case(SET + b"x" * (65536 - len(SET)), low_too=False),
    case(SET + b"x" * (65537 - len(SET)), refused=True),
    case(SET + b"x" * 100_000, refused=True),
    case("x" * 65535, low_too=False),
    case("x" * 65536, low_too=False),
    case("x" * 65537, refused=True),
    # other commands
    case("log"),
    case("log "),
    case("log hi"),
    case(b"log \xff\n"),
    case("log " + "x" * 5000),
    case("SetGuestInfo  1 host"),
    case("SetGuestInfo 1 host"),
    case("SetGuestInfo  99 host"),
    case("machine.id.get"),
    case("machine.id.get "),
    case("machine.id.get", machine_id=b"MAC=00:0c:29:01:02:03 id=\xff"),
    case("machine.id.get", machine_id=b""),
    case("vmx.capability.unified_loop toolbox"),
    case("tools.capability.statechange "),
    case("bogus"),
    case("bogus with words"),
    case("%s%n%d"),
    case("a"),
    case("abcd"),
    case("abcde"),
]


RUNS = [(given, high) for given in CASES for high in (True, False) if high or given.low_too]


@pytest.mark.parametrize(("given", "high"), RUNS, ids=[f"{given}, {('low', 'high')[high]}" for given, high in RUNS])
def test_side_by_side(theirs: Side, ours: Side, given: Case, high: bool) -> None:
    original, mine = [
        side.run(
            ["vmware-rpctool", *given.words],
            machine(guestinfo=VALUES, machine_id=given.machine_id, high_bandwidth=high),
        )
        for side in (theirs, ours)
    ]
    compare(original, mine, given)


def compare(original: Outcome, mine: Outcome, given: Case) -> None:
    assert mine.printed == original.printed
    assert mine.kept == original.kept
    assert original.knocks == KNOCKS["original"]
    assert mine.knocks == KNOCKS["ours" if given.opens else "ours, no channel needed"]
    times = REPEATED if given.refused else 1
    assert mine.conversation == original.conversation * times
    assert mine.words == original.words * times
    assert bool(original.conversation) == given.opens


def test_what_the_table_covers() -> None:
    assert len({str(given) for given in CASES}) == len(CASES) >= 30


def test_the_comparison_sees_differences(theirs: Side) -> None:
    """Each of its parts fails for commands that differ in it alone: the test of the test."""
    one, other = (theirs.run(["vmware-rpctool", f"info-set guestinfo.x {value}"], machine()) for value in "ab")
    assert one.printed == other.printed
    assert one.kept != other.kept
    assert one.conversation != other.conversation
    lows = [theirs.run(["vmware-rpctool", word], machine(high_bandwidth=False)) for word in ("abcd", "abce")]
    assert lows[0].words != lows[1].words
    assert [words.keys() for words in lows[0].words] == [words.keys() for words in lows[1].words]


def test_an_answer_that_nobody_takes(theirs: Side, ours: Side) -> None:
    """Wanted difference: the original says that all is well."""
    words = ["vmware-rpctool", "info-get guestinfo.hello"]
    original, mine = [side.run(words, machine(), stdout="/dev/full") for side in (theirs, ours)]
    assert original.printed == (0, b"", b"")
    assert mine.printed == (1, b"", b"vmware-rpctool: standard output: No space left on device\n")
    assert mine.conversation == original.conversation
