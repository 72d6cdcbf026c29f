"""Programs that make no call of the host's: what it costs them to run under it, beside strace."""

from __future__ import annotations

import shutil
import subprocess
import time
from typing import TYPE_CHECKING

from tests.peers.side_by_side import MissingError

from .figures import Figure, Section
from .host import compile_program

if TYPE_CHECKING:
    from pathlib import Path

TITLE = "Programs without calls under the simulated host"
HOW = "times within the program (none.c) and of whole processes; the best of 11 interleaved runs"

RUNS = 11
ROUNDS = 8_000
CALLS = 300_000


def inside(words: list[str]) -> float:
    """The seconds that none.c prints."""
    with open("/bin/sh", "rb") as data:
        return float(subprocess.run(words, stdin=data, stdout=subprocess.PIPE, text=True, check=True).stdout)


def whole(words: list[str]) -> float:
    before = time.perf_counter()
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - before


def measure(folder: Path) -> Section:
    umbrella, strace = shutil.which("vmtools"), shutil.which("strace")
    if umbrella is None or strace is None:
        raise MissingError("the command vmtools, or strace, is not on PATH")
    none = compile_program("none", folder)
    sim = [umbrella, "sim", "run", "--"]
    under = {"bare": [], "sim": sim, "strace": [strace, "-f", "-o", "/dev/null", "-e", "trace=none"]}
    under["seccomp"] = [*under["strace"], "--seccomp-bpf"]
    tasks = {
        "computing": (inside, [none, "computing", str(ROUNDS)]),
        "calling": (inside, [none, "calling", str(CALLS)]),
    }
    tasks["starting"] = (whole, ["true"])
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(RUNS):
        for task, (clock, words) in tasks.items():
            for way, before in under.items():
                if (task, way) != ("calling", "strace"):  # two stops a call: minutes
                    times.setdefault((task, way), []).append(clock([*before, *words]))
    seconds = {key: min(values) for key, values in times.items()}  # others that are at work only ever add

    def slower(way: str) -> float:
        return 100 * (seconds["computing", way] / seconds["computing", "bare"] - 1)

    def per_call(way: str) -> float:
        return 1e9 * (seconds["calling", way] - seconds["calling", "bare"]) / CALLS

    return Section(
        TITLE,
        HOW,
        [
            Figure("slower, a program that computes and reads files", slower("sim"), "%", at_most=1),
            Figure("the same, strace -f -e trace=none", slower("strace"), "%"),
            Figure("the same, strace with --seccomp-bpf", slower("seccomp"), "%"),
            Figure("more for each system call", per_call("sim"), "ns"),
            Figure("the same, strace with --seccomp-bpf", per_call("seccomp"), "ns"),
            Figure("start to end of 'true'", 1000 * seconds["starting", "sim"], "ms"),
            Figure("the same, strace -f -e trace=none", 1000 * seconds["starting", "strace"], "ms"),
        ],
    )
