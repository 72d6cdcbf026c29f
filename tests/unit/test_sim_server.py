"""A machine behind a real socket: guests, control clients, those that mean harm, and the socket file itself."""

from __future__ import annotations

import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import vmtools
from vmtools.sim import server as server_module
from vmtools.sim.backdoor import NOBODY, PORT_LOW, RDPMC, Backdoor, Guest
from vmtools.sim.cli import main
from vmtools.sim.client import Control, HostError, RemoteBackdoor
from vmtools.sim.inprocess import NO_MEMORY
from vmtools.sim.machine import Machine
from vmtools.sim.server import Server, ServerError
from vmtools.wire import simlink

from .naive_guest import TCLO, Faulted, NaiveGuest

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = 0x564D5868


@contextmanager
def serving(path: Path, **options: Any) -> Iterator[Backdoor]:
    backdoor = Backdoor(Machine(guestinfo={b"hello": b"world"}, **options))
    with Server(path, backdoor) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield backdoor
        finally:
            server.stop()
            thread.join(10)
            assert not thread.is_alive()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "host"


def eventually(condition: Any) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it did not happen within 10 s"
        time.sleep(0.01)


# -- guests ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hypercall", [False, True])
@pytest.mark.parametrize("high", [False, True])
def test_a_guest_over_the_socket(path: Path, high: bool, hypercall: bool) -> None:
    with serving(path, high_bandwidth=high) as backdoor, RemoteBackdoor(path) as remote:
        guest = NaiveGuest(remote, high=high, hypercall=hypercall)
        guest.open()
        assert guest.rpc(b"info-get guestinfo.hello") == b"1 world"
        value = bytes(range(256)) * 200
        assert guest.rpc(b"info-set guestinfo.big " + value) == b"1 "
        assert guest.rpc(b"info-get guestinfo.big") == b"1 " + value
        guest.close()
        assert not backdoor.channels.open_channels


def test_reflected_faults_and_bad_pointers_over_the_socket(path: Path) -> None:
    with serving(path), RemoteBackdoor(path) as remote:
        regs = [0, 1, 7, 3, 4, 5, 6]
        assert not remote.exit(RDPMC, regs, NO_MEMORY, NOBODY)
        assert regs == [0, 1, 7, 3, 4, 5, 6]
        guest = NaiveGuest(remote)
        assert guest.high_out(b"", size=4).bx == 0, "refused before the bad buffer is looked at"
        guest.open()
        guest.message(1, 4)
        with pytest.raises(Faulted):
            guest.high_out(b"", size=4)
        for size in (1 << 32, (1 << 64) - 1):
            assert guest.high_out(b"", size=size).bx == 0
        guest.send(b"log")
        guest.message(3)
        with pytest.raises(Faulted):
            guest.high_in(bytearray(), size=2)


def test_a_value_of_a_megabyte(path: Path) -> None:
    value = b"x" * ((1 << 20) - 100)
    with serving(path) as backdoor, RemoteBackdoor(path) as remote:
        backdoor.machine.set_guestinfo(b"big", value)
        guest = NaiveGuest(remote)
        guest.open()
        assert guest.rpc(b"info-get guestinfo.big") == b"1 " + value


def test_many_guests_at_once(path: Path) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with RemoteBackdoor(path) as remote:
                guest = NaiveGuest(remote, high=bool(number % 2))
                guest.who = Guest(number, number, f"guest {number}")
                guest.open()
                for i in range(20):
                    value = b"%d %d" % (number, i)
                    assert guest.rpc(b"info-set guestinfo.n%d %b" % (number, value)) == b"1 "
                    assert guest.rpc(b"info-get guestinfo.n%d" % number) == b"1 " + value
                guest.close()
        except BaseException as error:
            failures.append(error)

    with serving(path) as backdoor:
        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not failures
        assert not backdoor.channels.open_channels


def test_one_link_carries_several_processes(path: Path) -> None:
    with serving(path) as backdoor, RemoteBackdoor(path) as remote:
        for pid in (5, 6, 5):
            guest = NaiveGuest(remote)
            guest.who = Guest(pid, pid + 100, f"p{pid}")
            guest.open()
        owners = [(c.owner.pid, c.owner.tid, c.owner.name) for c in backdoor.channels.open_channels.values()]
        assert owners == [(5, 105, "p5"), (6, 106, "p6"), (5, 105, "p5")]


