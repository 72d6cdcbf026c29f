"""``vmtools``: rpc, doctor, sim, install-links."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import vmtools
from vmtools import doctor, gates
from vmtools.cli import umbrella
from vmtools.sim.faults import FaultPlan

from .commands import environment, install, run, shell
from .hosts import Host, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def gate() -> Iterator[str]:
    host = Host(None)
    host.machine.set_guestinfo(b"hello", b"world")
    with serving(host.backdoor) as path:
        yield f"sim:{path}"
    assert host.open_channels == 0


# -- commands ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "out", "err"),
    [
        (["rpc", "info-get", "guestinfo.hello"], 0, "world\n", ""),
        (["rpc", "--raw", "info-get guestinfo.hello"], 0, "world", ""),
        (["rpc", "info-get guestinfo.none"], 1, "", "No value found\n"),
        (["rpc"], 1, "", "vmtools rpc: no command given. Try 'vmtools rpc --help'.\n"),
        (["--version"], 0, f"vmtools {vmtools.__version__}\n", ""),
        (["--help"], 0, umbrella._HELP, ""),
        (["help"], 0, umbrella._HELP, ""),
        ([], 1, "", "vmtools: no command given\n" + umbrella._HELP),
        (["nonsense"], 1, "", "vmtools: unknown command 'nonsense'. Try 'vmtools --help'.\n"),
        (["\udcff"], 1, "", r"vmtools: unknown command '\udcff'. Try 'vmtools --help'." + "\n"),
    ],
)
def test_commands(
    words: list[str], status: int, out: str, err: str, gate: str, installed: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    done = run([installed / "vmtools", *words], gate)
    assert (done.returncode, done.stdout.decode(), done.stderr.decode()) == (status, out, err)


@pytest.mark.parametrize("command", ["rpc", "doctor", "sim", "install-links"])
def test_each_command_is_listed_and_has_help(command: str, installed: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert f"\n  {command} " in umbrella._HELP
    done = run([installed / "vmtools", command, "--help"])
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(f"usage: vmtools {command} ".encode())


def test_wrong_options_are_explained(installed: Path) -> None:
    for words in (["doctor", "--yaml"], ["doctor", "word"], ["install-links"], ["install-links", "a", "b"]):
        done = run([installed / "vmtools", *words])
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr.startswith(b"usage: vmtools " + words[0].encode())


def test_output_that_nobody_takes(installed: Path, gate: str) -> None:
    for words in (["doctor"], ["doctor", "--json"], ["--help"], ["rpc", "info-get guestinfo.hello"]):
        done = shell(">&-", [installed / "vmtools", *words], gate)
        assert (done.returncode, done.stderr) == (1, b"vmtools: standard output: Bad file descriptor\n")
        done = shell(">/dev/full", [installed / "vmtools", *words], gate)
        assert (done.returncode, done.stderr) == (1, b"vmtools: standard output: No space left on device\n")


def test_an_interrupt_kills_the_doctor(installed: Path) -> None:
    host = Host(None)
    host.backdoor.faults = FaultPlan(["slow@3:0.4"])
    with serving(host.backdoor) as path:
        tool = subprocess.Popen(
            [installed / "vmtools", "doctor"],
            env=environment(f"sim:{path}"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        while host.backdoor.faults.count < 3:
            time.sleep(0.005)
        tool.send_signal(signal.SIGINT)
        assert tool.communicate(timeout=30) == (b"", b"")
        assert tool.returncode == -signal.SIGINT
    assert host.open_channels == 0


# -- doctor ------------------------------------------------------------------------------------------------------------


def examine(host: Host, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The report on a host, by way of JSON, as ``--json`` prints it."""

    class Gate(gates.Gate):
        name = "tested"
        low, high_out, high_in = host.gate.low, host.gate.high_out, host.gate.high_in
        unanswered = host.gate.unanswered

        def release(self) -> None:
            released.append(host.open_channels)

    released: list[int] = []
    monkeypatch.setattr(gates, "choose", lambda spec=None: Gate())
    report: dict[str, Any] = json.loads(json.dumps(doctor.examine()))
    assert released == [0], "the privilege is given back, once, after the channel was closed"
    return report


