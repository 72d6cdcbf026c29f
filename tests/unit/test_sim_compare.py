"""Two transcripts: what may differ does not count, and what may not is found."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmtools.sim.backdoor import RDPMC
from vmtools.sim.calls import MAY_DIFFER, OPTIONAL
from vmtools.sim.clock import HostClock
from vmtools.sim.compare import differences, message_differences, steps
from vmtools.sim.faults import FaultPlan
from vmtools.sim.inprocess import ADDRESS, BufferMemory
from vmtools.sim.machine import Machine
from vmtools.sim.personalities import backdoor
from vmtools.sim.transcript import Record, Transcript, read

from .naive_guest import MAGIC, RECVSIZE, SENDSIZE, TCLO, Faulted, NaiveGuest


class Run:
    """A recorded run of a guest on a machine of its own, at a time of its own."""

    def __init__(
        self, *faults: str, high: bool = True, hypercall: bool = False, personality: str = "vmware", start: float = 0.0
    ) -> None:
        self._file = io.StringIO()
        ticks = iter(range(100_000))
        clock = HostClock()
        clock.adjust(f"+{start}s")
        machine = Machine(guestinfo={b"k": b"value"}, clock=clock, handshake=False)
        self.host = backdoor(
            personality,
            machine,
            transcript=Transcript(self._file, clock=lambda: start + next(ticks) / 1000),
            faults=FaultPlan(faults, sleep=lambda _: None) if faults else None,
        )
        self.guest = NaiveGuest(self.host, high=high, hypercall=hypercall)

    def call(self, request: bytes = b"info-get guestinfo.k") -> Run:
        self.guest.open()
        self.guest.rpc(request)
        self.guest.close()
        return self

    @property
    def records(self) -> list[Record]:
        return list(read(io.StringIO(self._file.getvalue())))


def same(first: Run, second: Run, *ignore: str) -> bool:
    return not differences(first.records, second.records, ignore=ignore)


@pytest.mark.parametrize("high", [False, True])
@pytest.mark.parametrize("hypercall", [False, True])
def test_the_same_program_twice(high: bool, hypercall: bool) -> None:
    first = Run(high=high, hypercall=hypercall).call().call(b"log x")
    second = Run(high=high, hypercall=hypercall, start=5.0)
    second.guest.who.pid, second.guest.who.tid, second.guest.who.name = 9, 9, "other"
    second.guest.junk = 0xDEADBEEF << 32
    NaiveGuest(second.host)
    second.call().call(b"log x")
    assert same(first, second)


def test_channel_numbers_may_differ() -> None:
    first, second = Run().call(), Run()
    other = NaiveGuest(second.host)
    other.open()
    second.call()
    assert second.records[1].after[3] >> 16 == 1
    without_the_other = second.records[1:]
    assert not differences(first.records, without_the_other)


def test_a_channel_must_be_its_counterparts() -> None:
    """Two channels open, and the second run asks on the other one."""

    def run(swap: bool) -> list[Record]:
        recorded = Run()
        guests = [recorded.guest, NaiveGuest(recorded.host)]
        for guest in guests:
            guest.open()
        guests[swap].message(SENDSIZE, 4)
        return recorded.records

    lines = differences(run(False), run(True))
    assert "?       channel: channel 1 / channel 2" in lines


def test_a_cookie_must_be_the_channels() -> None:
    def run(wrong: bool) -> list[Record]:
        recorded = Run()
        recorded.guest.open()
        if wrong:
            recorded.guest.cookie_low ^= 1
        recorded.guest.message(RECVSIZE)
        return recorded.records

    assert not differences(run(False), run(False))
    lines = differences(run(False), run(True))
    assert "?       cookie low: its cookie / another's" in lines
    assert "?       cx after: 0x10000 / 0x0" in lines


def test_addresses_may_differ() -> None:
    def run(offset: int) -> list[Record]:
        recorded = Run()
        guest = recorded.guest
        guest.open()
        guest.message(SENDSIZE, 4)
        memory = BufferMemory(b"\0" * offset + b"abcd")
        regs = (MAGIC, 0x10000, 4, guest.id << 16 | 0x5659, ADDRESS + offset, guest.cookie_low, guest.cookie_high)
        guest.raw(1, *regs, memory=memory)
        return recorded.records

    assert not differences(run(0), run(64))


def test_undefined_registers_may_differ() -> None:
    def run(junk: int) -> list[Record]:
        recorded = Run()
        recorded.guest.open()
        recorded.guest.message(RECVSIZE, junk)
        recorded.guest.message(6, junk)
        recorded.guest.low(10, junk, junk & 0xFFFF)
        return recorded.records

    assert not differences(run(0), run(0x12345678))


def test_the_padding_of_the_last_word_may_differ() -> None:
    def run(padding: int) -> list[Record]:
        recorded = Run(high=False)
        recorded.guest.open()
        recorded.guest.message(SENDSIZE, 5)
        recorded.guest.message(2, 0x64636261)
        recorded.guest.message(2, 0x65 | padding << 8)
        return recorded.records

    assert not differences(run(0), run(0xABCDEF))
    changed = run(0)
    changed[-1].before[1] = 0x66
    assert "?       data: 0x65 / 0x66" in differences(run(0), changed)


def test_the_clock_may_differ() -> None:
    def run(start: float) -> list[Record]:
        recorded = Run(start=start)
        for command in (23, 46, 55, 19):
            recorded.guest.low(command)
        recorded.guest.raw(RDPMC, 0, 0, 0x10001)
        return recorded.records

    assert not differences(run(0), run(1234.5))


def test_a_clock_that_is_refused_is_a_difference() -> None:
    first, second = Run(), Run("refused@1")
    for recorded in (first, second):
        recorded.guest.low(23)
    assert not same(first, second)


@pytest.mark.parametrize(
    ("command", "register", "name"), [(1, 0, "ax"), (17, 0, "ax"), (45, 1, "bx"), (100, 0, "ax"), (200, 0, "ax")]
)
def test_other_results_count(command: int, register: int, name: str) -> None:
    first, second = Run(), Run()
    for recorded in (first, second):
        recorded.guest.low(command)
    records = second.records
    records[0].after[register] ^= 1
    lines = differences(first.records, records)
    assert [line for line in lines if line.startswith(f"?       {name} after: ")]


def test_data_counts() -> None:
    lines = differences(Run().call(b"log a").records, Run().call(b"log b").records)
    assert lines == [
        "      1 IN      OPEN RPCI                  -> success, channel 0",
        "      2 IN      SENDSIZE 0: 5 bytes        -> success hb",
        '-     3 OUTS    HIGH-OUT 0: 5 bytes        -> success                >> "log a"',
        '+     3 OUTS    HIGH-OUT 0: 5 bytes        -> success                >> "log b"',
        '?       data: "log a" / "log b"',
    ]


def test_faults_count_by_what_they_do() -> None:
    plain = Run().call().records
    faulty = Run("slow@3").call().records
    assert faulty[2].fault == "slow"
    assert not differences(plain, faulty)
    assert differences(plain, [*plain[:-1], plain[-1]._replace(answered=False)])


def test_a_fault_that_the_program_got() -> None:
    def run() -> Run:
        recorded = Run(personality="none")
        with pytest.raises(Faulted):
            recorded.guest.low(10)
        return recorded

    assert same(run(), run())
    first = Run()
    first.guest.low(10)
    assert "answered: - / no" in "\n".join(differences(first.records, run().records))


def test_knocks() -> None:
    first, second = Run(), Run()
    second.guest.low(10)
    first.call()
    second.call()
    assert differences(first.records, second.records) == [
        "+     1 IN      GETVERSION                 -> version 6, Workstation"
    ]
    assert same(first, second, "knocks")


@pytest.mark.parametrize("high", [False, True])
def test_transport(high: bool) -> None:
    first, second = Run(high=high).call(), Run(high=high, hypercall=True).call()
    assert not same(first, second)
    assert same(first, second, "transport")


def test_polls() -> None:
    def run(polls: int) -> Run:
        recorded = Run()
        guest = recorded.guest
        guest.open(TCLO)
        guest.send(b"")
        assert guest.receive() == b"reset"
        guest.send(b"OK ATR toolbox")
        assert guest.receive() is None
        for _ in range(polls):
            guest.send(b"")
            assert guest.receive() is None
        return recorded

    assert not same(run(1), run(5))
    assert same(run(1), run(5), "polls")
    assert len(steps(run(3).records, ["polls"])) == 7, "OPEN, the question that was answered, and the answer to it"


def test_messages_alone() -> None:
    first, second = Run().call().records, Run(high=False, hypercall=True).call().records
    assert differences(first, second)
    assert message_differences(first, second) == []
    assert message_differences(first, Run().call(b"log x").records) == [
        '-     1 RPCI "info-get guestinfo.k" -> "1 value"',
        '+     1 RPCI "log x" -> "1 "',
    ]
    unanswered = Run()
    unanswered.guest.open()
    unanswered.guest.send(b"log x")
    assert message_differences([], unanswered.records) == ['+     1 RPCI "log x" -> (no answer)']


def test_one_that_ends_early() -> None:
    records = Run().call().records
    assert differences(records, records[:5]) == [
        "      4 IN      RECVSIZE 0                 -> success dorecv hb, 7 bytes",
        '      5 INS     HIGH-IN 0                  -> success, 7 bytes       << "1 value"',
        "-     6 IN      RECVSTATUS 0               -> success",
        "-     7 IN      CLOSE 0                    -> success",
    ]
    assert differences([], []) == []


def test_many_exits_are_compared_at_once() -> None:
    first, second = Run(), Run()
    for recorded in (first, second):
        recorded.guest.open()
        for number in range(2000):
            recorded.guest.message(SENDSIZE, 4 if recorded is first or number != 1000 else 5)
    lines = differences(first.records, second.records)
    assert lines[-1] == "?       size: 0x4 / 0x5"
    assert len(lines) == 5


def test_the_rules_are_documented() -> None:
    guide = (Path(__file__).resolve().parents[2] / "docs" / "transcripts.md").read_text(encoding="utf-8")
    _, always, rest = re.split(r"These may\ndiffer, always:|And these on request:", guide)
    assert always.count("\n|") - 2 == len(MAY_DIFFER)
    assert re.findall(r"^\| `(\w+)` \|", rest, re.MULTILINE) == list(OPTIONAL)


words = st.lists(
    st.sampled_from([0, 1, 30, MAGIC, 0x5658, 0x5659, 0x10000]) | st.integers(0, 1 << 63), min_size=7, max_size=7
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), words, words, st.booleans(), st.binary(max_size=4)), max_size=8))
def test_any_transcript_equals_itself(exits: list[tuple[int, list[int], list[int], bool, bytes]]) -> None:
    run = Run()
    run.guest.open()
    who = run.records[0]
    records = [
        who._replace(instruction=instruction, before=before, after=after, answered=answered, data=data)
        for instruction, before, after, answered, data in exits
    ]
    assert differences(records, records) == []
    assert differences(records, records, ignore=tuple(OPTIONAL)) == []
    assert message_differences(records, records) == []
