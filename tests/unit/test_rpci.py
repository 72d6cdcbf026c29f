"""RPCI, guest half: answers and refusals, lost channels, and that nothing leaks whatever is raised, and when."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmtools import backdoor, errors, gates, message, rpci
from vmtools.constants import MAGIC, MAX_CHANNELS, UNSUPPORTED, Command
from vmtools.rpci import Rpci
from vmtools.sim.backdoor import PORT_LOW, Backdoor
from vmtools.sim.inprocess import InProcessGate
from vmtools.sim.machine import Machine

from .hosts import Answering, Host, Tap, put_low, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from vmtools._gate import Frame
    from vmtools.sim.backdoor import Guest, Memory

READ, WRITE = b"info-get guestinfo.a", b"info-set guestinfo.a v"
SENDSIZE, RECVSIZE = 1, 3


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    before = set(rpci._open)
    yield
    gc.collect()
    assert set(rpci._open) == before


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause is worth waiting for here."""
    monkeypatch.setattr(message, "_PAUSES", (0.0,) * message.RESTARTS)
    monkeypatch.setattr(rpci, "_READY_PAUSES", (0.0,) * len(rpci._READY_PAUSES))


# -- what the host answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        (b"1 ", b""),
        (b"1 v", b"v"),
        (b"1  v ", b" v "),
        (b"1 v\0", b"v\0"),
        (b"1 a\0b\0\0", b"a\0b\0\0"),
        (b"1 \xff\xfe", b"\xff\xfe"),
        (b"1 0 No value found", b"0 No value found"),
    ],
)
@pytest.mark.parametrize("high", [True, False])
def test_a_value_is_what_follows_the_blank(reply: bytes, value: bytes, high: bool) -> None:
    with Rpci(Host(reply, high=high).gate) as connection:
        assert connection.call(b"ask") == value
        assert connection.high_bandwidth is high


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"0 No value found", errors.NoSuchValue),
        (b"0 No value found\0", errors.NoSuchValue),
        (b"0 no value found\n", errors.NoSuchValue),
        (b"0 Permission denied", errors.PermissionDenied),
        (b"0 permission denied\0", errors.PermissionDenied),
        (b"0 Guest is not privileged, so no", errors.PermissionDenied),
        (b"0 Rejected: Permission denied", errors.PermissionDenied),
        (b"0 Unknown command", errors.HostRefused),
        (b"0 disabled", errors.HostRefused),
        (b"0 ", errors.HostRefused),
        (b"0 The words 'No value found' inside", errors.HostRefused),
        (b"0 \xff\xfe\0", errors.HostRefused),
    ],
)
def test_a_refusal_is_an_error_with_the_hosts_words(reply: bytes, kind: type[errors.HostRefused]) -> None:
    host = Host(reply)
    with Rpci(host.gate) as connection:
        for _ in range(2):
            with pytest.raises(errors.HostRefused) as caught:
                connection.call(b"ask")
            assert type(caught.value) is kind
            assert caught.value.text == reply[2:]
            words = reply[2:].rstrip(b"\0").decode("utf-8", "backslashreplace")
            assert str(caught.value) == (words or "the host refused without a word")
    assert host.exits == 2 + 2 * 5, "a refusal costs no channel"


@pytest.mark.parametrize(
    "reply", [b"", b"1", b"0", b"\0", b"1\0", b"1\tx", b"2 x", b" 1 x", b"11 x", b"\xff\xfe", b"OK x"]
)
@pytest.mark.parametrize("high", [True, False])
def test_what_is_neither_is_a_violation(reply: bytes, high: bool) -> None:
    with Rpci(Host(reply, high=high).gate) as connection:
        for _ in range(2):
            with pytest.raises(errors.ProtocolViolation, match="begins neither") as caught:
                connection.call(b"ask")
            assert repr(reply) in str(caught.value)


