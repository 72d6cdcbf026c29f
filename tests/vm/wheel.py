"""Our package as the guest gets it: the wheel that users get, unpacked where Debian keeps Python packages."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from . import cpio

CHECKOUT = Path(__file__).resolve().parents[2]
GIVEN = "VMTOOLS_WHEEL"
"""Environment variable: a wheel to test instead of one built from the checkout."""

PACKAGES = "usr/lib/python3/dist-packages"
COMMANDS = "usr/bin"
LEFT_OUT = (".git", ".venv", "build", "dist", "tests", "*.egg-info", "*.so", "__pycache__", ".*_cache", ".hypothesis")


def built(folder: Path) -> Path:
    """A wheel of the checkout, built in ``folder`` from a copy (a build leaves files where it runs)."""
    if given := os.environ.get(GIVEN):
        return Path(given)
    source = folder / "source"
    shutil.copytree(CHECKOUT, source, ignore=shutil.ignore_patterns(*LEFT_OUT))
    # Isolation fetches the build's requirements; without it the installed ones serve, faster and off line.
    have_tools = all(importlib.util.find_spec(module) for module in ("Cython", "setuptools", "wheel"))
    isolation = ["--no-build-isolation"] if have_tools else []
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", *isolation, "-w", str(folder), str(source)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        error.add_note(error.stderr[-4000:])
        raise
    (wheel,) = folder.glob("*.whl")
    return wheel


def installed(wheel: Path) -> dict[str, cpio.File]:
    """The files that installing ``wheel`` for Debian's python3 makes, by path."""
    files = {}
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            data = archive.read(entry)
            match entry.filename.split("/"):
                case [_, "scripts", name] if ".data/" in entry.filename:
                    _, _, rest = data.partition(b"\n")  # "#!python": the installer's part to say which
                    files[f"{COMMANDS}/{name}"] = cpio.program("#!/usr/bin/python3\n" + rest.decode())
                case [*_, ""]:
                    pass  # a folder
                case _:
                    files[f"{PACKAGES}/{entry.filename}"] = cpio.File(data)
    return files
