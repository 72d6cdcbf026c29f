"""A simulated host as one object: what tests ask of it, with guests in this process and over its socket."""

from __future__ import annotations

import os
import re
import stat
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import vmtools
from vmtools.sim.client import Control, RemoteBackdoor
from vmtools.sim.host import ExpectationFailed, GuestSilent, Host
from vmtools.sim.machine import GuestInfoError
from vmtools.sim.recording import Recorder
from vmtools.sim.server import ServerError
from vmtools.sim.transcript import Transcript, TranscriptError, read, show
from vmtools.testing import SimulatedHost

from .naive_guest import TCLO, NaiveGuest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vmtools.sim.backdoor import Exits


@pytest.fixture
def host() -> Iterator[SimulatedHost]:
    with SimulatedHost(guestinfo={"hello": "world"}) as host:
        yield host


# -- what it is made of ------------------------------------------------------------------------------------------------


def test_guestinfo_from_the_hosts_side(host: SimulatedHost) -> None:
    host.guestinfo["a"] = "ä"
    host.guestinfo[b"guestinfo.b"] = b"\xff"
    assert dict(host.guestinfo) == {"hello": b"world", "a": b"\xc3\xa4", "b": b"\xff"}
    assert (host.guestinfo["guestinfo.a"], host.guestinfo[b"a"]) == (b"\xc3\xa4", b"\xc3\xa4")
    assert (host.guestinfo.get("none"), "a" in host.guestinfo, len(host.guestinfo)) == (None, True, 3)
    del host.guestinfo["a"]
    with pytest.raises(KeyError):
        del host.guestinfo["a"]
    with pytest.raises(GuestInfoError, match="Value too long"):
        host.guestinfo["big"] = b"x" * (1 << 20)
    assert "b'world'" in repr(host.guestinfo)
    guest = host.connect()
    with pytest.raises(vmtools.NoSuchValue):
        guest.info_get("a")
    guest.info_set("a", "from the guest")
    assert host.guestinfo["a"] == b"from the guest"


def test_parameters_of_the_machine() -> None:
    with SimulatedHost(personality="vmware-lb", machine_id="id-1", hw_version=13, memory_mb=64) as host:
        assert host.connect().machine_id() == b"id-1"
        assert (host.status()["hw_version"], host.machine.memory_mb) == (13, 64)
        assert "HIGH" not in str(host.transcript)
    with pytest.raises(ValueError, match="no personality is called 'xen'; there are: vmware, vmware-lb, qemu"):
        Host(personality="xen")
    with pytest.raises(ValueError, match="no fault is called 'fire'"):
        Host(faults=["fire@1"])
    with pytest.raises(TypeError, match="colour"):
        Host(colour="red")


def test_status_and_log(host: SimulatedHost) -> None:
    guest = host.connect()
    guest.log("one")
    assert host.log == ["Guest: one"]
    status = host.status()
    assert [channel["protocol"] for channel in status["channels"]] == ["RPCI"]
    assert status["guestinfo_keys"] == 1


def test_the_state_can_be_changed_under_the_lock(host: SimulatedHost) -> None:
    with host.lock:
        host.machine.refused[b"info-set"] = b"Permission denied"
    with pytest.raises(vmtools.PermissionDenied):
        host.connect().info_set("a", "b")


# -- guests by all ways at once ----------------------------------------------------------------------------------------


def test_guests_over_the_socket(host: SimulatedHost) -> None:
    path = host.socket
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert host.socket == path == host.serve() == host.serve(path)
    with pytest.raises(ValueError, match="served already"):
        host.serve("/elsewhere")
    with vmtools.connect(f"sim:{path}") as guest:
        guest.info_set("here", "yes")
        assert host.guestinfo["here"] == b"yes"
    with Control(path) as control:
        assert control.ask("guestinfo", key="hello")["value"] == "world"
    host.close()
    assert not Path(path).parent.exists()
    host.close()


def test_serve_at_a_path_of_ones_own(tmp_path: Path) -> None:
    with Host() as host, Host() as other:
        assert host.serve(tmp_path / "vm") == str(tmp_path / "vm")
        with pytest.raises(ServerError, match="served already"):
            other.serve(tmp_path / "vm")
    assert not (tmp_path / "vm").exists()


