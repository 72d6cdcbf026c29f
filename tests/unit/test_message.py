"""The message channel, guest half: by hand, against the simulated host, and against hosts that mean harm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmtools import errors
from vmtools.backdoor import HIGH_IN, HIGH_OUT, LOW, PAUSE, carry_out
from vmtools.constants import HB_MESSAGE, MAGIC, MASK32, UNSUPPORTED, Message, Protocol, Status
from vmtools.message import RESTARTS, Channel, describe
from vmtools.sim.inprocess import InProcessGate

from .hosts import Answering, Host, Tap, put_low, set_registers

if TYPE_CHECKING:
    from collections.abc import Callable

    from vmtools._gate import Frame
    from vmtools.backdoor import Carrier, Steps

OPEN, SENDSIZE, SENDPAYLOAD, RECVSIZE, RECVPAYLOAD, RECVSTATUS, CLOSE = range(7)
LIMIT = 1 << 20


class Talk:
    """One whole conversation: open, send, receive, close.  Keeps what came of it."""

    def __init__(self, gate: Carrier, request: bytes, limit: int = LIMIT) -> None:
        self.channel = Channel(Protocol.RPCI)
        self.pauses: list[float] = []
        self.reply: bytes | None = None
        self.error: errors.VMToolsError | None = None
        self._gate = gate
        try:
            self._do(self.channel.opening())
            self._do(self.channel.sending(request))
            self.reply = self._do(self.channel.receiving(limit))
        except errors.VMToolsError as error:
            self.error = error
        finally:
            self._do(self.channel.closing())

    def _do(self, steps: Steps[Any]) -> Any:
        return carry_out(self._gate, steps, pause=self.pauses.append)


def exits_of(request: bytes, reply: bytes, *, high: bool) -> int:
    """How many exits a conversation with no fault takes."""
    transfers = [bool(part) if high else (len(part) + 3) // 4 for part in (request, reply)]
    return 5 + sum(transfers)


# -- the registers, by hand ------------------------------------------------------------------------------------------


def play(steps: Steps[Any], dialogue: list[tuple[dict[str, int], dict[str, int]]]) -> Any:
    """Walk a generator by hand: each row is what must go out, and what the host makes of it."""
    try:
        for expected, answer in dialogue:
            form, frame, _ = next(steps)
            assert form == LOW
            assert frame is not None
            assert {name: getattr(frame, name) for name in expected} == expected
            put_low(frame, **answer)
        step = next(steps)
    except StopIteration as stop:
        return stop.value
    raise AssertionError(f"a step too many: {step}")


def opened(high_cookie: int = 0xC0DE, low_cookie: int = 0xF00D) -> Channel:
    channel = Channel(Protocol.RPCI)
    play(
        channel.opening(),
        [
            (
                {"ax": MAGIC, "bx": 0xC9435052, "cx": 0x1E, "dx": 0, "si": 0, "di": 0},
                {"cx": 0x10000, "dx": 7 << 16, "si": high_cookie, "di": low_cookie},
            )
        ],
    )
    return channel


def test_the_worked_example_of_the_specification() -> None:
    """Appendix A.2: ``log hi``, low bandwidth."""
    channel = opened()
    mine = {"ax": MAGIC, "dx": 7 << 16, "si": 0xC0DE, "di": 0xF00D}
    ok = {"cx": 0x10000, "dx": 7 << 16}
    play(
        channel.sending(b"log hi"),
        [
            ({**mine, "bx": 6, "cx": 0x1001E}, ok),
            ({**mine, "bx": 0x20676F6C, "cx": 0x2001E}, ok),
            ({**mine, "bx": 0x00006968, "cx": 0x2001E}, ok),
        ],
    )
    reply = play(
        channel.receiving(LIMIT),
        [
            ({**mine, "cx": 0x3001E}, {"cx": 0x30000, "dx": 1 << 16, "bx": 2}),
            ({**mine, "bx": 1, "cx": 0x4001E}, {"cx": 0x10000, "dx": 2 << 16, "bx": 0x2031}),
            ({**mine, "bx": 1, "cx": 0x5001E}, ok),
        ],
    )
    assert reply == b"1 "
    play(channel.closing(), [({**mine, "cx": 0x6001E}, ok)])
    assert not channel.is_open
    play(channel.closing(), [])


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        (b"", []),
        (b"a", [0x61]),
        (b"ab", [0x6261]),
        (b"abc", [0x636261]),
        (b"\xff\xfe\xfd", [0xFDFEFF]),
        (b"abcd", [0x64636261]),
        (b"abcde", [0x64636261, 0x65]),
    ],
)
def test_low_bandwidth_words_are_little_endian(tail: bytes, words: list[int]) -> None:
    ok = {"cx": 0x10000}
    rows = [({"cx": 0x1001E, "bx": len(tail)}, ok), *[({"cx": 0x2001E, "bx": word}, ok) for word in words]]
    play(opened().sending(tail), rows)


def test_of_the_last_word_received_only_what_is_left_counts() -> None:
    steps = opened().receiving(LIMIT)
    rows = [
        ({"cx": 0x3001E}, {"cx": 0x30000, "dx": 1 << 16, "bx": 6}),
        ({"cx": 0x4001E}, {"cx": 0x10000, "dx": 2 << 16, "bx": 0x64636261}),
        ({"cx": 0x4001E}, {"cx": 0x10000, "dx": 2 << 16, "bx": 0xFFFF6665}),
        ({"cx": 0x5001E}, {"cx": 0x10000}),
    ]
    assert play(steps, rows) == b"abcdef"


def test_cookies_go_where_the_buffers_address_does_not() -> None:
    """Specification 2.5, 2.6: DI and BP going out, SI and BP coming in, halves swapped."""
    channel = opened(0x11111111, 0x22222222)
    sending = channel.sending(b"request")
    _, frame, _ = next(sending)
    assert frame is not None
    put_low(frame, cx=0x810000)
    form, frame, data = next(sending)
    assert (form, data) == (HIGH_OUT, b"request")
    assert frame is not None
    assert (frame.bx, frame.cx, frame.dx) == (HB_MESSAGE, 7, 7 << 16)
    assert (frame.bp, frame.di) == (0x11111111, 0x22222222)
    with pytest.raises(StopIteration):
        next(sending)
    receiving = channel.receiving(LIMIT)
    _, frame, _ = next(receiving)
    assert frame is not None
    put_low(frame, cx=0x830000, dx=1 << 16, bx=5)
    form, frame, buffer = next(receiving)
    assert form == HIGH_IN
    assert isinstance(buffer, bytearray)
    assert len(buffer) == 5
    assert frame is not None
    assert (frame.bx, frame.cx, frame.dx) == (HB_MESSAGE, 5, 7 << 16)
    assert (frame.si, frame.bp) == (0x11111111, 0x22222222)
    receiving.close()


def test_the_second_open_asks_for_no_cookie() -> None:
    channel = Channel(Protocol.TCLO)
    play(
        channel.opening(),
        [
            ({"bx": 0xCF4C4354, "cx": 0x1E}, {"cx": 0}),
            ({"bx": 0x4F4C4354, "cx": 0x1E, "si": 0, "di": 0}, {"cx": 0x10000, "dx": 3 << 16}),
        ],
    )
    assert channel.is_open
    play(channel.closing(), [({"dx": 3 << 16, "si": 0, "di": 0}, {})])


@pytest.mark.parametrize("step", ["opening", "sending", "receiving"])
def test_the_pauses_grow_and_end(step: str) -> None:
    """A host that always says checkpoint; the original never gives up."""
    channel = Channel(Protocol.RPCI) if step == "opening" else opened()
    steps: Steps[Any] = channel.sending(b"x")
    if step != "sending":
        steps.close()
        steps = channel.opening() if step == "opening" else channel.receiving(LIMIT)
    exits = 0
    pauses: list[float] = []

    def walk() -> None:
        nonlocal exits
        for made in steps:
            if made[0] == PAUSE:
                pauses.append(made[2])
            else:
                exits += 1
                put_low(made[1], cx=Status.CPT << 16)

    with pytest.raises(errors.CheckpointStorm, match=f"{step.upper()[:4]}|{step}"):
        walk()
    assert exits == RESTARTS + 1 == 33
    assert pauses == [0.0, *[0.001 * 2**n for n in range(7)], *[0.1] * 24]
    assert sum(pauses) == pytest.approx(2.527)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "status 0x0000"),
        (0x12, "status 0x0012: DORECV, CPT"),
        (0xFFFF, "status 0xffff: SUCCESS, DORECV, CLOSED, UNSENT, CPT, POWEROFF, TIMEOUT, HB"),
    ],
)
def test_a_status_in_words(status: int, words: str) -> None:
    assert describe(status) == words


# -- against the simulated host: every length --------------------------------------------------------------------------

LENGTHS = [*range(10), 4095, 4096, 4097, 65535, 65536]
REPLIES = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 4095, 4096, 4097, 65535, 65536, 65537]


def pattern(size: int) -> bytes:
    """Bytes with no period that a transfer could hide behind."""
    return b"".join([(n * 2654435761 & MASK32).to_bytes(4, "little") for n in range((size + 3) // 4)])[:size]


@pytest.mark.parametrize("high", [True, False])
@pytest.mark.parametrize("size", LENGTHS)
def test_requests_of_every_length_arrive(size: int, high: bool) -> None:
    host, request = Host(b"1 ok", high=high), pattern(size)
    talk = Talk(host.gate, request)
    assert (talk.reply, talk.error) == (b"1 ok", None)
    assert host.requests == [request]
    assert host.exits == exits_of(request, b"1 ok", high=high)
    assert host.open_channels == 0
    assert talk.channel.high_bandwidth == high


@pytest.mark.parametrize("high", [True, False])
@pytest.mark.parametrize("size", REPLIES)
def test_replies_of_every_length_arrive(size: int, high: bool) -> None:
    host = Host(pattern(size), high=high)
    talk = Talk(host.gate, b"ask")
    assert talk.error is None
    assert talk.reply == pattern(size)
    assert host.exits == exits_of(b"ask", pattern(size), high=high)
    assert not host.machine.rejections
    assert host.open_channels == 0


@pytest.mark.parametrize("high", [True, False])
def test_a_reply_of_a_megabyte(high: bool) -> None:
    host = Host(pattern(LIMIT), high=high)
    assert Talk(InProcessGate(host.backdoor), b"ask").reply == pattern(LIMIT)


@pytest.mark.parametrize("size", [65537, 1 << 20])
def test_what_no_host_takes_ends_before_a_byte_of_it_is_sent(size: int) -> None:
    host = Host()
    talk = Talk(host.gate, bytes(size))
    assert isinstance(talk.error, errors.ChannelLost)
    assert talk.error.arrived is False
    assert "SENDSIZE" in str(talk.error)
    assert (host.requests, host.exits, host.open_channels) == ([], 3, 0)


def test_a_host_that_takes_more_gets_more() -> None:
    host = Host(max_message=1 << 20)
    assert Talk(host.gate, pattern(1 << 20)).reply == b"1 ok"
    assert host.requests == [pattern(1 << 20)]


@pytest.mark.parametrize(("limit", "fits"), [(8, True), (7, False), (0, False)])
@pytest.mark.parametrize("high", [True, False])
def test_the_limit_is_the_callers(limit: int, fits: bool, high: bool) -> None:
    host = Host(b"12345678", high=high)
    talk = Talk(host.gate, b"ask", limit)
    if fits:
        assert talk.reply == b"12345678"
        return
    assert isinstance(talk.error, errors.ReplyTooLarge)
    assert (talk.error.size, talk.error.limit) == (8, limit)
    assert [rejection[2] for rejection in host.machine.rejections] == [8], "the host was told"
    told = host.gate.exits[-2]
    assert (told.kind, told.bx) == (RECVPAYLOAD, 0)


def test_an_empty_message_that_is_rejected_is_reported_by_status() -> None:
    """Specification 2.6, 6: RECVSTATUS where no byte remains, else RECVPAYLOAD."""
    steps = opened().receiving(LIMIT)
    with pytest.raises(errors.ProtocolViolation, match="type 9 where a size was due"):
        play(
            steps,
            [
                ({"cx": 0x3001E}, {"cx": 0x30000, "dx": 9 << 16, "bx": 0}),
                ({"cx": 0x5001E, "bx": 0}, {"cx": 0x10000}),
            ],
        )


@settings(max_examples=60, deadline=None)
@given(request=st.binary(max_size=40), reply=st.binary(max_size=40), high=st.booleans(), data=st.data())
def test_any_message_survives_any_checkpoints(request: bytes, reply: bytes, high: bool, data: st.DataObject) -> None:
    steps = exits_of(request, reply, high=high)
    hit = data.draw(st.sets(st.integers(1, 2 * steps), max_size=6))
    host = Host(reply, high=high, faults=[f"checkpoint@{at}" for at in hit])
    talk = Talk(host.gate, request)
    assert (talk.reply, talk.error) == (reply, None)
    assert host.requests == [request], "it arrived, once"
    assert host.open_channels == 0
    assert host.exits <= (len(hit) + 1) * steps


@settings(max_examples=40, deadline=None)
@given(
    request=st.binary(max_size=20),
    reply=st.binary(max_size=20),
    high=st.booleans(),
    junk=st.lists(st.integers(0, MASK32), min_size=7, max_size=7),
)
def test_junk_in_the_upper_halves_changes_nothing(request: bytes, reply: bytes, high: bool, junk: list[int]) -> None:
    host = Host(reply, high=high)

    def soil(number: int, frame: Frame) -> None:
        for name, bits in zip(("ax", "bx", "cx", "dx", "si", "di", "bp"), junk, strict=True):
            setattr(frame, name, getattr(frame, name) & MASK32 | bits << 32)

    gate = Tap(InProcessGate(host.backdoor), after=soil)
    assert Talk(gate, request).reply == reply
    assert host.requests == [request]
    sent_back = [max(made.ax, made.bx, made.cx, made.dx, made.si, made.di, made.bp) for made in gate.exits]
    assert max(sent_back) <= MASK32, "nor is it sent back"


def test_an_empty_message_is_a_poll() -> None:
    """On a TCLO channel: SENDSIZE 0 and nothing else, then ``reset``, then nothing is waiting."""
    host = Host()
    channel = Channel(Protocol.TCLO)
    for steps in (channel.opening(), channel.sending(b"")):
        carry_out(host.gate, steps)
    assert carry_out(host.gate, channel.receiving(LIMIT)) == b"reset"
    carry_out(host.gate, channel.sending(b"OK ATR toolbox"))
    assert carry_out(host.gate, channel.receiving(LIMIT)) is None
    carry_out(host.gate, channel.closing())
    assert host.open_channels == 0


# -- every fault at every step -----------------------------------------------------------------------------------------

HIGH_STEPS = ["OPEN", "SENDSIZE", "SENDPAYLOAD", "RECVSIZE", "RECVPAYLOAD", "RECVSTATUS", "CLOSE"]
LOW_STEPS = [name for name in HIGH_STEPS for _ in range(1 + name.endswith("PAYLOAD"))]
"""With the messages below: two words each way."""
REQUEST, REPLY = b"hello", b"1 abcde"

OK = "the conversation, as if nothing had been"
NONE = "no reply"
GARBLED = "other bytes"
LOST = errors.ChannelLost
VIOLATION = errors.ProtocolViolation
Outcome = Any


class Row(NamedTuple):
    """What a fault at each step, OPEN to CLOSE, comes to; ``left``: where the host keeps a channel, its own doing."""

    fault: str
    outcomes: tuple[Outcome, ...]
    left: tuple[str, ...] = ()
    low: dict[str, Outcome] = {}  # noqa: RUF012 - a constant
    """Where low bandwidth ends otherwise."""


UP_TO_CLOSE = ("SENDSIZE", "SENDPAYLOAD", "RECVSIZE", "RECVPAYLOAD", "RECVSTATUS", "CLOSE")

FAULTS = [
    Row("checkpoint", (OK,) * 7),
    Row("lost", (LOST,) * 6 + (OK,)),
    Row("refused", (OK, *[LOST] * 5, OK), left=("CLOSE",)),
    Row("type", (LOST, OK, OK, VIOLATION, OK, OK, OK), left=("OPEN",), low={"RECVPAYLOAD": VIOLATION}),
    Row("echo", (OK, LOST, NONE, LOST, LOST, OK, OK), left=("CLOSE",), low={"SENDPAYLOAD": LOST}),
    Row("slow", (OK,) * 7),
    Row("never", (OK, OK, OK, NONE, OK, OK, OK)),
    Row("cookie", (LOST,) * 6 + (OK,), left=("OPEN", *UP_TO_CLOSE)),
    Row("size", (OK, OK, OK, errors.ReplyTooLarge, OK, OK, OK)),
    # the host's message has 7 bytes: fewer are not all of it, more are not there
    *[Row(f"size:{size}", (OK, OK, OK, LOST, OK, OK, OK)) for size in (0, 1, 2, 1 << 16)],
    *[Row(f"size:{size}", (OK, OK, OK, errors.ReplyTooLarge, OK, OK, OK)) for size in (1 << 31, (1 << 32) - 1)],
    # before the reply is there or after it was read there is nothing to garble
    Row("garbage", (OK, OK, GARBLED, GARBLED, GARBLED, OK, OK), low={"SENDPAYLOAD": GARBLED}),
]

CASES = [
    pytest.param(
        row,
        high,
        step,
        id=f"{row.fault}-{'high' if high else 'low'}-{step}-{(HIGH_STEPS if high else LOW_STEPS)[step - 1]}",
    )
    for row in FAULTS
    for high in (True, False)
    for step in range(1, 1 + len(HIGH_STEPS if high else LOW_STEPS))
]


@pytest.mark.parametrize(("row", "high", "step"), CASES)
def test_each_fault_at_each_step(row: Row, high: bool, step: int) -> None:
    steps = HIGH_STEPS if high else LOW_STEPS
    name = steps[step - 1]
    kind, _, value = row.fault.partition(":")
    host = Host(REPLY, high=high, faults=[f"{kind}@{step}" + (f":{value}" if value else "")])
    talk = Talk(host.gate, REQUEST)
    expected = row.outcomes[HIGH_STEPS.index(name)]
    if not high:
        expected = row.low.get(name, expected)
    if name == "SENDPAYLOAD" and not high and step == 3 and row.fault == "garbage":
        expected = OK  # the first of two words
    if expected == OK:
        assert (talk.reply, talk.error) == (REPLY, None)
        assert host.requests == [REQUEST]
    elif expected == NONE:
        assert (talk.reply, talk.error) == (None, None)
    elif expected == GARBLED:
        assert talk.error is None
        assert talk.reply not in (None, REPLY)
    else:
        assert type(talk.error) is expected, talk.error
        assert talk.reply is None
    if isinstance(talk.error, VIOLATION):
        assert len(host.machine.rejections) == 1, "what we reject, the host is told"
    if talk.error is not None and name == "RECVPAYLOAD" and kind in ("refused", "type"):
        told = host.gate.exits[-2]
        assert (told.form, told.kind, told.bx) == (LOW, RECVPAYLOAD, 0), "by RECVPAYLOAD, since bytes remain"
    assert all(request == REQUEST for request in host.requests)
    assert len(host.requests) <= 1
    assert talk.channel.arrived or not host.requests
    assert host.open_channels == (name in row.left)
    assert not talk.channel.is_open
    assert host.exits <= 2 * len(steps)


@pytest.mark.parametrize("high", [True, False])
@pytest.mark.parametrize(
    "kind", ["checkpoint", "lost", "refused", "type", "size", "echo", "never", "garbage", "cookie"]
)
def test_a_fault_that_stays_ends_all_the_same(kind: str, high: bool) -> None:
    steps = HIGH_STEPS if high else LOW_STEPS
    for step in range(1, len(steps) + 1):
        host = Host(REPLY, high=high, faults=[f"{kind}@{step}+"])
        talk = Talk(host.gate, REQUEST)
        assert host.exits <= (RESTARTS + 1) * len(steps)
        assert all(request == REQUEST for request in host.requests)
        if kind == "checkpoint" and step <= steps.index("RECVSTATUS") + 1:
            assert type(talk.error) is errors.CheckpointStorm
            assert len(talk.pauses) == RESTARTS
        if talk.error is None and talk.reply not in (None, REPLY):
            assert kind == "garbage" or (kind == "echo" and talk.reply == bytes(len(REPLY)))


@pytest.mark.parametrize(
    ("high", "arrived"),
    [(True, [False, True, True, True, True]), (False, [False, False, True, True, True, True, True])],
)
def test_whether_a_lost_message_may_have_arrived(high: bool, arrived: list[bool]) -> None:
    """From the exit on that hands over its last byte: that one may have been carried out, whatever its answer."""
    for step, may in enumerate(arrived, 2):
        talk = Talk(Host(REPLY, high=high, faults=[f"refused@{step}"]).gate, REQUEST)
        assert isinstance(talk.error, LOST)
        assert talk.error.arrived is may, step


def test_the_host_that_lost_a_channel_says_so_at_any_of_its_calls() -> None:
    """An echo of RECVSIZE must not pass for a size, also where our id happens to be the type that is due."""
    for number in (0, 1, 2, 7):
        channel = opened()
        channel.id = number << 16
        with pytest.raises(errors.ChannelLost, match="gave our registers back"):
            play(channel.receiving(LIMIT), [({"dx": number << 16}, {})])


# -- hosts that are none -----------------------------------------------------------------------------------------------


def qemu(form: int, frame: Frame, data: bytes | bytearray) -> None:
    """QEMU since 5.1: EAX all ones for a command that it does not know, the rest as it was."""
    put_low(frame, ax=UNSUPPORTED)


def qemu_old(form: int, frame: Frame, data: bytes | bytearray) -> None:
    """QEMU's machine types up to 5.0: not even that."""


