"""The simulated host: traps per second, beside the least that ptrace needs for one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.peers.side_by_side import MissingError

from .figures import Figure, Section, median

TITLE = "The simulated host"
HOW = "GETVERSION by IN EAX,DX; floor.c resumes each trap and looks at nothing; medians of 7 interleaved runs of 20000"

COUNT = 20_000
RUNS = 7
THREADS = 8
RATIO = 0.4


def compile_program(name: str, folder: Path) -> str:
    compiler = shutil.which("gcc")
    if compiler is None:
        raise MissingError("no C compiler (gcc)")
    program = folder / name
    source = Path(__file__).with_name(f"{name}.c")
    subprocess.run([compiler, "-O2", "-Wall", "-Werror", "-pthread", "-o", program, source], check=True)
    return str(program)


def rate(words: list[str]) -> float:
    return float(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout)


def measure(folder: Path) -> Section:
    umbrella = shutil.which("vmtools")
    if umbrella is None:
        raise MissingError("the command vmtools is not on PATH")
    program = compile_program("knock", folder)
    knock = [program, str(COUNT)]
    sim = [umbrella, "sim", "run"]
    runs = {
        "floor": [compile_program("floor", folder), *knock],
        "host": [*sim, "--", *knock],
        "threads": [*sim, "--", program, str(COUNT // THREADS), str(THREADS)],
        "transcript": [*sim, "--transcript", "/dev/null", "--", *knock],
    }
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(RUNS):
        for name, words in runs.items():
            rates[name].append(rate(words))
    floor, host, threads, transcript = (median(rates[name]) for name in runs)
    return Section(
        TITLE,
        HOW,
        [
            Figure("exits per second / ptrace's floor", host / floor, at_least=RATIO),
            Figure("the same with a transcript", transcript / floor),
            Figure("exits per second", host, "/s"),
            Figure(f"the same, of {THREADS} threads together", threads, "/s"),
            Figure("with a transcript", transcript, "/s"),
            Figure("ptrace's floor", floor, "/s"),
        ],
    )
