"""Removable devices and GUI options, as a guest reads and changes them; the options that the guest is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmtools.sim.backdoor import Backdoor
from vmtools.sim.devices import Device, DeviceError, Devices, parse
from vmtools.sim.machine import Machine
from vmtools.sim.options import DEFAULTS, MAX_OPTIONS, OptionError, Options
from vmtools.sim.rpci import answer

from .naive_guest import NaiveGuest

DEVICES = (Device("ethernet0", connected=True), Device("x" * 31), Device("nailed", connected=True, fixed=True))


def guest() -> tuple[Machine, NaiveGuest]:
    machine = Machine(devices=DEVICES)
    return machine, NaiveGuest(Backdoor(machine))


def record(guest: NaiveGuest, number: int) -> bytes | None:
    """As the guest reads it: ten words (specification 1.8)."""
    words = [guest.low(11, number << 16 | offset) for offset in range(0, 40, 4)]
    return b"".join(word.bx.to_bytes(4, "little") for word in words) if all(word.ax for word in words) else None


def test_records() -> None:
    _, asking = guest()
    assert record(asking, 0) == b"ethernet0".ljust(32, b"\0") + bytes(4) + b"\1\0\0\0"
    assert record(asking, 1) == b"x" * 31 + b"\0" + b"\1\0\0\0" + bytes(4)
    assert record(asking, 3) is None
    assert asking.low(11, 40).ax == 0, "beyond the record"
    assert asking.low(11, 0xFFFF_FFFF).ax == 0


def test_toggling() -> None:
    machine, asking = guest()
    assert asking.low(12, 0).ax == 1
    assert not machine.devices.find("ethernet0").connected
    assert asking.low(12, 0x8000_0001).ax == 1
    assert machine.devices.find("x" * 31).connected
    assert asking.low(12, 2).ax == 0
    assert machine.devices.find("nailed").connected
    assert asking.low(12, 0x8000_0003).ax == 0


@given(st.integers(0, 0xFFFFFFFF))
def test_any_argument(argument: int) -> None:
    _, asking = guest()
    assert asking.low(11, argument).ax in (0, 1)
    assert asking.low(12, argument).ax in (0, 1)


def test_two_machines_share_no_device() -> None:
    one, other = Devices(), Devices()
    one.toggle(0)
    assert one.find("ethernet0").connected != other.find("ethernet0").connected


def test_how_devices_are_described() -> None:
    assert parse("a") == parse("a=off") == Device("a")
    assert parse("ide0:0=fixed-on") == Device("ide0:0", connected=True, fixed=True)
    for text in ("", "=on", "x" * 32, "a=maybe", "a\n=on"):
        with pytest.raises(DeviceError):
            parse(text)
    with pytest.raises(DeviceError):
        Devices(DEVICES * 17)


# -- options -----------------------------------------------------------------------------------------------------------


def test_the_gui_bit_and_the_option_are_one() -> None:
    """specification 1.8 and 9.3.1: what toolbox-cmd's timesync looks at and what it asks for."""
    machine = Machine()
    asking = NaiveGuest(Backdoor(machine))
    assert asking.low(13).ax == 0
    assert answer(machine, b"vmx.set_option synctime 0 1\0") == b"1 "
    assert (asking.low(13).ax, machine.options["synctime"]) == (0x400, "1")
    asking.low(14, 0xFFFF_F80B)
    assert (asking.low(13).ax, machine.options["synctime"]) == (0x80B, "0")
    asking.low(14, 0x40B)
    assert (asking.low(13).ax, machine.options["synctime"]) == (0x40B, "1")


@pytest.mark.parametrize("rest", [b"", b"synctime", b"synctime 0", b"synctime 0 2", b"synctime  1", b"other 0 1"])
def test_options_that_a_guest_may_not_set(rest: bytes) -> None:
    assert answer(Machine(), b"vmx.set_option " + rest) == b"0 Invalid argument"


def test_options_tell_who_listens() -> None:
    options, told = Options({"new": "x y"}), []
    assert options.items() == [*DEFAULTS.items(), ("new", "x y")]
    options.changed = lambda name, value: told.append((name, value))
    options.set("broadcastIP", "0")
    options.gui = 0
    options.gui = 0x400
    assert told == [("broadcastIP", "0"), ("synctime", "1")]
    for name, value in [
        ("", "1"),
        ("a b", "1"),
        ("a\n", "1"),
        ("a", ""),
        ("a", "\0"),
        ("a" * 129, "1"),
        ("a", "b" * 1025),
    ]:
        with pytest.raises(OptionError):
            options.set(name, value)
    with pytest.raises(OptionError, match="too many"):
        Options({f"o{i}": "1" for i in range(MAX_OPTIONS)})