def test_a_host_that_goes_away(path: Path) -> None:
    with serving(path):
        remote = RemoteBackdoor(path)
        remote.exit(PORT_LOW, [MAGIC, 0, 10, 0x5658, 0, 0, 0], NO_MEMORY, NOBODY)
    with remote, pytest.raises(HostError, match="went away"):
        remote.exit(PORT_LOW, [MAGIC, 0, 10, 0x5658, 0, 0, 0], NO_MEMORY, NOBODY)
    with pytest.raises(HostError, match="no simulated host"):
        RemoteBackdoor(path)


ANSWER = simlink.encode_answer(1, [0] * 7)
HELLO = simlink.encode_json(simlink.HELLO, {"version": 1})


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        HELLO,
        HELLO[:7],
        b"\0\0\0\0",
        b"\xff\xff\xff\xff\1",
        ANSWER,
        simlink.encode_json(simlink.HELLO, {"version": 9}),
        HELLO + HELLO,
        HELLO + simlink.encode_answer(7, [0] * 7),
        HELLO + simlink.encode_answer(1, [0] * 7, b"nobody asked"),
        HELLO + simlink.packet(simlink.ANSWER, b"short"),
    ],
)
def test_a_host_that_sends_nonsense(path: Path, answer: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        listener.listen(1)

        def host() -> None:
            with listener.accept()[0] as connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=host)
        thread.start()
        with RemoteBackdoor(path, timeout=10) as remote, pytest.raises(HostError):
            remote.exit(PORT_LOW, [MAGIC, 0, 10, 0x5658, 0, 0, 0], NO_MEMORY, NOBODY)
        thread.join(10)


# -- control -----------------------------------------------------------------------------------------------------------


def test_control(path: Path) -> None:
    with serving(path) as backdoor, Control(path) as control:
        assert control.ask("guestinfo", key="hello") == {"ok": True, "value": "world"}
        assert control.ask("guestinfo", key="guestinfo.b", value="\udcff\0")["value"] == "\udcff\0"
        assert backdoor.machine.guestinfo[b"guestinfo.b"] == b"\xff\0"
        assert control.ask("guestinfo")["values"] == {"guestinfo.b": "\udcff\0", "guestinfo.hello": "world"}
        backdoor.machine.write_log(b"one")
        assert control.ask("log")["lines"] == ["one"]
        assert control.ask("status")["status"]["guestinfo_keys"] == 2


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"do": "nonsense"}, "this host can do"),
        ({}, "this host can do"),
        ({"do": []}, "this host can do"),
        ({"do": "guestinfo", "key": "nope"}, "No value found"),
        ({"do": "guestinfo", "key": 5}, "'key' must be text"),
        ({"do": "guestinfo", "key": "k", "value": 5}, "'value' must be text"),
        ({"do": "guestinfo", "key": "k", "value": "\ud800"}, "stands for bytes"),
        ({"do": "guestinfo", "key": "k" * 5000, "value": ""}, "Key is too long"),
        ({"do": "send", "text": "ping"}, "no guest service listens"),
        ({"do": "send", "text": ""}, "1 to 65536"),
        ({"do": "send", "text": "x", "timeout": "soon"}, "'timeout'"),
        ({"do": "send", "text": "x", "timeout": True}, "'timeout'"),
        ({"do": "send", "text": "x", "timeout": -1}, "'timeout'"),
        ({"do": "send", "text": "x", "app": 1}, "'app' must be text"),
        ({"do": "send"}, "'text' must be text"),
    ],
)
def test_control_refuses_with_a_reason(path: Path, request_: dict[str, Any], words: str) -> None:
    with serving(path), socket.socket(socket.AF_UNIX) as raw:
        raw.connect(os.fspath(path))
        raw.settimeout(10)
        raw.sendall(simlink.hello("control", 1, 1, "x") + simlink.encode_json(simlink.CONTROL, request_))
        stream = raw.makefile("rb")
        for kind in (simlink.HELLO, simlink.REPORT):
            body = stream.read(simlink.length(stream.read(4)))
            assert body[0] == kind
        report = simlink.decode_json(body[1:])
        assert report["ok"] is False
        assert words in report["error"]