def test_many_threads_by_two_ways(host: SimulatedHost) -> None:
    failures: list[BaseException] = []

    def work(number: int, exits: Exits) -> None:
        try:
            guest = NaiveGuest(exits, high=bool(number % 2))
            guest.open()
            for n in range(30):
                assert guest.rpc(b"info-set guestinfo.%d %d" % (number, n)) == b"1 "
                assert guest.rpc(b"info-get guestinfo.%d" % number) == b"1 %d" % n
                host.status()
            guest.close()
        except BaseException as error:
            failures.append(error)

    remotes = [RemoteBackdoor(host.socket) for _ in range(3)]
    threads = [threading.Thread(target=work, args=pair) for pair in enumerate([*remotes, *[host.backdoor] * 3])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for remote in remotes:
        remote.close()
    assert not failures
    assert len(host.said) == len([e for e in host.transcript.exchanges if e.reply is not None]) == 6 * 60
    assert not host.status()["channels"]


# -- what was said -----------------------------------------------------------------------------------------------------


def test_expectations_look_on_behind_the_last_find(host: SimulatedHost) -> None:
    guest = host.connect()
    guest.info_set("state", "1")
    guest.info_get("hello")
    guest.info_set("state", "2")
    assert host.expect("info-set guestinfo.state 1", timeout=0).reply == b"1 "
    assert host.expect(re.compile(rb"info-set guestinfo\.state (\d)"), timeout=0).request[-1:] == b"2"
    with pytest.raises(ExpectationFailed) as nothing:
        host.expect("info-get guestinfo.hello", timeout=0)
    assert "none sent anything" in str(nothing.value)


def test_a_failed_expectation_skips_nothing_and_tells_what_came(host: SimulatedHost) -> None:
    guest = host.connect()
    for n in range(12):
        guest.info_set("n", str(n))
    with pytest.raises(ExpectationFailed) as failed:
        host.expect(re.compile(b"^log "), reply=b"1 ", timeout=0.05)
    text = str(failed.value)
    assert "no guest sent what matches b'^log ' and was answered b'1 ' within 0.05 s" in text
    assert "the last 10 of 12:" in text
    assert "b'info-set guestinfo.n 11' -> b'1 '" in text
    assert "guestinfo.n 1'" not in text, "only the last are shown"
    host.expect("info-set guestinfo.n 0", timeout=0)


def test_expect_a_reply(host: SimulatedHost) -> None:
    guest = host.connect()
    guest.info_get("hello")
    with pytest.raises(ExpectationFailed):
        host.expect("info-get guestinfo.hello", reply="1 moon", timeout=0)
    host.expect("info-get guestinfo.hello", reply="1 world", timeout=0)
    with pytest.raises(vmtools.HostRefused):
        guest.call(b"no-such-command")
    host.expect(b"no-such-command", reply=re.compile(b"^0 "), timeout=0)


def test_a_nul_at_the_end_counts_for_nothing(host: SimulatedHost) -> None:
    host.connect().call(b"info-get guestinfo.hello\0")
    host.expect("info-get guestinfo.hello", timeout=0)
    assert host.transcript.requests == [b"info-get guestinfo.hello\0"]


@contextmanager
def later(work: Callable[[], object]) -> Iterator[None]:
    """Do something in another thread, soon."""
    timer = threading.Timer(0.1, work)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def test_expect_waits(host: SimulatedHost) -> None:
    guest = host.connect()
    with later(lambda: guest.log("here")):
        assert host.expect("log here").reply == b"1 "


# -- TCLO --------------------------------------------------------------------------------------------------------------


@contextmanager
def service(exits: Exits, answers: dict[bytes, bytes | None]) -> Iterator[NaiveGuest]:
    """A tools service in a thread: answers what it is asked; None: never."""
    guest = NaiveGuest(exits)
    guest.open(TCLO)
    ending = threading.Event()

    def poll() -> None:
        while not ending.is_set():
            message = guest.receive()
            if message is None:
                time.sleep(0.005)
            elif (answer := answers.get(message, b"ERROR Unknown command")) is not None:
                guest.send(answer)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield guest
    finally:
        ending.set()
        thread.join()


ANSWERS: dict[bytes, bytes | None] = {
    b"reset": b"OK ATR toolbox",
    b"Set_Option synctime 1": b"OK ",
    b"ping": b"OK pong",
    b"deaf": None,
}


@pytest.mark.parametrize("way", ["in process", "socket"])
def test_send(host: SimulatedHost, way: str) -> None:
    exits: Exits = RemoteBackdoor(host.socket) if way == "socket" else host.backdoor
    with service(exits, ANSWERS):
        assert host.send("Set_Option synctime 1") == b"OK "
        assert host.send(b"ping", expect="OK pong", app="toolbox") == b"OK pong"
        assert host.send("ping", expect=re.compile(b"^OK")) == b"OK pong"
        with pytest.raises(ExpectationFailed, match="answered b'ping' with b'OK pong', not b'OK'"):
            host.send("ping", expect="OK")
        assert host.send("nonsense") == b"ERROR Unknown command"
        with pytest.raises(GuestSilent, match=r"was read, and not answered within 0\.2 s"):
            host.send("deaf", timeout=0.2)
        with pytest.raises(GuestSilent, match="no guest service listens"):
            host.send("ping", app="toolbox-dnd", timeout=0.05)
    assert host.said[0] == ("TCLO", b"Set_Option synctime 1", b"OK ")
    if isinstance(exits, RemoteBackdoor):
        exits.close()


def test_send_waits_for_a_service_to_come(host: SimulatedHost) -> None:
    with pytest.raises(GuestSilent, match="no guest service listens"):
        host.send("ping", timeout=0.05)
    ending = threading.Event()

    def come() -> None:
        with service(host.backdoor, ANSWERS):
            ending.wait(10)

    with later(come):
        assert host.send("ping") == b"OK pong"
        ending.set()


def test_a_message_that_nobody_reads_is_withdrawn(host: SimulatedHost) -> None:
    guest = NaiveGuest(host.backdoor)
    guest.open(TCLO)
    with pytest.raises(GuestSilent, match=r"was not read within 0\.05 s"):
        host.send("ping", timeout=0.05)
    assert (guest.receive(), guest.receive()) == (b"reset", None)


def test_a_message_on_a_channel_that_is_lost(host: SimulatedHost) -> None:
    NaiveGuest(host.backdoor).open(TCLO)
    with later(host.lose_channels), pytest.raises(GuestSilent, match="the message b'ping' was lost"):
        host.send("ping")


# -- faults ------------------------------------------------------------------------------------------------------------


def test_faults_are_counted_from_now(host: SimulatedHost) -> None:
    guest = host.connect()
    guest.info_get("hello")
    before = len(host.transcript)
    host.fault("checkpoint@2", "slow@3:0")
    assert guest.info_get("hello") == b"world"
    faults = {record.seq - before: record.fault for record in host.transcript.records if record.fault}
    assert faults == {2: "checkpoint", 3: "slow:0"}
    with pytest.raises(ValueError, match="is not KIND@N"):
        host.fault("checkpoint")


def test_faults_from_the_beginning() -> None:
    with SimulatedHost(guestinfo={"a": "b"}, faults=["refused@1"]) as host:
        assert host.connect().info_get("a") == b"b"
        assert [record.seq for record in host.transcript.records if record.fault] == [1]


def test_lost_channels(host: SimulatedHost) -> None:
    guest = host.connect()
    guest.info_get("hello")
    host.lose_channels()
    assert not host.status()["channels"]
    assert guest.info_get("hello") == b"world", "a read is repeated on a new channel"


# -- recordings --------------------------------------------------------------------------------------------------------


def test_the_transcript(host: SimulatedHost, tmp_path: Path) -> None:
    host.connect().info_get("hello")
    recording = host.transcript
    assert len(recording) == len(recording.records) == 6
    assert recording.missing == 0
    assert recording.exchanges == host.said
    assert recording.messages() == 'RPCI "info-get guestinfo.hello"\n  -> "1 world"'
    assert recording.messages(0) == recording.text(0) == ""
    assert recording.text(2) == "\n".join(str(recording).splitlines()[-2:])
    recording.save(tmp_path / "t")
    saved = (tmp_path / "t").read_text().splitlines(keepends=True)
    assert list(show(read(saved))) == recording.text().splitlines()
    host.connect().info_get("hello")
    assert len(recording) == 6, "it stays what it was"


def test_the_transcript_in_a_file(tmp_path: Path) -> None:
    with SimulatedHost(guestinfo={"hello": "world"}, transcript=tmp_path / "t") as host:
        guest = host.connect()
        guest.info_get("hello")
        assert (tmp_path / "t").read_text().count("\n") == 7
        guest.close()
        whole = (tmp_path / "t").read_text()
    guest.info_get("hello")  # the machine lives on; the file is closed
    assert (tmp_path / "t").read_text() == whole
    assert len(host.transcript) == 13


def test_the_recorder_keeps_the_latest() -> None:
    recorder = Recorder(keep=3)
    with pytest.raises(TranscriptError):
        _ = recorder.recording().records
    transcript = Transcript(recorder)
    assert recorder.recording().records == []
    host = Host()
    for _ in range(5):
        regs = [0x564D5868, 0, 10, 0x5658, 0, 0, 0]
        transcript.begin(0, regs, transcript.memory)
        host.backdoor.serve(0, regs, transcript.memory, NaiveGuest(host.backdoor).who)
        transcript.end(regs, NaiveGuest(host.backdoor).who, True, "")
    host.close()
    kept = recorder.recording()
    assert ([record.seq for record in kept.records], kept.missing) == ([3, 4, 5], 2)
    assert ([record.seq for record in recorder.recording(4).records], recorder.recording(4).missing) == ([5], 0)
    assert (len(recorder.recording(5)), recorder.count) == (0, 5)
    assert repr(kept) == "<Recording of 3 exits>"