def test_of_a_long_malformed_reply_only_the_beginning_is_shown() -> None:
    with Rpci(Host(b"x" * 100_000).gate) as connection, pytest.raises(errors.ProtocolViolation) as caught:
        connection.call(b"ask")
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize(("limit", "fits"), [(6, True), (5, False)])
def test_the_reply_limit(limit: int, fits: bool) -> None:
    host = Host(b"1 long")
    with Rpci(host.gate, reply_limit=limit) as connection:
        if fits:
            assert connection.call(b"ask") == b"long"
        else:
            for _ in range(2):
                with pytest.raises(errors.ReplyTooLarge, match="6 bytes; the limit is 5"):
                    connection.call(b"ask")
                assert host.open_channels == 0


@pytest.mark.parametrize("size", [65537, 1 << 20])
@pytest.mark.parametrize("repeat", [None, True, False])
def test_what_no_host_takes_is_said_so(size: int, repeat: bool | None) -> None:
    host = Host()
    with Rpci(host.gate) as connection:
        with pytest.raises(errors.RequestTooLarge, match=f"{size} bytes; the usual limit is 65536") as caught:
            connection.call(bytes(size), repeat=repeat)
        assert caught.value.size == size
        assert (host.requests, host.exits) == ([], 6), "OPEN, SENDSIZE, CLOSE, and once more to be sure"
        assert connection.call(bytes(65536)) == b"ok"


# -- one channel -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("calls", [1, 2, 10])
def test_one_channel_serves_many_calls(calls: int) -> None:
    host = Host()
    with Rpci(host.gate) as connection:
        assert host.exits == 0, "nothing before the first call"
        for n in range(calls):
            connection.call(bytes(1 + 6000 * n))
            assert host.exits == 1 + 5 * (n + 1)
            assert host.open_channels == 1
    assert host.exits == 2 + 5 * calls
    assert host.open_channels == 0


def test_close_is_for_now_and_twice_does_no_harm() -> None:
    host = Host()
    connection = Rpci(host.gate)
    connection.close()
    assert host.exits == 0
    for n in range(2):
        connection.call(b"ask")
        connection.close()
        connection.close()
        assert (host.exits, host.open_channels) == (7 * (n + 1), 0)


def test_it_closes_at_the_end_of_a_with_block_that_fails() -> None:
    host = Host()

    def fail() -> None:
        with Rpci(host.gate) as connection:
            connection.call(b"ask")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert host.open_channels == 0


def test_it_closes_when_nobody_holds_it() -> None:
    host = Host()
    connection = Rpci(host.gate)
    connection.call(b"ask")
    del connection
    assert host.open_channels == 0


def test_it_closes_when_the_collector_finds_it() -> None:
    host = Host()
    cycle: list[object] = [Rpci(host.gate)]
    cycle.append(cycle)
    assert isinstance(cycle[0], Rpci)
    cycle[0].call(b"ask")
    del cycle
    gc.collect()
    assert host.open_channels == 0


def test_one_that_never_was_is_no_trouble_to_the_collector() -> None:
    with pytest.raises(errors.GateUnavailable):
        Rpci("no such gate")
    gc.collect()


def test_all_channels_in_use() -> None:
    host = Host()
    holders = [Rpci(host.gate) for _ in range(MAX_CHANNELS)]
    for holder in holders:
        holder.call(b"ask")
    late = Rpci(host.gate)
    with pytest.raises(errors.NoMessageChannel):
        late.call(b"ask")
    holders.pop().close()
    assert late.call(b"ask") == b"ok"
    late.close()
    del holders, holder
    assert host.open_channels == 0


def test_a_backdoor_without_messages_and_no_backdoor_at_all() -> None:
    def qemu(form: int, frame: Frame, data: bytes | bytearray) -> None:
        put_low(frame, ax=6, bx=MAGIC) if frame.cx & 0xFFFF == Command.GETVERSION else put_low(frame, ax=UNSUPPORTED)

    with pytest.raises(errors.NoMessageChannel):
        Rpci(Answering(qemu)).call(b"ask")
    with pytest.raises(errors.NoDevice, match="nobody answers here"):
        Rpci(Answering(lambda form, frame, data: put_low(frame, ax=UNSUPPORTED))).call(b"ask")
    with pytest.raises(errors.NoDevice, match="nobody answers here"):
        Rpci(Answering(lambda form, frame, data: None)).call(b"ask")


