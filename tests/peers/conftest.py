"""What the peers need: Debian's open-vm-tools, the right to trace one's children, and on KVM or Xen a C compiler."""

from __future__ import annotations

import pytest

from vmtools.detect import look
from vmtools.sim import _tracer
from vmtools.sim.backdoor import Backdoor
from vmtools.sim.machine import Machine
from vmtools.sim.run import run
from vmtools.sim.tracer import TracingForbidden

from .original import Original
from .side_by_side import MissingError, Side, commands


@pytest.fixture(scope="session")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[Side, Side]:
    """open-vm-tools' commands and ours."""
    if not _tracer.SUPPORTED:
        pytest.skip("the simulated host traces programs on x86-64 Linux only")
    if look().is_vmware:
        pytest.skip("this machine's own VMware host answers before a tracer could")
    try:
        run(["true"], Backdoor(Machine()))
        return commands(tmp_path_factory.mktemp("peers"))
    except (TracingForbidden, MissingError) as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def theirs(sides: tuple[Side, Side]) -> Side:
    return sides[0]


@pytest.fixture(scope="session")
def ours(sides: tuple[Side, Side]) -> Side:
    return sides[1]


@pytest.fixture(scope="session")
def traced() -> None:
    """Programs can be run under the simulated host here."""
    if not _tracer.SUPPORTED:
        pytest.skip("the simulated host traces programs on x86-64 Linux only")
    if look().is_vmware:
        pytest.skip("this machine's own VMware host answers before a tracer could")
    try:
        run(["true"], Backdoor(Machine()))
    except TracingForbidden as forbidden:
        pytest.skip(str(forbidden))


@pytest.fixture(scope="session")
def original(traced: None) -> Original:
    """The other programs of open-vm-tools, as they are: they see VMware's CPUID."""
    return Original()
