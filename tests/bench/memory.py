"""What memory the simulated host takes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.peers.side_by_side import MissingError

from .figures import Figure, Section
from .processes import interpreter

if TYPE_CHECKING:
    from collections.abc import Sequence

TITLE = "Memory of the simulated host"
HOW = "Pss (its own, and its share of what it shares) while a guest program waits; an idle server"

KIB = 1024


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
    waits = ["sh", "-c", "echo ready; read line"]
    commands = {
        "python3": [interpreter(umbrella), "-c", "print('ready', flush=True); input()"],
        "strace": [strace, "-f", "-e", "trace=none", "-o", "/dev/null", *waits],
        "vmtools sim run": [umbrella, "sim", "run", "--", *waits],
        "vmtools sim serve": [umbrella, "sim", "serve", str(folder / "socket")],
    }
    return Section(TITLE, HOW, [Figure(name, memory_of(words), "MiB") for name, words in commands.items()])