def test_what_is_too_much_to_report_is_said_so(path: Path) -> None:
    with serving(path) as backdoor, Control(path) as control:
        backdoor.machine.set_guestinfo(b"big", b"\xff" * 500_000)
        with pytest.raises(HostError, match="too much to report"):
            control.ask("guestinfo", key="big")
        listed = control.ask("guestinfo")
        assert (len(listed["values"]["guestinfo.big"]), listed["sizes"]["guestinfo.big"]) == (512, 500_000)
        for _ in range(10_000):
            backdoor.machine.write_log(b"\xff" * 4000)
        assert 1 < len(control.ask("log")["lines"]) < 100


def tools(path: Path, stop: threading.Event) -> None:
    """A guest service: answers what it is asked until told to stop."""
    with RemoteBackdoor(path) as remote:
        guest = NaiveGuest(remote)
        guest.open(TCLO)
        reply = b""
        while not stop.is_set():
            guest.send(reply)
            message = guest.receive()
            reply = {None: b"", b"reset": b"OK ATR toolbox", b"ping": b"OK "}.get(message, b"ERROR Unknown Command")
            time.sleep(0.005)
        guest.close()


def test_send(path: Path) -> None:
    stop = threading.Event()
    with serving(path) as backdoor:
        thread = threading.Thread(target=tools, args=(path, stop))
        thread.start()
        try:
            eventually(lambda: any(c.app for c in backdoor.channels.open_channels.values()))
            with Control(path) as control:
                assert control.send("ping") == "OK "
                assert control.send("nonsense", app="toolbox") == "ERROR Unknown Command"
        finally:
            stop.set()
            thread.join(10)


def test_send_to_a_guest_that_sleeps(path: Path) -> None:
    with serving(path) as backdoor, RemoteBackdoor(path) as remote, Control(path) as control:
        guest = NaiveGuest(remote)
        guest.open(TCLO)
        assert guest.receive() == b"reset"
        with pytest.raises(HostError, match=r"did not read the message within 0\.05 s"):
            control.send("ping", timeout=0.05)
        assert guest.receive() is None, "it was withdrawn"
        control.close()
        with Control(path) as leaving:
            leaving._send(simlink.encode_json(simlink.CONTROL, {"do": "send", "text": "ping", "timeout": 100}))
            eventually(lambda: backdoor.channels.open_channels[guest.id].outbox)
        eventually(lambda: not backdoor.channels.open_channels[guest.id].outbox)


# -- clients that mean harm --------------------------------------------------------------------------------------------

EXIT = simlink.encode_exit(0, 1, [MAGIC, 0, 10, 0x5658, 0, 0, 0])
GUEST = simlink.hello("guest", 1, 1, "x")
CONTROL = simlink.hello("control", 1, 1, "x")


@pytest.mark.parametrize(
    "packets",
    [
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        EXIT,
        CONTROL + EXIT,
        GUEST + simlink.encode_json(simlink.CONTROL, {"do": "status"}),
        GUEST + CONTROL,
        GUEST + simlink.packet(simlink.EXIT, b"short"),
        GUEST + simlink.packet(9, b""),
        CONTROL + simlink.packet(simlink.CONTROL, b"{"),
        CONTROL + simlink.packet(simlink.CONTROL, b"[" * 100_000),
        CONTROL + simlink.packet(simlink.CONTROL, b"[]"),
        simlink.encode_json(simlink.HELLO, {"role": "king"}),
        simlink.encode_json(simlink.HELLO, {"role": ["guest"]}),
        simlink.encode_json(simlink.HELLO, {"role": "guest", "pid": -1}),
        simlink.encode_json(simlink.HELLO, {"role": "guest", "pid": "1"}),
        simlink.encode_json(simlink.HELLO, {"role": "guest", "tid": 1 << 32}),
    ],
)
def test_nonsense_is_cut_off_and_others_go_on(path: Path, packets: bytes) -> None:
    with serving(path), Control(path) as control, socket.socket(socket.AF_UNIX) as raw:
        raw.connect(os.fspath(path))
        raw.settimeout(10)
        raw.sendall(packets)
        try:
            while raw.recv(1000):
                pass
        except ConnectionResetError:
            pass
        assert control.ask("guestinfo", key="hello")["value"] == "world"


