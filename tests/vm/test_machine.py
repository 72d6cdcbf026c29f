"""The harness itself: what it says of a guest that fails, so that a failing test can be understood."""

from __future__ import annotations

import pytest

from .image import Image
from .machine import BootedLinux, GuestDied

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]


def test_jobs(linux: BootedLinux) -> None:
    done = linux.run("cat; echo $WORD; id -un; echo no >&2; exit 3", user="nobody", env={"WORD": "wörd"}, stdin="in\n")
    assert done[:3] == (3, "in\nwörd\nnobody\n", "no\n")
    assert linux.run("kill -SEGV $$").code == -11
    assert linux.run(["/no/such/program"]).code == 127
    assert linux.python("import sys; sys.stdout.buffer.write(bytes([0xff]) * 70000)").stdout == "\\xff" * 70000
    assert linux.facts["python"].startswith("3.11")


def test_a_guest_that_dies_shows_its_console(debian: Image) -> None:
    with BootedLinux(debian, {}, init="/no/such/init") as guest, pytest.raises(GuestDied, match="Kernel panic"):
        guest.run("true")


def test_a_guest_that_powers_off_in_mid_job(debian: Image) -> None:
    with BootedLinux(debian, {}) as guest, pytest.raises(GuestDied, match="it ended while running"):
        guest.run("echo o > /proc/sysrq-trigger; sleep 60")


def test_qemu_s_own_words_are_shown(debian: Image) -> None:
    with BootedLinux(debian, {}, machine="nonsense") as guest, pytest.raises(GuestDied, match="unsupported machine"):
        guest.run("true")


def test_a_job_that_never_ends(debian: Image) -> None:
    with BootedLinux(debian, {}) as guest, pytest.raises(GuestDied, match="took over 1 s: begun"):
        guest.run("echo begun; sleep 60", timeout=1)
