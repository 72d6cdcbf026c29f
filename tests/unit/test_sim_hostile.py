"""A hostile guest that fills whatever it can fill: the host's memory stays bounded, and its owner can still look."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable

import pytest

from tests.fuzz.bounds import check_bounded
from tests.unit.naive_guest import COOKIE, RPCI, SENDSIZE, TCLO, NaiveGuest
from vmtools.sim.backdoor import Backdoor
from vmtools.sim.control import perform
from vmtools.sim.machine import Machine
from vmtools.wire import simlink

JUNK = b"\xff" * 60_000
"""Text that JSON has six characters for each of."""

MIB = 1 << 20


def report(backdoor: Backdoor, do: str, **arguments: object) -> bytes:
    """A control client's answer, as it would be sent."""
    found: list[bytes] = []
    perform(backdoor, {"do": do, **arguments}, lambda value: found.append(simlink.encode_json(simlink.REPORT, value)))
    assert json.loads(found[0][5:])["ok"] is True
    return found[0]


def many_keys(guest: NaiveGuest) -> None:
    for number in range(4200):
        guest.rpc(b"info-set guestinfo.%b%d x" % (b"\xff" * 200, number))


def large_values(guest: NaiveGuest) -> None:
    for number in range(40):
        guest.rpc(b"info-set guestinfo.big%d %b" % (number, JUNK))


def capabilities(guest: NaiveGuest) -> None:
    for number in range(400):
        guest.rpc(b"tools.capability.%b%d %b" % (b"\xff" * 120, number, JUNK))
    guest.rpc(b"tools.capability.features " + b" ".join(b"%d=4294967295" % n for n in range(1024)))


def records(guest: NaiveGuest) -> None:
    for number in range(1, 12):
        guest.rpc(b"SetGuestInfo  %d %b" % (number, JUNK))
    guest.rpc(b'SetGuestDiskInfo {"a":"%b"}' % ("ÿ" * 30_000).encode())


def log(guest: NaiveGuest) -> None:
    for _ in range(11_000):
        guest.rpc(b"log " + JUNK)


def opens(guest: NaiveGuest) -> None:
    accepted = [guest.open((RPCI, TCLO)[number % 2]).cx >> 16 & 1 for number in range(10_000)]
    assert sum(accepted) == 127  # and the one that is open


def services(guest: NaiveGuest) -> None:
    """With a name that is long."""
    for _ in range(127):
        service = NaiveGuest(guest.exits)
        service.open(TCLO)
        service.receive()
        service.send(b"OK ATR " + JUNK)


def half_messages(guest: NaiveGuest) -> None:
    for _ in range(127):
        sender = NaiveGuest(guest.exits)
        sender.open()
        assert sender.message(SENDSIZE, 65536).cx >> 16 & 1
        assert sender.high_out(JUNK).bx == 0x00010000


def wild_sizes(guest: NaiveGuest) -> None:
    for size in (65537, 1 << 20, 1 << 31, 0xFFFFFFFF):
        assert guest.message(SENDSIZE, size).cx == 0
        assert guest.high_out(b"x", size).bx & 0xFFFFFFFF == 0
        assert guest.high_in(bytearray(1), size).bx & 0xFFFFFFFF == 0


@pytest.mark.parametrize(
    ("fill", "most"),
    [
        (many_keys, 4),
        (large_values, 4),
        (capabilities, 4),
        (records, 4),
        (log, 48),
        (opens, 4),
        (services, 4),
        (half_messages, 16),
        (wild_sizes, 1),
    ],
    ids=lambda value: value.__name__ if callable(value) else f"{value} MiB",
)
def test_memory_is_bounded(fill: Callable[[NaiveGuest], None], most: int) -> None:
    tracemalloc.start()
    try:
        backdoor = Backdoor(Machine())
        guest = NaiveGuest(backdoor)
        guest.open()
        fill(guest)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    check_bounded(backdoor)
    assert kept <= most * MIB
    for do in ("status", "guestinfo", "log"):
        assert len(report(backdoor, do)) <= simlink.MAX_LENGTH


def test_what_is_not_listed_is_counted() -> None:
    backdoor = Backdoor(Machine())
    guest = NaiveGuest(backdoor)
    guest.open()
    many_keys(guest)
    listed = json.loads(report(backdoor, "guestinfo")[5:])
    assert len(listed["values"]) == len(listed["sizes"]) > 100
    assert len(listed["values"]) + listed["left_off"] == len(backdoor.machine.guestinfo) == 4096


def test_idle_channels_make_room() -> None:
    """128 channels and nobody closes one: after a while an honest guest gets one."""
    backdoor = Backdoor(Machine())
    hostile = NaiveGuest(backdoor)
    opens_all = [hostile.low(30, RPCI | COOKIE, 0).cx for _ in range(129)]
    assert opens_all == [0x00010000] * 128 + [0]
    for channel in backdoor.channels.open_channels.values():
        channel.used -= 100
    honest = NaiveGuest(backdoor)
    assert honest.open().cx == 0x00010000
    assert honest.rpc(b"info-get guestinfo.a") == b"0 No value found"