@pytest.mark.parametrize("high", [True, False])
@pytest.mark.parametrize("reply", [b"0 No value found", b"1 value", b"0 Permission denied"])
def test_all_is_well(high: bool, reply: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    report = examine(Host(reply, high=high), monkeypatch)
    assert report["ok"] is report["messages"] is True
    assert report["high_bandwidth"] is high
    assert report["host"] == {"version": 6, "product": 4, "product_name": "Workstation"}
    assert report["error"] is None
    assert [step for step, _ in report["tried"]] == [
        "choose a gate",
        "GETVERSION, the knock",
        "RPCI: info-get guestinfo.vmtools.doctor",
    ]
    assert report["tried"][1][1] == "version 6, Workstation"
    text = doctor.describe(report)
    assert text.endswith("RPCs to the host work.")
    assert "problem:" not in text


@pytest.mark.parametrize(
    ("faults", "kind", "host_seen", "steps"),
    [
        (["refused@1"], "NoDevice", False, 2),
        (["echo@1+"], "NoDevice", False, 2),
        (["refused@2", "refused@3"], "NoMessageChannel", True, 3),
        (["lost@3", "lost@6"], "ChannelLost", True, 3),
        (["type@5"], "ProtocolViolation", True, 3),
        (["garbage@5:2 x"], "MalformedReply", True, 3),
    ],
)
def test_what_is_not_well_is_told(
    faults: list[str], kind: str, host_seen: bool, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = examine(Host(faults=faults), monkeypatch)
    assert report["ok"] is report["messages"] is False
    assert report["high_bandwidth"] is None
    assert (report["host"] is not None) is host_seen
    assert report["error"]["kind"] == kind
    assert report["error"]["help"].endswith(".")
    assert len(report["tried"]) == steps
    assert report["tried"][-1][1] == report["error"]["message"]
    *_, problem, remedy = doctor.describe(report).splitlines()
    assert problem == f"problem: {report['error']['message']}"
    assert remedy == f"what to do: {report['error']['help']}"


def test_a_gate_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gates.ENVIRONMENT, "nonsense")
    report = doctor.examine()
    assert report["gate"] == {"asked": "nonsense", "name": None}
    assert report["tried"] == [("choose a gate", "there is no gate 'nonsense'")]
    assert ["gate:", "none", "(asked", "for:", "nonsense)"] in [
        line.split() for line in doctor.describe(report).splitlines()
    ]


def test_the_doctors_findings(installed: Path, gate: str) -> None:
    done = run([installed / "vmtools", "doctor", "--json"], gate)
    assert (done.returncode, done.stderr) == (0, b"")
    report = json.loads(done.stdout)
    assert set(report) == {
        *("vmtools", "architecture", "cpuid", "dmi", "privilege", "gate", "host", "messages", "high_bandwidth"),
        *("tried", "error", "ok"),
    }
    assert report["ok"] is True
    assert report["gate"] == {"asked": gate, "name": gate}
    assert set(report["cpuid"]) == {"hypervisor", "signature", "name", "max_leaf", "vmcall", "vmmcall"}
    assert report["privilege"]["uid"] == os.geteuid()
    assert set(report["privilege"]) == {"uid", "rawio", "lockdown", "seccomp"}
    done = run([installed / "vmtools", "doctor", f"--gate={gate}"], "sim:/nowhere")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    for name in ("vmtools:", "hypervisor:", "DMI:", "privilege:", "gate:", "host:", "high bandwidth:", "tried:"):
        assert sum(line.startswith(name) for line in lines) == 1
    assert lines[-1] == "RPCs to the host work."


def test_the_doctor_finds_no_host(installed: Path) -> None:
    for words in (["--json"], []):
        done = run([installed / "vmtools", "doctor", *words, "--gate", "sim:/no\udcffwhere"])
        assert (done.returncode, done.stderr) == (1, b"")
    assert done.stdout.endswith(b"what to do: Start one with 'vmtools sim serve SOCKET'.\n")
    assert b"problem: no simulated host at /no\xffwhere: No such file or directory\n" in done.stdout


def test_fields_that_are_unknown_are_said_to_be() -> None:
    report: dict[str, Any] = {
        "vmtools": "1",
        "architecture": "x86_64",
        "cpuid": {"name": "VMware", "max_leaf": 0x40000010, "vmcall": True, "vmmcall": True},
        "dmi": {},
        "privilege": {"uid": 1000, "rawio": False, "lockdown": "", "seccomp": 2},
        "gate": {"asked": "auto", "name": "vmcall"},
        "host": None,
        "messages": False,
        "high_bandwidth": None,
        "tried": [],
        "error": None,
    }
    text = doctor.describe(report)
    assert "VMware, highest leaf 0x40000010" in text
    assert "VMCALL, VMMCALL" in text
    assert "not readable" in text
    assert "uid 1000, CAP_SYS_RAWIO no, lockdown unknown, seccomp mode 2" in text
    assert text.count("unknown") == 2


# -- install-links -----------------------------------------------------------------------------------------------------

NAMES = ["vmware-checkvm", "vmware-rpctool"]


@pytest.fixture
def bins(tmp_path: Path) -> tuple[list[Path], Path]:
    """The command ``vmtools install-links`` where it is installed with no links, and a folder for them."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "links").mkdir()
    folder = install(tmp_path / "bin")
    for name in NAMES:
        (folder / name).unlink()
    return [folder / "vmtools"], tmp_path / "links"


def test_links_are_made_and_removed(bins: tuple[list[Path], Path], gate: str) -> None:
    (vmtools_,), links = bins
    command = [vmtools_, "install-links", links]
    for _ in range(2):
        done = run(command)
        assert (done.returncode, done.stderr) == (0, b"")
        assert sorted(os.listdir(links)) == NAMES
        assert {os.readlink(links / name) for name in NAMES} == {str(vmtools_.parent / f"{name}-py") for name in NAMES}
        assert sorted(done.stdout.decode().splitlines()) == [
            f"{links / name} -> {vmtools_.parent / name}-py" for name in NAMES
        ]
    done = run([links / "vmware-rpctool", "info-get guestinfo.none"], gate)
    assert (done.returncode, done.stderr) == (1, b"No value found\n")
    (links / "other").symlink_to("/nowhere")
    done = run([*command, "--remove"])
    assert (done.returncode, done.stderr) == (0, b"")
    assert os.listdir(links) == ["other"]
    done = run([*command, "--remove"])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_links_beside_the_commands(bins: tuple[list[Path], Path]) -> None:
    (vmtools_,), _ = bins
    assert run([vmtools_, "install-links", vmtools_.parent]).returncode == 0
    assert {"vmware-rpctool", "vmware-rpctool-py"} <= set(os.listdir(vmtools_.parent))


@pytest.mark.parametrize("what", ["file", "link", "dangling", "folder"])
def test_what_is_not_ours_stays(what: str, bins: tuple[list[Path], Path]) -> None:
    (vmtools_,), links = bins
    there = links / "vmware-rpctool"
    if what == "file":
        there.write_text("the original")
    elif what == "folder":
        there.mkdir()
    else:
        there.symlink_to(sys.executable if what == "link" else "/nowhere")
    before = os.lstat(there)
    done = run([vmtools_, "install-links", links])
    assert done.returncode == 1
    assert done.stderr.decode() == f"vmtools install-links: {there} exists and is not ours; --force replaces it\n"
    assert os.lstat(there).st_ino == before.st_ino
    assert (links / "vmware-checkvm").is_symlink(), "the other one is made"
    assert run([vmtools_, "install-links", "--remove", links]).returncode == 0
    assert os.lstat(there).st_ino == before.st_ino
    done = run([vmtools_, "install-links", "--force", links])
    if what == "folder":
        assert done.returncode == 1
        assert b"Is a directory" in done.stderr
    else:
        assert (done.returncode, done.stderr) == (0, b"")
        assert os.readlink(there) == str(vmtools_.parent / "vmware-rpctool-py")


def test_links_that_cannot_be(bins: tuple[list[Path], Path], tmp_path: Path) -> None:
    (vmtools_,), links = bins
    done = run([vmtools_, "install-links", tmp_path / "none"])
    assert done.returncode == 1
    assert done.stderr.decode() == "".join(
        f"vmtools install-links: {tmp_path / 'none' / name}: No such file or directory\n" for name in umbrella.LINKS
    )
    (vmtools_.parent / "vmware-rpctool-py").unlink()
    done = run([vmtools_, "install-links", links])
    assert done.returncode == 1
    assert b"does not exist; is vmtools-py installed there?" in done.stderr
    assert os.listdir(links) == []
