"""The vmport_rpc device's message channel: each of its quirks, as measured."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmtools.sim import control
from vmtools.sim.backdoor import Backdoor
from vmtools.sim.machine import Machine
from vmtools.sim.personalities import PERSONALITIES
from vmtools.sim.vmport import Vmport
from vmtools.sim.vmport_rpc import CHANNELS, RingChannels

from .naive_guest import (
    CLOSE,
    MAGIC,
    RECVPAYLOAD,
    RECVSIZE,
    RECVSTATUS,
    RPCI,
    SENDPAYLOAD,
    SENDSIZE,
    TCLO,
    NaiveGuest,
)

STATUS_OK = 0x0001001E
STATUS_WAITING = 0x0003001E


class Clock:
    """A clock that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def device(**options: bytes) -> tuple[NaiveGuest, Backdoor, Clock]:
    clock = Clock()
    machine = Machine(guestinfo={key.encode(): value for key, value in options.items()})
    exits = Vmport(machine, PERSONALITIES["vmport-rpc"])
    exits.channels = RingChannels(machine, clock)
    return LooseGuest(exits, high=False, junk=True), exits, clock


class LooseGuest(NaiveGuest):
    """A guest that takes what the device gives."""

    def send(self, data: bytes) -> None:
        assert self.message(SENDSIZE, len(data)).cx == STATUS_OK
        for at in range(0, len(data), 4):
            assert self.message(SENDPAYLOAD, int.from_bytes(data[at : at + 4], "little")).cx == STATUS_OK

    def receive(self) -> bytes | None:
        regs = self.message(RECVSIZE)
        if regs.cx == STATUS_OK:
            return None
        assert (regs.cx, regs.dx) == (STATUS_WAITING, 0x00015658)
        data = bytearray(regs.bx)
        for at in range(0, len(data), 4):
            regs = self.message(RECVPAYLOAD, 1)
            assert (regs.cx, regs.dx) == (STATUS_OK, 0x00025658)
            data[at : at + 4] = regs.bx.to_bytes(4, "little")[: len(data) - at]
        assert self.message(RECVSTATUS, 1).cx == STATUS_OK
        return bytes(data)


def test_words() -> None:
    guest, _, _ = device()
    for number in range(2):
        regs = guest.open()
        assert regs[:6] == (MAGIC, 0xC9435052, STATUS_OK, number << 16 | 0x5658, 0, number)
    assert guest.message(SENDSIZE, 4)[:6] == (MAGIC, 4, STATUS_OK, 0x00015658, 0, 1)
    assert guest.message(RECVSIZE, 5)[:4] == (MAGIC, 5, STATUS_OK, 0x00015658), "nothing: EBX and EDX stay"
    assert guest.message(CLOSE).cx == STATUS_OK


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (b"info-get guestinfo.k", b"1 a\0b"),
        (b"info-get guestinfo.k\0", b"1 a\0b"),
        (b"info-get guestinfo.none", b"0 No value found\0"),
        (b"info-get guestinfo." + b"k" * 129, b"0 Key is too long\0"),
        (b"info-get other.k", b"1 \0"),
        (b"info-set guestinfo.n v", b"1 \0"),
        (b"info-set guestinfo.n", b"0 Two and exactly two arguments expected\0"),
        (b"info-set guestinfo.n " + b"v" * 8193, b"0 Value too long\0"),
        (b"info-set guestinfo." + b"n" * 129 + b" v", b"0 Key is too long\0"),
        (b"machine.id.get", b"1 \0"),
        (b"no such command", b"1 \0"),
        (b"log toolbox: Version: build-1", b"1 \0"),
    ],
)
def test_replies(request_: bytes, reply: bytes) -> None:
    guest, exits, _ = device(k=b"a\0b")
    guest.open()
    assert guest.rpc(request_) == reply
    if request_ == b"info-set guestinfo.n v":
        assert exits.machine.guestinfo[b"guestinfo.n"] == b"v"


def test_limits() -> None:
    guest, exits, _ = device()
    guest.open()
    for number in range(256):
        assert guest.rpc(b"info-set guestinfo.%d x" % number) == b"1 \0"
    assert guest.rpc(b"info-set guestinfo.more x") == b"0 Too many keys\0"
    assert guest.rpc(b"info-set guestinfo.0 " + b"y" * 8192) == b"1 \0"
    assert guest.rpc(b"info-get guestinfo.0") == b"1 " + b"y" * 8192
    exits.machine.guestinfo_limit = 10
    assert guest.rpc(b"info-set guestinfo.0 z") == b"0 Out of memory\0"


def test_sizes_have_16_bits() -> None:
    guest, exits, _ = device()
    guest.open()
    request = b"info-set guestinfo.n " + b"v" * 70_000
    cut = len(request) & 0xFFFF
    assert guest.message(SENDSIZE, len(request)).cx == STATUS_OK
    for at in range(0, cut, 4):
        guest.message(SENDPAYLOAD, int.from_bytes(request[at : at + 4], "little"))
    assert guest.receive() == b"1 \0"
    assert len(exits.machine.guestinfo[b"guestinfo.n"]) == 70_000 - 0x10000


