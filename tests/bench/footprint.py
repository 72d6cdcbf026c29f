"""What the simulated host costs before the first exit: its start, its memory."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.peers.side_by_side import MissingError

from .figures import Figure, Section, median
from .processes import interpreter

if TYPE_CHECKING:
    from collections.abc import Sequence

TITLE = "Start-up and memory of the simulated host"
HOW = "wall time from start to end, medians of {runs} interleaved runs; Pss while a guest program waits; an idle server"

RUNS = 40
KIB = 1024


def wall(words: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(words, check=True)
    return time.perf_counter() - start


def memory(pid: int) -> float:
    """Pss in MiB: what it has for itself, and its share of what it shares."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / KIB
    raise MissingError("the kernel tells no Pss")


def memory_of(words: Sequence[str]) -> float:
    """Of a program that prints a line when it is ready, and then waits to be ended."""
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None or not process.stdout.readline():
                raise MissingError(f"{words[0]} does not start")
            return memory(process.pid)
        finally:
            process.terminate()


def measure(folder: Path) -> Section:
    umbrella, strace = shutil.which("vmtools"), shutil.which("strace")
    if umbrella is None or strace is None:
        raise MissingError("the command vmtools or strace is not on PATH")
    python = interpreter(umbrella)
    runs = {
        "plain": ["true"],
        "host": [umbrella, "sim", "run", "--", "true"],
        "strace": [strace, "-f", "-e", "trace=none", "-o", "/dev/null", "true"],
        "python": [python, "-c", "pass"],
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(RUNS):
        for name, words in runs.items():
            times[name].append(wall(words) * 1000)
    waits = ["sh", "-c", "echo ready; read line"]
    script = "print('ready', flush=True); input()"
    serve = [umbrella, "sim", "serve", str(folder / "socket")]
    return Section(
        TITLE,
        HOW.format(runs=RUNS),
        [
            Figure("true", median(times["plain"]), "ms"),
            Figure("python3 -c pass", median(times["python"]), "ms"),
            Figure("strace -f -e trace=none true", median(times["strace"]), "ms"),
            Figure("vmtools sim run -- true", median(times["host"]), "ms"),
            Figure("memory: python3", memory_of([python, "-c", script]), "MiB"),
            Figure("memory: strace", memory_of([strace, "-f", "-e", "trace=none", "-o", "/dev/null", *waits]), "MiB"),
            Figure("memory: vmtools sim run", memory_of([umbrella, "sim", "run", "--", *waits]), "MiB"),
            Figure("memory: vmtools sim serve", memory_of(serve), "MiB"),
        ],
    )
