"""Each target: the corpus that is kept, and new inputs for its share of two minutes in CI (a few seconds elsewhere)."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import CORPUS, TARGETS, corpus

SECONDS = float(os.environ.get("FUZZ_SECONDS", "120" if os.environ.get("CI") == "true" else "14"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
ROOT = Path(__file__).resolve().parents[2]
MOST_FILES = 250
LARGEST_CORPUS = 64 << 10
"""Bytes for one target: the repository keeps what each input adds, not how it was found."""

each = pytest.mark.parametrize("name", TARGETS)


def python(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        check=False,
    )


def replay(name: str) -> list[str]:
    return [name, "--file", *map(str, corpus(name))]


@each
def test_corpus(name: str) -> None:
    """In a process of its own: a target replaces clocks and sockets of what it tests."""
    done = python("-m", "tests.fuzz", *replay(name))
    assert done.returncode == 0, done.stdout


@each
def test_corpus_is_small(name: str) -> None:
    files = corpus(name)
    assert 10 <= len(files) <= MOST_FILES
    assert sum(file.stat().st_size for file in files) <= LARGEST_CORPUS


def test_corpora_are_the_targets() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)


@each
@pytest.mark.timeout(SECONDS + 120)
def test_fuzz(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris (extra 'test') is built for Linux on x86-64 only; the corpora ran all the same")
    share = SECONDS / len(TARGETS)
    done = python("-m", "tests.fuzz", name, "--seconds", str(share), "--seed", str(SEED), "--work", tmp_path)
    print(done.stdout)
    assert done.returncode == 0, f"seed {SEED}: an input breaks an invariant of {name}, see above"
    assert "stat::number_of_executed_units" in done.stdout


PLANTED = {
    "backdoor": "import vmtools.sim.channels as m; m.MAX_CHANNELS = 1 << 20",
    "server": "import vmtools.sim.server as m; m.WireError = KeyError",
    "wire": "import vmtools.wire.xdr as m; m.WireError = KeyError",
    "guest": "import vmtools.rpci as m; m._close = lambda *_, **__: None",
    "link": "import vmtools.wire.simlink as m; m.decode_answer = lambda body, limit: (body[0], [1 << 70] * 7, b'')",
    "elf": "import vmtools.sim.breakpoints as m; m.NotELF = KeyError",
    "transcript": "import vmtools.sim.transcript as m; m._printable = lambda text: text + chr(27)",
    "values": "import vmtools.values as m; m.BadValue = KeyError",
}
"""A bug for each target."""


@each
def test_a_planted_bug_is_found(name: str) -> None:
    """By the corpus alone: what it takes to reach the bug was once found, and is kept."""
    done = python("-c", f"{PLANTED[name]}; from tests.fuzz.__main__ import main; main()", *replay(name))
    assert done.returncode == 1, done.stdout
    assert "Traceback" in done.stdout
