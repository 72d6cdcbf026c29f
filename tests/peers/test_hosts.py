"""open-vm-tools' rpctool and ours on each host that there is, and on hosts that are recordings of one another."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from vmtools.sim.backdoor import Exits
from vmtools.sim.compare import differences
from vmtools.sim.disguise import NO_CAPSTONE, Disguise, appearance
from vmtools.sim.machine import Machine
from vmtools.sim.personalities import PERSONALITIES, backdoor
from vmtools.sim.replay import Replay
from vmtools.sim.run import run
from vmtools.sim.transcript import Record

from .side_by_side import Side, machine

ASK = ("vmware-rpctool", "info-get guestinfo.hello")
WORLD = (0, b"world\n", b"")


def run_on(side: Side, exits: Exits, words: tuple[str, ...] = ASK) -> tuple[int, bytes, bytes]:
    """A command of one side on a host: exit status, output, errors."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        status = run(
            [f"./{words[0]}", *words[1:]],
            exits,
            env={**os.environ, "LC_ALL": "C.UTF-8", **side.environment},
            cwd=side.folder,
            stdout=out,
            stderr=err,
        )
        out.seek(0)
        err.seek(0)
        return status, out.read(), err.read()


# -- personalities -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "replies"),
    [
        ("info-get guestinfo.hello", {"vmware": WORLD, "vmware-lb": WORLD, "vmport-rpc": WORLD}),
        (
            "info-get guestinfo.none",
            dict.fromkeys(("vmware", "vmware-lb", "vmport-rpc"), (1, b"", b"No value found\n")),
        ),
        (
            "no such command",
            {
                **dict.fromkeys(("vmware", "vmware-lb"), (1, b"", b"Unknown command\n")),
                "vmport-rpc": (0, b"\n", b""),
            },
        ),
    ],
)
@pytest.mark.parametrize("personality", [name for name, row in PERSONALITIES.items() if row.messages is not None])
def test_hosts_with_messages(
    theirs: Side, ours: Side, personality: str, request_: str, replies: dict[str, tuple[int, bytes, bytes]]
) -> None:
    words = ("vmware-rpctool", request_)
    printed = [run_on(side, backdoor(personality, machine()), words) for side in (theirs, ours)]
    assert printed == [replies[personality]] * 2


@pytest.mark.parametrize("personality", ["qemu", "qemu-old"])
def test_hosts_without_messages(theirs: Side, ours: Side, personality: str) -> None:
    """Wanted difference: the original prints NULL."""
    assert run_on(theirs, backdoor(personality, machine())) == (1, b"", b"NULL\n")
    status, output, said = run_on(ours, backdoor(personality, machine()))
    assert (status, output) == (1, b"")
    assert said == b"RpcOut: Unable to open the communication channel\n"


def test_no_host(theirs: Side, ours: Side) -> None:
    for side in (theirs, ours):
        status, output, said = run_on(side, backdoor("none", machine()))
        assert (status, output) == (255, b"")
        assert said.startswith(b"Error: ./vmware-rpctool must be run inside a virtual machine")


# -- recordings --------------------------------------------------------------------------------------------------------


@pytest.fixture
def records(theirs: Side, ours: Side) -> tuple[list[Record], list[Record]]:
    """What a host saw of each."""
    first, second = (side.run(ASK, machine()).records for side in (theirs, ours))
    return first, second


def test_but_for_the_knocks_they_do_the_same(records: tuple[list[Record], list[Record]]) -> None:
    assert differences(*records, ignore=["knocks"]) == []
    lines = differences(*records)
    assert len(lines) == 2
    assert all(line.startswith("- ") and "GETVERSION" in line for line in lines)


def test_each_on_its_own_recording(theirs: Side, ours: Side, records: tuple[list[Record], list[Record]]) -> None:
    for side, recording in zip((theirs, ours), records, strict=True):
        replay = Replay(recording)
        assert run_on(side, replay) == WORLD
        assert replay.finish() is None


def test_ours_on_the_originals_recording(ours: Side, records: tuple[list[Record], list[Record]]) -> None:
    replay = Replay(records[0], ignore=["knocks"])
    assert run_on(ours, replay) == WORLD
    assert replay.finish() is None