def test_a_closed_channel_or_a_wrong_cookie_is_an_echo() -> None:
    guest, _, _ = device()
    for type_ in range(1, 7):
        regs = guest.message(type_, 9)
        assert regs[:4] == (MAGIC, 9, type_ << 16 | 30, 0x5658), "as it was set, upper halves gone"
    guest.open()
    guest.cookie_low ^= 1
    assert guest.message(RECVSIZE).cx == RECVSIZE << 16 | 30
    guest.cookie_low ^= 1
    guest.id = 8
    assert guest.message(RECVSIZE).cx == 30, "there is no channel 8: status 0"
    guest.id = 0
    assert guest.message(9).cx == 0


def test_eight_channels() -> None:
    guest, _, _ = device()
    assert [guest.open().dx >> 16 for _ in range(CHANNELS)] == list(range(CHANNELS))
    assert guest.open().cx == 30
    guest.id, guest.cookie_low = 3, 3
    guest.close()
    assert guest.open().dx >> 16 == 3


def test_three_replies_wait() -> None:
    guest, _, _ = device(k=b"v")
    guest.open()
    for request in (b"info-get guestinfo.k", b"info-get guestinfo.none", b"x", b"info-get guestinfo.k"):
        guest.send(request)
    replies = [guest.receive() for _ in range(4)]
    assert replies == [b"1 v", b"0 No value found\0", b"1 \0", None], "the fourth was dropped in silence"


def test_an_empty_message_is_none() -> None:
    guest, _, _ = device()
    guest.open()
    guest.send(b"")
    assert guest.receive() is None


def test_what_an_earlier_owner_left_is_read() -> None:
    """The trap for a TCLO guest: the place after ``reset`` still holds an old reply."""
    first, exits, _ = device(k=b"stale")
    first.open()
    first.rpc(b"x")
    first.send(b"info-get guestinfo.k")
    first.send(b"info-get guestinfo.k")
    assert first.receive() == b"1 stale"
    first.message(RECVSTATUS, 1)
    first.close()
    second = LooseGuest(exits, high=False)
    second.open(TCLO)
    assert second.receive() == b"reset\0"
    assert second.receive() == bytes(7), "this one was read before"
    assert second.receive() == b"1 stale"


def test_receive_can_not_be_restarted() -> None:
    guest, _, _ = device(k=b"abcdef")
    guest.open()
    guest.send(b"info-get guestinfo.k")
    guest.message(RECVSIZE)
    assert guest.message(RECVPAYLOAD, 1).bx == int.from_bytes(b"1 ab", "little")
    assert guest.message(RECVSIZE).bx == 8
    assert guest.message(RECVPAYLOAD, 1).bx == int.from_bytes(b"cdef", "little"), "it goes on"
    assert guest.message(RECVPAYLOAD, 1).bx == 0


def test_tclo() -> None:
    guest, exits, clock = device()
    guest.open(TCLO)
    assert guest.receive() == b"reset\0"
    guest.send(b"OK ATR toolbox\0")
    assert exits.channels.open_channels[0].app == b"toolbox"
    reports: list[object] = []
    pending = control.perform(exits, {"do": "send", "text": "ping"}, reports.append)
    assert pending is not None
    assert guest.receive() == b"ping\0"
    guest.send(b"OK \0")
    assert reports == [{"ok": True, "answer": "OK \0"}]
    guest.send(b"")
    assert guest.receive() is None
    clock.now += 15
    assert guest.receive() == b"reset\0", "the guest was asked nothing for 14 s"
    assert guest.receive() is None
    guest.close()


def test_a_send_that_nobody_reads_is_given_up() -> None:
    guest, exits, _ = device()
    guest.open(TCLO)
    reports: list[dict[str, object]] = []
    for _ in range(5):
        pending = control.perform(exits, {"do": "send", "text": "ping"}, reports.append)
        assert pending is not None
        pending.expire()
    assert len(reports) == 5
    assert not any(report["ok"] for report in reports)
    control.perform(exits, {"do": "send", "text": "ping"}, reports.append)
    guest.close()
    assert len(reports) == 5, "with the queue full it was never there"


def test_a_send_is_lost_with_its_channel() -> None:
    guest, exits, _ = device()
    guest.open(TCLO)
    reports: list[dict[str, object]] = []
    control.perform(exits, {"do": "send", "text": "ping"}, reports.append)
    guest.close()
    assert [report["ok"] for report in reports] == [False]


def test_idle_channels_end() -> None:
    guest, exits, clock = device()
    guest.open()
    clock.now += 79
    assert guest.message(SENDSIZE, 0).cx == STATUS_OK
    clock.now += 80
    assert guest.message(SENDSIZE, 0).cx == SENDSIZE << 16 | 30
    assert not exits.channels.open_channels


def test_any_protocol_is_opened() -> None:
    guest, exits, _ = device()
    assert guest.open(RPCI + 1).cx == STATUS_OK
    reports: list[dict[str, dict[str, list[dict[str, object]]]]] = []
    control.perform(exits, {"do": "status"}, reports.append)
    assert reports[0]["status"]["channels"][0]["protocol"] == "0x49435053"


word = st.integers(0, (1 << 32) - 1)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 20) | word, st.integers(0, 9)), max_size=60))
def test_no_guest_harms_it(calls: list[tuple[int, int, int]]) -> None:
    guest, exits, _ = device(k=b"v")
    guest.open()
    for type_, bx, number in calls:
        guest.id = number
        regs = guest.message(type_, bx)
        assert max(regs[:6]) < 1 << 32
        if type_ == 0 and regs.cx == STATUS_OK:
            guest.cookie_low = regs.di
    for channel in exits.channels.open_channels.values():
        assert len(channel.incoming) <= 0x10004
    assert len(exits.channels.open_channels) <= CHANNELS