def open_port(form: int, frame: Frame, data: bytes | bytearray) -> None:
    """Every register all ones: SUCCESS among all bits."""
    set_registers(frame, [MASK32] * 7)


def open_port_64(form: int, frame: Frame, data: bytes | bytearray) -> None:
    """The same in all 64 bits."""
    set_registers(frame, [(1 << 64) - 1] * 7)


def zeros(form: int, frame: Frame, data: bytes | bytearray) -> None:
    set_registers(frame, [0] * 7)


@pytest.mark.parametrize("answer", [qemu, qemu_old, open_port, open_port_64, zeros])
def test_a_host_without_messages_opens_no_channel(
    answer: Callable[[int, Frame, bytes | bytearray], None],
) -> None:
    gate = Tap(Answering(answer))
    talk = Talk(gate, b"ask")
    assert type(talk.error) is errors.NoMessageChannel
    assert [(made.kind, made.bx) for made in gate.exits] == [(OPEN, 0xC9435052), (OPEN, 0x49435052)]
    assert talk.pauses == []


def test_a_checkpoint_from_a_host_that_knows_no_command_is_none() -> None:
    def answer(form: int, frame: Frame, data: bytes | bytearray) -> None:
        put_low(frame, ax=UNSUPPORTED, cx=Status.CPT << 16)

    gate = Tap(Answering(answer))
    assert type(Talk(gate, b"ask").error) is errors.NoMessageChannel
    assert len(gate.exits) == 2


