"""The host half of the message channel: exact words, any length, and guests that mean harm."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmtools.sim.backdoor import NOBODY, PORT_IN, PORT_OUT, Backdoor
from vmtools.sim.channels import Channels, TcloRequest
from vmtools.sim.inprocess import ADDRESS, BufferMemory
from vmtools.sim.machine import Machine

from .naive_guest import (
    CLOSE,
    JUNK,
    MAGIC,
    OPEN,
    RECVPAYLOAD,
    RECVSIZE,
    RECVSTATUS,
    SENDPAYLOAD,
    SENDSIZE,
    TCLO,
    Faulted,
    NaiveGuest,
)

LENGTHS = [*range(10), 4095, 4096, 4097, 65535, 65536]


def host(**options: Any) -> Backdoor:
    return Backdoor(Machine(**options))


def echo_host(**options: Any) -> Backdoor:
    """A host whose reply to an RPCI request is the request."""
    machine = Machine(**options)
    return Backdoor(machine, channels=Channels(machine, lambda request: request))


# -- the words that strict guests compare ------------------------------------------------------------------------------


@pytest.mark.parametrize("hypercall", [False, True])
@pytest.mark.parametrize(
    ("offered", "send_size", "receive_size"), [(True, 0x00810000, 0x00830000), (False, 0x00010000, 0x00030000)]
)
def test_register_words(offered: bool, send_size: int, receive_size: int, hypercall: bool) -> None:
    guest = NaiveGuest(host(guestinfo={b"k": b"v"}, high_bandwidth=offered), hypercall=hypercall)
    regs = guest.open()
    assert (regs.cx, regs.dx & 0xFFFF, regs.ax) == (0x00010000, 0, MAGIC)
    request = b"info-get guestinfo.k"
    regs = guest.message(SENDSIZE, len(request))
    assert (regs.cx, regs.dx & 0xFFFF) == (send_size, 0)
    for at in range(0, len(request), 4):  # low bandwidth is taken although high is offered
        assert guest.message(SENDPAYLOAD, int.from_bytes(request[at : at + 4], "little")).cx == 0x00010000
    regs = guest.message(RECVSIZE)
    assert (regs.cx, regs.bx, regs.dx) == (receive_size, 3, 0x00010000)
    regs = guest.message(RECVPAYLOAD, 1)
    assert (regs.cx, regs.bx, regs.dx) == (0x00010000, int.from_bytes(b"1 v", "little"), 0x00020000)
    regs = guest.message(RECVSTATUS, 1)
    assert (regs.cx, regs.dx & 0xFFFF) == (0x00010000, 0)
    regs = guest.message(RECVSIZE)
    assert (regs.cx, regs.bx) == (0x00010000, 0)
    assert guest.close().cx == 0x00010000


@pytest.mark.parametrize("hypercall", [False, True])
def test_high_bandwidth_words(hypercall: bool) -> None:
    guest = NaiveGuest(host(guestinfo={b"k": b"v" * 100}), hypercall=hypercall)
    guest.open()
    request = b"info-get guestinfo.k"
    guest.message(SENDSIZE, len(request))
    regs = guest.high_out(request)
    # REP runs through and leaves its pointer past the data; a hypercall moves nothing
    moved = (len(request), ADDRESS) if hypercall else (0, ADDRESS + len(request))
    assert (regs.bx, regs.cx, regs.si) == (0x00010000, *moved)
    assert guest.message(RECVSIZE).bx == 102
    buffer = bytearray(102)
    regs = guest.high_in(buffer)
    moved = (102, ADDRESS) if hypercall else (0, ADDRESS + 102)
    assert (regs.bx, regs.cx, regs.di) == (0x00010000, *moved)
    assert bytes(buffer) == b"1 " + b"v" * 100


def test_worked_example() -> None:
    """Appendix A.2 of the specification, ``log hi`` in low bandwidth, byte for byte."""
    machine = Machine(high_bandwidth=False)
    backdoor = Backdoor(machine)
    backdoor.channels = Channels(machine, backdoor._rpci, lambda _: bytes(range(8)))
    guest = NaiveGuest(backdoor)
    high, low = 0x07060504, 0x03020100

    def exit_(bx: int, cx: int, dx: int) -> tuple[int, ...]:
        return guest.raw(0, MAGIC, bx, cx, dx, high, low)[1:4]

    regs = guest.raw(0, MAGIC, 0xC9435052, 0x0000001E, 0x00005658)
    assert (regs.cx >> 16, regs.dx >> 16, regs.si, regs.di) == (1, 0, high, low)
    assert exit_(6, 0x0001001E, 0x5658)[1] == 0x00010000
    assert exit_(0x20676F6C, 0x0002001E, 0x5658)[1] == 0x00010000
    assert exit_(0x00006968, 0x0002001E, 0x5658)[1] == 0x00010000
    assert exit_(0, 0x0003001E, 0x5658) == (2, 0x00030000, 0x00010000)
    assert exit_(1, 0x0004001E, 0x5658) == (0x00002031, 0x00010000, 0x00020000)
    assert exit_(1, 0x0005001E, 0x5658)[1] == 0x00010000
    assert exit_(0, 0x0006001E, 0x5658)[1] == 0x00010000
    assert list(machine.log) == [b"Guest: hi"]
    assert not backdoor.channels.open_channels


def test_upper_halves_stay() -> None:
    guest = NaiveGuest(host(guestinfo={b"k": b"v"}), junk=True, high=False)
    regs = guest.open()
    assert all(word & ~0xFFFFFFFF == JUNK for word in regs[:6])
    assert guest.rpc(b"info-get guestinfo.k") == b"1 v"


def test_without_cookie_any_is_taken_and_none_is_written() -> None:
    """iPXE opens so, and its ESI and EDI hold other things."""
    guest = NaiveGuest(host())
    regs = guest.open(cookie=False)
    assert (regs.cx, regs.si, regs.di) == (0x00010000, 0, 0)
    guest.cookie_high, guest.cookie_low = 0x1234, 0x5678
    assert guest.rpc(b"log x") == b"1 "


# -- any length, both bandwidths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("high", [False, True])
@pytest.mark.parametrize("length", LENGTHS)
def test_lengths(length: int, high: bool) -> None:
    guest = NaiveGuest(echo_host(), high=high)
    guest.open()
    message = random.Random(length).randbytes(length)
    assert guest.rpc(message) == message
    assert guest.rpc(message[::-1]) == message[::-1]
    assert guest.close().cx == 0x00010000


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=6), st.booleans(), st.booleans(), st.booleans())
def test_any_messages(messages: list[bytes], high: bool, hypercall: bool, cookie: bool) -> None:
    backdoor = echo_host()
    guest = NaiveGuest(backdoor, high=high, hypercall=hypercall)
    guest.open(cookie=cookie)
    for message in messages:
        assert guest.rpc(message) == message
    guest.close()
    assert not backdoor.channels.open_channels


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=1, max_size=64), st.integers(0, 80), st.booleans())
def test_a_transfer_may_start_again_anywhere(message: bytes, step: int, high: bool) -> None:
    """After a checkpoint guests begin at SENDSIZE, or at RECVSIZE, wherever they were."""
    guest = NaiveGuest(echo_host(), high=high)
    guest.open()
    guest.message(SENDSIZE, 64)
    for _ in range(min(step, 15)):
        guest.message(SENDPAYLOAD, 0x41414141)
    guest.send(message)
    guest.message(RECVSIZE)
    for _ in range(min(step, (len(message) - 1) // 4)):
        guest.message(RECVPAYLOAD, 1)
    assert guest.receive() == message


def test_over_the_limit() -> None:
    backdoor = echo_host()
    guest = NaiveGuest(backdoor)
    guest.open()
    for length in (65537, 1 << 31, 0xFFFFFFFF):
        assert guest.message(SENDSIZE, length).cx == 0
        assert guest.message(SENDPAYLOAD, 1).cx == 0
    assert guest.rpc(b"still well") == b"still well"


def test_high_bandwidth_in_pieces() -> None:
    guest = NaiveGuest(echo_host())
    guest.open()
    guest.message(SENDSIZE, 6)
    assert guest.high_out(b"abc").bx == 0x00010000
    assert guest.high_out(b"def").bx == 0x00010000
    assert guest.receive() == b"abcdef"


# -- guests that err or mean harm --------------------------------------------------------------------------------------


def test_wrong_cookie_and_unknown_channel_are_refused_and_change_nothing() -> None:
    backdoor = echo_host()
    guest = NaiveGuest(backdoor)
    guest.open()
    guest.send(b"kept")
    right = guest.id, guest.cookie_high, guest.cookie_low
    for wrong in [
        (right[0], right[1] ^ 1, right[2]),
        (right[0], right[1], right[2] ^ 1),
        (right[0], right[2], right[1]),
        (right[0] + 1, right[1], right[2]),
        (0xFFFF, right[1], right[2]),
    ]:
        guest.id, guest.cookie_high, guest.cookie_low = wrong
        for kind in (SENDSIZE, SENDPAYLOAD, RECVSIZE, RECVPAYLOAD, RECVSTATUS, CLOSE):
            regs = guest.message(kind, 1)
            assert (regs.cx, regs.bx) == (0, 1)
        assert guest.high_out(b"x").bx == 0
        buffer = bytearray(b"xxxx")
        assert (guest.high_in(buffer).bx, bytes(buffer)) == (0, b"xxxx")
    guest.id, guest.cookie_high, guest.cookie_low = right
    assert guest.receive() == b"kept"


def test_high_bandwidth_cookies_have_their_own_places() -> None:
    """OUT has the cookie in EBP and EDI, IN in ESI and EBP: the other way round is wrong."""
    guest = NaiveGuest(echo_host())
    guest.open()
    guest.message(SENDSIZE, 4)
    memory = BufferMemory(bytearray(b"abcd"))
    channel = guest.id << 16 | 0x5659
    high, low = guest.cookie_high, guest.cookie_low
    wrong = guest.raw(PORT_OUT, MAGIC, 0x10000, 4, channel, ADDRESS, high, low, memory=memory)
    assert wrong.bx == 0
    assert guest.high_out(b"abcd").bx == 0x10000
    guest.message(RECVSIZE)
    assert guest.raw(PORT_IN, MAGIC, 0x10000, 4, channel, low, ADDRESS, high, memory=memory).bx == 0
    assert guest.high_in(bytearray(4)).bx == 0x10000


def test_steps_out_of_order() -> None:
    guest = NaiveGuest(echo_host())
    guest.open()
    assert guest.message(SENDPAYLOAD, 1).cx == 0, "payload without a size"
    assert guest.high_out(b"x").bx == 0
    assert guest.message(RECVPAYLOAD, 1).cx == 0, "nothing announced"
    assert guest.message(RECVSTATUS, 1).cx == 0
    assert guest.high_in(bytearray(1)).bx == 0
    guest.message(SENDSIZE, 2)
    assert guest.high_out(b"too much").bx == 0
    guest.message(SENDPAYLOAD, 0x6261)
    assert guest.message(SENDPAYLOAD, 0x6261).cx == 0, "the message is complete"
    assert guest.message(SENDSIZE, 2).cx == 0, "the reply waits"
    assert guest.message(RECVPAYLOAD, 1).cx == 0, "its size was not asked for"
    guest.message(RECVSIZE)
    assert guest.message(RECVSTATUS, 1).cx == 0, "received well, and not read"
    assert guest.high_in(bytearray(3)).bx == 0, "more than there is"
    assert guest.message(RECVPAYLOAD, 1).bx == 0x6261
    assert guest.message(RECVPAYLOAD, 1).cx == 0
    assert guest.message(RECVSTATUS, 1).cx == 0x00010000
    assert guest.message(7).cx == 0
    assert guest.message(0xFFFF).cx == 0


@pytest.mark.parametrize("kind", [RECVPAYLOAD, RECVSTATUS])
def test_a_rejected_reply_is_dropped_and_recorded(kind: int) -> None:
    backdoor = echo_host()
    guest = NaiveGuest(backdoor)
    guest.open()
    guest.send(b"1234567")
    guest.message(RECVSIZE)
    assert guest.message(kind, 0).cx == 0x00010000
    assert list(backdoor.machine.rejections) == [("RPCI", 0, 7)]
    assert guest.receive() is None
    assert guest.rpc(b"next") == b"next"


def test_bad_pointers_fault_and_change_nothing() -> None:
    guest = NaiveGuest(echo_host())
    guest.open()
    guest.message(SENDSIZE, 4)
    with pytest.raises(Faulted):
        guest.high_out(b"", size=4)
    assert guest.high_out(b"abcd").bx == 0x10000
    guest.message(RECVSIZE)
    with pytest.raises(Faulted):
        guest.high_in(bytearray(1), size=4)
    assert guest.receive() == b"abcd"


@pytest.mark.parametrize("size", [65537, 1 << 31, 0xFFFFFFFF, 1 << 32, (1 << 32) + 4, (1 << 64) - 1])
def test_wild_counts(size: int) -> None:
    guest = NaiveGuest(echo_host())
    guest.open()
    guest.message(SENDSIZE, 4)
    regs = guest.high_out(b"abcd", size=size)
    assert (regs.bx, regs.cx, regs.si) == (0, 0, (ADDRESS + size) % (1 << 64))
    guest.send(b"abcd")
    guest.message(RECVSIZE)
    assert guest.high_in(bytearray(4), size=size).bx == 0


def test_ten_thousand_opens() -> None:
    backdoor = echo_host()
    guest = NaiveGuest(backdoor)
    statuses = [guest.open().cx for _ in range(10_000)]
    assert statuses == [0x00010000] * 128 + [0] * (10_000 - 128)
    assert sorted(backdoor.channels.open_channels) == list(range(128))
    last = NaiveGuest(backdoor)
    last.id = 5
    channel = backdoor.channels.open_channels[5]
    last.cookie_high, last.cookie_low = channel.cookie_high, channel.cookie_low
    assert last.close().cx == 0x00010000
    assert last.open().dx >> 16 == 5, "a freed number is given again"


def test_idle_channels_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("vmtools.sim.channels.time.monotonic", lambda: now)
    backdoor = echo_host()
    guest = NaiveGuest(backdoor)
    for _ in range(127):
        guest.open()
    now += 79
    busy = NaiveGuest(backdoor)
    busy.open()
    assert guest.open().cx == 0
    now += 2
    assert guest.open().cx == 0x00010000
    assert busy.rpc(b"alive") == b"alive"


def test_protocols_that_do_not_exist() -> None:
    guest = NaiveGuest(echo_host())
    for protocol in (0, 1, 0x49435053, 0x7FFFFFFF):
        assert guest.low(30, protocol | 0x80000000, OPEN).cx == 0


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 6),
            st.tuples(*[st.integers(0, (1 << 64) - 1) | st.sampled_from([MAGIC, 0x10000, 0, 4, ADDRESS])] * 7),
            st.sampled_from([None, 0x5658, 0x5659, 1, 3, 0]),
            st.none() | st.integers(0, 8),
        ),
        max_size=30,
    )
)
def test_garbage_never_raises(steps: list[tuple[int, tuple[int, ...], int | None, int | None]]) -> None:
    backdoor = Backdoor(Machine())
    NaiveGuest(backdoor).open(cookie=False)
    for instruction, words, port, kind in steps:
        regs = list(words)
        if port is not None:
            regs[0], regs[3] = MAGIC, regs[3] & 0x3_0000 | port
        if kind is not None:
            regs[2] = kind << 16 | 30
        backdoor.exit(instruction, regs, BufferMemory(bytearray(16)), NOBODY)
        assert len(regs) == 7
        assert all(0 <= word < 1 << 64 for word in regs)
    assert len(backdoor.channels.open_channels) <= 128


# -- TCLO --------------------------------------------------------------------------------------------------------------


def test_tclo_dialogue() -> None:
    backdoor = host(handshake=False)
    done: list[TcloRequest] = []
    assert backdoor.channels.send(b"ping") is None, "nobody listens"
    guest = NaiveGuest(backdoor)
    guest.open(TCLO)
    guest.send(b"")
    assert guest.receive() == b"reset"
    guest.send(b"OK ATR toolbox")
    assert guest.receive() is None
    assert backdoor.channels.send(b"ping", app=b"toolbox-dnd") is None
    for text in (b"ping", b"Set_Option synctime 0"):
        assert backdoor.channels.send(text, app=b"toolbox", on_done=done.append)
    guest.send(b"")
    assert guest.receive() == b"ping"
    guest.send(b"OK ")
    assert guest.receive() == b"Set_Option synctime 0"
    assert [(r.text, r.state, r.answer) for r in done] == [(b"ping", "answered", b"OK ")]
    guest.close()
    assert (done[1].state, done[1].answer) == ("lost", None)


def test_tclo_messages_that_find_no_answer() -> None:
    backdoor = host()
    guest = NaiveGuest(backdoor)
    guest.open(TCLO)
    guest.receive()
    sent = [backdoor.channels.send(text) for text in (b"one", b"two", b"three", b"four")]
    one, two, three, four = [request for request in sent if request is not None]
    guest.receive()
    guest.receive()
    assert (one.state, two.state) == ("unanswered", "taken")
    guest.message(RECVSIZE)
    assert not backdoor.channels.withdraw(three), "the guest is reading it"
    guest.message(RECVPAYLOAD, 0)
    assert three.state == "rejected"
    assert backdoor.channels.withdraw(four)
    guest.send(b"ERROR no")
    assert (two.state, two.answer, guest.receive()) == ("answered", b"ERROR no", None)


def test_tclo_queue_is_bounded() -> None:
    backdoor = host()
    NaiveGuest(backdoor).open(TCLO)
    accepted = [backdoor.channels.send(b"x") for _ in range(200)]
    assert accepted.index(None) == 63
