"""What the package takes for granted about processor, kernel and QEMU's device, seen on the real thing.

Source of each fact: the specification of the hypercalls, sections 3 to 5 and 8.  A kernel or QEMU that changes one is
found here, and not in a puzzling failure elsewhere.
"""

from __future__ import annotations

import errno
import json
import signal
from typing import Any

import pytest

from vmtools.constants import HB_MESSAGE, MAGIC, PORTS, UNSUPPORTED, VERSION

from .machine import BootedLinux

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

SI_KERNEL = 128
ILL_ILLOPN = 2
REFUSED_PORT = [signal.SIGSEGV, SI_KERNEL]
NO_SUCH_INSTRUCTION = [signal.SIGILL, ILL_ILLOPN]
ESX = 2
"""The product type that QEMU's device claims."""


def facts_of(guest: BootedLinux, user: str = "root") -> dict[str, Any]:
    done = guest.run(["python3", "/opt/programs/instructions.py"], user=user)
    assert (done.code, done.stderr) == (0, "")
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


@pytest.fixture(scope="module")
def facts(linux: BootedLinux) -> dict[str, Any]:
    return facts_of(linux)


def untouched(registers: dict[str, Any], **but: int) -> bool:
    """The registers are the program's own sentinels, ``but`` for these."""
    own = {"bx": 0x11111111, "si": 0x22222222, "di": 0x33333333, "bp": 0x44444444}
    return registers | own | but == registers


def test_no_hypervisor_we_know_is_announced(facts: dict[str, Any]) -> None:
    assert facts["signature"] == "TCGTCGTCGTCG"


def test_the_port_faults_without_a_grant_and_leaves_the_frame(facts: dict[str, Any]) -> None:
    assert facts["ungranted"]["fault"] == REFUSED_PORT
    assert untouched(facts["ungranted"], ax=MAGIC)


def test_no_fewer_than_four_ports_will_do(facts: dict[str, Any]) -> None:
    faults = [facts[f"{count} ports"]["fault"] for count in range(1, PORTS + 1)]
    assert faults == [REFUSED_PORT, REFUSED_PORT, REFUSED_PORT, None]


def test_the_device_answers_the_knock(facts: dict[str, Any]) -> None:
    assert untouched(facts["4 ports"], ax=VERSION, bx=MAGIC, cx=ESX)


def test_a_grant_is_for_the_thread_and_those_it_starts(facts: dict[str, Any]) -> None:
    assert facts["earlier thread"]["fault"] == REFUSED_PORT
    assert facts["later thread"]["fault"] is None


def test_a_revoked_grant_is_gone(facts: dict[str, Any]) -> None:
    assert facts["revoked"]["fault"] == REFUSED_PORT


@pytest.mark.parametrize("instruction", ["vmcall", "vmmcall"])
def test_hypercalls_do_not_exist(facts: dict[str, Any], instruction: str) -> None:
    assert facts[instruction]["fault"] == NO_SUCH_INSTRUCTION


def test_pseudo_counters_do_not_exist(facts: dict[str, Any]) -> None:
    assert facts["rdpmc"]["fault"] == REFUSED_PORT


def test_an_unknown_command_is_refused_in_eax_alone(facts: dict[str, Any]) -> None:
    assert untouched(facts["unknown command"], ax=UNSUPPORTED)


def test_the_missing_high_bandwidth_port_looks_like_success(facts: dict[str, Any]) -> None:
    for direction in ("high out", "high in"):
        assert facts[direction]["fault"] is None
        assert facts[direction]["bx"] == HB_MESSAGE
        assert facts[direction]["cx"] == 0
    assert facts["bytes in"] == "ff" * 8


def test_old_devices_leave_eax_at_an_unknown_command(old_qemu: BootedLinux) -> None:
    facts = facts_of(old_qemu)
    assert untouched(facts["4 ports"], ax=VERSION, bx=MAGIC)
    assert facts["unknown command"]["ax"] == MAGIC


def test_an_empty_port_reads_as_all_ones(deviceless: BootedLinux) -> None:
    assert untouched(facts_of(deviceless)["4 ports"], ax=UNSUPPORTED)


@pytest.mark.parametrize(("fixture", "user"), [("linux", "nobody"), ("locked_down", "root"), ("locked_down", "nobody")])
def test_grants_are_refused(request: pytest.FixtureRequest, fixture: str, user: str) -> None:
    guest: BootedLinux = request.getfixturevalue(fixture)
    facts = facts_of(guest, user)
    assert facts["ioperm"] == errno.EPERM
    assert facts["ungranted"]["fault"] == facts["earlier thread"]["fault"] == REFUSED_PORT
