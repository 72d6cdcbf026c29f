"""What the README shows works as shown, and the make targets that it and the development guide name exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SIM = [sys.executable, "-c", "import sys; from vmtools.sim.cli import main; sys.exit(main(sys.argv[1:]))"]

AFTERWARDS = """
print(userdata, name)
with vmtools.connect() as guest:
    print(guest.info_get("ready"), guest.info_get("password"))
"""


def text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def test_the_ten_lines(tracing: None, tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", text("README.md"), re.DOTALL)
    assert len([line for line in example.splitlines() if line and not line.startswith("import")]) <= 11
    values = {
        "userdata": "I2Nsb3VkLWNvbmZpZwo=",
        "userdata.encoding": "base64",
        "hostname": "example",
        "password": "secret",
    }
    done = subprocess.run(
        [
            *SIM,
            "run",
            "--machine-id=7",
            *(word for key, value in values.items() for word in ("--set", f"guestinfo.{key}={value}")),
            "--",
            sys.executable,
            "-c",
            example + AFTERWARDS,
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == [
        "b'7'",
        "b'#cloud-config\\n' example",
        "b'yes' b' '",
    ]


@pytest.mark.parametrize("document", ["README.md", "docs/development.md"])
def test_targets_exist(document: str) -> None:
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", text(document), re.MULTILINE))
    assert named
    assert named <= set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
