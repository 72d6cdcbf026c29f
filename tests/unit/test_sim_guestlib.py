"""What the guest library is told, by every version, and how it changes with time."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmtools.sim.clock import HostClock
from vmtools.sim.guestlib import STATS, StatisticError
from vmtools.sim.machine import Machine
from vmtools.sim.rpci import answer
from vmtools.wire import guestlib

from .test_sim_clock import START, Ticker


def machine(ticker: Ticker | None = None) -> Machine:
    return Machine(memory_mb=8192, mhz=3000, clock=HostClock(wall=lambda: START, monotonic=ticker or Ticker()))


def info(machine: Machine, version: int = 3) -> guestlib.Info:
    reply = answer(machine, guestlib.encode_request(version))
    assert reply[:2] == b"1 "
    return guestlib.decode(reply[2:])


def test_both_versions_say_the_same() -> None:
    vm = machine()
    two, three = info(vm, 2), info(vm, 3)
    assert (two.version, three.version, len(two.values), len(three.values)) == (2, 3, 18, 38)
    assert two.session == three.session != 0
    assert two.values == three.values[:18]
    assert three["HOST_MHZ"] == 3000
    assert three["MEM_LIMIT_MB"] == 0xFFFFFFFF, "as hosts say that there is none"


@pytest.mark.parametrize(
    ("version", "reply"),
    [
        (b"4", b"0 3:"),
        (b"4294967295", b"0 3:"),
        (b"1", b"0 Invalid argument"),
        (b"", b"0 Invalid argument"),
        (b"-3", b"0 Invalid argument"),
        (b"3 3", b"0 Invalid argument"),
        (b"9" * 40, b"0 Invalid argument"),
    ],
)
def test_versions_that_are_not_served(version: bytes, reply: bytes) -> None:
    assert answer(machine(), b"guestlib.info.get " + version).startswith(reply)


def test_a_guest_that_asks_for_too_much_comes_down_to_ours() -> None:
    refusal = answer(machine(), guestlib.encode_request(7))
    assert guestlib.fallback(7, refusal[2:]) == 3


@given(st.lists(st.floats(0, 1e5), max_size=20))
def test_counters_only_rise_and_values_stay_plausible(steps: list[float]) -> None:
    ticker = Ticker()
    vm = machine(ticker)
    before = info(vm)
    for seconds in steps:
        ticker.pass_(seconds)
        now = info(vm)
        for name in ("CPU_USED_MS", "ELAPSED_MS", "CPU_STOLEN_MS", "HOST_CPU_USED_MS"):
            assert as_int(now, name) >= as_int(before, name)
        assert as_int(now, "CPU_USED_MS") <= as_int(now, "ELAPSED_MS") + 1
        assert 0 <= as_int(now, "MEM_ACTIVE_MB") <= as_int(now, "MEM_USED_MB") <= 8192
        before = now
    assert as_int(before, "ELAPSED_MS") == pytest.approx(sum(steps) * 1000, abs=1)


def as_int(info: guestlib.Info, name: str) -> int:
    value = info[name]
    assert isinstance(value, int)
    return value


def test_values_change_with_time() -> None:
    ticker = Ticker()
    vm = machine(ticker)
    ticker.pass_(5)
    first = info(vm)
    ticker.pass_(10)
    second = info(vm)
    assert as_int(second, "ELAPSED_MS") - as_int(first, "ELAPSED_MS") == 10_000
    assert first["MEM_ACTIVE_MB"] != second["MEM_ACTIVE_MB"]
    assert first["CPU_USED_MS"] != second["CPU_USED_MS"]
    assert first["CPU_SHARES"] == second["CPU_SHARES"]


def test_a_new_session_begins_anew() -> None:
    ticker = Ticker()
    vm = machine(ticker)
    ticker.pass_(100)
    before = info(vm)
    vm.guestlib.begin_session()
    after = info(vm)
    assert after.session != before.session
    assert (before["ELAPSED_MS"], after["ELAPSED_MS"]) == (100_000, 0)


def test_values_that_somebody_fixed() -> None:
    vm = machine()
    vm.guestlib.fix("MEM_BALLOONED_MB", 512)
    vm.guestlib.fix("CPU_LIMIT_MHZ", None)
    vm.guestlib.fix("RESOURCE_POOL_PATH", "/a/pool")
    for version in (2, 3):
        found = info(vm, version)
        assert (found["MEM_BALLOONED_MB"], found["CPU_LIMIT_MHZ"], found["RESOURCE_POOL_PATH"]) == (
            512,
            None,
            "/a/pool",
        )
    wrong: list[tuple[str, guestlib.Value]] = [
        ("NO_SUCH", 1),
        ("CPU_SHARES", "many"),
        ("CPU_SHARES", 1 << 32),
        ("CPU_SHARES", -1),
    ]
    for name, value in wrong:
        with pytest.raises(StatisticError):
            vm.guestlib.fix(name, value)
    assert info(vm)["CPU_SHARES"] == 1000


def stat(vm: Machine, *words: str) -> bytes:
    return answer(vm, b"guestlib.stat.get " + " ".join(words).encode())


@pytest.mark.parametrize("name", STATS)
def test_raw_statistics_in_each_encoding(name: str) -> None:
    vm = machine()
    values = json.loads(stat(vm, "json", name)[2:])[name]
    assert values
    text = stat(vm, "text", name, "").decode()  # as open-vm-tools asks: with a blank for a parameter that is not there
    assert text == "1 " + "".join(f"{key} = {value}\n" for key, value in values.items())
    assert f"<{name}>" in stat(vm, "xml", name).decode()
    assert stat(vm, "yaml", name).decode().startswith(f"1 {name}:\n  ")


def test_the_list_of_raw_statistics_and_refusals() -> None:
    vm = machine()
    for words in ((), ("", ""), ("", "", "")):
        assert stat(vm, *words) == b"1 host\nresources\nsession\n"
    assert stat(vm, "text", "nothing") == b"0 No value found"
    assert stat(vm, "text", "session", "parameter") == b"0 No value found"
    assert stat(vm, "csv", "session") == b"0 Invalid argument"
    assert stat(vm, "text", "x" * 300) == b"0 Invalid argument"
    assert stat(vm, "text", "a\0b") == b"0 Invalid argument"
    assert answer(vm, guestlib.encode_atomic_update("a", "b")) == b"0 No value found"
    assert answer(vm, b"guestlib.ioctl x") == b"0 Invalid argument"