WORDS = st.sampled_from([0, 1, 2, 5, 1 << 16, 2 << 16, 3 << 16, 0x81 << 16, 0x83 << 16, 0x10 << 16, UNSUPPORTED])


@settings(max_examples=200, deadline=None)
@given(
    data=st.data(),
    request=st.binary(max_size=9),
    honest=st.integers(0, 6),
    high=st.booleans(),
)
def test_no_answer_whatever_makes_more_than_an_error(
    data: st.DataObject, request: bytes, honest: int, high: bool
) -> None:
    """From some exit on the host answers anything: it ends within the bound in a reply or in one of our errors."""
    host = Host(REPLY, high=high)
    lies = data.draw(st.lists(st.tuples(WORDS, WORDS, WORDS, WORDS), min_size=1, max_size=8))

    def lie(number: int, frame: Frame) -> None:
        if number > honest:
            ax, bx, cx, dx = lies[number % len(lies)]
            put_low(frame, ax=ax, bx=bx, cx=cx, dx=dx)

    gate = Tap(InProcessGate(host.backdoor), after=lie)
    limit = 64
    talk = Talk(gate, request, limit)
    assert talk.error is not None or talk.reply is None or len(talk.reply) <= limit
    transfer = max(len(request), limit) // 4 + 4
    assert len(gate.exits) <= 3 * (RESTARTS + 1) * transfer
    assert not talk.channel.is_open


def test_what_the_constants_say_is_what_is_sent() -> None:
    assert [Message.OPEN, Message.SENDSIZE, Message.SENDPAYLOAD] == [OPEN, SENDSIZE, SENDPAYLOAD]
    assert [Message.RECVSIZE, Message.RECVPAYLOAD, Message.RECVSTATUS, Message.CLOSE] == [3, 4, 5, CLOSE]
