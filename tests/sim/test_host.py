"""Programs as guests of a host in this process: how they end, what they leave, and services that the host talks to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vmtools.sim.recording import Recording
from vmtools.testing import Result, SimulatedHost

RPCTOOL = "vmware-rpctool"
GET = "info-get guestinfo.hello"

SERVICE = """
import os, sys, time
from vmtools import gates
from vmtools.backdoor import carry_out
from vmtools.constants import Protocol
from vmtools.message import Channel

sys.stdout.write("up\\n"); sys.stdout.flush()
gate, channel = gates.choose(), Channel(Protocol.TCLO)
carry_out(gate, channel.opening())
while True:
    message = carry_out(gate, channel.receiving(1 << 16))
    if message is None:
        time.sleep(0.01)
    else:
        carry_out(gate, channel.sending(b"OK ATR toolbox" if message == b"reset" else b"OK " + message.upper()))
"""
"""A tools service of the guest's half, in a process of its own."""


def alive(pid: int) -> bool:
    """Whether a process exists and is not merely waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def host(tracing: None) -> Iterator[SimulatedHost]:
    with SimulatedHost(guestinfo={"hello": "world"}, drop_in=True) as host:
        yield host


def test_a_command(host: SimulatedHost) -> None:
    result = host.run(RPCTOOL, GET)
    assert (result.returncode, result.stdout, result.stderr) == (0, "world\n", "")
    assert result.args == [RPCTOOL, GET]
    assert result.transcript.requests == [GET.encode()]
    assert {record.who.name for record in result.transcript.records} == {RPCTOOL}
    assert result.check() is result
    assert host.run("vmware-checkvm").returncode == 0


def test_each_result_has_its_own_exits(host: SimulatedHost) -> None:
    host.run(RPCTOOL, GET)
    second = host.run(RPCTOOL, "info-set guestinfo.a b")
    assert second.transcript.requests == [b"info-set guestinfo.a b"]
    assert len(host.transcript) > len(second.transcript)
    assert host.guestinfo["a"] == b"b"


def test_a_failing_command(host: SimulatedHost) -> None:
    result = host.run(RPCTOOL, "info-get guestinfo.none")
    assert (result.returncode, result.stderr) == (1, "No value found\n")
    with pytest.raises(AssertionError, match=r"ended with status 1: No value found"):
        result.check()
    with pytest.raises(AssertionError, match="ended with status -6: it printed nothing"):
        host.run("sh", "-c", "kill -ABRT $$").check()


def test_environment_folder_and_input(host: SimulatedHost, tmp_path: Path) -> None:
    script = 'echo "$GREETING"; pwd; cat; command -v vmware-rpctool'
    result = host.run("sh", "-c", script, env={"GREETING": "ahoy", "PATH": "/usr/bin:/bin"}, cwd=tmp_path, input="ä\n")
    *lines, tool = result.stdout.splitlines()
    assert lines == ["ahoy", str(tmp_path), "ä"]
    assert Path(tool).name == RPCTOOL
    assert not tool.startswith("/usr")
    assert host.run("cat").stdout == "", "no input, and not this terminal's"


def test_without_drop_in_the_path_is_left_alone(tracing: None) -> None:
    with SimulatedHost() as host:
        assert host.run("sh", "-c", 'echo "$PATH"').stdout.rstrip("\n") == os.environ["PATH"]


def test_output_that_is_no_text(host: SimulatedHost) -> None:
    result = host.run("printf", r"\377a")
    assert (result.stdout_bytes, result.stdout) == (b"\xffa", r"\xffa")


def test_what_cannot_be_executed(host: SimulatedHost) -> None:
    with pytest.raises(FileNotFoundError):
        host.run("no-such-program")
    with pytest.raises(ValueError, match="null byte"):
        host.run("true", "a\0b")
    program = host.start("no-such-program")
    with pytest.raises(FileNotFoundError):
        program.wait()


def test_time_is_up(host: SimulatedHost) -> None:
    with pytest.raises(subprocess.TimeoutExpired) as expired:
        host.run("sh", "-c", "echo begun; echo oops >&2; sleep 60 & echo $!; sleep 60", timeout=0.3)
    assert expired.value.stdout is not None
    begun, pid = expired.value.stdout.split()
    assert (begun, expired.value.stderr) == (b"begun", b"oops\n")
    assert not alive(int(pid)), "its child is gone, too"


def test_a_signal_handlers_exception_ends_the_program(host: SimulatedHost) -> None:
    def ring(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGVTALRM, ring)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGVTALRM))
    started = time.monotonic()
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            host.run("sleep", "60")
    finally:
        timer.join()
        signal.signal(signal.SIGVTALRM, before)
    assert time.monotonic() - started < 30


def test_a_service(host: SimulatedHost) -> None:
    with host.start(sys.executable, "-c", SERVICE) as service:
        assert host.send("ping", app=None, expect="OK PING") == b"OK PING"
        assert host.send("Set_Option synctime 1", app="toolbox").startswith(b"OK ")
        with pytest.raises(subprocess.TimeoutExpired) as alive:
            service.wait(0.01)
        assert alive.value.stdout == b"up\n"
        assert host.run(RPCTOOL, GET).stdout == "world\n", "another guest meanwhile"
        result = service.stop()
    assert (result.returncode, result.stdout) == (-signal.SIGTERM, "up\n")
    ours = {b"reset", b"ping", b"Set_Option synctime 1"}  # the greeting that the host has of its own accord is none
    asked = [exchange.request for exchange in host.transcript.exchanges if exchange.protocol == "TCLO"]
    assert [request for request in asked if request in ours] == [b"reset", b"ping", b"Set_Option synctime 1"]
    assert b"Capabilities_Register" in asked


def test_what_does_not_want_to_end_is_killed(host: SimulatedHost) -> None:
    program = host.start("sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.05; done")
    wait_for_output(program.wait, b"deaf\n")
    result = program.stop(timeout=0.2)
    assert (result.returncode, result.stdout) == (-signal.SIGKILL, "deaf\n")
    assert program.stop().returncode == -signal.SIGKILL, "stopping twice is no error"


def wait_for_output(wait: Callable[[float], Result], wanted: bytes) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with pytest.raises(subprocess.TimeoutExpired) as running:
            wait(0.02)
        if running.value.stdout == wanted:
            return
    pytest.fail(f"the program did not print {wanted!r}")


def test_programs_end_with_the_host(tracing: None) -> None:
    with SimulatedHost() as host:
        program = host.start("sh", "-c", "echo $$; exec sleep 60")
        end = time.monotonic() + 20
        pid = b""
        while not pid.endswith(b"\n") and time.monotonic() < end:
            with pytest.raises(subprocess.TimeoutExpired) as running:
                program.wait(0.02)
            pid = running.value.stdout or b""
    assert not alive(int(pid))


def test_a_test_that_fails_is_not_kept_waiting(host: SimulatedHost) -> None:
    started = time.monotonic()
    with pytest.raises(ZeroDivisionError), host.start("sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"):
        _ = 1 / 0
    assert time.monotonic() - started < 4


def test_faults_reach_programs(host: SimulatedHost) -> None:
    host.fault("checkpoint@3")
    result = host.run(RPCTOOL, GET).check()
    assert [record.fault for record in result.transcript.records if record.fault] == ["checkpoint"]
    assert result.stdout == "world\n"


def test_a_program_over_the_socket_without_ptrace(host: SimulatedHost) -> None:
    environment = {**os.environ, "VMTOOLS_GATE": f"sim:{host.socket}"}
    code = "import vmtools; print(vmtools.connect().info_get('hello'))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "b'world'\n"


def test_results_are_readable() -> None:
    result = Result(["a"], 0, b"out", b"err", Recording("", ()))
    assert repr(result) == "Result(args=['a'], returncode=0, transcript=<Recording of 0 exits>)"
