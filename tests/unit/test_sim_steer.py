"""The commands that steer a served machine, and the requests beneath them, whoever sends them."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmtools.sim.backdoor import Backdoor
from vmtools.sim.cli import main
from vmtools.sim.control import perform
from vmtools.sim.machine import Machine
from vmtools.sim.server import Server
from vmtools.wire import vix

from .service import Service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .service import Answer


@contextmanager
def serving(path: Path, answers: dict[bytes, Answer]) -> Iterator[Backdoor]:
    """A served machine with a service in it, which polls in the server's own thread: after each request."""
    backdoor = Backdoor(Machine())
    service = Service(backdoor, answers=answers)
    service.settle()
    with Server(path, backdoor) as server:

        def poll() -> None:
            if backdoor.channels.open_channels:  # until they are lost
                service.settle()
                backdoor.schedule.after(0.01, poll)

        poll()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield backdoor
        finally:
            server.stop()
            thread.join(10)
            assert not thread.is_alive()


def relayed(message: bytes) -> bytes:
    _, request = vix.decode_relayed(message)
    return b"OK 0 0 vm\0" if request.op == 94 else b"OK 4 2 \0"


def test_each_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sock = os.fspath(tmp_path / "host")
    answers: dict[bytes, Answer] = {
        b"what": b"OK \xff\n",
        b"Vix_1_Relayed_Command": relayed,
        b"OS_Halt": b"ERROR Error starting script",
        b"f": b"ERROR Unknown Command",
    }
    with serving(tmp_path / "host", answers) as backdoor:
        machine = backdoor.machine
        for words, status, out, err in [
            (["clock", sock], 0, " s, drift 0 ppm)\n", ""),
            (["clock", sock, "+1h"], 0, "(+3600 s, drift 0 ppm)\n", ""),
            (["clock", sock, "-30m", "--drift", "50"], 0, "(+1800 s, drift 50 ppm)\n", ""),
            (["clock", sock, "noon"], 1, "", "'noon' is none of +90s, -5m, @2026-01-01T12:00:00Z\n"),
            (["clock", sock, "--drift", "nan"], 1, "", "a drift of nan ppm; at most 100000 either way\n"),
            (["device", sock], 0, "ethernet0: connected\nsata0:0: disconnected\nfloppy0: disconnected\n", ""),
            (["device", sock, "sata0:0", "on"], 0, "sata0:0: connected\nfloppy0: disconnected\n", ""),
            (["device", sock, "sata0:0"], 2, "", "device: 'on' or 'off'?\n"),
            (["device", sock, "none", "on"], 1, "", "no device none; there are: ethernet0, sata0:0, floppy0\n"),
            (["option", sock, "synctime"], 2, "", "option: which value?\n"),
            (["option", sock, "synctime", "1"], 0, "synctime 1\n", ""),
            (["option", sock, "a b", "1"], 1, "", "'a b' is no option's name\n"),
            (["guestlib", sock, "CPU_SHARES", "7"], 0, "CPU_SHARES 7\n", ""),
            (["guestlib", sock, "CPU_SHARES", "none"], 0, "CPU_SHARES -\n", ""),
            (["guestlib", sock, "CPU_SHARES", "many"], 1, "", "CPU_SHARES is str\n"),
            (["guestlib", sock, "CPU_SHARES"], 2, "", "guestlib: which value?\n"),
            (["send", sock, "what"], 0, "OK \\udcff\\n\n", ""),
            (["send", sock, "wh\\x61t", "--escaped"], 0, "OK \\udcff\\n\n", ""),
            (["power", sock, "halt"], 2, "", "add --really if it runs where that does no harm\n"),
            (["power", sock, "halt", "--really"], 1, "ERROR Error starting script\n", ""),
            (["power", sock, "resume"], 0, "OK \nresume: done\n", ""),
            (["power", sock, "suspend", "--timeout", "0.2"], 1, "OK \nsuspend: not reported within 0.2 s\n", ""),
            (["vix", sock, "get-file-info", "path=/"], 0, '"result": "vm"\n}\n', ""),
            (["vix", sock, "delete-guest-file", "path=/"], 1, '"errno": 2,\n  "result": ""\n}\n', ""),
            (["vix", sock, "nothing"], 2, "", ""),
            (["vix", sock, "get-file-info", "path"], 2, "", "path: FIELD=VALUE is expected\n"),
            (["hgfs", sock], 2, "", "the guest's service answered ERROR Unknown Command\n"),
            (["snapshot", sock, "vmotion", "--leap", "1h"], 0, None, ""),
        ]:
            assert main(words) == status, words
            captured = capsys.readouterr()
            if out is not None:
                assert captured.out.endswith(out)
                assert bool(captured.out) is bool(out)
            assert captured.err.endswith(err)
            assert captured.err.count("\n") == (1 if status and not captured.out else 0)
        assert main(["option", sock]) == 0
        assert "synctime 1\n" in capsys.readouterr().out
        assert main(["guestlib", sock]) == 0
        assert capsys.readouterr().out.count("\n") == 38
        assert machine.clock.status()["missed"] == 3600
        assert not backdoor.channels.open_channels


