"""The gate ``sim:SOCKET``: with the real server, and with servers that mean harm.  Errors, not hangs."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vmtools import errors, simgate
from vmtools._gate import Frame
from vmtools.backdoor import Backdoor
from vmtools.constants import MAGIC
from vmtools.rpci import Rpci
from vmtools.sim.faults import FaultPlan
from vmtools.simgate import SocketGate
from vmtools.wire import simlink

from .hosts import Host, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HELLO = simlink.encode_json(simlink.HELLO, {"version": 1})
REGS = [6, MAGIC, 2, 0, 0, 0, 0]
ANSWER = simlink.encode_answer(simlink.ANSWERED, REGS)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simgate, "TIMEOUT", 0.3)
    monkeypatch.setattr(simgate, "_LAST_WORDS", 0.05)


# -- the real server ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("high", [True, False])
def test_messages_over_the_socket(high: bool) -> None:
    host = Host(lambda request: b"1 " + request, high=high)
    with serving(host.backdoor) as path:
        gate = SocketGate(path)
        assert Backdoor(gate).version().version == 6
        with Rpci(gate) as connection:
            for size in (1, 2, 3, 4, 5, 4097, 65536 if high else 9):
                request = bytes(range(256)) * (size // 256) + bytes(size % 256)
                assert connection.call(request) == request
        assert len(gate._idle) == 1, "one connection serves them all"
        gate._forget()
    assert host.open_channels == 0


def test_a_reply_of_a_megabyte() -> None:
    host = Host(b"1 " + bytes((1 << 20) - 2))
    with serving(host.backdoor) as path:
        with Rpci(f"sim:{path}") as connection:
            assert connection.call(b"ask") == bytes((1 << 20) - 2)
        with Rpci(f"sim:{path}", reply_limit=1 << 21) as connection:
            host._reply = b"1 " + bytes(1 << 20)
            with pytest.raises(errors.VMToolsError):  # a packet carries 1 MiB: the server's bound comes first
                connection.call(b"ask")


def test_threads_have_connections_of_their_own() -> None:
    host = Host(lambda request: b"1 " + request)
    with serving(host.backdoor) as path:
        gate = SocketGate(path)
        barrier = threading.Barrier(8)
        failures: list[BaseException] = []

        def work(number: int) -> None:
            try:
                barrier.wait(30)
                with Rpci(gate) as connection:
                    for n in range(25):
                        assert connection.call(b"%d %d" % (number, n)) == b"%d %d" % (number, n)
            except BaseException as failure:  # it is raised below
                failures.append(failure)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not failures, failures
        assert 1 <= len(gate._idle) <= 8
        gate._forget()
    assert host.open_channels == 0
    assert len(host.requests) == 200


def test_a_call_in_the_middle_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finalizer that closes a channel may run anywhere, also inside an exchange."""
    host = Host()
    encode = simlink.encode_exit
    with serving(host.backdoor) as path:
        gate = SocketGate(path)
        abandoned: list[Rpci] = [Rpci(gate)]
        abandoned[0].call(b"first")

        def encode_and_collect(*operands: object) -> bytes:
            abandoned.clear()
            return encode(*operands)  # type: ignore[arg-type]

        with Rpci(gate) as connection:
            monkeypatch.setattr(simlink, "encode_exit", encode_and_collect)
            assert connection.call(b"second") == b"ok"
            assert not abandoned
            assert host.open_channels == 1
        gate._forget()
    assert host.requests == [b"first", b"second"]
    assert host.open_channels == 0


def test_a_fault_is_the_programs() -> None:
    with serving(Host().backdoor) as path:
        gate = SocketGate(path)
        with pytest.raises(errors.GateFaulted, match="lets this instruction fault"):  # it is not the backdoor's port
            gate._exchange(simlink.PORT_LOW, Frame(ax=MAGIC, cx=10, dx=1))
        assert Backdoor(gate).version().version == 6, "the connection stands"
        assert len(gate._idle) == 1
        gate._forget()


def test_the_host_comes_and_goes() -> None:
    host = Host(None)
    host.machine.set_guestinfo(b"hello", b"world")
    with serving(host.backdoor) as path:
        gate = SocketGate(path)
        connection = Rpci(gate)
        assert connection.call(b"info-get guestinfo.hello") == b"world"
    for _ in range(3):
        with pytest.raises(errors.GateUnavailable, match="no simulated host") as caught:
            connection.call(b"info-get guestinfo.hello")
    assert "vmtools sim serve" in caught.value.help
    with serving(host.backdoor) as path:
        gate.path = path
        assert connection.call(b"info-get guestinfo.hello") == b"world"
        connection.close()
        gate._forget()


def test_a_machine_without_the_device_is_said_to_be_one() -> None:
    host = Host(faults=["echo@1+"])
    with (
        serving(host.backdoor) as path,
        Rpci(f"sim:{path}") as connection,
        pytest.raises(errors.NoDevice, match="plays a machine without the device"),
    ):
        connection.call(b"ask")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/nowhere/host", "No such file or directory"),
        ("/dev/null", "Connection refused"),
        ("/" + "x" * 200, "too long"),
        ("/nowhere/\udcff", "No such file or directory"),
    ],
)
def test_paths_where_no_host_is(path: str, words: str) -> None:
    for _ in range(2):
        with pytest.raises(errors.GateUnavailable, match=words):
            SocketGate(path).low(Frame())


