"""Each fault at the exit it is put at, and nowhere else."""

from __future__ import annotations

import pytest

from vmtools.errors import GateFaulted
from vmtools.sim.backdoor import PORT_IN, PORT_LOW, PORT_OUT, RDPMC, VMCALL, Backdoor
from vmtools.sim.channels import Channels
from vmtools.sim.faults import GARBAGE, KINDS, STRAY, Fault, FaultPlan, Stray, applies, parse
from vmtools.sim.inprocess import ADDRESS, NO_MEMORY, InProcessGate, host
from vmtools.sim.machine import Machine

from .naive_guest import (
    CLOSE,
    MAGIC,
    OPEN,
    RECVPAYLOAD,
    RECVSIZE,
    RECVSTATUS,
    SENDPAYLOAD,
    SENDSIZE,
    Faulted,
    NaiveGuest,
)


def faulty(*faults: Fault | str) -> tuple[NaiveGuest, Backdoor]:
    machine = Machine()
    plan = FaultPlan(faults, sleep=lambda _: None)
    backdoor = Backdoor(machine, faults=plan, channels=Channels(machine, lambda request: request))
    return NaiveGuest(backdoor), backdoor


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("checkpoint@1", Fault("checkpoint", 1)),
        ("lost@12+", Fault("lost", 12, True)),
        ("size@7:0xffffffff", Fault("size", 7, False, "0xffffffff")),
        ("garbage@3+:a:b@c", Fault("garbage", 3, True, "a:b@c")),
        ("slow@1:0.5", Fault("slow", 1, False, "0.5")),
        ("slow@1:20ms", Fault("slow", 1, False, "20ms")),
        ("size@7:-3", Fault("size", 7, False, "-3")),
        ("random:7:0.25", Stray("7", 0.25)),
        ("random:seed:0.05", Stray("seed")),
    ],
)
def test_parsing(text: str, fault: Fault | Stray) -> None:
    assert parse(text) == fault
    assert str(fault) == text


def test_random_has_a_rate_of_its_own() -> None:
    assert parse("random:x") == Stray("x", 0.05)


