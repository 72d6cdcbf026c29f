"""Users of VMware's guest library: a C program linked with Debian's, and a package of PyPI's, ``vmguestlib-mod``.

(``vmguestlib`` itself is for Python 2, and so is out.)
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vmtools.sim.machine import Machine

from .original import Original


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler (gcc)")
    built = tmp_path_factory.mktemp("guestlib") / "guestlib"
    source = Path(__file__).with_name("guestlib.c")
    words: list[str | Path] = [
        compiler,
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-o",
        built,
        source,
        "-l:libguestlib.so.0",
    ]
    linked = subprocess.run(words, capture_output=True, text=True, check=False)
    if "cannot find -l:libguestlib.so.0" in linked.stderr:
        pytest.skip("libguestlib.so.0 is not installed (Debian's open-vm-tools has it)")
    assert linked.returncode == 0, linked.stderr
    return str(built)


def test_a_c_program(original: Original, program: str) -> None:
    machine = Machine(memory_mb=2048, mhz=2345)
    machine.guestlib.fix("CPU_LIMIT_MHZ", None)
    result = original.run([program, "0.3"], machine)
    assert (result.status, result.err) == (0, "")
    told, _, stat = result.out.partition("StatGet ")
    lines = told.splitlines()
    first, second = lines[: len(lines) // 2], lines[len(lines) // 2 :]
    assert first[0] == second[0] == f"SessionId {machine.guestlib.session}"
    assert first[1] == second[1] == "ResourcePoolPath host/user"
    assert len(first) == 38, "every value that the library knows but the pool's long path, and the session"
    for line in (
        "CpuLimitMHz: This value is not available on this host",
        "HostProcessorSpeed 2345",
        "MemMappedMB 2048",
    ):
        assert line in first
        assert line in second
    passed = number(second, "ElapsedMs") - number(first, "ElapsedMs")
    assert 300 <= passed < 10_000
    assert 0 < number(second, "CpuUsedMs") - number(first, "CpuUsedMs") < passed
    assert stat.startswith(f"session = {machine.guestlib.session}\n")


def number(lines: list[str], name: str) -> int:
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def test_a_host_that_serves_no_statistics(original: Original, program: str) -> None:
    machine = Machine()
    machine.refused[b"guestlib.info.get"] = b"Unknown command"
    result = original.run([program], machine)
    assert (result.status, result.err) == (1, "UpdateInfo: 3 VMware Guest API is not enabled on the host\n")


SCRIPT = """
import vmguestlib
with vmguestlib.VMGuestLib() as guest:
    print(guest.GetSessionId(), guest.GetHostProcessorSpeed(), guest.GetMemLimitMB(), guest.GetMemMappedMB())
    print(guest.GetElapsedMs())
"""


@pytest.mark.skipif(
    importlib.util.find_spec("vmguestlib") is None, reason="vmguestlib-mod is not installed (extra [test])"
)
def test_a_package_of_pypi(original: Original) -> None:
    machine = Machine(memory_mb=1024, mhz=2345)
    result = original.run([sys.executable, "-c", SCRIPT], machine)
    assert (result.status, result.err) == (0, "")
    session, speed, limit, mapped, elapsed = map(int, result.out.split())
    assert (session, speed, limit, mapped) == (machine.guestlib.session, 2345, 0xFFFFFFFF, 1024)
    assert 0 < elapsed < 60_000
