"""Scripts: what is read, what is refused, what is done when, and what counts as met."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmtools.sim.backdoor import Backdoor
from vmtools.sim.machine import Machine
from vmtools.sim.schedule import Schedule
from vmtools.sim.script import ACTIONS, Play, ScriptError, load, parse, unescape

from .service import Service
from .test_sim_services import Now

if TYPE_CHECKING:
    from .service import Answer


class Stage:
    """A host with a script, a service, and a clock that the test sets."""

    def __init__(self, text: str, answers: dict[bytes, Answer] | None = None) -> None:
        self.now = Now()
        self.backdoor = Backdoor(Machine(options={"x": "0"}), schedule=Schedule(self.now))
        self.said: list[str] = []
        self.stopped = 0
        self.play = Play(parse(text), self.backdoor, stop=self._stop, say=self.said.append)
        self.answers = answers
        self.service: Service | None = None

    def _stop(self) -> None:
        self.stopped += 1

    def pass_(self, seconds: float, step: float = 0.1) -> None:
        """Let time pass; the service, once there, polls all the while."""
        for _ in range(round(seconds / step)):
            self.now.seconds += step
            if self.service is not None:
                self.service.settle()
            else:
                self.backdoor.schedule.run()

    def serve(self) -> Service:
        self.service = Service(self.backdoor, answers=self.answers)
        self.service.settle()
        return self.service


def test_everything_in_its_time() -> None:
    stage = Stage(
        """
        [[step]]
        guestinfo = { hello = "world", "guestinfo.x" = "" }
        [[step]]
        after = "2s"
        option = { x = "1" }
        [[step]]
        after = 3
        device = { ethernet0 = false }
        [[step]]
        after = 3
        guestlib = { MEM_BALLOONED_MB = 7 }
        [[step]]
        after = 3
        clock = "@2030-01-01"
        [[step]]
        after = 4
        fault = "refused@1"
        [[step]]
        after = 5
        snapshot = "vmotion"
        leap = "1h"
        [[step]]
        after = 6
        stop = true
        """
    )
    machine = stage.backdoor.machine
    session = machine.guestlib.session
    stage.backdoor.schedule.run()
    assert machine.guestinfo == {b"guestinfo.hello": b"world", b"guestinfo.x": b""}
    stage.pass_(1.5)
    assert machine.options["x"] == "0"
    stage.pass_(2)
    assert machine.options["x"] == "1"
    assert not machine.devices.find("ethernet0").connected
    assert machine.guestlib.info(3)["MEM_BALLOONED_MB"] == 7
    assert machine.clock.status()["now"] == "2030-01-01T00:00:00+00:00"
    stage.pass_(1)
    assert stage.backdoor.faults is not None
    assert machine.guestlib.session == session
    stage.pass_(1)
    assert machine.guestlib.session != session
    assert stage.stopped == 0
    stage.pass_(1)
    assert (stage.stopped, stage.play.stopped, stage.play.finish()) == (1, True, True)


def answered(expectation: str, answer: bytes = b"OK \0\xff", send: str = 'send = "what"') -> Stage:
    stage = Stage(f'[[step]]\nat = "ready"\n{send}\n{expectation}', {b"what": answer})
    stage.serve()
    stage.pass_(1)
    return stage


@pytest.mark.parametrize(
    "expectation",
    [
        "",
        "match = 'OK.*'",
        "match = 'OK \\x00\\xff'",
        "expect = 'OK \\x00\\xff'\nescaped = true",
        "match = '(?s)OK..*'",
    ],
)
def test_expectations_that_are_met(expectation: str) -> None:
    stage = answered(expectation)
    assert (stage.play.finish(), stage.said) == (True, [])


@pytest.mark.parametrize(
    ("expectation", "says"),
    [
        ("expect = 'OK '", r"the answer was b'OK \x00\xff', expected 'OK '"),
        ("match = 'OK'", "does not match 'OK'"),
        ("match = 'ERROR.*'", "does not match"),
    ],
)
def test_expectations_that_are_not_met(expectation: str, says: str) -> None:
    stage = answered(expectation)
    assert not stage.play.finish()
    assert len(stage.said) == 1
    assert stage.said[0].startswith("step 1 (send 'what'): ")
    assert says in stage.said[0]


def test_bytes_in_a_message() -> None:
    stage = answered("escaped = true", send=r"send = 'what \x00\xff\n\\'")
    assert stage.service is not None
    assert stage.service.heard[-1] == b"what \0\xff\n\\"


def test_a_message_waits_for_its_service() -> None:
    stage = Stage("[[step]]\nsend = 'what'\nexpect = 'OK '\ntimeout = 5")
    stage.pass_(4)
    stage.serve()
    stage.pass_(0.5)
    assert stage.play.finish()


def test_nobody_listens() -> None:
    stage = Stage("[[step]]\nsend = 'what'\nexpect = 'OK '\ntimeout = 5\n[[step]]\nsend = 'no matter'\ntimeout = 1")
    stage.pass_(6)
    assert stage.said == ["step 1 (send 'what'): no service listened"]
    assert not stage.play.finish()
    assert len(stage.play.failures) == 1


def test_no_answer_in_time() -> None:
    stage = Stage("[[step]]\nat = 'ready'\nafter = 1\nsend = 'what'\nmatch = '.*'\ntimeout = 2")
    service = stage.serve()
    stage.service = None
    stage.pass_(1.2)
    service.guest.receive()
    stage.pass_(2)
    assert stage.said == ["step 1 (send 'what'): it was not answered in time"]


def test_the_channel_is_lost_before_the_answer() -> None:
    stage = Stage(
        "[[step]]\nat = 'ready'\nafter = 1\nsend = 'what'\nmatch = '.*'\n"
        "[[step]]\nat = 'ready'\nafter = 1\nsnapshot = 'vmotion'"
    )
    stage.serve()
    stage.service = None
    stage.pass_(1.2)
    assert stage.said == ["step 1 (send 'what'): the message was lost"]


def test_what_never_had_its_turn_is_not_met() -> None:
    stage = Stage("[[step]]\nat = 'ready'\nsend = 'what'\nexpect = 'OK '\n[[step]]\nat = 'ready'\nsend = 'what'")
    stage.pass_(20)
    assert not stage.play.finish()
    assert stage.said == ["step 1 (send 'what'): it never came to an end"]


def test_again_and_again() -> None:
    stage = Stage(
        "[[step]]\nat = 'ready'\nafter = 1\nevery = 2\ntimes = 3\nsend = 'limited'\n"
        "[[step]]\nat = 'ready'\nevery = 1\nsend = 'endless'"
    )
    service = stage.serve()
    stage.pass_(20)
    assert service.heard.count(b"limited") == 3
    assert 19 <= service.heard.count(b"endless") <= 21


def test_ready_happens_once() -> None:
    stage = Stage("[[step]]\nat = 'ready'\nsend = 'what'")
    stage.serve()
    stage.pass_(1)
    assert stage.service is not None
    stage.service.start()
    stage.pass_(1)
    assert stage.service.heard.count(b"what") == 1


def power(report: bytes | None, answer: bytes = b"OK ") -> Stage:
    stage = Stage("[[step]]\nat = 'ready'\npower = 'suspend'\ntimeout = 3")
    stage.answers = {b"OS_Suspend": answer}
    service = stage.serve()
    stage.pass_(1)
    if report is not None:
        service.rpc(report)
    stage.pass_(4)
    return stage


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        (power(b"tools.os.statechange.status 1 5\0"), []),
        (power(b"tools.os.statechange.status 0 5\0"), ["the guest reported that it failed"]),
        (power(None), ["the guest did not report that it was done"]),
        (power(None, b"ERROR Error starting script"), ["the answer was b'ERROR Error starting script'"]),
    ],
)
def test_power_operations_are_expected_to_be_done(stage: Stage, says: list[str]) -> None:
    assert stage.said == [f"step 1 (power 'suspend'): {text}" for text in says]
    assert stage.play.finish() == (not says)


@pytest.mark.parametrize(
    ("value", "says"), [(b"12.2.0", []), (b"12.2.0 ", ["v is '12.2.0 '"]), (None, ["v is not set"])]
)
def test_checks_of_guestinfo(value: bytes | None, says: list[str]) -> None:
    stage = Stage("[[step]]\nafter = 1\ncheck = { v = '[0-9.]+' }")
    if value is not None:
        stage.backdoor.machine.set_guestinfo(b"v", value)
    stage.pass_(2)
    assert stage.said == [f"step 1 (check 'v'): {text}" for text in says]
    assert stage.play.finish() == (not says)


def test_what_the_machine_refuses_is_said() -> None:
    stage = Stage(
        "[[step]]\nguestinfo = { x = '%s' }\n[[step]]\ndevice = { none = true }\n[[step]]\nclock = 'noon'\n"
        "[[step]]\nguestlib = { x = 1 }\n[[step]]\noption = { 'a b' = '1' }" % ("v" * (1 << 20))
    )
    stage.pass_(1)
    assert [re.sub(r".*?: ", "", text, count=1)[:18] for text in stage.said] == [
        "Value too long",
        "no device none; th",
        "'noon' is none of ",
        "no statistic x; th",
        "'a b' is no option",
    ]
    assert not stage.play.finish()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "a list of"),
        ("x = 1", "a list of"),
        ("step = 1", "a list of"),
        ("[[step]]\nsend = 'a'\n[other]", "a list of"),
        ("[[step]]\nsend", "after a key"),
        ("[[step]]", "step 1: a step has one action"),
        ("[[step]]\nsend = 'a'\nclock = '+1s'", "one action"),
        ("[[step]]\nsend = ''", "not empty"),
        ("[[step]]\nsend = 1", "is a text"),
        ("[[step]]\nsend = 'a'\nexpect = 1", "are texts"),
        ("[[step]]\nsend = 'a'\nexpect = 'a'\nmatch = 'b'", "not both"),
        ("[[step]]\nsend = 'a'\nmatch = '('", "step 1: "),
        ("[[step]]\nsend = 'a\\q'\nescaped = true", "no escape"),
        ("[[step]]\nsend = 'a'\nescaped = 1", "true or false"),
        ("[[step]]\nsend = 'a'\nleap = 1", "knows no leap"),
        ("[[step]]\nclock = '+1s'\nexpect = 'a'", "knows no expect"),
        ("[[step]]\nclock = '+1s'\nat = 'noon'", "'at' is"),
        ("[[step]]\nclock = '+1s'\nafter = -1", "number of seconds"),
        ("[[step]]\nclock = '+1s'\nafter = 'soon'", "no duration"),
        ("[[step]]\nclock = '+1s'\nafter = nan", "number of seconds"),
        ("[[step]]\nclock = '+1s'\nevery = 0", "at least"),
        ("[[step]]\nclock = '+1s'\ntimes = 2", "beside 'every'"),
        ("[[step]]\nclock = '+1s'\nevery = 1\ntimes = true", "a number"),
        ("[[step]]\nclock = '+1s'\n[[step]]\nguestinfo = 'a'", "step 2: 'guestinfo' is a table"),
        ("[[step]]\nguestinfo = { a = 1 }", "are texts"),
        ("[[step]]\ndevice = { a = 'on' }", "true or false"),
        ("[[step]]\ncheck = { a = '(' }", "step 1: "),
        ("[[step]]\nstop = false", "'stop' is true"),
        ("[[step]]\nfault = 'none@1'", "no fault is called"),
        ("[[step]]\nfault = 1", "step 1: "),
        ("[[step]]\npower = 'halt'", "needs 'really = true'"),
        ("[[step]]\npower = 'reboot'\nreally = 1", "needs 'really = true'"),
        ("[[step]]\npower = 'nap'", "'power' is one of"),
        ("[[step]]\nsnapshot = 'x'", "'snapshot' is one of"),
    ],
)
def test_what_is_no_script(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match=re.escape(says)):
        parse(text)
    file = tmp_path / "script.toml"
    file.write_text(text)
    with pytest.raises(ScriptError, match=re.escape(f"{file}: ")):
        load(file)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"# \xff")
    (tmp_path / "big").write_bytes(b"#" * ((1 << 22) + 1))
    for name, says in [("none", "No such file"), ("latin", "not UTF-8"), ("big", "more than"), ("", "directory")]:
        with pytest.raises(ScriptError, match=says):
            load(tmp_path / name)


def test_who_means_it_may_say_so() -> None:
    assert parse("[[step]]\npower = 'halt'\nreally = true").steps[0].value == "halt"


@given(st.text())
def test_any_text_is_a_script_or_refused(text: str) -> None:
    try:
        parse(text)
        parse(f"[[step]]\n{text}")
    except ScriptError:
        return


@given(st.binary())
def test_all_bytes_can_be_written(data: bytes) -> None:
    assert unescape("".join(f"\\x{byte:02x}" for byte in data)) == data


def test_the_guides_example_is_one() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "scripts.md").read_text(encoding="utf-8")
    script = parse(guide.partition("```toml\n")[2].partition("```")[0])
    assert [step.action for step in script.steps] == ["guestinfo", "send", "send", "check", "snapshot", "stop"]
    assert all(f"`{action}`" in guide for action in ACTIONS)
