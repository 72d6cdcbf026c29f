"""A recorded host: it answers as it did, and says where a guest leaves the recording."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmtools.constants import MASK32
from vmtools.sim.backdoor import RDPMC, Exits
from vmtools.sim.inprocess import NO_MEMORY, BufferMemory
from vmtools.sim.replay import DEVIATED, Deviation, Replay
from vmtools.sim.transcript import Transcript, read, show

from .naive_guest import MAGIC, RECVSIZE, SENDSIZE, TCLO, Faulted, NaiveGuest
from .test_sim_compare import Run

GET = b"info-get guestinfo.k"


def on(exits: Exits, *, high: bool = True, hypercall: bool = False, junk: bool = False) -> NaiveGuest:
    return NaiveGuest(exits, high=high, hypercall=hypercall, junk=junk)


@pytest.mark.parametrize("high", [False, True])
@pytest.mark.parametrize("hypercall", [False, True])
@pytest.mark.parametrize("junk", [False, True])
def test_the_same_guest_gets_the_same(high: bool, hypercall: bool, junk: bool) -> None:
    recorded = Run(high=high, hypercall=hypercall).call(GET).call(b"no such thing")
    replay = Replay(recorded.records)
    guest = on(replay, high=high, hypercall=hypercall, junk=junk)
    replies = []
    for request in (GET, b"no such thing"):
        guest.open()
        replies.append(guest.rpc(request))
        guest.close()
    assert replies == [b"1 value", b"0 Unknown command"]
    assert replay.finish() is None


def test_registers_are_left_as_then() -> None:
    recorded = Run()
    for command in (1, 10, 17, 19, 20, 23, 45, 46, 55, 68, 100, 200):
        recorded.guest.low(command)
    replay = Replay(recorded.records)
    guest = on(replay)
    for record in recorded.records:
        assert list(guest.low(record.before[2] & 0xFFFF)) == record.after
    assert replay.finish() is None


def test_upper_halves_are_the_recorded_hosts() -> None:
    """VMware leaves them, QEMU clears them: each as recorded, whatever the live guest has there."""
    for personality, upper in (("vmware", 0xDEADBEEF), ("qemu", 0)):
        recorded = Run(personality=personality)
        recorded.guest.junk = 0x11111111 << 32
        recorded.guest.low(10)
        guest = on(Replay(recorded.records), junk=True)
        regs = guest.low(10)
        assert regs.bx == upper << 32 | MAGIC
        assert regs.ax == (0xDEADBEEF_00000006 if upper else 6)


def test_a_result_that_was_there_before() -> None:
    """The recorded guest happened to have the result in the register already: the live one gets it all the same."""
    recorded = Run()
    recorded.guest.low(10, MAGIC)
    regs = on(Replay(recorded.records)).low(10, 5)
    assert regs.bx == MAGIC


def test_undefined_registers_may_be_others() -> None:
    recorded = Run()
    recorded.guest.open()
    recorded.guest.message(RECVSIZE, 0)
    replay = Replay(recorded.records)
    guest = on(replay)
    guest.open()
    guest.message(RECVSIZE, 0x12345678)
    assert replay.finish() is None


def test_faults_of_then_come_again() -> None:
    recorded = Run(personality="none")
    with pytest.raises(Faulted):
        recorded.guest.low(10)
    replay = Replay(recorded.records)
    with pytest.raises(Faulted):
        on(replay).low(10)
    assert replay.finish() is None


def test_counters() -> None:
    recorded = Run()
    then = recorded.guest.raw(RDPMC, 0, 0, 0x10001)
    replay = Replay(recorded.records)
    now = on(replay).raw(RDPMC, 0, 0, 0x10001)
    assert (now.ax, now.dx) == (then.ax, then.dx)
    with pytest.raises(Faulted):
        on(replay).raw(RDPMC, 0, 0, 0x10001)
    assert replay.finish() is not None


def test_another_message_is_a_deviation_and_loses_the_channel() -> None:
    replay = Replay(Run().call(GET).records)
    guest = on(replay)
    guest.open()
    guest.message(SENDSIZE, len(GET))
    assert guest.high_out(GET[:-1] + b"j").bx == 0
    for _ in range(3):
        assert guest.message(SENDSIZE, len(GET)).cx == 0
        assert guest.open().cx == 0
        assert guest.low(10).ax & MASK32 == MASK32
    assert replay.finish() == Deviation(
        3,
        'OUTS HIGH-OUT 0: 20 bytes       -> success                >> "info-get guestinfo.k"',
        "OUTS HIGH-OUT 0: 20 bytes",
        ('data: "info-get guestinfo.k" recorded, "info-get guestinfo.j" now',),
    )
    assert "\n".join(replay.finish().lines()).startswith("the program left the recording at exit 3\n  expected: OUTS")  # type: ignore[union-attr]


def test_another_size() -> None:
    replay = Replay(Run().call(GET).records)
    guest = on(replay)
    guest.open()
    assert guest.message(SENDSIZE, 7).cx == 0
    deviation = replay.finish()
    assert deviation is not None
    assert (deviation.position, deviation.words) == (2, ("size: 0x14 recorded, 0x7 now",))


def test_a_deviation_may_be_a_fault() -> None:
    replay = Replay(Run().call(GET).records, lose=False)
    guest = on(replay)
    for _ in range(2):
        with pytest.raises(Faulted):
            guest.low(10)
    deviation = replay.finish()
    assert deviation is not None
    assert (deviation.position, deviation.got) == (1, "IN GETVERSION")


def test_another_instruction() -> None:
    replay = Replay(Run().call(GET).records)
    assert on(replay, hypercall=True).open().cx == 0
    deviation = replay.finish()
    assert deviation is not None
    assert deviation.words == ("instruction: IN recorded, VMCALL now",)


def test_the_recording_ends() -> None:
    replay = Replay(Run().call(GET).records)
    guest = on(replay)
    guest.open()
    guest.rpc(GET)
    guest.close()
    guest.open()
    deviation = replay.finish()
    assert deviation is not None
    assert (deviation.position, deviation.expected, deviation.got) == (8, "the end of the recording", "IN OPEN RPCI")


def test_the_guest_ends() -> None:
    replay = Replay(Run().call(GET).records)
    guest = on(replay)
    guest.open()
    deviation = replay.finish()
    assert deviation is not None
    assert (deviation.position, deviation.got) == (2, "the program's end")
    assert deviation.expected.startswith("IN SENDSIZE 0: 20 bytes")
    assert deviation.expected.endswith("; 3 more")


def test_knocks() -> None:
    knocking = Run()
    knocking.guest.low(10)
    knocking.call(GET)
    silent = Replay(knocking.records, ignore=["knocks"])
    guest = on(silent)
    guest.open()
    assert guest.rpc(GET) == b"1 value"
    guest.close()
    assert silent.finish() is None

    often = Replay(knocking.records, ignore=["knocks"])
    guest = on(often)
    guest.open()
    for _ in range(3):
        regs = guest.low(10)
        assert (regs.ax, regs.bx) == (6, MAGIC)
    assert guest.rpc(GET) == b"1 value"
    guest.close()
    assert often.finish() is None

    never = Replay(Run().call(GET).records, ignore=["knocks"])
    assert on(never).low(10).ax & MASK32 == MASK32, "no knock was recorded, so nobody knows the answer"


def test_bad_buffers() -> None:
    recorded = Run().call(GET)
    replay = Replay(recorded.records)
    guest = on(replay)
    guest.open()
    guest.message(SENDSIZE, len(GET))
    assert guest.high_out(b"", size=len(GET)).bx == 0
    deviation = replay.finish()
    assert deviation is not None
    assert deviation.words == ("data: the program's buffer can't be read",)

    replay = Replay(recorded.records)
    guest = on(replay)
    guest.open()
    guest.send(GET)
    guest.message(RECVSIZE)
    with pytest.raises(Faulted):
        guest.high_in(bytearray(), size=7)


def test_tclo_comes_from_the_recording_too() -> None:
    recorded = Run()
    recorded.guest.open(TCLO)
    recorded.guest.send(b"")
    recorded.guest.receive()
    recorded.guest.send(b"OK ATR toolbox")
    replay = Replay(recorded.records)
    guest = on(replay)
    guest.open(TCLO)
    guest.send(b"")
    assert guest.receive() == b"reset"
    guest.send(b"OK ATR toolbox")
    assert replay.finish() is None


def test_a_replay_can_be_recorded() -> None:
    file = io.StringIO()
    replay = Replay(Run().call(GET).records, transcript=Transcript(file))
    guest = on(replay)
    guest.open()
    guest.message(SENDSIZE, 1)
    file.seek(0)
    lines = list(show(read(file)))
    assert len(lines) == 2
    assert lines[1].endswith("-> refused  [fault: deviation]")


def test_the_exit_status_is_not_one_of_a_signal() -> None:
    assert DEVIATED < 126


words = st.lists(
    st.sampled_from([0, 30, MAGIC, 0x5658, 0x5659, 3]) | st.integers(0, (1 << 64) - 1), min_size=7, max_size=7
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), words), max_size=10), st.booleans())
def test_no_guest_harms_it(exits: list[tuple[int, list[int]]], lose: bool) -> None:
    replay = Replay(Run().call(GET).records, lose=lose)
    guest = on(replay)
    guest.open()
    for instruction, regs in exits:
        replay.exit(instruction, regs, BufferMemory(b"x" * 30) if instruction else NO_MEMORY, guest.who)
        assert all(0 <= word < 1 << 64 for word in regs)
    assert replay.finish() is not None
    assert not exits or replay.position == len(exits) + 1