def test_a_client_that_never_reads_is_not_read_for_ever(path: Path) -> None:
    with serving(path), Control(path) as control, socket.socket(socket.AF_UNIX) as raw:
        raw.connect(os.fspath(path))
        raw.sendall(GUEST)
        raw.settimeout(0.5)
        assert _send_until_stuck(raw, EXIT * 10_000) < 100 << 20
        assert control.ask("guestinfo", key="hello")["value"] == "world"


def _send_until_stuck(raw: socket.socket, data: bytes) -> int:
    """Send ``data`` again and again; the bytes that went."""
    sent = 0
    while sent < 100 << 20:
        try:
            sent += raw.send(data[sent % len(data) :])
        except TimeoutError:
            break
    return sent


def test_packets_in_small_pieces(path: Path) -> None:
    with serving(path), socket.socket(socket.AF_UNIX) as raw:
        raw.connect(os.fspath(path))
        raw.settimeout(10)
        for byte in GUEST + EXIT:
            raw.sendall(bytes([byte]))
        stream = raw.makefile("rb")
        stream.read(simlink.length(stream.read(4)))
        body = stream.read(simlink.length(stream.read(4)))
        assert simlink.decode_answer(body[1:])[1][:2] == [6, MAGIC]


def test_too_many_clients(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_CLIENTS", 3)
    with serving(path):
        controls = [Control(path) for _ in range(3)]
        with pytest.raises(HostError, match="went away"):
            Control(path)
        controls.pop().close()
        eventually(lambda: _reachable(path))
        for control in controls:
            control.close()


def _reachable(path: Path) -> bool:
    try:
        Control(path).close()
    except HostError:
        return False
    return True


def test_other_users_stay_outside(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(path):
        monkeypatch.setattr(os, "geteuid", lambda: 54321)
        monkeypatch.setattr(struct, "unpack", lambda *_: (1, 12345, 1))
        with pytest.raises(HostError, match="went away"):
            Control(path)
        monkeypatch.undo()
        assert _reachable(path)


# -- the socket file ---------------------------------------------------------------------------------------------------


def test_the_socket_is_for_its_user_alone_and_goes(path: Path) -> None:
    before = os.umask(0)
    try:
        with serving(path):
            assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert not path.exists()


def test_a_living_server_is_not_replaced(path: Path) -> None:
    with serving(path):
        with pytest.raises(ServerError, match="served already"):
            Server(path, Backdoor(Machine()))
        assert _reachable(path)


def test_a_stale_socket_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(path))
    with serving(path):
        assert _reachable(path)


def test_what_is_no_socket_stays(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(ServerError, match="no socket"):
        Server(path, Backdoor(Machine()))
    assert path.read_text() == "precious"


@pytest.mark.parametrize("name", ["no/such/folder", "x" * 200])
def test_paths_that_do_not_go(tmp_path: Path, name: str) -> None:
    with pytest.raises(ServerError):
        Server(tmp_path / name, Backdoor(Machine()))


def test_a_socket_that_another_put_there_is_left(path: Path) -> None:
    with serving(path):
        path.unlink()
        path.write_text("another's")
    assert path.read_text() == "another's"


# -- the command -------------------------------------------------------------------------------------------------------

COMMAND = [sys.executable, "-c", "import sys; from vmtools.sim.cli import main; sys.exit(main())"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.fspath(Path(vmtools.__file__).parent.parent)}


@contextmanager
def command(path: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    words = [*COMMAND, "serve", os.fspath(path), *options]
    with subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"ready: {path}\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_serve_ends_well_by_a_signal(path: Path, number: signal.Signals) -> None:
    with command(path) as process:
        assert path.exists()
        process.send_signal(number)
        assert process.wait(10) == 0
    assert not path.exists()


def test_serve_after_it_was_killed(path: Path) -> None:
    with command(path) as process:
        process.kill()
        process.wait(10)
    assert path.exists()
    with command(path):
        assert _reachable(path)


def test_the_commands(path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    transcript = tmp_path / "transcript"
    sock = os.fspath(path)
    options = [
        "--set",
        "hello=a=b",
        "--transcript",
        os.fspath(transcript),
        "--machine-id",
        "me",
        "--fault",
        "refused@1",
    ]
    with command(path, *options):
        with RemoteBackdoor(path) as remote:
            guest = NaiveGuest(remote)
            assert guest.open().cx == 0
            guest.open()
            assert guest.rpc(b"info-get guestinfo.hello") == b"1 a=b"
            assert guest.rpc(b"machine.id.get") == b"1 me"
            guest.rpc(b"log \x1b[2Jhi")
        for words, status, out, err in [
            (["guestinfo", sock], 0, "guestinfo.hello=a=b\n", ""),
            (["guestinfo", sock, "new", "x y"], 0, "", ""),
            (["guestinfo", sock, "guestinfo.new"], 0, "x y\n", ""),
            (["guestinfo", sock, "nope"], 1, "", "vmtools sim: No value found\n"),
            (["log", sock], 0, "Guest: \\x1b[2Jhi\n", ""),
            (["send", sock, "ping"], 1, "", "vmtools sim: no guest service listens, or its queue is full\n"),
            (["status", sock + "x"], 1, "", "vmtools sim: no simulated host at"),
        ]:
            assert main(words) == status
            captured = capfd.readouterr()
            assert (captured.out, captured.err[: len(err)]) == (out, err)
        assert main(["status", sock]) == 0
        assert "channels:\n  0: RPCI, naive (7)\n" in capfd.readouterr().out
        assert main(["status", sock, "--json"]) == 0
        assert '"product": "Workstation"' in capfd.readouterr().out
    assert main(["show", os.fspath(transcript)]) == 0
    out = capfd.readouterr().out
    assert "OPEN RPCI                  -> refused  [fault: refused]\n" in out
    assert '<< "1 a=b"\n' in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "--"], "which program"),
        (["run", "--set", "x", "--", "true"], "KEY=VALUE"),
        (["run", "--set", f"x={'v' * (1 << 20)}", "--", "true"], "Value too long"),
        (["run", "--fault", "nope@1", "--", "true"], "no fault is called 'nope'"),
        (["run", "--transcript", "/no/such/file", "--", "true"], "No such file"),
        (["run", "--host", "/no/such", "--drift", "5", "--", "true"], "the machine is the server's"),
        (["run", "--host-clock", "later", "--", "true"], "'later' is none of +90s"),
        (["run", "--drift", "inf", "--", "true"], "a drift of inf ppm"),
        (["run", "--device", "a=b", "--", "true"], "a device is one of on, off"),
        (["run", "--option", "a b=c", "--", "true"], "no option's name"),
        (["run", "--script", "/no/such/file", "--", "true"], "No such file"),
        (["send", "/no/such", "\\q", "--escaped"], "\\q is no escape"),
        (["run", "--host", "/no/such", "--set", "a=b", "--", "true"], "the machine is the server's"),
        (["serve", "/no/such/folder/socket"], "No such file"),
        (["show", "/no/such/file"], "No such file"),
        (["show", __file__], "line 1 is not"),
        (["show", sys.executable], "not UTF-8"),
    ],
)
def test_wrong_usage_is_explained(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("vmtools sim: ")
    assert says in captured.err
    assert captured.err.count("\n") == 1


def test_a_reader_that_has_enough(tmp_path: Path) -> None:
    transcript = tmp_path / "transcript"
    with transcript.open("w") as file:
        from vmtools.sim.transcript import Transcript

        backdoor = Backdoor(Machine(), transcript=Transcript(file))
        for _ in range(3000):
            NaiveGuest(backdoor).low(10)
    words = " ".join([f"'{word}'" for word in COMMAND]) + f" show {transcript} | head -1"
    ended = subprocess.run(["bash", "-c", words], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert ended.stdout.count("\n") == 1
    assert not ended.stderr