def test_a_gate_is_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    host, asked = Host(), []

    def choose(spec: str | None = None) -> Tap:
        asked.append(spec)
        return host.gate

    monkeypatch.setattr(gates, "choose", choose)
    for spec in (None, "vmcall"):
        with Rpci(spec) as connection:
            assert connection.call(b"ask") == b"ok"
    assert asked == [None, "vmcall"]


# -- lost channels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [READ, WRITE])
@pytest.mark.parametrize("repeat", [None, True, False])
def test_lost_between_calls_is_repaired_for_all(request_: bytes, repeat: bool | None) -> None:
    """SENDSIZE is refused: the host can't have got it."""
    host = Host()
    with Rpci(host.gate) as connection:
        connection.call(READ)
        host.backdoor.channels.lose()
        before = host.exits
        assert connection.call(request_, repeat=repeat) == b"ok"
        assert host.exits - before == 1 + 1 + 1 + 5, "SENDSIZE, CLOSE, OPEN, the call"
    assert host.requests == [READ, request_]


READS_AND_WRITES = [
    # the request, repeat, how often the host gets it, whether the caller gets a reply
    (READ, None, 2, True),
    (READ, True, 2, True),
    (READ, False, 1, False),
    (b"machine.id.get", None, 2, True),
    (WRITE, None, 1, False),
    (WRITE, True, 2, True),
    (WRITE, False, 1, False),
    (b"log text", None, 1, False),
    (b"info-getter", None, 1, False),
]


@pytest.mark.parametrize(("request_", "repeat", "times", "replied"), READS_AND_WRITES)
@pytest.mark.parametrize(("high", "step"), [(True, 4), (True, 5), (True, 6), (False, 12)])
def test_lost_after_it_arrived(
    request_: bytes, repeat: bool | None, times: int, replied: bool, high: bool, step: int
) -> None:
    words = (len(request_) + 3) // 4
    host = Host(high=high, faults=[f"lost@{step if high else 2 + words + 1}"])
    with Rpci(host.gate) as connection:
        if replied:
            assert connection.call(request_, repeat=repeat) == b"ok"
        else:
            with pytest.raises(errors.ChannelLost) as caught:
                connection.call(request_, repeat=repeat)
            assert caught.value.arrived is True
            assert connection.call(READ) == b"ok", "the connection is as good as new"
    assert host.requests[:times] == [request_] * times
    assert len(host.requests) == times + (not replied)
    assert host.open_channels == 0


@settings(max_examples=150, deadline=None)
@given(
    faults=st.lists(
        st.tuples(st.sampled_from(["checkpoint", "lost", "refused", "echo", "cookie", "type"]), st.integers(1, 24)),
        max_size=3,
    ),
    high=st.booleans(),
)
def test_a_write_never_arrives_twice(faults: list[tuple[str, int]], high: bool) -> None:
    host = Host(high=high, faults=[f"{kind}@{at}" for kind, at in faults])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(message, "_PAUSES", (0.0,) * message.RESTARTS)
        patch.setattr(rpci, "_READY_PAUSES", (0.0,) * 4)
        with Rpci(host.gate) as connection:
            try:
                assert connection.call(WRITE) == b"ok"
                assert host.requests == [WRITE]
            except errors.VMToolsError:
                assert len(host.requests) <= 1


@pytest.mark.parametrize("kind", ["lost", "refused", "echo", "cookie", "checkpoint"])
@pytest.mark.parametrize("high", [True, False])
@pytest.mark.usefixtures("hasty")
def test_one_fault_anywhere_and_a_read_still_gets_its_reply(kind: str, high: bool) -> None:
    for step in range(1, 15):
        host = Host(high=high, faults=[f"{kind}@{step}"])
        with Rpci(host.gate) as connection:
            assert connection.call(READ) == b"ok", step
        assert set(host.requests) == {READ}


