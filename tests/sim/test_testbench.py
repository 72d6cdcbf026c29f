"""The commands around transcripts, and the options that choose a host, on programs that really trap."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vmtools.sim.personalities import PERSONALITIES

pytestmark = pytest.mark.usefixtures("tracing")

FRAIL = [sys.executable, str(Path(__file__).with_name("programs") / "frail.py")]
SIM = [sys.executable, "-c", "import sys; from vmtools.sim.cli import main; sys.exit(main(sys.argv[1:]))"]
MACHINE = ["--set", "k=value", "--personality", "vmware-lb"]


def sim(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """The command, as a process: it may end by a signal."""
    return subprocess.run([*SIM, *map(str, words)], capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[..., Path]:
    """Record a run of ``frail.py``."""

    def record(name: str, *options: str, manner: str = "explains") -> Path:
        file = tmp_path / name
        sim("run", *MACHINE, *options, "--transcript", file, "--", *FRAIL, manner)
        return file

    return record


@pytest.mark.parametrize("personality", PERSONALITIES)
def test_personality(personality: str) -> None:
    done = sim("run", "--set", "k=value", "--personality", personality, "--", *FRAIL, "explains")
    if PERSONALITIES[personality].messages is None:
        assert (done.returncode, done.stdout) == (1, "")
    elif personality == "vmport-rpc":
        assert (done.returncode, done.stdout) == (0, "1 value\n")
    else:
        assert done.stdout == "1 value\n"


def test_no_such_personality() -> None:
    done = sim("run", "--personality", "esx", "--", "true")
    assert done.returncode == 2
    assert "vmport-rpc" in done.stderr


def test_random_faults_come_again(recorded: Callable[..., Path]) -> None:
    files = [recorded(f"{at}", "--fault", "random:seed:0.2", manner="tries again") for at in range(2)]
    first, second = ([json.loads(line) for line in file.read_text().splitlines()[1:]] for file in files)
    assert [line.get("fault") for line in first] == [line.get("fault") for line in second]
    assert any("fault" in line for line in first)


# -- diff --------------------------------------------------------------------------------------------------------------


def test_the_same_program_twice(recorded: Callable[..., Path]) -> None:
    done = sim("diff", recorded("a"), recorded("b"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_another_host(recorded: Callable[..., Path]) -> None:
    done = sim("diff", recorded("a"), recorded("b", "--fault", "refused@8"))
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert " ".join(lines[0].split()) == "6 IN SENDPAYLOAD 0: 4 bytes -> success"
    assert [line.split()[:4] for line in lines if line.startswith(("-", "+"))][:2] == [
        ["-", "8", "IN", "RECVSIZE"],
        ["-", "9", "IN", "RECVPAYLOAD"],
    ]
    assert sim("diff", "--messages", recorded("a"), recorded("b", "--fault", "refused@8")).stdout.splitlines() == [
        '-     1 RPCI "info-get guestinfo.k" -> "1 value"',
        '+     1 RPCI "info-get guestinfo.k" -> (no answer)',
    ]


def test_diff_from_standard_input(recorded: Callable[..., Path]) -> None:
    file = recorded("a")
    with file.open() as stdin:
        done = subprocess.run([*SIM, "diff", "-", str(file)], stdin=stdin, check=False, timeout=60)
    assert done.returncode == 0


@pytest.mark.parametrize("damage", ["", "no transcript\n", "\xff"])
def test_what_is_no_transcript(recorded: Callable[..., Path], tmp_path: Path, damage: str) -> None:
    other = tmp_path / "other"
    other.write_bytes(damage.encode("latin-1"))
    for done in (sim("diff", recorded("a"), other), sim("run", "--replay", other, "--", "true")):
        assert (done.returncode, done.stdout) == (2, "")
        assert "transcript" in done.stderr
        assert done.stderr.count("\n") == 1
    assert sim("diff", tmp_path / "none", other).returncode == 2


# -- replay ------------------------------------------------------------------------------------------------------------


def test_replay(recorded: Callable[..., Path], tmp_path: Path) -> None:
    file, again = recorded("a"), tmp_path / "again"
    done = sim("run", "--replay", file, "--transcript", again, "--", *FRAIL, "explains")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 value\n", "")
    assert sim("diff", file, again).returncode == 0


def test_a_recorded_failure_is_replayed(recorded: Callable[..., Path]) -> None:
    done = sim("run", "--replay", recorded("a", "--fault", "refused@8"), "--", *FRAIL, "explains")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "the host does not answer\n")


def test_a_signal_is_the_programs_in_a_replay_too(recorded: Callable[..., Path]) -> None:
    file = recorded("a", "--fault", "refused@8", manner="crashes")
    assert sim("run", "--replay", file, "--", *FRAIL, "crashes").returncode == -signal.SIGSEGV


@pytest.mark.parametrize(
    ("how", "says"), [([], "the host does not answer\n"), (["--on-deviation", "fault"], "the host does not answer\n")]
)
def test_a_deviation(recorded: Callable[..., Path], how: list[str], says: str) -> None:
    file = recorded("a")
    text = file.read_text().splitlines(keepends=True)
    line = json.loads(text[2])
    line["before"]["bx"] = "0x7"  # the size of another message
    text[2] = json.dumps(line) + "\n"
    file.write_text("".join(text))
    done = sim("run", "--replay", file, *how, "--", *FRAIL, "explains")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith(says)
    assert re.sub(" +", " ", done.stderr.removeprefix(says)).splitlines() == [
        "vmtools sim run: the program left the recording at exit 2",
        "vmtools sim run: expected: IN SENDSIZE 0: 7 bytes -> success",
        "vmtools sim run: got: IN SENDSIZE 0: 20 bytes",
        "vmtools sim run: size: 0x7 recorded, 0x14 now",
    ]


def test_a_program_that_asks_less(recorded: Callable[..., Path]) -> None:
    done = sim("run", "--replay", recorded("a"), "--", "true")
    assert (done.returncode, done.stdout) == (125, "")
    assert "the program left the recording at exit 1" in done.stderr
    assert "got:      the program's end" in done.stderr


@pytest.mark.parametrize(
    "words", [["--set", "a=b"], ["--fault", "lost@1"], ["--host", "x"], ["--personality", "qemu"], ["--machine-id", ""]]
)
def test_a_recorded_host_takes_no_description(recorded: Callable[..., Path], words: list[str]) -> None:
    done = sim("run", "--replay", recorded("a"), *words, "--", "true")
    assert done.returncode == 2
    assert "the host is the transcript's" in done.stderr
