"""Commands from start to end: processor time beside a bare interpreter's, wall time beside open-vm-tools'."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import cache_from_source
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vmtools.rpci
from tests.peers.side_by_side import MissingError, commands
from vmtools.detect import look

from .figures import Figure, Section, median

if TYPE_CHECKING:
    from collections.abc import Iterator

TITLE = "Commands, start to end"
HOW = "user and system time by wait4, medians of interleaved runs; real traps where 'simulated host' is said"
ROUNDS = 60
RATIO = 1.25

NO_HOST = 255
BARE, OURS, THEIRS, SOCKET = "python3 -c pass", "vmware-rpctool-py", "vmware-rpctool", "over sim:SOCKET"

Times = dict[str, list[tuple[float, float]]]


def interpreter(script: str) -> str:
    """The interpreter that the command runs on."""
    with open(script, encoding="utf-8") as file:
        return file.readline().removeprefix("#!").strip()


def run_children(wanted: dict[str, dict[str, Any]], under: list[str]) -> Times:
    job = json.dumps({"rounds": ROUNDS, "commands": wanted})
    words = [*under, sys.executable, "-P", str(Path(__file__).with_name("children.py"))]
    done = subprocess.run(words, input=job, stdout=subprocess.PIPE, text=True, check=True)
    times: Times = json.loads(done.stdout)
    return times


@contextmanager
def served(vmtools_command: str, folder: Path) -> Iterator[str]:
    """A machine behind a socket."""
    path = str(folder / "socket")
    words = [vmtools_command, "sim", "serve", path, "--set", "hello=world"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        try:
            if server.stdout is None or "ready" not in server.stdout.readline():
                raise MissingError("'vmtools sim serve' does not start")
            yield path
        finally:
            server.terminate()


def ratio(times: Times, name: str, base: str, which: int = 0) -> float:
    return median(t[which] for t in times[name]) / median(t[which] for t in times[base])


def milliseconds(times: Times, name: str, which: int = 0) -> float:
    return median(t[which] for t in times[name]) * 1000


def measure(folder: Path) -> Section:
    umbrella, ours = shutil.which("vmtools"), shutil.which("vmware-rpctool-py")
    if umbrella is None or ours is None:
        raise MissingError("the commands of vmtools-py are not on PATH")
    if not Path(cache_from_source(vmtools.rpci.__file__)).exists():
        raise MissingError("vmtools is not byte-compiled here, as an installer does it: each start would compile it")
    if look().is_vmware:
        raise MissingError("this machine's own VMware host would answer")
    theirs, _ = commands(folder)
    request = "info-get guestinfo.hello"
    bare = {"argv": [interpreter(ours), "-c", "pass"], "env": {}, "status": 0}
    mine = {"argv": [ours, request], "env": {}, "status": 0}
    original = {"argv": [str(theirs.folder / THEIRS), request], "env": dict(theirs.environment), "status": 0}
    traced = run_children(
        {BARE: bare, OURS: mine, THEIRS: original}, [umbrella, "sim", "run", "--set", "hello=world", "--"]
    )
    with served(umbrella, folder) as path:
        alone = run_children(
            {
                BARE: bare,
                OURS: {**mine, "status": NO_HOST},
                SOCKET: {**mine, "env": {"VMTOOLS_GATE": f"sim:{path}"}},
                THEIRS: {**original, "env": {}, "status": NO_HOST},
            },
            [],
        )
    return Section(
        TITLE,
        HOW + f"; {ROUNDS} of each; {os.cpu_count()} processors",
        [
            Figure("CPU: info-get, port gate, simulated host / python3 -c pass", ratio(traced, OURS, BARE), "", RATIO),
            Figure("CPU: no host, exit 255 / python3 -c pass", ratio(alone, OURS, BARE), "", RATIO),
            Figure("CPU: info-get over sim:SOCKET / python3 -c pass", ratio(alone, SOCKET, BARE)),
            Figure("CPU: python3 -c pass", milliseconds(alone, BARE), "ms"),
            Figure("CPU: python3 -c pass, simulated host", milliseconds(traced, BARE), "ms"),
            Figure("CPU: info-get, port gate, simulated host", milliseconds(traced, OURS), "ms"),
            Figure("CPU: info-get, simulated host, open-vm-tools", milliseconds(traced, THEIRS), "ms"),
            Figure("CPU: no host, exit 255", milliseconds(alone, OURS), "ms"),
            Figure("CPU: no host, exit 255, open-vm-tools", milliseconds(alone, THEIRS), "ms"),
            Figure("wall: info-get, simulated host", milliseconds(traced, OURS, 1), "ms"),
            Figure("wall: info-get, simulated host, open-vm-tools", milliseconds(traced, THEIRS, 1), "ms"),
            Figure("wall: ours / open-vm-tools', simulated host", ratio(traced, OURS, THEIRS, 1)),
        ],
    )
