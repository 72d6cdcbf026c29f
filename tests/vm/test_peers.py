"""Debian's unmodified open-vm-tools and ours, called by the same names, in the same machine: they say the same.

Here nothing needs to be hidden from the originals: they refuse KVM's and Xen's signature, and this machine has TCG's.
"""

from __future__ import annotations

import pytest

from .machine import BootedLinux

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

ORIGINALS, LINKS = "/usr/bin", "/tmp/links"
GRANTED = ("python3", "/opt/programs/granted.py")  # the originals never ask for the port
SIMULATED = ("vmtools", "sim", "run", "--set", "guestinfo.hello=world", "--")
WAYS = {"nowhere": (), "granted": GRANTED, "simulated": SIMULATED}
"""Where the commands run: on a machine that answers nobody, on its device, under our simulated host."""


@pytest.fixture(scope="module")
def both(linux: BootedLinux) -> BootedLinux:
    """A machine where our commands have the originals' names in another folder."""
    made = linux.run(f"mkdir {LINKS} && vmtools install-links {LINKS}")
    assert made.code == 0, made.stderr
    return linux


def outcome(guest: BootedLinux, folder: str, through: tuple[str, ...], command: str, user: str) -> tuple[int, str, str]:
    name, *arguments = command.split(maxsplit=1)
    done = guest.run([*through, f"{folder}/{name}", *arguments], user=user)
    return done.code, done.stdout, done.stderr.replace(folder, "FOLDER")


@pytest.mark.parametrize(
    ("way", "user", "command", "code"),
    [
        ("nowhere", "root", "vmware-rpctool info-get guestinfo.hello", 255),
        ("nowhere", "nobody", "vmware-checkvm", 1),
        ("granted", "root", "vmware-rpctool", 1),
        ("granted", "root", "vmware-checkvm", 0),
        ("granted", "root", "vmware-checkvm -p", 0),
        ("simulated", "nobody", "vmware-rpctool info-get guestinfo.hello", 0),
        ("simulated", "nobody", "vmware-rpctool info-get guestinfo.nothing", 1),
        ("simulated", "root", "vmware-rpctool no-such-command", 1),
        ("simulated", "nobody", "vmware-checkvm -p", 0),
    ],
    ids=str,
)
def test_the_same_is_said(both: BootedLinux, way: str, user: str, command: str, code: int) -> None:
    original = outcome(both, ORIGINALS, WAYS[way], command, user)
    assert original[0] == code
    assert outcome(both, LINKS, WAYS[way], command, user) == original


def test_where_the_original_says_null_we_say_what_happened(both: BootedLinux) -> None:
    """A device without messages: the original has no words for a channel that can't be opened."""
    command = "vmware-rpctool info-get guestinfo.hello"
    assert outcome(both, ORIGINALS, GRANTED, command, "root") == (1, "", "NULL\n")
    code, stdout, stderr = outcome(both, LINKS, GRANTED, command, "root")
    assert (code, stdout) == (1, "")
    assert stderr == "RpcOut: Unable to open the communication channel\n"
