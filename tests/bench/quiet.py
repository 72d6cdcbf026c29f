"""What the simulated host costs a program that makes no exits, beside strace asked for nothing."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.peers.side_by_side import MissingError

from .figures import Figure, Section
from .host import compile_program

if TYPE_CHECKING:
    from pathlib import Path

TITLE = "A program that makes no exits"
HOW = (
    "its own time by CLOCK_MONOTONIC without start and end, the shortest of {runs} interleaved runs; "
    "strace -f -e trace=none -o /dev/null; strace --seccomp-bpf needs a system call to look for, and gets one not made"
)

RUNS = 15
SPIN = ["spin", "200000"]
READ = ["read", "200000"]
CALL = ["call", "500000"]
FEWER = 20
"""strace gets so many fewer system calls, or nobody would wait for it."""

TARGET = 1.01


def seconds(words: list[str]) -> float:
    return float(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout)


def measure(folder: Path) -> Section:
    umbrella, strace = shutil.which("vmtools"), shutil.which("strace")
    if umbrella is None or strace is None:
        raise MissingError("the command vmtools or strace is not on PATH")
    quiet = compile_program("quiet", folder)
    under = {
        "plain": [],
        "host": [umbrella, "sim", "run", "--"],
        "strace": [strace, "-f", "-e", "trace=none", "-o", "/dev/null"],
        "bpf": [strace, "-f", "--seccomp-bpf", "-e", "trace=acct", "-o", "/dev/null"],
    }
    shortest: dict[tuple[str, str], float] = {}
    for _ in range(RUNS):
        for what, count in (SPIN, READ, CALL):
            for name, before in under.items():
                share = FEWER if name == "strace" and what != "spin" else 1
                took = seconds([*before, quiet, what, str(int(count) // share)]) * share
                shortest[what, name] = min(took, shortest.get((what, name), took))

    def ratio(what: str, name: str) -> float:
        return shortest[what, name] / shortest[what, "plain"]

    calls = int(CALL[1])
    return Section(
        TITLE,
        HOW.format(runs=RUNS),
        [
            Figure("arithmetic: simulated host / plain", ratio("spin", "host"), at_most=TARGET),
            Figure("arithmetic: strace / plain", ratio("spin", "strace")),
            Figure("4 KiB reads from a cached file: simulated host / plain", ratio("read", "host")),
            Figure("the same: strace / plain", ratio("read", "strace")),
            Figure("the same: strace --seccomp-bpf / plain", ratio("read", "bpf")),
            Figure("getppid(): simulated host / plain", ratio("call", "host")),
            Figure("the same: strace / plain", ratio("call", "strace")),
            Figure("the same: strace --seccomp-bpf / plain", ratio("call", "bpf")),
            Figure("getppid(): plain", shortest["call", "plain"] / calls * 1e9, "ns"),
            Figure("getppid(): simulated host", shortest["call", "host"] / calls * 1e9, "ns"),
        ],
    )