def report(request: dict[str, Any]) -> dict[str, Any]:
    reports: list[dict[str, Any]] = []
    perform(Backdoor(Machine()), request, reports.append)
    (found,) = reports
    return found


@pytest.mark.parametrize(
    "request_",
    [
        {"do": "clock", "set": 5},
        {"do": "clock", "drift_ppm": "fast"},
        {"do": "clock", "drift_ppm": True},
        {"do": "clock", "drift_ppm": 10**400},
        {"do": "snapshot"},
        {"do": "snapshot", "kind": "holiday"},
        {"do": "snapshot", "kind": "vmotion", "leap": -1},
        {"do": "snapshot", "kind": "vmotion", "leap": 10**400},
        {"do": "option", "name": "a"},
        {"do": "option", "name": "a", "value": "\0"},
        {"do": "device", "name": "none"},
        {"do": "guestlib", "name": "none", "value": 1},
        {"do": "guestlib", "name": "CPU_SHARES", "value": 1.5},
        {"do": "guestlib", "name": "CPU_SHARES", "value": 10**400},
        {"do": "guestlib", "name": "RESOURCE_POOL_PATH", "value": "x" * 600},
    ],
)
def test_requests_that_are_refused(request_: dict[str, Any]) -> None:
    found = report(request_)
    assert found["ok"] is False
    assert found["error"]


VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.lists(st.integers(), max_size=2)
)


@settings(deadline=None)
@given(
    st.sampled_from(["clock", "device", "guestlib", "option", "snapshot", "status"]),
    st.dictionaries(
        st.sampled_from(["set", "drift_ppm", "name", "value", "connected", "kind", "leap"]),
        VALUES | st.sampled_from(["vmotion", "CPU_SHARES", "ethernet0", "+1s"]),
    ),
)
def test_any_request_is_answered(do: str, arguments: dict[str, Any]) -> None:
    found = report({"do": do, **arguments})
    assert isinstance(found["ok"], bool)
    json.dumps(found)


def test_a_script_for_a_served_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends the server, whose status says whether all was met."""
    script = tmp_path / "script.toml"
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        for pattern, status in [("w.*", 0), ("x", 1)]:
            script.write_text(
                "[[step]]\nguestinfo = { hello = 'world' }\n"
                f"[[step]]\nafter = 0.1\ncheck = {{ hello = '{pattern}' }}\n"
                "[[step]]\nafter = 0.2\nstop = true"
            )
            started = time.monotonic()
            assert main(["serve", os.fspath(tmp_path / "host"), "--script", os.fspath(script)]) == status
            assert time.monotonic() - started < 30
        assert capsys.readouterr().err == "vmtools sim: step 2 (check 'hello'): hello is 'world'\n"
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
