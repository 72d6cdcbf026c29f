"""The tracer with less than all privileges, and in containers that forbid some of its system calls."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TIMEOUT = 20
CAP_SYS_ADMIN = 21


def test_without_privilege(command: list[str], guest: Path, compile_program: Callable[..., Path]) -> None:
    """no_new_privs is set where the filter needs it, and only there."""
    refuse = compile_program("refuse.c")
    script = f"grep NoNewPrivs /proc/self/status; exec {guest} confined"
    words = [*command, "sh", "-c", script]
    with_all, without = (
        subprocess.run([*before, *words], capture_output=True, text=True, timeout=TIMEOUT, check=True)
        for before in ([], [str(refuse), "sys_admin"])
    )
    first, *others = without.stdout.splitlines()
    assert (first.split(), len(others)) == (["NoNewPrivs:", "1"], 3)
    assert with_all.stdout.splitlines()[1:] == others
    may = int(Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0], 16) >> CAP_SYS_ADMIN & 1
    assert with_all.stdout.split()[1] == ("0" if may else "1")


@pytest.mark.parametrize("program", ["string-in 70000", "string-out rep text", "rewritten"])
def test_without_process_vm_calls(guest: Path, program: str, compile_program: Callable[..., Path]) -> None:
    """Where seccomp forbids process_vm_readv and process_vm_writev, memory is reached by other ways."""
    refuse = compile_program("refuse.c")
    host = Path(__file__).with_name("programs") / "host.py"
    words = [sys.executable, str(host), str(guest), *program.split()]
    plain, refused = (
        subprocess.run([*before, *words], capture_output=True, text=True, timeout=TIMEOUT, check=False)
        for before in ([], [str(refuse), "process_vm"])
    )
    assert (refused.returncode, refused.stdout, refused.stderr) == (0, plain.stdout, "")
    assert plain.stdout


@pytest.mark.parametrize(("call", "what"), [("ptrace", "trace its child"), ("seccomp", "install a seccomp filter")])
def test_where_tracing_is_forbidden(
    command: list[str], compile_program: Callable[..., Path], call: str, what: str
) -> None:
    refuse = compile_program("refuse.c")
    result = subprocess.run(
        [refuse, call, *command, "true"], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert result.returncode == 126
    assert what in result.stderr
    assert "vmtools sim serve" in result.stderr