def test_lost_twice_is_the_callers() -> None:
    host = Host(faults=["refused@2", "refused@5"])
    with Rpci(host.gate) as connection, pytest.raises(errors.ChannelLost) as caught:
        connection.call(READ)
    assert caught.value.arrived is False
    assert host.exits == 6


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(("request_", "times"), [(READ, 2), (WRITE, 1)])
def test_a_reply_that_never_comes(request_: bytes, times: int) -> None:
    host = Host(faults=["never@1+"])
    with Rpci(host.gate) as connection, pytest.raises(errors.ChannelLost, match="never had an answer ready") as caught:
        connection.call(request_)
    assert caught.value.arrived is True
    questions = [made.kind for made in host.gate.exits].count(RECVSIZE)
    assert questions == times * len(rpci._READY_PAUSES) == times * 25
    assert host.open_channels == 0


def test_patience_for_a_reply_is_bounded_and_grows() -> None:
    assert rpci._READY_PAUSES[:4] == (0.0, 0.001, 0.002, 0.004)
    assert list(rpci._READY_PAUSES) == sorted(rpci._READY_PAUSES)
    assert sum(rpci._READY_PAUSES) < 2


def test_a_reply_that_comes_late() -> None:
    host = Host(faults=[f"never@{at}" for at in (4, 5, 6)])
    with Rpci(host.gate) as connection:
        assert connection.call(WRITE) == b"ok"
    assert host.requests == [WRITE]


@pytest.mark.usefixtures("hasty")
def test_a_checkpoint_without_end() -> None:
    host = Host(faults=["checkpoint@2+"])
    with Rpci(host.gate) as connection, pytest.raises(errors.CheckpointStorm):
        connection.call(READ)
    assert host.exits == 1 + 33 + 1
    assert host.open_channels == 0


@pytest.mark.parametrize("timeout", [None, 7.5])
@pytest.mark.parametrize(("request_", "high"), [(READ, True), (WRITE, False)])
def test_the_time_allowed_is_kept_and_the_channel_closed(
    request_: bytes, high: bool, timeout: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each exit takes 3 s on this clock."""
    now = 0.0

    def pass_time(number: int, frame: Frame) -> None:
        nonlocal now
        now += 3.0

    for module in (backdoor, rpci):
        monkeypatch.setattr(module, "monotonic", lambda: now)
    host = Host(high=high, faults=["checkpoint@2+"])
    host.gate.after = pass_time
    with Rpci(host.gate, timeout=15.5) as connection:
        with pytest.raises(errors.ChannelLost, match="within the time allowed") as caught:
            connection.call(request_, timeout=timeout)
        assert caught.value.arrived is False
        assert host.exits == (3 if timeout else 6) + 1, "as many as fit, and CLOSE"
        assert host.open_channels == 0


# -- threads -----------------------------------------------------------------------------------------------------------


def in_threads(count: int, work: Callable[[int], None]) -> None:
    failures: list[BaseException] = []

    start = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            start.wait(60)
            work(number)
        except BaseException as failure:  # it is raised below
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


def test_eight_threads_share_a_connection() -> None:
    host = Host(lambda request: b"1 echo of " + request)

    def work(number: int) -> None:
        for n in range(40):
            request = b"%d:%d:" % (number, n) + b"x" * (n * 50)
            assert connection.call(request) == b"echo of " + request

    with Rpci(host.gate) as connection:
        in_threads(8, work)
        assert host.open_channels == 1
    assert len(host.requests) == 320
    assert host.exits == 2 + 5 * 320
    assert len({made.thread for made in host.gate.exits}) == 9
    assert host.open_channels == 0


def test_threads_that_lose_and_close_the_channel_for_each_other() -> None:
    host = Host(lambda request: b"1 echo of " + request)

    def work(number: int) -> None:
        for n in range(60):
            request = b"info-get %d:%d" % (number, n)
            assert connection.call(request) == b"echo of " + request
            if n % 7 == number:
                connection.close()
            elif number == 7 and n % 5 == 0:
                with connection._lock:  # between calls: a host that loses all the time is another test
                    host.backdoor.channels.lose()

    with Rpci(host.gate) as connection:
        in_threads(8, work)
    assert host.open_channels == 0


# -- whatever is raised, and when --------------------------------------------------------------------------------------


class Struck(BaseException):
    """None that anybody could expect."""


def striking(host: Host, when: str, at: set[int], error: type[BaseException]) -> Tap:
    """The host's gate, which raises before or after the instruction of some exits."""

    def strike(number: int, frame: Frame) -> None:
        if number in at:
            raise error

    inner = InProcessGate(host.backdoor)
    return Tap(inner, before=strike) if when == "before" else Tap(inner, after=strike)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError, Struck])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("high", [True, False])