# -- servers that mean harm --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def hostile(script: Callable[[socket.socket], None]) -> Iterator[tuple[str, list[int]]]:
    """A server that plays a script to each that connects; the list counts them."""
    connected: list[int] = []
    with tempfile.TemporaryDirectory(prefix="vmtools") as folder:
        path = str(Path(folder) / "host")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            while True:
                peer, _ = listener.accept()
                connected.append(1)
                with peer:
                    if len(connected) < 100:
                        peer.settimeout(20)
                        with contextlib.suppress(OSError):
                            script(peer)
                    else:
                        return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield path, connected
        finally:
            connected.extend([1] * 100)
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(path)
            thread.join(20)
            listener.close()
            assert not thread.is_alive()


def read_packet(peer: socket.socket) -> bytes:
    header = peer.recv(4, socket.MSG_WAITALL)
    return peer.recv(int.from_bytes(header, "little"), socket.MSG_WAITALL) if len(header) == 4 else b""


def until_it_leaves(peer: socket.socket) -> None:
    while peer.recv(1 << 16):
        pass


def sends(*packets: bytes, stays: bool = False) -> Callable[[socket.socket], None]:
    """Answer each packet that comes by the next of these, then leave, or stay and say no more."""

    def script(peer: socket.socket) -> None:
        for packet in packets:
            if not read_packet(peer):
                return
            peer.sendall(packet)
        if stays:
            until_it_leaves(peer)

    return script


def drips(peer: socket.socket) -> None:
    """A byte at a time, each well within the time allowed, for ever."""
    read_packet(peer)
    peer.sendall((1 << 20).to_bytes(4, "little"))
    while True:
        peer.sendall(b"\0")
        time.sleep(0.02)


GARBAGE = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" * 3
HUGE = (simlink.MAX_LENGTH + 1).to_bytes(4, "little")

HOSTILE: dict[str, tuple[Callable[[socket.socket], None], str]] = {
    "leaves at once": (sends(), "no simulated host"),
    "leaves after hello": (sends(HELLO), "no simulated host"),
    "leaves in mid-hello": (sends(HELLO[:7]), "no simulated host"),
    "leaves in mid-answer": (sends(HELLO, ANSWER[:30]), "no simulated host"),
    "garbage for hello": (sends(GARBAGE), "no simulated host"),
    "garbage for an answer": (sends(HELLO, GARBAGE), "no simulated host"),
    "zeros": (sends(bytes(100)), "no simulated host"),
    "zeros for an answer": (sends(HELLO, bytes(100)), "no simulated host"),
    "another kind": (sends(ANSWER), "no simulated host"),
    "hello for an answer": (sends(HELLO, HELLO), "no simulated host"),
    "another version": (sends(simlink.encode_json(simlink.HELLO, {"version": 2})), "version 2"),
    "no version": (sends(simlink.encode_json(simlink.HELLO, {})), "version None"),
    "no object": (sends(simlink.packet(simlink.HELLO, b"[1]")), "a JSON object is expected"),
    "no JSON": (sends(simlink.packet(simlink.HELLO, b"\xff")), "no JSON"),
    "deep JSON": (sends(simlink.packet(simlink.HELLO, b"[" * 100_000)), "no JSON"),
    "a hello too long": (sends(HUGE), "announces 1052673 bytes"),
    "an answer too long": (sends(HELLO, HUGE + bytes(100)), "no simulated host"),
    "a payload that nobody asked for": (
        sends(HELLO, simlink.encode_answer(simlink.ANSWERED, REGS, b"x")),
        "no simulated host",
    ),
    "an outcome that there is not": (sends(HELLO, ANSWER[:5] + b"\2" + ANSWER[6:]), "bits set"),
    "silence": (sends(b"", stays=True), "timed out"),
    "silence after hello": (sends(HELLO, b"", stays=True), "timed out"),
    "silence in mid-answer": (sends(HELLO, ANSWER[:30], stays=True), "no simulated host|timed out"),
    "drips": (drips, "timed out"),
}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_answers_ends_in_an_error(name: str) -> None:
    script, words = HOSTILE[name]
    with hostile(script) as (path, connected):
        gate = SocketGate(path)
        for number in (1, 2):
            begun = time.monotonic()
            with pytest.raises(errors.GateUnavailable, match=words):
                Backdoor(gate).version()
            assert time.monotonic() - begun < 5
            assert gate._idle == []
            assert len(connected) == number, "and the next call tries anew"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("payload", "fits"), [(b"", True), (b"ab", True), (b"abcd", True), (b"abcde", False), (bytes(1 << 20), False)]
)
def test_a_payload_is_no_longer_than_was_asked_for(payload: bytes, fits: bool) -> None:
    with hostile(sends(HELLO, simlink.encode_answer(simlink.ANSWERED, REGS, payload))) as (path, _):
        gate = SocketGate(path)
        buffer = bytearray(b"....")
        if fits:
            gate.high_in(Frame(cx=4), buffer)
            assert buffer == payload + b"...."[len(payload) :]
        else:
            with pytest.raises(errors.GateUnavailable, match="no simulated host"):
                gate.high_in(Frame(cx=4), buffer)
            assert len(buffer) == 4
        gate._forget()


