"""Our simulated host in a whole Linux, beside the real device of the machine: another kernel and processor than the
machine's that the other tests run on (here both hypercall instructions trap, and an allowed IN finds a device).
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from .machine import BootedLinux

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

SIMULATED = {"version": 6, "product": "Workstation"}
"""What our host says to the knock; QEMU's device says ESX."""

RUN = "vmtools sim run --set guestinfo.hello=world --"


def knock(guest: BootedLinux, gate: str, *, user: str = "root", through: str = "") -> Any:
    done = guest.run(f"{through} {RUN} python3 /opt/programs/knock.py {gate} open", user=user)
    assert (done.code, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.parametrize("user", ["root", "nobody"])
@pytest.mark.parametrize("gate", ["port", "vmcall", "vmmcall"])
def test_the_device_beneath_is_not_reached(linux: BootedLinux, gate: str, user: str) -> None:
    assert knock(linux, gate, user=user) == {"gate": gate, **SIMULATED}


def test_a_grant_from_before_does_not_reach_the_device(linux: BootedLinux) -> None:
    assert knock(linux, "port", through="python3 /opt/programs/granted.py") == {"gate": "port", **SIMULATED}


def test_a_value_is_read(linux: BootedLinux) -> None:
    done = linux.run(f"{RUN} vmware-rpctool-py 'info-get guestinfo.hello'", user="nobody")
    assert done[:3] == (0, "world\n", "")


def test_threads_and_children_find_the_host(linux: BootedLinux) -> None:
    for name in ("threads", "inherit"):
        done = linux.run(f"{RUN} python3 /opt/programs/{name}.py")
        assert (done.code, done.stderr) == (0, "")
        assert set(json.loads(done.stdout).values()) == {6}
