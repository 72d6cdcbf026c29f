"""Our package knocks at a real device in a real Linux, with and without all that it can lack."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .machine import BootedLinux

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

OPENED = {"gate": "port", "version": 6, "product": "ESX"}
WITHOUT_IOPERM = ("python3", "/opt/programs/without_ioperm.py")
WITHOUT_RAWIO = ("setpriv", "--inh-caps", "-sys_rawio", "--bounding-set", "-sys_rawio")
IN_USER_NAMESPACE = ("unshare", "--user", "--map-root-user")


def program(guest: BootedLinux, name: str, *arguments: str, through: tuple[str, ...] = (), user: str = "root") -> Any:
    """What one of the programs printed, when run by way of the command ``through``."""
    done = guest.run([*through, "python3", f"/opt/programs/{name}.py", *arguments], user=user)
    assert (done.code, done.stderr) == (0, "")
    return json.loads(done.stdout)


def refusal(guest: BootedLinux, *arguments: str, **how: Any) -> str:
    """The class of the error in which knocking ended; it speaks in one line, and so does its advice."""
    said = program(guest, "knock", *arguments, **how)
    assert "error" in said, said
    for sentence in (said["text"], said["help"]):
        assert sentence
        assert "\n" not in sentence
    name: str = said["error"]
    return name


def test_root_who_asks_for_the_port_is_answered(linux: BootedLinux) -> None:
    assert program(linux, "knock", "port") == OPENED


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_unasked_no_port_is_touched_with_privilege(linux: BootedLinux, user: str) -> None:
    assert refusal(linux, "auto", user=user) == "OtherHypervisor"


def test_nobody_lacks_the_capability(linux: BootedLinux) -> None:
    assert refusal(linux, "port", user="nobody") == "NoRawIO"


def test_root_may_lack_the_capability(linux: BootedLinux) -> None:
    assert refusal(linux, "port", through=WITHOUT_RAWIO) == "NoRawIO"


def test_root_of_a_user_namespace_lacks_the_capability_that_counts(linux: BootedLinux) -> None:
    assert refusal(linux, "port", through=IN_USER_NAMESPACE, user="nobody") == "NoRawIO"


def test_seccomp_may_forbid(linux: BootedLinux) -> None:
    assert refusal(linux, "port", through=WITHOUT_IOPERM) == "SeccompDenied"


def test_a_locked_down_kernel_forbids(locked_down: BootedLinux) -> None:
    assert refusal(locked_down, "port") == "LockedDown"


def test_lockdown_is_not_blamed_where_it_cannot_be_seen(locked_down: BootedLinux) -> None:
    """In a container securityfs is seldom mounted: then the kernel's refusal is all there is to tell."""
    unmounted = ("unshare", "--mount", "sh", "-c", 'umount /sys/kernel/security && exec "$@"', "sh")
    assert refusal(locked_down, "port", through=unmounted) == "NoPrivilege"


def test_nobody_answers_where_no_device_is(deviceless: BootedLinux) -> None:
    assert refusal(deviceless, "port") == "NoDevice"


@pytest.mark.parametrize("gate", ["vmcall", "vmmcall"])
@pytest.mark.parametrize("user", ["root", "nobody"])
def test_a_hypercall_that_the_processor_lacks_is_an_error_and_no_crash(
    linux: BootedLinux, gate: str, user: str
) -> None:
    assert refusal(linux, gate, user=user) == "GateFaulted"


def test_every_thread_gets_its_own_grant(linux: BootedLinux) -> None:
    heard = program(linux, "threads")
    assert len(heard) == 7
    assert set(heard.values()) == {6}


def test_the_grant_is_given_back(linux: BootedLinux) -> None:
    assert program(linux, "release") == {
        "before": True,
        "taken, not used": True,
        "used": False,
        "released": True,
        "released by an exception": True,
        "released in a thread": True,
        "used again": False,
    }


def test_a_grant_outlives_the_privilege_that_it_took(linux: BootedLinux) -> None:
    assert program(linux, "inherit") == {
        "older thread": "NoRawIO",
        "younger thread": 6,
        "same thread": 6,
        "child": 6,
        "parent of a child that released": 6,
        "after release": "NoRawIO",
    }


@pytest.mark.parametrize("name", ["threads", "release", "inherit"])
def test_faulthandler_sees_none_of_our_faults(linux: BootedLinux, name: str) -> None:
    program(linux, name, through=("env", "PYTHONFAULTHANDLER=1"))  # checks that nothing is on standard error


@pytest.mark.parametrize("guest", ["linux", "old_qemu"])
def test_a_device_without_messages_is_not_believed_to_open_a_channel(
    request: pytest.FixtureRequest, guest: str
) -> None:
    """Until QEMU 5.0 an unknown command left all registers alone: nothing says no, and nothing says yes."""
    booted: BootedLinux = request.getfixturevalue(guest)
    assert program(booted, "knock", "port")["version"] == 6
    assert refusal(booted, "port", "open") == "NoMessageChannel"


def test_firmware_that_says_vmware_is_reason_enough(vmware_dmi: BootedLinux) -> None:
    assert program(vmware_dmi, "knock", "auto") == OPENED
    assert refusal(vmware_dmi, "auto", user="nobody") == "NoRawIO"
