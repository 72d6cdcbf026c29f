"""The commands in a real Linux: what they say and how they end with half a host, with none, or without privilege."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .machine import BootedLinux, Result

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

PORT = {"VMTOOLS_GATE": "port"}
WITHOUT_IOPERM = "python3 /opt/programs/without_ioperm.py"

REFUSALS = [  # guest, user, environment, what runs the command, the kind of error
    ("linux", "root", PORT, "", "NoMessageChannel"),
    ("linux", "root", {}, "", "OtherHypervisor"),
    ("linux", "nobody", {}, "", "OtherHypervisor"),
    ("linux", "nobody", PORT, "", "NoRawIO"),
    ("linux", "root", PORT, WITHOUT_IOPERM, "SeccompDenied"),
    ("linux", "root", {"VMTOOLS_GATE": "vmcall"}, "", "GateFaulted"),
    ("linux", "nobody", {"VMTOOLS_GATE": "vmmcall"}, "", "GateFaulted"),
    ("linux", "root", {"VMTOOLS_GATE": "nonsense"}, "", "GateUnavailable"),
    ("locked_down", "root", PORT, "", "LockedDown"),
    ("deviceless", "root", PORT, "", "NoDevice"),
    ("old_qemu", "root", PORT, "", "NoMessageChannel"),
    ("vmware_dmi", "root", {}, "", "NoMessageChannel"),
    ("vmware_dmi", "nobody", {}, "", "NoRawIO"),
]

every_refusal = pytest.mark.parametrize(
    ("guest", "user", "env", "through", "kind"),
    REFUSALS,
    ids=["-".join([row[0], row[1], row[2].get("VMTOOLS_GATE", "auto"), row[4]]) for row in REFUSALS],
    indirect=["guest"],
)


@pytest.fixture
def guest(request: pytest.FixtureRequest) -> BootedLinux:
    """The machine of this name."""
    booted: BootedLinux = request.getfixturevalue(request.param)
    return booted


def assert_no_scare(done: Result) -> None:
    """It ended by itself, with an exit code that says no, and whatever it has to say is a sentence or two."""
    assert done.code > 0
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 3


@every_refusal
def test_rpctool_is_refused_clearly(
    guest: BootedLinux, user: str, env: dict[str, str], through: str, kind: str
) -> None:
    done = guest.run(f"{through} vmware-rpctool-py 'info-get guestinfo.x'", user=user, env=env)
    assert_no_scare(done)
    assert done.stdout == ""
    assert done.stderr


@every_refusal
def test_doctor_names_the_reason(guest: BootedLinux, user: str, env: dict[str, str], through: str, kind: str) -> None:
    done = guest.run(f"{through} vmtools doctor --json", user=user, env=env)
    assert_no_scare(done)
    report = json.loads(done.stdout)
    assert report["error"]["kind"] == kind
    assert report["error"]["message"]
    assert report["error"]["help"]
    assert report["ok"] is report["messages"] is False
    assert report["gate"]["asked"] == env.get("VMTOOLS_GATE", "auto")
    assert report["privilege"]["rawio"] is (user == "root")


def test_doctor_sees_the_device(linux: BootedLinux) -> None:
    report = doctor(linux)
    assert report["host"] == {"version": 6, "product": 2, "product_name": "ESX"}
    assert report["gate"]["name"] == "port"
    assert report["cpuid"]["hypervisor"] is True
    assert report["cpuid"]["signature"] == "TCGTCGTCGTCG"
    assert report["cpuid"]["vmcall"] is report["cpuid"]["vmmcall"] is False  # the leaf is out of range
    assert report["privilege"]["seccomp"] == 0


def test_doctor_sees_lockdown_and_seccomp_and_firmware(
    linux: BootedLinux, locked_down: BootedLinux, vmware_dmi: BootedLinux
) -> None:
    assert doctor(locked_down)["privilege"]["lockdown"] == "integrity"
    assert doctor(linux, WITHOUT_IOPERM)["privilege"]["seccomp"] == 2
    dmi = doctor(vmware_dmi)["dmi"]
    assert dmi["sys_vendor"] == "VMware, Inc."
    assert dmi["product_serial"].startswith("VMware-56 4d")


def test_doctor_tells_people_what_to_do(linux: BootedLinux) -> None:
    done = linux.run("vmtools doctor", user="nobody", env=PORT)
    assert_no_scare(done)
    assert "CAP_SYS_RAWIO" in done.stdout + done.stderr


def doctor(guest: BootedLinux, through: str = "") -> dict[str, Any]:
    """Its report where the port is asked for, as root."""
    report: dict[str, Any] = json.loads(guest.run(f"{through} vmtools doctor --json", env=PORT).stdout)
    return report


def test_checkvm_finds_the_device(linux: BootedLinux) -> None:
    assert linux.run("vmware-checkvm-py", env=PORT)[:3] == (0, "VMware software version 6 (good)\n", "")
    assert linux.run("vmware-checkvm-py -p", env=PORT)[:3] == (0, "ESX Server\n", "")
    assert_no_scare(linux.run("vmware-checkvm-py", user="nobody", env=PORT))
