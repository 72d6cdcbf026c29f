"""A program under each fault at each exit: every way to end is told from the others, on programs that end so."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from vmtools.sim import cli
from vmtools.sim.faults import FaultPlan
from vmtools.sim.machine import Machine
from vmtools.sim.outcomes import FAULTS, OUTCOMES
from vmtools.sim.personalities import backdoor
from vmtools.sim.sweep import Ended, Output, Report, SweepError, judge, sweep, table

pytestmark = pytest.mark.usefixtures("tracing")

FRAIL = str(Path(__file__).with_name("programs") / "frail.py")
EXITS = ["OPEN", "SENDSIZE", *["SENDPAYLOAD"] * 5, "RECVSIZE", *["RECVPAYLOAD"] * 2, "RECVSTATUS", "CLOSE"]


def frail(manner: str) -> list[str]:
    return [sys.executable, FRAIL, manner]


def host(plan: FaultPlan) -> Any:
    return backdoor("vmware-lb", Machine(guestinfo={b"k": b"value"}), faults=plan)


def run(manner: str, *faults: str, **options: Any) -> Report:
    options.setdefault("timeout", 20.0)
    options.setdefault("exits", range(2, 3))
    return sweep(frail(manner), host, faults=faults or ("refused",), jobs=2, **options)


@pytest.mark.parametrize(
    ("manner", "outcome", "sentence"),
    [
        ("explains", "error", "exit status 1: the host does not answer"),
        ("says nothing", "unclear", "exit status 1"),
        ("says NULL", "unclear", "exit status 1: NULL"),
        ("guesses", "wrong", "exit status 0: 1 guess"),
        ("crashes", "crash", "killed by SIGSEGV"),
        ("shell crashes", "crash", "exit status 139"),
        ("raises", "crash", "exit status 1: Failed: 1"),
        ("leaks", "leak", "exit status 1, 1 channel left open: no answer"),
        ("tries for ever", "hang", "still going after 2000 exits"),
    ],
)
def test_each_way_to_end(manner: str, outcome: str, sentence: str) -> None:
    (case,) = run(manner).cases
    assert (case.call, case.outcome, case.sentence()) == ("SENDSIZE", outcome, sentence)


def test_time_is_over() -> None:
    (case,) = run("hangs", timeout=2.0).cases
    assert case.outcome == "hang"
    assert case.sentence().startswith("no end within 2 s, 3 exits")
    assert 2 <= case.ended.seconds < 15


def test_what_the_fault_does_not_harm_is_an_answer() -> None:
    report = run("explains", "slow:1ms", exits=None)
    assert [exit_.call for exit_ in report.exits] == EXITS
    assert [case.outcome for case in report.cases] == ["answer"] * len(EXITS)
    assert (report.reference.status, report.reference.stdout.data) == (0, b"1 value\n")


def test_faults_are_put_where_they_change_something() -> None:
    report = run("explains", "size:0", "never", "type", "garbage", exits=None)
    assert [str(case.fault) for case in report.cases] == [
        "size@8:0",
        "never@8",
        "type@1",
        "type@8",
        "type@9",
        "type@10",
        *(f"garbage@{at}" for at in (3, 4, 5, 6, 7, 8, 9, 10)),
    ]


def test_a_channel_that_the_guest_tried_to_close_is_no_leak() -> None:
    """A host that refuses CLOSE, or that changed the cookie, keeps the channel: the guest did what it could."""
    report = run("explains", "refused", "cookie", exits=range(12, 13))
    assert [case.outcome for case in report.cases] == ["answer", "answer"]


def test_what_a_program_always_leaves_open_is_no_news() -> None:
    report = run("leaks always", "slow:1ms")
    assert report.reference.leaked == 1
    assert [case.outcome for case in report.cases] == ["answer"]


def test_programs_that_can_not_be_swept() -> None:
    for words, complaint in (
        (["true"], "makes no backdoor call"),
        (["ls", "/nonexistent"], "makes no backdoor call.*exit status 2: ls: "),
        ([sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"], "killed by SIGSEGV"),
        (["sleep", "60"], "does not end within 0 s"),
    ):
        with pytest.raises(SweepError, match=complaint):
            sweep(words, host, timeout=0.4 if words[0] == "sleep" else 20)
    changing = f"import runpy, sys, os; print(os.getpid()); sys.argv[1:] = ['x']; runpy.run_path({FRAIL!r})"
    with pytest.raises(SweepError, match="answers differently each time"):
        sweep([sys.executable, "-c", changing], host)


def test_what_can_not_be_run() -> None:
    with pytest.raises(FileNotFoundError):
        sweep(["/nonexistent"], host)
    with pytest.raises(ValueError, match="no fault is called 'nope'"):
        run("explains", "nope")


def test_much_output_is_cut_and_counted() -> None:
    noisy = f"import runpy, sys; print('x' * 1_000_000); sys.argv[1:] = ['x']; runpy.run_path({FRAIL!r})"
    report = sweep([sys.executable, "-c", noisy], host, faults=["slow:1ms"], exits=range(1, 2))
    assert report.reference.stdout.size > 1_000_000
    assert len(report.reference.stdout.data) == 1 << 18


def test_no_descriptor_is_left() -> None:
    before = len(os.listdir("/proc/self/fd"))
    run("explains")
    run("tries for ever")
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_table() -> None:
    report = run("leaks", "refused", "size:0", exits=None)
    assert table(report, 60) == [
        "exit     1       2        3           4",
        "         OPEN    SENDSIZE SENDPAYLOAD SENDPAYLOAD",
        "refused  error   LEAK     LEAK        LEAK",
        "size:0   -       -        -           -",
        "",
        "exit     5           6           7           8",
        "         SENDPAYLOAD SENDPAYLOAD SENDPAYLOAD RECVSIZE",
        "refused  LEAK        LEAK        LEAK        LEAK",
        "size:0   -           -           -           LEAK",
        "",
        "exit     9           10          11         12",
        "         RECVPAYLOAD RECVPAYLOAD RECVSTATUS CLOSE",
        "refused  LEAK        LEAK        LEAK       answer",
        "size:0   -           -           -          -",
        "",
    ]
    assert len(table(report, 200)) == 5


def test_a_program_that_refuses_is_compared_by_its_words() -> None:
    """Without a fault it fails with the host's words: with one, other words are an error, and silence is unclear."""
    silence, words, others = Output(b"", 0), Output(b"No value found\n", 15), Output(b"lost\n", 5)
    reference = Ended(1, silence, words, 9, 0, 0.1)
    assert judge(reference, reference) == "answer"
    assert judge(reference, reference._replace(stderr=others)) == "error"
    assert judge(reference, reference._replace(stderr=silence)) == "unclear"
    assert judge(reference, reference._replace(stderr=Output(b"(null)\n", 7))) == "unclear"
    assert judge(reference, reference._replace(status=0)) == "wrong"
    assert judge(reference, reference._replace(status=None)) == "hang"
    assert judge(reference, reference._replace(leaked=1)) == "leak"
    assert judge(reference, reference._replace(stderr=Output(b"panic: oh\n\ngoroutine 1", 20))) == "crash"


