"""How long a message of the host takes to the guest's service and its answer back."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.peers.side_by_side import SIGNATURES, MissingError, compile_shim
from vmtools.detect import look
from vmtools.sim.client import Control

from .figures import Figure, Section, median
from .processes import served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TITLE = "Host to guest: send"
HOW = (
    "from asking 'vmtools sim serve' to the guest's answer, medians of {runs}; a guest that polls without a pause, by "
    "real traps and over sim:SOCKET; open-vm-tools' vmtoolsd, which sleeps between polls, asked at irregular times"
)

RUNS = 30
WARM = 3
START_SECONDS = 20
TEXT = "ping"
GUEST = str(Path(__file__).with_name("service.py"))


def ask(control: Control, app: str) -> None:
    if control.send(TEXT, app=app) != "OK ":
        raise RuntimeError("the guest does not answer a ping with OK")


def until_served(control: Control, app: str) -> None:
    """Until the guest has answered ``reset``: a message before that would wait behind it."""
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit:
        channels = control.ask("status")["status"]["channels"]
        if any(channel["app"] == app for channel in channels):
            return
        time.sleep(0.05)
    raise MissingError("the guest's service does not come up")


@contextmanager
def service(words: list[str], path: str, app: str, **environment: str) -> Iterator[Control]:
    """A guest that polls; it ends with the block.

    :param app: what it calls itself: a killed guest's channel stays open for a while.
    """
    quiet = subprocess.DEVNULL
    with (
        Control(path) as control,
        subprocess.Popen(words, env={**os.environ, **environment}, stdout=quiet, stderr=quiet) as guest,
    ):
        try:
            until_served(control, app)
            yield control
        finally:
            guest.terminate()


def milliseconds(act: Callable[[], object], rest: float = 0.0) -> float:
    """The median; ``rest``: seconds at most to wait before each, so that they do not keep step with a poller."""
    times = []
    for _ in range(RUNS + WARM):
        time.sleep(rest * random.random())
        start = time.perf_counter()
        act()
        times.append((time.perf_counter() - start) * 1000)
    return median(times[WARM:])


def measure(folder: Path) -> Section:
    umbrella = shutil.which("vmtools")
    if umbrella is None:
        raise MissingError("the command vmtools is not on PATH")
    daemon = shutil.which("vmtoolsd", path="/usr/bin")
    if daemon is None:
        raise MissingError("open-vm-tools is not installed: no vmtoolsd")
    shim = {"LD_PRELOAD": compile_shim(folder)} if look().signature in SIGNATURES else {}
    polls = [sys.executable, "-P", GUEST]
    figures = []
    with served(umbrella, folder) as path:
        traced = [umbrella, "sim", "run", "--host", path, "--"]
        with service([*polls, "linked"], path, "linked", VMTOOLS_GATE=f"sim:{path}") as control:
            figures.append(Figure("sim:SOCKET", milliseconds(lambda: ask(control, "linked")), "ms"))
        with service([*traced, *polls, "traced"], path, "traced", VMTOOLS_GATE="port") as control:
            figures.append(Figure("real traps", milliseconds(lambda: ask(control, "traced")), "ms"))
            command = [umbrella, "sim", "send", "--app", "traced", path, TEXT]
            once = milliseconds(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True))
            figures.append(Figure("the command 'vmtools sim send', start to end", once, "ms"))
        with service([*traced, daemon, "-n", "vmsvc"], path, "toolbox", **shim) as control:
            theirs = milliseconds(lambda: ask(control, "toolbox"), rest=0.5)
            figures.append(Figure("real traps, open-vm-tools' vmtoolsd", theirs, "ms"))
    return Section(TITLE, HOW.format(runs=RUNS), figures)
