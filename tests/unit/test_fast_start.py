"""Commands that run ten times a boot import nothing that takes long, extensions and standard library included.

ruff forbids the same modules at the top of our own files; this sees what is imported in the end (Cython's start-up code
had asked for ``inspect``).
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

SETTINGS = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
SLOW = set(SETTINGS["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-module-level-imports"])

REPORT = "import sys; before = set(sys.modules); import {}; print(*(set(sys.modules) - before))"


def imported_by(module: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(module)], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["vmtools", "vmtools.rpci", "vmtools.cli.rpctool", "vmtools.cli.checkvm"])
def test_nothing_slow_is_imported(module: str) -> None:
    new = imported_by(module)
    assert module in new
    assert not new & SLOW


def test_the_measure_measures() -> None:
    assert imported_by("argparse") & SLOW >= {"argparse"}