def test_the_original_on_our_recording_knocks_in_vain(theirs: Side, records: tuple[list[Record], list[Record]]) -> None:
    replay = Replay(records[1], ignore=["knocks"])
    status, _, said = run_on(theirs, replay)
    assert (status, said[:6]) == (255, b"Error:")
    deviation = replay.finish()
    assert deviation is not None
    assert (deviation.position, deviation.got) == (1, "IN GETVERSION")


@pytest.mark.parametrize("lose", [False, True])
def test_another_question(theirs: Side, ours: Side, records: tuple[list[Record], list[Record]], lose: bool) -> None:
    """A deviation ends in the commands' own words, or by the fault's signal where they have no guard any more."""
    for side, recording, position in ((theirs, records[0], 5), (ours, records[1], 3)):
        replay = Replay(recording, lose=lose)
        status, output, _ = run_on(side, replay, ("vmware-rpctool", "info-get guestinfo.other"))
        assert status != 0
        assert output == b""
        deviation = replay.finish()
        assert deviation is not None
        assert deviation.position == position
        assert "guestinfo.other" in deviation.words[0]


def test_the_files_are_what_the_command_writes(theirs: Side, tmp_path: Path) -> None:
    """``vmtools sim run --transcript`` and the transcripts of these tests are the same thing."""
    from vmtools.sim import cli

    file = tmp_path / "transcript"
    folder, saved = os.getcwd(), dict(os.environ)
    try:
        os.chdir(theirs.folder)
        os.environ.update(theirs.environment)
        options = ["--no-hypercalls", "--no-cpuid", "--no-dmi", "--set", "hello=world", "--transcript", str(file)]
        assert cli.main(["run", *options, "--", "./vmware-rpctool", ASK[1]]) == 0
    finally:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(saved)
    assert cli.main(["diff", str(file), str(file)]) == 0
    from vmtools.sim.transcript import read

    with file.open(encoding="utf-8") as lines:
        assert differences(theirs.run(ASK, machine()).records, read(lines)) == []


# -- the command, and the original as it is installed ------------------------------------------------------------------

SIM = [sys.executable, "-c", "import sys; from vmtools.sim.cli import main; sys.exit(main(sys.argv[1:]))"]


def sim(*words: str) -> subprocess.CompletedProcess[str]:
    """``vmtools sim`` with the original rpctool, without any preload."""
    program = ["--", "/usr/bin/vmware-rpctool", ASK[1]]
    argv = [*SIM, *words, *program]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def unmodified(theirs: Side) -> None:
    """CPUID can be shown here as another hypervisor's."""
    if NO_CAPSTONE in Disguise(appearance(backdoor("qemu", Machine())), dmi=False).limits:
        pytest.skip(NO_CAPSTONE)


@pytest.mark.usefixtures("unmodified")
@pytest.mark.parametrize(
    ("personality", "status", "out", "err"),
    [
        *((name, 0, "world\n", "") for name in ("vmware", "vmware-lb", "vmport-rpc")),
        *((name, 1, "", "NULL\n") for name in ("qemu", "qemu-old")),
    ],
)
def test_unmodified(personality: str, status: int, out: str, err: str) -> None:
    done = sim("run", "--set", "hello=world", "--personality", personality, "--no-dmi")
    assert (done.returncode, done.stdout, done.stderr) == (status, out, err)


@pytest.mark.usefixtures("unmodified")
def test_unmodified_on_a_recording(tmp_path: Path) -> None:
    file = str(tmp_path / "recording")
    assert sim("run", "--set", "hello=world", "--transcript", file).stdout == "world\n"
    done = sim("run", "--replay", file)
    assert (done.returncode, done.stdout, done.stderr) == (0, "world\n", "")


@pytest.mark.usefixtures("unmodified")
def test_a_size_of_4_gib_by_low_bandwidth_has_no_end() -> None:
    """The device gives payload for ever, and the original takes it: 2^30 calls."""
    options = ["--set", "hello=world", "--personality", "vmport-rpc", "--faults", "size:0xffffffff", "--no-dmi"]
    done = sim("sweep", *options)
    assert done.returncode == 1
    assert "hang, still going after 2000 exits: size@" in done.stdout
