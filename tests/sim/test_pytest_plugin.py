"""The pytest plugin, as people use it: in test suites of their own. And the guide, whose examples are run."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import vmtools
from vmtools.sim.transcript import read, show

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "testing-your-agent.md"

FAILING = """
import pytest

@pytest.mark.vmware(guestinfo={"hello": "world"})
def test_it(vmware_host):
    vmware_host.connect().info_get("hello")
    assert not "this fails"
"""


@pytest.fixture
def suite(
    pytester: pytest.Pytester, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    """A folder for a test suite, with the plugin also where vmtools-py is not installed but lies in the path."""
    if not request.config.pluginmanager.has_plugin("vmware"):
        pytester.plugins = ["vmtools.pytest_plugin"]
        monkeypatch.setenv("PYTHONPATH", str(Path(vmtools.__file__).parents[1]))
    pytester.makeini("[pytest]\naddopts = -p no:randomly -p no:cacheprovider --strict-markers\n")
    return pytester


def run(suite: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """In a process of its own: what another test imported must not help."""
    return suite.runpytest_subprocess(*arguments, timeout=60)


def test_fixture_and_markers(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest
        from vmtools.testing import SimulatedHost

        pytestmark = pytest.mark.vmware(guestinfo={"a": "module", "b": "module"}, machine_id="m")

        @pytest.mark.vmware(guestinfo={"b": "class", "c": "class"}, machine_id="c")
        class TestIt:
            @pytest.mark.vmware(guestinfo={"c": "function"}, memory_mb=64)
            def test_joined(self, vmware_host):
                assert isinstance(vmware_host, SimulatedHost)
                assert dict(vmware_host.guestinfo) == {"a": b"module", "b": b"class", "c": b"function"}
                assert (vmware_host.machine.machine_id, vmware_host.machine.memory_mb) == (b"c", 64)
                vmware_host.connect().info_set("a", "changed")

            def test_each_test_has_a_new_one(self, vmware_host):
                assert vmware_host.guestinfo["a"] == b"module"
                assert not vmware_host.said

        def test_without_it():
            pass
        """
    )
    run(suite).assert_outcomes(passed=3)


def test_a_failing_test_tells_what_passed(suite: pytest.Pytester) -> None:
    suite.makepyfile(FAILING)
    result = run(suite)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*VMware host*",
            'RPCI "info-get guestinfo.hello"',
            '  -> "1 world"',
            "exits (the last 6 of 6):",
            "*OPEN RPCI*success*",
        ]
    )


def test_a_passing_test_tells_nothing(suite: pytest.Pytester) -> None:
    suite.makepyfile(FAILING.replace("assert not", "assert"))
    result = run(suite, "-rA")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*VMware host*")


def test_a_failure_before_any_call_and_one_at_the_end(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest

        def test_silent(vmware_host):
            assert not vmware_host

        @pytest.fixture
        def late(vmware_host):
            yield
            vmware_host.connect().log("late")
            vmware_host.expect("never", timeout=0)

        def test_teardown(late):
            pass
        """
    )
    result = run(suite)
    result.assert_outcomes(failed=1, passed=1, errors=1)
    result.stdout.fnmatch_lines(["*ExpectationFailed: no guest sent b'never'*", 'RPCI "log late"'])
    result.stdout.fnmatch_lines(["no guest called this host"])
    result.stdout.no_fnmatch_line("*self._unexpected*")


def test_what_is_shown_is_bounded(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        def test_it(vmware_host):
            guest = vmware_host.connect()
            for n in range(100):
                guest.info_set(f"n{n}", "x" * 5000)
            assert False
        """
    )
    result = run(suite)
    result.stdout.fnmatch_lines(["exits (the last 60 of *):"])
    text = result.stdout.str()
    section = text[text.index("VMware host") : text.index("short test summary")]
    assert section.count("RPCI") == 40
    assert len(section) < 40_000
    assert "guestinfo.n99" in section
    assert "guestinfo.n59 " not in section


def test_wrong_markers(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest

        @pytest.mark.vmware("vmware-lb")
        def test_positional(vmware_host):
            pass

        @pytest.mark.vmware(colour="red")
        def test_unknown(vmware_host):
            pass

        @pytest.mark.vmware(personality="xen")
        def test_personality(vmware_host):
            pass
        """
    )
    result = run(suite)
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(
        ["*takes its parameters by name*", "*unexpected keyword argument 'colour'*", "*no personality is called 'xen'*"]
    )


def test_help_and_markers_are_listed(suite: pytest.Pytester) -> None:
    run(suite, "--help").stdout.fnmatch_lines(["*simulated VMware host:*", "*--vmware-transcripts=DIR*"])
    run(suite, "--markers").stdout.fnmatch_lines(["@pytest.mark.vmware(guestinfo=*"])
    run(suite, "--fixtures").stdout.fnmatch_lines(["vmware_host*"])


TWO = """
import pytest

@pytest.mark.parametrize("value", ["a/b", "a b", "a-b", "ä" * 300])
def test_it(vmware_host, value):
    vmware_host.connect().info_set("value", value)
    assert value != "a b"
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_transcripts_are_kept(suite: pytest.Pytester, workers: tuple[str, ...]) -> None:
    suite.makepyfile(TWO)
    result = run(suite, "--vmware-transcripts", "kept/here", *workers)
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*VMware host*", 'RPCI "info-set guestinfo.value a b"'])
    files = sorted((suite.path / "kept" / "here").iterdir())
    assert len(files) == 4
    assert all(re.fullmatch(r"[\w.-]{1,120}\.jsonl", file.name) for file in files)
    said = "\n".join(line for file in files for line in show(read(file.read_text().splitlines(keepends=True))))
    assert said.count('>> "info-set guestinfo.value ') == 4


def test_it_costs_nothing_where_it_is_not_used(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import sys

        def test_it():
            assert "vmtools.pytest_plugin" in sys.modules
            assert {n for n in sys.modules if n.startswith("vmtools")} <= {"vmtools", "vmtools.pytest_plugin"}
        """
    )
    run(suite).assert_outcomes(passed=1)


def test_the_guide(suite: pytest.Pytester, tracing: None) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    (script,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    tests, host, agent, _ = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    path = suite.path / "report-ready.sh"
    path.write_text(script)
    path.chmod(0o755)
    service = suite.path / "my-agent"
    service.write_text(f"#!{sys.executable}\n{AGENT}")
    service.chmod(0o755)
    suite.makepyfile(test_script=tests, test_agent="import re\n" + agent)
    wanted = re.findall(r"^( *)print\(.*# (.*)$", host, re.MULTILINE)
    suite.makepyfile(host=host)
    run(suite).assert_outcomes(passed=5)
    printed = suite.runpython(suite.path / "host.py")
    assert printed.stdout.lines[:4] == [comment for _, comment in wanted]


AGENT = """
import sys, time, signal
from vmtools import gates, connect
from vmtools.backdoor import carry_out
from vmtools.constants import Protocol
from vmtools.message import Channel

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
connect().call(b"tools.capability.statechange ")
time.sleep(0.1)  # the host has to wait for it to listen
gate, channel = gates.choose(), Channel(Protocol.TCLO)
carry_out(gate, channel.opening())
while True:
    message = carry_out(gate, channel.receiving(1 << 16))
    if message is None:
        time.sleep(0.01)
    else:
        carry_out(gate, channel.sending(b"OK ATR toolbox" if message == b"reset" else b"OK "))
"""
