"""The commands as they are installed: scripts of this interpreter in a folder, started as processes of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

SCRIPTS = Path(__file__).parents[2] / "vmtools/cli/bin"


def install(folder: Path) -> Path:
    """Put the scripts into ``folder`` as an installer does, and the original names beside them as links."""
    for script in SCRIPTS.iterdir():
        first, _, rest = script.read_text().partition("\n")
        assert first == "#!python"
        installed = folder / script.name
        installed.write_text(f"#!{sys.executable}\n{rest}")
        installed.chmod(0o755)
    for name in ("vmware-rpctool", "vmware-checkvm"):
        (folder / name).symlink_to(folder / f"{name}-py")
    return folder


def environment(gate: str | None) -> dict[str, str]:
    found = {name: value for name, value in os.environ.items() if name != "VMTOOLS_GATE"}
    return found if gate is None else {**found, "VMTOOLS_GATE": gate}


def run(
    words: Sequence[Any], gate: str | None = None, *, input: bytes = b"", **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run a command; ``gate`` is put into its environment."""
    if "stdout" not in options:
        options["stdout"] = subprocess.PIPE
    return subprocess.run(
        words,
        env=environment(gate),
        input=None if "stdin" in options else input,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
        **options,
    )


def shell(redirections: str, words: Sequence[Any], gate: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command with what the shell makes of some redirections, such as ``>&-``."""
    sh = shutil.which("sh")
    assert sh is not None
    return run([sh, "-c", f'exec "$0" "$@" {redirections}', *words], gate)