def test_nothing_leaks_whatever_is_raised_at_any_exit(high: bool, when: str, error: type[BaseException]) -> None:
    steps = 7 if high else 5 + 5 + 1
    for step in range(1, steps + 1):
        host = Host(high=high)
        gate = striking(host, when, {step}, error)
        connection = Rpci(gate)
        with pytest.raises(error), connection:
            assert connection.call(READ) == b"ok"
        assert host.open_channels == 0, f"exit {step}"
        assert not connection._channel.is_open
        assert id(connection) not in rpci._open
        assert len(gate.exits) <= step + 2, "CLOSE, at most twice"
        assert connection.call(READ) == b"ok", "the object is as good as new"
        connection.close()
        assert host.open_channels == 0


@pytest.mark.parametrize("when", ["before", "after"])
def test_interrupted_twice_while_closing_it_can_be_closed_again(when: str) -> None:
    for again in (Rpci.close, lambda connection: connection.call(READ)):
        host = Host()
        connection = Rpci(striking(host, when, {7, 8}, KeyboardInterrupt))
        connection.call(READ)
        with pytest.raises(KeyboardInterrupt):
            connection.close()
        again(connection)
        connection.close()
        assert host.open_channels == 0


def test_a_gate_that_breaks_costs_no_more_than_the_call() -> None:
    """The host is gone, and so is the channel; when it is back a new one is opened."""
    host = Host()
    broken = False

    def strike(number: int, frame: Frame) -> None:
        if broken:
            raise errors.GateUnavailable("gone")

    connection = Rpci(Tap(InProcessGate(host.backdoor), before=strike))
    connection.call(READ)
    broken = True
    with pytest.raises(errors.GateUnavailable):
        connection.call(READ)
    connection.close()
    broken = False
    assert connection.call(READ) == b"ok"
    connection.close()


class Atomic(InProcessGate):
    """An instruction is done or not done: a signal comes before it or after it, as on a real host."""

    def _exit(self, *operands: object) -> None:
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            super()._exit(*operands)  # type: ignore[arg-type]
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals go to the main thread")
def test_a_real_interrupt_at_any_moment() -> None:
    host = Host()
    gate = Atomic(host.backdoor)
    main, rng = threading.get_ident(), random.Random(20261122)

    def work(interrupter: threading.Thread) -> None:
        connection = Rpci(gate)
        interrupter.start()
        while True:
            assert connection.call(READ) == b"ok"
            connection.close()

    def interrupt(delay: float) -> None:
        time.sleep(delay)
        signal.pthread_kill(main, signal.SIGINT)

    handler, interval = signal.signal(signal.SIGINT, signal.default_int_handler), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(300):
            thread = threading.Thread(target=interrupt, args=(rng.random() * 0.001,))
            try:
                work(thread)
            except KeyboardInterrupt:
                thread.join()
            assert host.open_channels == 0
            assert not rpci._open
    finally:
        sys.setswitchinterval(interval)
        signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize("high", [True, False])
