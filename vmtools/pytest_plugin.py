"""The pytest plugin ``vmware``: a simulated VMware host for each test that asks for one.

* fixture ``vmware_host``: a :class:`vmtools.testing.SimulatedHost`, new for each test;
* marker ``@pytest.mark.vmware(guestinfo={…}, personality="vmware-lb", faults=["checkpoint@5"], drop_in=True, …)``: its
  parameters; where markers of function, class and module meet, the nearest wins, and guestinfo is joined;
* a failing test's report says what passed between host and guests;
* ``--vmware-transcripts DIR`` keeps each such test's whole transcript there, for ``vmtools sim show``.

pytest imports this module in every run on a machine that has the package: it must cost nothing until a test uses it.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import Any

    from vmtools.sim.recording import Recording
    from vmtools.testing import SimulatedHost

OPTION = "--vmware-transcripts"
MESSAGES = 40
EXITS = 60
"""How many of the last messages and exits a failing test's report shows."""

NAME_LIMIT = 100

_HOST = pytest.StashKey["SimulatedHost"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("vmware", "simulated VMware host").addoption(
        OPTION, metavar="DIR", help="keep the transcript of each test that uses vmware_host there, as JSON lines"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Announce the marker."""
    config.addinivalue_line(
        "markers",
        "vmware(guestinfo={}, personality='vmware', faults=[], machine_id=None, drop_in=False, ...): "
        "the machine that the fixture vmware_host makes",
    )


@pytest.fixture
def vmware_host(request: pytest.FixtureRequest) -> Iterator[SimulatedHost]:
    """A simulated VMware host with one virtual machine: run programs as its guests, look at what they said."""
    from vmtools.testing import SimulatedHost

    options = _options(request.node)
    directory = request.config.getoption(OPTION)
    if directory is not None:
        os.makedirs(directory, exist_ok=True)
        options.setdefault("transcript", os.path.join(directory, _file_name(request.node.nodeid)))
    with SimulatedHost(**options) as host:
        request.node.stash[_HOST] = host
        yield host


@pytest.hookimpl(hookwrapper=True)  # and not wrapper=True: older pytests don't know it
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Say in a failing test's report what passed."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()
    host = item.stash.get(_HOST, None)
    if report.failed and host is not None:
        report.sections.append(("VMware host", _readable(host.transcript)))


def _options(node: pytest.Item) -> dict[str, Any]:
    """The parameters from all markers, the nearest first."""
    options: dict[str, Any] = {}
    guestinfo: dict[str, Any] = {}
    for marker in node.iter_markers("vmware"):
        if marker.args:
            raise pytest.UsageError(f"{node.nodeid}: the marker 'vmware' takes its parameters by name")
        options = {**marker.kwargs, **options}
        guestinfo = {**marker.kwargs.get("guestinfo", {}), **guestinfo}
    return {**options, "guestinfo": guestinfo}


def _file_name(nodeid: str) -> str:
    """A file name for a test, readable and its own."""
    import hashlib

    plain = re.sub(r"[^\w.-]+", "-", nodeid)[-NAME_LIMIT:].strip("-")
    return f"{plain}-{hashlib.sha256(nodeid.encode('utf-8', 'backslashreplace')).hexdigest()[:8]}.jsonl"


def _readable(recording: Recording) -> str:
    if not len(recording):
        return "no guest called this host"
    exits = len(recording) + recording.missing
    return (
        f"messages (at most the last {MESSAGES}):\n{recording.messages(MESSAGES) or 'none'}\n\n"
        f"exits (the last {min(exits, EXITS)} of {exits}):\n{recording.text(EXITS)}"
    )
