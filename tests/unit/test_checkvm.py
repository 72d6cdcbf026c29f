"""``vmware-checkvm-py``, and the same called as ``vmware-checkvm``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vmtools import errors
from vmtools.cli import checkvm
from vmtools.constants import MAGIC, UNSUPPORTED
from vmtools.sim.backdoor import Backdoor
from vmtools.sim.machine import Machine

from .commands import run, shell
from .hosts import Answering, put_low, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vmtools._gate import Frame

OURS, ORIGINAL = "/usr/bin/vmware-checkvm-py", "/usr/bin/vmware-checkvm"
GOOD = "VMware software version 6 (good)\n"


def machine(version: int = 6, product: int | None = 4) -> Answering:
    """A host that knows GETVERSION; no product: it leaves ECX alone."""

    def answer(form: int, frame: Frame, data: bytes | bytearray) -> None:
        put_low(frame, ax=version, bx=MAGIC)
        if product is not None:
            put_low(frame, cx=product)

    return Answering(answer)


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process: its status, output and errors."""

    def run_it(*words: str, host: Answering, called: str = OURS) -> tuple[int, str, str]:
        monkeypatch.setattr(checkvm, "choose", lambda spec=None: host)
        return checkvm.main([called, *words]), *capfd.readouterr()

    return run_it


@pytest.mark.parametrize("called", [OURS, ORIGINAL])
@pytest.mark.parametrize(
    ("words", "status", "out", "err"),
    [
        ([], 0, GOOD, ""),
        (["word"], 0, GOOD, ""),
        (["--"], 0, GOOD, ""),
        (["--", "-x"], 0, GOOD, ""),
        (["-"], 0, GOOD, ""),
        (["-p"], 0, "Workstation\n", ""),
        (["--prod"], 0, "Workstation\n", ""),
        (["-pp", "word"], 0, "Workstation\n", ""),
        (["-x"], 1, "", "Unknown option -x"),
        (["-px"], 1, "", "Unknown option -px"),
        (["--product"], 1, "", "Unknown option --product"),
        (["-x", "-h"], 1, "", "Unknown option -x"),
    ],
)
def test_options(
    words: list[str], status: int, out: str, err: str, called: str, check: Callable[..., tuple[int, str, str]]
) -> None:
    name = called.rpartition("/")[2]
    assert check(*words, host=machine(), called=called) == (status, out, f"{name}: {err}\n" if err else "")


@pytest.mark.parametrize("words", [["-h"], ["--help"], ["-p", "-h"], ["-ph"], ["-h", "-x"], ["-?"]])
def test_help(words: list[str], check: Callable[..., tuple[int, str, str]]) -> None:
    for called in (OURS, ORIGINAL):
        status, out, err = check(*words, host=machine(), called=called)
        assert (status, err) == (0, "")
        assert out.startswith(f"Usage:\n  {called.rpartition('/')[2]} [OPTION?]\n")
        assert ("--gate" in out) is (called == OURS)


@pytest.mark.parametrize(
    ("product", "name"),
    [
        (2, "ESX Server"),
        (4, "Workstation"),
        (0, "Unknown"),
        (1, "Unknown"),
        (3, "Unknown"),
        (99, "Unknown"),
        (None, "Unknown"),
    ],
)
def test_products(product: int | None, name: str, check: Callable[..., tuple[int, str, str]]) -> None:
    assert check("-p", host=machine(product=product)) == (0, f"{name}\n", "")


def test_another_version_is_told(check: Callable[..., tuple[int, str, str]]) -> None:
    assert check(host=machine(version=7))[1] == "VMware software version 7 (good)\n"


@pytest.mark.parametrize("words", [[], ["-p"], ["-h"], ["-x"]])
def test_no_host_comes_before_any_option(words: list[str], check: Callable[..., tuple[int, str, str]]) -> None:
    nobody = Answering(lambda form, frame, data: put_low(frame, ax=UNSUPPORTED))
    error = "Error: {} must be run inside a virtual machine on a VMware hypervisor product.\n"
    assert check(*words, host=nobody, called=ORIGINAL) == (1, "", error.format("vmware-checkvm"))
    status, out, err = check(*words, host=nobody)
    assert (status, out) == (1, "")
    assert err == error.format("vmware-checkvm-py") + (
        f"vmware-checkvm-py: nobody answers here. {errors.NoDevice.help}\n"
    )


def test_the_gate(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    asked: list[str | None] = []

    def choose(spec: str | None = None) -> Answering:
        asked.append(spec)
        return machine()

    monkeypatch.setattr(checkvm, "choose", choose)
    assert checkvm.main([OURS, "--gate=vmcall", "-p"]) == 0
    assert checkvm.main([OURS]) == 0
    assert asked == ["vmcall", None]
    assert checkvm.main([ORIGINAL, "--gate=vmcall"]) == 1, "the original knows no such option"
    assert asked[2] is None


def test_as_a_process(installed: Path) -> None:
    with serving(Backdoor(Machine(product=2))) as path:
        gate = f"sim:{path}"
        for name in ("vmware-checkvm-py", "vmware-checkvm"):
            tool = installed / name
            done = run([tool], gate)
            assert (done.returncode, done.stdout.decode(), done.stderr) == (0, GOOD, b"")
            done = run([tool, "--prod"], gate)
            assert (done.returncode, done.stdout, done.stderr) == (0, b"ESX Server\n", b"")
            done = shell(">&-", [tool], gate)
            assert done.returncode == 1
            assert done.stderr.decode() == f"{name}: standard output: Bad file descriptor\n"
            done = run([tool], "sim:/nowhere")
            assert (done.returncode, done.stdout) == (1, b"")
            assert done.stderr.decode().startswith(f"Error: {name} must be run inside")
            assert done.stderr.count(b"\n") == (1 if name == "vmware-checkvm" else 2)