def test_an_interrupt_at_the_beginning_of_any_function(high: bool) -> None:
    """Where the interpreter looks for signals, one after the other: each call of ours, and each step of a generator."""
    ours = {module.__file__ for module in (backdoor, message, rpci)}
    host = Host(high=high)
    count = at = 0

    def trace(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        if frame.f_code.co_filename in ours:
            count += 1
            if count == at:
                raise KeyboardInterrupt  # which ends the tracing, too

    def work() -> None:
        connection = Rpci(host.gate)
        tracing = sys.gettrace()
        sys.settrace(trace)
        try:
            with connection:
                connection.call(READ)
        finally:
            sys.settrace(tracing)

    while count == at:  # the last one was struck
        at, count = at + 1, 0
        with contextlib.suppress(KeyboardInterrupt):
            work()
        assert host.open_channels == 0, f"call {at}"
        assert not rpci._open
    assert at > 30


# -- processes: over a socket, so that host and guest stand apart ------------------------------------------------------


class Watched(Backdoor):
    """Keeps who opened channels: the process ids, one for each OPEN."""

    def __init__(self) -> None:
        super().__init__(Machine(guestinfo={b"hello": b"world"}))
        self.opened_by: list[int] = []

    def serve(self, instruction: int, regs: list[int], memory: Memory, who: Guest) -> bool:
        if instruction == PORT_LOW and regs[2] & 0xFFFFFFFF == Command.MESSAGE:
            self.opened_by.append(who.pid)
        return super().serve(instruction, regs, memory, who)


def guest_program(code: str, path: str) -> subprocess.CompletedProcess[str]:
    prelude = """
        import os, sys
        from vmtools.rpci import Rpci
        ASK = b"info-get guestinfo.hello"
        connection = Rpci()
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(prelude) + textwrap.dedent(code)],
        env={**os.environ, gates.ENVIRONMENT: f"sim:{path}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("connection.call(ASK)", 0),
        ("connection.call(ASK); sys.exit(3)", 3),
        ("connection.call(ASK); raise ZeroDivisionError", 1),
        (
            "others = [Rpci() for _ in range(20)]; [other.call(ASK) for other in others]; sys.cycle = others, [others]",
            0,
        ),
    ],
)
def test_a_process_that_ends_closes(code: str, status: int) -> None:
    host = Watched()
    with serving(host) as path:
        done = guest_program(code, path)
    assert done.returncode == status, done.stderr
    assert len(host.opened_by) == (20 if "others" in code else 1)
    assert not host.channels.open_channels


def test_a_forked_child_has_a_channel_of_its_own_and_the_parent_keeps_its() -> None:
    code = """
        assert connection.call(ASK) == b"world"
        child = os.fork()
        if child == 0:
            connection.close()  # not the parent's
            assert connection.call(ASK) == b"world"
            grandchild = os.fork()
            if grandchild:
                assert os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]) == 0
            assert connection.call(ASK) == b"world"
            sys.exit()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert connection.call(ASK) == b"world"
        connection.close()
    """
    host = Watched()
    with serving(host) as path:
        done = guest_program(code, path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(host.opened_by) == len(set(host.opened_by)) == 3
    assert not host.channels.open_channels


def test_a_child_that_makes_no_call_leaves_the_parents_channel_alone() -> None:
    code = """
        connection.call(ASK)
        if (child := os.fork()) == 0:
            del connection
            sys.exit()
        os.waitpid(child, 0)
        assert connection.call(ASK) == b"world"
    """
    host = Watched()
    with serving(host) as path:
        done = guest_program(code, path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(host.opened_by) == 1
    assert not host.channels.open_channels


def test_a_fork_in_the_middle_of_anothers_call() -> None:
    """The lock that another thread holds is not for the child to wait for."""
    code = """
        import threading
        held, done = threading.Event(), threading.Event()
        class Slow:
            name = "slow"
            def __init__(self, inner): self.inner = inner
            def low(self, frame):
                self.inner.low(frame)
                if threading.current_thread() is not threading.main_thread():
                    held.set(); done.wait(30)
            def high_out(self, frame, data): self.inner.high_out(frame, data)
            def high_in(self, frame, buffer): self.inner.high_in(frame, buffer)
            def unanswered(self): return self.inner.unanswered()
        connection = Rpci(Slow(connection.gate))
        thread = threading.Thread(target=connection.call, args=(ASK,))
        thread.start()
        held.wait(30)
        if (child := os.fork()) == 0:
            assert connection.call(ASK) == b"world"
            connection.close()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        done.set()
        thread.join()
    """
    host = Watched()
    with serving(host) as path:
        done = guest_program(code, path)
    assert done.returncode == 0, done.stderr
    assert len(host.opened_by) == 2
    assert not host.channels.open_channels