# -- the command -------------------------------------------------------------------------------------------------------


def command(*words: str) -> int:
    return cli.main(["sweep", "--set", "k=value", "--personality", "vmware-lb", *words])


@pytest.mark.parametrize(
    ("manner", "options", "status"),
    [
        ("explains", [], 0),
        ("says NULL", [], 0),
        ("says NULL", ["--fail-on", "unclear"], 1),
        ("crashes", [], 1),
        ("crashes", ["--fail-on", "hang"], 0),
        ("leaks", [], 1),
    ],
)
def test_exit_status(manner: str, options: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--faults", "refused", "--exits", "3", *options, "--", *frail(manner)) == status
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "12 exits, 1 runs\n\nexit     3\n         SENDPAYLOAD\nrefused  " in printed.out


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--faults", "refused", "--exits", "2-3", "--", *frail("crashes")) == 1
    assert capsys.readouterr().out.endswith("\n2 crash\ncrash, killed by SIGSEGV: refused@2 refused@3\n")


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--json", "--faults", "refused+", "--exits", "2", "--jobs", "2", "--", *frail("says NULL")) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["sweep"], report["version"]) == ("vmtools-sim", 1)
    assert report["program"] == frail("says NULL")
    assert report["exits"] == EXITS
    assert report["reference"]["stdout"] == "1 value\n"
    assert report["counts"] == {**dict.fromkeys(OUTCOMES, 0), "unclear": 1}
    (case,) = report["runs"]
    assert case.pop("seconds") > 0
    assert case == {
        "fault": "refused@2+",
        "exit": 2,
        "call": "SENDSIZE",
        "outcome": "unclear",
        "status": 1,
        "stdout": "",
        "stderr": "NULL\n",
        "exits": 3,
        "leaked": 0,
    }


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--"], "which program?"),
        (["--fail-on", "boredom", "--", "true"], "no outcome is called 'boredom'"),
        (["--faults", "nope", "--", "true"], "no fault is called 'nope'"),
        (["--faults", "size:x", "--", "true"], "--faults: "),
        (["--", "true"], "makes no backdoor call"),
        (["--", "/nonexistent"], "/nonexistent: No such file"),
        (["--set", "novalue", "--", "true"], "KEY=VALUE is expected"),
    ],
)
def test_wrong_usage(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert complaint in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("words", [["--exits", "0"], ["--exits", "3-2"], ["--jobs", "0"], ["--timeout", "-1"]])
def test_numbers_are_checked(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command(*words, "--", "true")
    assert ended.value.code == 2


def test_default_faults_are_all_kinds() -> None:
    kinds = {fault.partition(":")[0].removesuffix("+") for fault in FAULTS}
    assert kinds == {"checkpoint", "lost", "refused", "echo", "type", "size", "garbage", "never", "cookie", "slow"}
