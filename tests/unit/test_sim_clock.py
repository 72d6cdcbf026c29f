"""The host's clock: its three times, and what the registers say of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmtools.sim.backdoor import NOBODY, RDPMC, Backdoor
from vmtools.sim.clock import NANO, ClockError, HostClock, duration
from vmtools.sim.inprocess import NO_MEMORY
from vmtools.sim.machine import Machine
from vmtools.sim.schedule import Schedule

from .naive_guest import NaiveGuest

START = 1_700_000_000 * NANO


class Ticker:
    """Elapsed time that a test sets."""

    def __init__(self) -> None:
        self.nanoseconds = 5 * NANO

    def __call__(self) -> int:
        return self.nanoseconds

    def pass_(self, seconds: float) -> None:
        self.nanoseconds += round(seconds * NANO)


@pytest.fixture
def ticker() -> Ticker:
    return Ticker()


@pytest.fixture
def clock(ticker: Ticker) -> HostClock:
    return HostClock(wall=lambda: START, monotonic=ticker)


def times(clock: HostClock, ticker: Ticker) -> tuple[float, float, float]:
    """Seconds since the test's start: time of day, real, apparent."""
    return (clock.now() - START) / NANO, clock.real() / NANO - 5, clock.apparent() / NANO - 5


def test_three_times_run_side_by_side(clock: HostClock, ticker: Ticker) -> None:
    ticker.pass_(10)
    assert times(clock, ticker) == (10, 10, 10)
    clock.shift(90)
    assert times(clock, ticker) == (100, 10, 10), "somebody set the host's clock"
    clock.leap(60)
    assert times(clock, ticker) == (160, 70, 10), "the guest did not run for a minute"
    clock.shift(-160)
    assert times(clock, ticker) == (0, 70, 10)


@given(st.floats(-100_000, 100_000), st.floats(0, 1e6), st.floats(0, 1e6))
def test_drift_changes_the_pace_and_nothing_else(ppm: float, first: float, then: float) -> None:
    ticker = Ticker()
    clock = HostClock(wall=lambda: START, monotonic=ticker)
    ticker.pass_(first)
    before = times(clock, ticker)
    clock.drift_ppm = ppm
    assert times(clock, ticker) == before
    ticker.pass_(then)
    after = times(clock, ticker)
    assert after[0] - before[0] == pytest.approx(then * (1 + ppm / 1e6), abs=0.01)
    assert after[1] - before[1] == pytest.approx(after[0] - before[0], abs=0.01)
    assert after[2] - before[2] == pytest.approx(then, abs=0.01)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("+90s", 90),
        ("-5m", -300),
        (" -5m", -300),
        ("+1.5h", 5400),
        ("+250ms", 0.25),
        ("-1d", -86400),
        ("@2023-11-14T22:13:21Z", 1),
        ("@2023-11-14T22:13:21", 1),
        ("@2023-11-14T23:13:21+01:00", 1),
    ],
)
def test_adjustments(clock: HostClock, text: str, seconds: float) -> None:
    clock.adjust(text)
    assert (clock.now() - START) / NANO == pytest.approx(seconds, abs=1e-5)


@pytest.mark.parametrize(
    "text", ["", "90s", "+", "+s", "+1y", "+-1s", "+1e9s", "@", "@noon", "@1969-12-31", "-99999d", "+999999999999999d"]
)
def test_what_is_no_time(clock: HostClock, text: str) -> None:
    with pytest.raises(ClockError):
        clock.adjust(text)
    assert clock.now() == START


@pytest.mark.parametrize("ppm", [float("nan"), float("inf"), 100_001, -1e9])
def test_what_is_no_drift(clock: HostClock, ppm: float) -> None:
    with pytest.raises(ClockError):
        clock.drift_ppm = ppm


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e20])
def test_what_is_no_leap(clock: HostClock, seconds: float) -> None:
    with pytest.raises(ClockError):
        clock.leap(seconds)


def test_durations() -> None:
    assert [duration(text) for text in ("7", "250ms", "2m", "1d")] == [7, 0.25, 120, 86400]


def counter(backdoor: Backdoor, index: int) -> int:
    regs = [0, 0, index, 0, 0, 0, 0]
    assert backdoor.exit(RDPMC, regs, NO_MEMORY, NOBODY)
    return regs[3] << 32 | regs[0]


def test_the_guest_sees_one_clock_by_every_call(clock: HostClock, ticker: Ticker) -> None:
    """GETTIME, GETTIMEFULL, the one with lag, and the pseudo counters tell one story."""
    machine = Machine(clock=clock, mhz=2000)
    machine.interrupt_lag_us = 300
    backdoor = Backdoor(machine)
    guest = NaiveGuest(backdoor)
    clock.leap(60)
    clock.shift(90)
    ticker.pass_(1.25)
    seconds = START // NANO + 60 + 90 + 1
    for command in (46, 55):
        regs = guest.low(command)
        assert (regs.si << 32 | regs.dx, regs.bx) == (seconds, 250_000)
    assert (guest.low(23).ax, guest.low(23).bx) == (seconds, 250_000)
    assert counter(backdoor, 0x10001) == round(66.25 * NANO)
    assert counter(backdoor, 0x10000) == counter(backdoor, 0x10001) * 2
    assert counter(backdoor, 0x10002) == round(6.25 * NANO) - 300_000
    assert counter(backdoor, 0x10003) == counter(backdoor, 0x10002) * 2


def test_the_real_clock_is_this_computers() -> None:
    import time

    assert abs(HostClock().now() - time.time_ns()) < NANO
    status = HostClock().status()
    assert abs(float(status["offset"])) < 1
    assert str(status["now"]).endswith("+00:00")


def test_a_schedule_in_order_and_no_action_twice() -> None:
    now = [0.0]
    schedule = Schedule(lambda: now[0])
    done: list[str] = []

    def again() -> None:
        done.append("again")
        schedule.after(0, again)

    schedule.after(2, lambda: done.append("late"))
    schedule.after(1, lambda: done.append("first"))
    schedule.after(1, again)
    assert schedule.left() == 1
    schedule.run()
    assert done == []
    now[0] = 1
    schedule.run()
    assert done == ["first", "again"], "what is scheduled for now waits for the next time"
    now[0] = 3
    schedule.run()
    assert done == ["first", "again", "again", "late"]
    assert schedule.left() == 0
    assert Schedule().left() is None