@pytest.mark.usefixtures("quick")
def test_after_a_failure_it_connects_anew() -> None:
    turns = iter([sends(HELLO, ANSWER[:30]), sends(GARBAGE), sends(HELLO, ANSWER, ANSWER)])

    def script(peer: socket.socket) -> None:
        next(turns)(peer)

    with hostile(script) as (path, connected):
        gate = SocketGate(path)
        for _ in range(2):
            with pytest.raises(errors.GateUnavailable):
                Backdoor(gate).version()
        assert Backdoor(gate).version().version == Backdoor(gate).version().version == 6
        assert len(connected) == 3
        gate._forget()


@pytest.mark.usefixtures("quick")
def test_after_a_failure_no_connection_is_trusted() -> None:
    """The others are to the same host, which is gone or broken."""
    with hostile(sends(HELLO, stays=True)) as (path, _):
        gate = SocketGate(path)
        spare, its_end = socket.socketpair()
        gate._idle = [spare, gate._connect()]
        with pytest.raises(errors.GateUnavailable, match="timed out"):
            Backdoor(gate).version()
        assert gate._idle == []
        assert its_end.recv(1) == b"", "the spare one is closed"
        its_end.close()


# -- interrupts and forks ----------------------------------------------------------------------------------------------


class Interrupt(BaseException):
    """Struck."""


@pytest.mark.parametrize("step", range(1, 8))
@pytest.mark.parametrize("where", ["encode_exit", "decode_answer"])
def test_an_exchange_that_is_broken_off_leaves_nothing_open(
    where: str, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the host has it, and after it has answered: at each exit of a call."""
    monkeypatch.setattr(simgate, "_LAST_WORDS", 0.05)
    honest = getattr(simlink, where)
    host = Host()
    count = 0

    def strike(*operands: object, **options: object) -> object:
        nonlocal count
        count += 1
        if count == step:
            raise Interrupt
        return honest(*operands, **options)

    with serving(host.backdoor) as path:
        gate = SocketGate(path)
        connection = Rpci(gate)
        monkeypatch.setattr(simlink, where, strike)
        with pytest.raises(Interrupt), connection:
            connection.call(b"ask")
        assert host.open_channels == 0
        assert connection.call(b"ask") == b"ok"
        connection.close()
        gate._forget()
    assert host.open_channels == 0


def test_a_real_interrupt_during_a_slow_open() -> None:
    """The host answers OPEN when the guest has been interrupted already: the guest hears it out, and closes."""
    host = Host()
    host.backdoor.faults = FaultPlan(["slow@1:0.6"])
    code = """
        import signal, sys
        from vmtools.rpci import Rpci
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with Rpci() as connection:
                print("ready", flush=True)
                connection.call(b"ask")
        except KeyboardInterrupt:
            sys.exit(7)
    """
    with serving(host.backdoor) as path:
        guest = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            env={**os.environ, "VMTOOLS_GATE": f"sim:{path}"},
            stdout=subprocess.PIPE,
        )
        with guest:
            assert guest.stdout is not None
            guest.stdout.readline()
            time.sleep(0.25)
            guest.send_signal(signal.SIGINT)
            assert guest.wait(30) == 7
        assert host.open_channels == 0
    assert host.requests == []


def test_a_child_leaves_the_parents_connection_alone() -> None:
    code = """
        import os, sys
        from vmtools.backdoor import Backdoor
        from vmtools.gates import choose
        gate = choose()
        Backdoor(gate).version()
        mine = gate._idle[:]
        if (child := os.fork()) == 0:
            assert gate._idle == []
            Backdoor(gate).version()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        Backdoor(gate).version()
        assert gate._idle == mine
    """
    with serving(Host().backdoor) as path:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            env={**os.environ, "VMTOOLS_GATE": f"sim:{path}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_no_descriptor_is_left() -> None:
    with serving(Host().backdoor) as path:
        gate = SocketGate(path)
        Backdoor(gate).version()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            gate._exchange(simlink.PORT_LOW, Frame(ax=MAGIC, cx=10, dx=0x5658))
            with pytest.raises(errors.GateFaulted):
                gate._exchange(simlink.PORT_LOW, Frame(dx=1))
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) == before
        gate._forget()


def test_a_gate_that_is_gone_leaves_nothing() -> None:
    before = len(simgate._gates)
    gates = [SocketGate("/nowhere") for _ in range(10)]
    assert len(simgate._gates) == before + 10
    gates.clear()
    gc.collect()
    assert len(simgate._gates) == before
