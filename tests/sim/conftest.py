"""Guest programs for the tests, and a host so simple that its answers can be told by heart.

Needs x86-64 Linux, a C compiler (Debian's gcc) and the right to trace one's own children; where one is missing the
tests are skipped and say so.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vmtools.sim import _tracer
from vmtools.sim.tracer import TracingForbidden

from .standin import Outcome, StandIn, run_captured

PROGRAMS = Path(__file__).with_name("programs")


@pytest.fixture(scope="session")
def tracing() -> None:
    """This process may trace its children."""
    if not _tracer.SUPPORTED:
        pytest.skip("the tracer is for x86-64 Linux")
    try:
        run_captured(["true"], StandIn())
    except TracingForbidden as error:
        pytest.skip(str(error))


Compile = Callable[..., Path]


@pytest.fixture(scope="session")
def compile_program(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """Compile one of the programs in ``programs/``; the test is skipped where there is no compiler."""
    folder = tmp_path_factory.mktemp("programs")

    def build(source: str, *options: str) -> Path:
        compiler = shutil.which("gcc")
        if compiler is None:
            pytest.skip("guest programs need a C compiler (gcc)")
        program = folder / Path(source).stem
        subprocess.run([compiler, "-O2", "-Wall", "-Wextra", *options, "-o", program, PROGRAMS / source], check=True)
        return program

    return build


@pytest.fixture(scope="session")
def guest(tracing: None, compile_program: Compile) -> Path:
    """The program ``guest.c``, which has a mode for each test."""
    return compile_program("guest.c", "-pthread", "-Werror")


@pytest.fixture
def run_guest(guest: Path) -> Callable[..., Outcome]:
    """Run ``guest MODE ARG…`` under a :class:`StandIn`."""

    def run(*words: str | int, host: StandIn | None = None) -> Outcome:
        return run_captured([str(guest), *map(str, words)], host or StandIn())

    return run


@pytest.fixture
def command(tracing: None) -> list[str]:
    """``vmtools sim run`` with a :class:`StandIn` for a host: put the program's words behind it."""
    return [sys.executable, str(PROGRAMS / "host.py")]