@pytest.mark.parametrize(
    "text",
    [
        *("", "checkpoint", "checkpoint@", "checkpoint@0", "checkpoint@-1", "checkpoint@x", "checkpoint@1:", "nope@1"),
        *("slow@1:x", "slow@1:-1", "slow@1:nan", "slow@1:1e9", "size@1:4294967296", "type@1:x", "checkpoint@²", "@1"),
        *("random", "random:", "random::0.5", "random:1:", "random:1:2", "random:1:-1", "random:1:x", "random:1:nan"),
        *("size@1:+4294967296", "size@1:-", "type@1:-1", "slow@1:ms", "slow@1:4e6ms"),
    ],
)
def test_what_is_no_fault(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words come from float() and int() too
        parse(text)


def test_a_fault_hits_its_exit_only() -> None:
    guest, _ = faulty("refused@2", "refused@4+")
    assert [guest.low(10).ax for _ in range(5)] == [6, 0xFFFFFFFF, 6, 0xFFFFFFFF, 0xFFFFFFFF]


def test_no_fault_no_difference() -> None:
    guest, _ = faulty()
    guest.open()
    assert guest.rpc(b"abc") == b"abc"


@pytest.mark.parametrize("kind", [SENDSIZE, SENDPAYLOAD, RECVSIZE, RECVPAYLOAD, RECVSTATUS])
def test_checkpoint_restarts_the_transfer(kind: int) -> None:
    exits = {SENDSIZE: 2, SENDPAYLOAD: 3, RECVSIZE: 4, RECVPAYLOAD: 5, RECVSTATUS: 6}
    guest, _ = faulty(Fault("checkpoint", exits[kind]))
    guest.open()
    steps = [(SENDSIZE, 4), (SENDPAYLOAD, 0x64636261), (RECVSIZE, 0), (RECVPAYLOAD, 1), (RECVSTATUS, 1)]
    for step, bx in steps:
        regs = guest.message(step, bx)
        if step == kind:
            assert (regs.cx, regs.bx) == (0x00100000, bx)
            break
        assert regs.cx >> 16 & 1
    if kind in (SENDSIZE, SENDPAYLOAD):
        assert guest.message(SENDPAYLOAD, 1).cx == 0, "it must begin again with SENDSIZE"
        guest.send(b"abcd")
    else:
        assert guest.message(RECVPAYLOAD, 1).cx == 0, "it must begin again with RECVSIZE"
    assert guest.receive() == b"abcd"


def test_checkpoint_in_high_bandwidth() -> None:
    guest, _ = faulty("checkpoint@3", "checkpoint@7")
    guest.open()
    guest.message(SENDSIZE, 4)
    regs = guest.high_out(b"abcd")
    assert (regs.bx, regs.cx, regs.si) == (0x00100000, 0, ADDRESS + 4)
    guest.send(b"abcd")  # exits 4, 5
    guest.message(RECVSIZE)
    buffer = bytearray(4)
    assert (guest.high_in(buffer).bx, bytes(buffer)) == (0x00100000, bytes(4))
    assert guest.receive() == b"abcd"


def test_checkpoint_at_open_and_close() -> None:
    guest, backdoor = faulty("checkpoint@1", "checkpoint@3")
    assert guest.open().cx == 0x00100000
    assert not backdoor.channels.open_channels
    guest.open()
    assert guest.close().cx == 0x00100000
    assert not backdoor.channels.open_channels


def test_lost() -> None:
    guest, backdoor = faulty("lost@2", "lost@3", "lost@5")
    guest.open()
    assert guest.message(SENDSIZE, 1).cx == 0
    assert guest.open().cx == 0x00010000, "the host gives a channel that it has forgotten"
    assert not backdoor.channels.open_channels
    guest.open()
    assert guest.low(10).ax == 6
    assert not backdoor.channels.open_channels, "at another command all are lost"


def test_refused() -> None:
    guest, _ = faulty("refused@1", "refused@3", "refused@5", "refused@6")
    assert guest.open().cx == 0
    guest.open()
    assert guest.message(SENDSIZE, 4).cx == 0
    guest.message(SENDSIZE, 4)
    assert guest.high_out(b"abcd").bx == 0
    with pytest.raises(Faulted):
        guest.raw(RDPMC, 0, 0, 0x10000)


def test_type_and_size() -> None:
    guest, _ = faulty("type@4", "type@5:3", "size@6:65537", "size@7")
    guest.open()
    guest.send(b"abcd")
    assert guest.message(RECVSIZE).dx == 0x00070000
    assert guest.message(RECVPAYLOAD, 1).dx == 0x00030000
    assert guest.message(RECVSIZE).bx == 65537
    assert guest.message(RECVSIZE).bx == 0xFFFFFFFF
    assert guest.message(RECVSIZE).bx == 4


def test_sizes_that_are_off() -> None:
    guest, _ = faulty("size@4:0", "size@5:+1", "size@6:-1", "size@7:-5")
    guest.open()
    guest.send(b"abcd")
    assert [guest.message(RECVSIZE).bx for _ in range(5)] == [0, 5, 3, 0xFFFFFFFF, 4]


def test_echo() -> None:
    guest, _ = faulty("echo@1+")
    assert guest.low(10, 5, 0xFFFF, 0, 6, 7)[:6] == (MAGIC, 5, 0xFFFF000A, 0x5658, 6, 7)
    buffer = bytearray(b"kept")
    regs = guest.high_in(buffer)
    assert (regs.bx, regs.cx, regs.di, bytes(buffer)) == (0x10000, 0, ADDRESS + 4, b"kept")


def test_slow_waits_and_leaves_the_rest_alone() -> None:
    waited: list[float] = []
    backdoor = Backdoor(Machine(), faults=FaultPlan(["slow@2:0.25", "refused@2", "slow@3"], sleep=waited.append))
    guest = NaiveGuest(backdoor)
    assert [guest.low(10).ax for _ in range(3)] == [6, 0xFFFFFFFF, 6]
    assert waited == [0.25, 1.0]


def test_slow_in_milliseconds() -> None:
    waited: list[float] = []
    guest = NaiveGuest(Backdoor(Machine(), faults=FaultPlan(["slow@1:20ms"], sleep=waited.append)))
    assert guest.low(10).ax == 6
    assert waited == [0.02]


@pytest.mark.parametrize("at", [3, 4])
def test_garbage_before_the_size(at: int) -> None:
    guest, _ = faulty(Fault("garbage", at))
    guest.open()
    guest.send(b"abcd")
    assert guest.receive() == GARBAGE


def test_garbage_in_mid_reply_keeps_the_size() -> None:
    guest, _ = faulty("garbage@5:XY")
    guest.open()
    guest.send(b"abcde")
    assert guest.receive() == b"XYXYX"


def test_never() -> None:
    guest, _ = faulty("never@4+")
    guest.open()
    guest.send(b"abcd")
    assert [guest.receive() for _ in range(5)] == [None] * 5


def test_cookie() -> None:
    guest, backdoor = faulty("cookie@1", "cookie@4")
    guest.open()
    assert guest.message(SENDSIZE, 1).cx == 0
    backdoor.channels.lose()
    guest.open()
    assert guest.message(SENDSIZE, 1).cx == 0, "wrong from this exit on"
    assert guest.message(SENDSIZE, 1).cx == 0


@pytest.mark.parametrize("at", range(1, 9))
@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("hypercall", [False, True])
def test_every_kind_at_every_exit_leaves_the_host_well(kind: str, at: int, hypercall: bool) -> None:
    guest, backdoor = faulty(Fault(kind, at), Fault(kind, at + 20, True))
    guest.hypercall = hypercall
    guest.open()
    try:
        guest.rpc(b"abcd")
    except (AssertionError, Faulted):
        guest.message(RECVPAYLOAD, 0)
    guest.close()
    assert backdoor.faults is not None
    backdoor.faults.faults.clear()
    other = NaiveGuest(backdoor)
    other.open()
    assert other.rpc(b"after") == b"after"
    assert guest.low(30, 0, OPEN).cx == 0
    assert other.message(CLOSE).cx == 0x00010000


def test_the_same_through_the_gate() -> None:
    class Frame:
        ax = MAGIC
        bx = 0
        cx = 10
        dx = si = di = bp = 0

    machine, gate = host({b"k": b"v"}, faults=FaultPlan(["refused@2"]))
    assert machine.guestinfo == {b"guestinfo.k": b"v"}
    answers = []
    for _ in range(3):
        frame = Frame()
        gate.low(frame)  # type: ignore[arg-type]  # no extension is needed for this
        answers.append(frame.ax)
    assert answers == [6, 0xFFFFFFFF, 6]


def test_the_gate_reports_a_reflected_fault() -> None:
    class Nobody:
        def exit(self, *_: object) -> bool:
            return False

    class Frame:
        ax = bx = cx = dx = si = di = bp = 0

    with pytest.raises(GateFaulted):
        InProcessGate(Nobody()).low(Frame())  # type: ignore[arg-type]


def test_the_plan_counts_every_exit() -> None:
    _, backdoor = faulty()
    backdoor.exit(PORT_LOW, [0] * 7, NO_MEMORY, NaiveGuest(backdoor).who)
    assert backdoor.faults is not None
    assert backdoor.faults.count == 1


# -- at random ---------------------------------------------------------------------------------------------------------


def struck(seed: str, rate: float, exits: int = 200) -> list[str]:
    """What a stray plan did to so many exits of the same kind."""
    plan = FaultPlan([Stray(seed, rate)], sleep=lambda _: None)
    backdoor = Backdoor(Machine(), faults=plan)
    guest = NaiveGuest(backdoor)
    found = []
    for _ in range(exits):
        guest.message(RECVSIZE)
        found.append(plan.applied)
    return found


def test_the_same_seed_strikes_the_same_exits_in_the_same_way() -> None:
    assert struck("a", 0.3) == struck("a", 0.3)
    assert struck("a", 0.3) != struck("b", 0.3)


@pytest.mark.parametrize(("rate", "least", "most"), [(0.0, 0, 0), (0.1, 5, 45), (1.0, 200, 200)])
def test_the_rate(rate: float, least: int, most: int) -> None:
    assert least <= sum(bool(applied) for applied in struck("rate", rate)) <= most


def test_random_strikes_with_all_that_can_strike_there() -> None:
    assert {word for word in STRAY if word.partition(":")[0] != "garbage"} <= {*struck("all", 1.0)} | {"type", "type:0"}
    plan = FaultPlan(["random:x:1"], sleep=lambda _: None)
    guest = NaiveGuest(Backdoor(Machine(), faults=plan))
    knocks = set()
    for _ in range(200):
        guest.low(10)
        knocks.add(plan.applied)
    assert knocks == {"checkpoint", "lost", "refused", "echo", "slow:10ms"}


def test_a_random_plan_and_a_chosen_one_go_together() -> None:
    plan = FaultPlan(["refused@2", "random:x:0"])
    guest = NaiveGuest(Backdoor(Machine(), faults=plan))
    assert [guest.low(10).ax for _ in range(3)] == [6, 0xFFFFFFFF, 6]
    assert plan.size == 2


@pytest.mark.parametrize("seed", range(25))
def test_random_faults_leave_the_host_well(seed: int) -> None:
    guest, backdoor = faulty(f"random:{seed}:0.3")
    for _ in range(20):
        try:
            guest.open()
            guest.rpc(b"abcd")
            guest.close()
        except (AssertionError, Faulted):
            continue
    assert backdoor.faults is not None
    backdoor.faults.strays.clear()
    backdoor.channels.lose()
    other = NaiveGuest(backdoor)
    other.open()
    assert other.rpc(b"after") == b"after"


# -- where a kind can strike -------------------------------------------------------------------------------------------


def low(type_: int, command: int = 30) -> tuple[int, list[int]]:
    return PORT_LOW, [MAGIC, 0, type_ << 16 | command, 0x5658, 0, 0, 0]


HIGH = PORT_IN, [MAGIC, 0x10000, 4, 0x5659, 0, 0, 0]
KNOCK = low(0, 10)


@pytest.mark.parametrize(
    ("kind", "at", "not_at"),
    [
        ("size", [low(RECVSIZE)], [low(SENDSIZE), HIGH, KNOCK]),
        ("never", [low(RECVSIZE)], [low(RECVPAYLOAD), HIGH, KNOCK]),
        ("type", [low(OPEN), low(RECVSIZE), low(RECVPAYLOAD)], [low(SENDSIZE), HIGH, KNOCK]),
        ("garbage", [low(RECVSIZE), low(SENDPAYLOAD), HIGH], [low(OPEN), low(CLOSE), KNOCK]),
        ("cookie", [low(OPEN), low(CLOSE), HIGH], [KNOCK]),
        ("lost", [low(OPEN), HIGH, KNOCK], []),
    ],
)
def test_where_a_kind_applies(kind: str, at: list[tuple[int, list[int]]], not_at: list[tuple[int, list[int]]]) -> None:
    assert all(applies(kind, *call) for call in at)
    assert not any(applies(kind, *call) for call in not_at)
    hypercall = VMCALL, [MAGIC, 0x10000, 4, 3, 0, 0, 0]
    assert applies("garbage", *hypercall) == applies("garbage", PORT_OUT, HIGH[1])
