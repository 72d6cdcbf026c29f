"""Transcripts: what is written can be read, says what happened, and is printed safely."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmtools.sim.backdoor import RDPMC, Backdoor
from vmtools.sim.decode import Decoder, quoted
from vmtools.sim.faults import FaultPlan
from vmtools.sim.machine import Machine
from vmtools.sim.transcript import (
    Exchange,
    Operation,
    Record,
    Transcript,
    TranscriptError,
    exchanges,
    operations,
    read,
    show,
)

from .naive_guest import RECVPAYLOAD, RECVSIZE, TCLO, Faulted, NaiveGuest


class Recorded:
    """A host that records, and a guest of it."""

    def __init__(self, *faults: str, high: bool = True, hypercall: bool = False) -> None:
        self.file = io.StringIO()
        ticks = iter(range(10_000))
        machine = Machine(guestinfo={b"k": b"value"}, high_bandwidth=high, handshake=False)
        self.backdoor = Backdoor(
            machine,
            transcript=Transcript(self.file, clock=lambda: 1000 + next(ticks) / 1000),
            faults=FaultPlan(faults) if faults else None,
        )
        self.guest = NaiveGuest(self.backdoor, high=high, hypercall=hypercall)

    def records(self) -> list[Record]:
        return list(read(io.StringIO(self.file.getvalue())))

    def call(self, request: bytes) -> None:
        self.guest.open()
        self.guest.rpc(request)
        self.guest.close()


def test_schema() -> None:
    """The documented keys, as they stand in the file."""
    recorded = Recorded()
    recorded.call(b"info-get guestinfo.k")
    lines = [json.loads(line) for line in recorded.file.getvalue().splitlines()]
    assert lines[0] == {"transcript": "vmtools-sim", "version": 1, "started": 1000.0}
    assert [line["seq"] for line in lines[1:]] == list(range(1, 8))
    out = lines[3]
    assert out["insn"] == "OUTS"
    assert out["who"] == {"pid": 7, "tid": 7, "name": "naive"}
    assert out["time"] == 0.003
    assert out["before"]["ax"] == "0x564d5868"
    assert (out["before"]["cx"], out["after"]["cx"]) == ("0x14", "0x0")
    assert out["answered"] is True
    assert out["data"] == "aW5mby1nZXQgZ3Vlc3RpbmZvLms="
    assert out["means"] == {
        "op": "HIGH-OUT",
        "channel": 0,
        "protocol": "RPCI",
        "size": 20,
        "status": "SUCCESS",
        "to_host": "info-get guestinfo.k",
    }
    assert "fault" not in out
    assert lines[5]["means"]["to_guest"] == "1 value"


@pytest.mark.parametrize("hypercall", [False, True])
@pytest.mark.parametrize("high", [False, True])
def test_exchanges_are_the_same_by_any_way(high: bool, hypercall: bool) -> None:
    recorded = Recorded(high=high, hypercall=hypercall)
    recorded.call(b"info-get guestinfo.k")
    recorded.call(b"nonsense")
    assert exchanges(recorded.records()) == [
        Exchange("RPCI", b"info-get guestinfo.k", b"1 value"),
        Exchange("RPCI", b"nonsense", b"0 Unknown command"),
    ]


def test_operations_of_two_runs_are_equal_and_detailed() -> None:
    runs = [Recorded(), Recorded()]
    runs[1].backdoor.channels.machine.write_log(b"another machine")
    NaiveGuest(runs[1].backdoor)
    for run in runs:
        run.call(b"log x")
    first, second = (operations(run.records()) for run in runs)
    assert first == second
    assert first == [
        Operation("OPEN", "RPCI", -1, b"", "SUCCESS"),
        Operation("SENDSIZE", "RPCI", 5, b"", "SUCCESS HB"),
        Operation("HIGH-OUT", "RPCI", 5, b"log x", "SUCCESS"),
        Operation("RECVSIZE", "RPCI", 2, b"", "SUCCESS DORECV HB"),
        Operation("HIGH-IN", "RPCI", 2, b"1 ", "SUCCESS"),
        Operation("RECVSTATUS", "RPCI", -1, b"", "SUCCESS"),
        Operation("CLOSE", "RPCI", -1, b"", "SUCCESS"),
    ]


def test_tclo_exchanges_turn_round() -> None:
    recorded = Recorded()
    recorded.guest.open(TCLO)
    recorded.guest.send(b"")
    recorded.guest.receive()
    recorded.guest.send(b"OK ATR toolbox")
    recorded.guest.receive()
    assert exchanges(recorded.records()) == [Exchange("TCLO", b"reset", b"OK ATR toolbox")]


def test_show() -> None:
    recorded = Recorded("checkpoint@9")
    recorded.guest.low(10)
    recorded.call(b"info-get guestinfo.k")
    recorded.guest.open()
    who = "naive[7]" + " " * 17
    assert list(show(recorded.records())) == [
        f"    1   0.001000  {who}IN      GETVERSION                 -> version 6, Workstation",
        f"    2   0.002000  {who}IN      OPEN RPCI                  -> success, channel 0",
        f"    3   0.003000  {who}IN      SENDSIZE 0: 20 bytes       -> success hb",
        f"    4   0.004000  {who}OUTS    HIGH-OUT 0: 20 bytes       -> success"
        + " " * 16
        + '>> "info-get guestinfo.k"',
        f"    5   0.005000  {who}IN      RECVSIZE 0                 -> success dorecv hb, 7 bytes",
        f'    6   0.006000  {who}INS     HIGH-IN 0                  -> success, 7 bytes       << "1 value"',
        f"    7   0.007000  {who}IN      RECVSTATUS 0               -> success",
        f"    8   0.008000  {who}IN      CLOSE 0                    -> success",
        f"    9   0.009000  {who}IN      OPEN RPCI                  -> cpt  [fault: checkpoint]",
    ]


def test_show_the_uncommon() -> None:
    recorded = Recorded("type@5")
    guest = recorded.guest
    for command in (1, 19, 23, 45, 46, 68, 101, 200):
        guest.low(command)
        recorded.backdoor.faults = None
    guest.open(cookie=False)
    guest.message(RECVSIZE)
    guest.send(b"log x")
    guest.message(RECVSIZE)
    guest.message(RECVPAYLOAD, 0)
    guest.message(9)
    with pytest.raises(Faulted):
        guest.raw(0, 0x564D5868, 0, 10, 0x60)
    with pytest.raises(Faulted):
        guest.raw(RDPMC, 0, 0, 5)
    guest.raw(RDPMC, 0, 0, 0x10000)
    guest.raw(0, 0, 0, 10, 0x5658)
    text = "\n".join(show(recorded.records()))
    for expected in (
        "GETMHZ                     -> 2400 (0x960)",
        "GETUUID                    -> " + recorded.backdoor.machine.uuid.hex,
        "GETHZ                      -> 2400000000 Hz",
        "command 101                -> unsupported",
        "command 200                -> unsupported",
        "success, channel 0, without a cookie",
        "RECVSIZE 0                 -> success, nothing",
        "RECVPAYLOAD 0              -> success, the guest rejected it",
        "MESSAGE-9 0                -> refused",
        "no backdoor call  (the program gets the fault)",
        "RDPMC                      -> counter 0x5  (the program gets the fault)",
        "counter 0x10000 = ",
    ):
        assert expected in text


def test_a_terminal_is_safe() -> None:
    assert quoted(b'a\x1b[2J\r\n\x00\xff\xc2\x9b"') == '"a\\x1b[2J\\r\\n\\x00\\xff\\x9b""'
    recorded = Recorded()
    recorded.guest.who.name = "\x1b[31mred"
    recorded.call(b"log \x1b]0;title\x07")
    assert all(line.isprintable() for line in show(recorded.records()))
    assert quoted(b"x" * 100_000) == '"' + "x" * 160 + '"… (100000 bytes)'


@pytest.mark.parametrize(
    "text",
    ["", "x", "{}\n", "[]\n", "null\n", '{"transcript":"vmtools-sim","version":2}\n', '{"transcript":"other"}\n'],
)
def test_what_is_no_transcript(text: str) -> None:
    with pytest.raises(TranscriptError, match="transcript"):
        list(read(io.StringIO(text)))


@pytest.mark.parametrize("line", ["{", "{}", "[]", "3", '"x"', "null", '{"seq":1}'])
def test_damage_is_named_by_its_line(line: str) -> None:
    recorded = Recorded()
    recorded.guest.low(10)
    with pytest.raises(TranscriptError, match="line 3 "):
        list(read(io.StringIO(recorded.file.getvalue() + line + "\n")))


@pytest.mark.parametrize(
    ("key", "value"),
    [("seq", 1e999), ("seq", -1), ("time", 10**400), ("time", float("nan")), ("insn", 1e999), ("before", {"ax": "-1"})],
)
def test_numbers_that_are_none_of_ours(key: str, value: object) -> None:
    recorded = Recorded()
    recorded.guest.low(10)
    header, line = recorded.file.getvalue().splitlines()
    record = json.loads(line)
    record[key] = record[key] | value if isinstance(value, dict) else value
    with pytest.raises(TranscriptError, match="line 2 "):
        list(read([header + "\n", json.dumps(record) + "\n"]))


def test_a_fault_that_would_harm_a_terminal() -> None:
    recorded = Recorded()
    recorded.guest.low(10)
    (record,) = recorded.records()
    (line,) = show([record._replace(fault="\x1b[2J")])
    assert line.isprintable()


def test_an_unfinished_last_line_is_left_out() -> None:
    recorded = Recorded()
    recorded.call(b"log x")
    whole = recorded.file.getvalue()
    assert len(list(read(io.StringIO(whole[:-5])))) == 6


def test_a_failing_guest_is_recorded_too() -> None:
    recorded = Recorded()
    recorded.guest.open()
    recorded.guest.message(1, 4)
    with pytest.raises(Faulted):
        recorded.guest.high_out(b"", size=4)
    last = recorded.records()[-1]
    assert (last.answered, last.data) == (False, b"")


registers = st.lists(st.integers(0, (1 << 64) - 1) | st.sampled_from([0x564D5868, 30, 0x5658]), min_size=7, max_size=7)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), registers, registers, st.booleans(), st.binary(max_size=9)), max_size=8))
def test_any_record_decodes(exits: list[tuple[int, list[int], list[int], bool, bytes]]) -> None:
    decoder = Decoder()
    for instruction, before, after, answered, data in exits:
        before[0] = 0x564D5868
        before[3] = before[3] & 0x1_0000 | (0x5659 if instruction in (1, 2) else 0x5658)
        meaning = decoder.feed(instruction, before, after, answered, data)
        if meaning is not None:
            json.dumps(meaning.as_json())
            assert meaning.sentence().isprintable()
