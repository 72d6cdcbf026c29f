"""VMCALL and VMMCALL: the one that traps here is offered, the other is served by breakpoint, and our guest takes it."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vmtools.constants import MAGIC
from vmtools.sim import _tracer
from vmtools.sim.backdoor import PORT_IN, PORT_LOW, PORT_OUT, VMCALL, VMMCALL, Backdoor
from vmtools.sim.disguise import Disguise, survey
from vmtools.sim.machine import Machine
from vmtools.sim.run import run
from vmtools.sim.transcript import Transcript, read

from .disguised import run_disguised
from .standin import Outcome, StandIn, run_captured

TRAPPING = [number for number in (VMCALL, VMMCALL) if _tracer.SUPPORTED and _tracer.hypercalls() >> number & 1]
NAMES = {VMCALL: "vmcall", VMMCALL: "vmmcall"}

TALK = """
import vmtools
from vmtools import gates
with vmtools.connect() as guest:
    guest.info_set("big", b"y" * 60000)
    assert guest.info_get("big") == b"y" * 60000
    assert guest.info_get("hello") == b"world"
print(gates.choose().name)
"""


def talk(machine: Machine, gate: str = "auto", program: str = TALK) -> tuple[str, set[int]]:
    """The gate that our guest took, and the instructions that the host saw."""
    lines = io.StringIO()
    backdoor = Backdoor(machine, transcript=Transcript(lines))
    environment = {**os.environ, "VMTOOLS_GATE": gate}
    reader, writer = os.pipe()
    with os.fdopen(reader) as answer:
        try:
            disguise = Disguise(machine.status(), dmi=False)
            words = [sys.executable, "-c", program]
            assert run(words, backdoor, disguise=disguise, env=environment, stdout=writer) == 0
        finally:
            os.close(writer)
        name = answer.read().strip()
    lines.seek(0)
    return name, {record.instruction for record in read(lines)}


def machine(**options: bool) -> Machine:
    return Machine(guestinfo={b"hello": b"world"}, **options)  # type: ignore[arg-type]


def test_one_of_them_traps(tracing: None) -> None:
    """On Intel and on AMD, under KVM or not: the other vendor's instruction is never carried out."""
    assert TRAPPING


def test_what_is_found_is_what_happens(tracing: None, guest: Path) -> None:
    """A child that executes one of them dies of it, exactly where the probe says so."""
    for number, mode in NAMES.items():
        status = subprocess.run([guest, mode, "0"], stdout=subprocess.DEVNULL, check=False).returncode
        assert (status in {-signal.SIGSEGV, -signal.SIGILL}) == (number in TRAPPING)


def test_our_guest_takes_the_offer(tracing: None) -> None:
    name, instructions = talk(machine())
    assert name == NAMES[TRAPPING[0]]
    assert instructions == {TRAPPING[0]}


@pytest.mark.parametrize("number", [VMCALL, VMMCALL])
def test_both_are_served(tracing: None, number: int) -> None:
    """High bandwidth and low; the one that does not trap by breakpoint."""
    assert talk(machine(), NAMES[number]) == (NAMES[number], {number})
    assert talk(machine(high_bandwidth=False), NAMES[number]) == (NAMES[number], {number})


def test_port_where_none_is_offered(tracing: None) -> None:
    assert talk(machine(hypercalls=False)) == ("port", {PORT_LOW, PORT_OUT, PORT_IN})


def test_port_for_who_asks_for_it(tracing: None) -> None:
    assert talk(machine(), "port") == ("port", {PORT_LOW, PORT_OUT, PORT_IN})


@pytest.mark.parametrize("mode", ["vmcall", "vmmcall"])
def test_host_without_them(tracing: None, guest: Path, mode: str) -> None:
    """As if they were executed here, without a host: the fault that it is, or nothing."""
    alone = subprocess.run([guest, mode, "0"], stdout=subprocess.PIPE, text=True, check=False)
    seen = run_disguised([str(guest), mode, "0"], machine=machine(hypercalls=False))
    assert (seen.status, seen.output) == (alone.returncode, alone.stdout)


@pytest.mark.parametrize("mode", ["vmcall", "vmmcall"])
def test_registers(tracing: None, guest: Path, mode: str) -> None:
    """GETVERSION, with each register's upper half as it was."""
    (words,) = run_disguised([str(guest), mode, "0"], machine=Machine(product=4, version=6)).words
    ax, bx, cx, dx, si, di, bp = words
    assert (ax, bx, cx) == (0x11111111_00000006, 0x22222222_00000000 | MAGIC, 0x33333333_00000004)
    assert (dx, si, di, bp) == (0x44444444_44440000, 0x55555555_55555555, 0x66666666_66666666, 0x77777777_77777777)


def test_without_a_disguise_only_what_traps_is_served(tracing: None, guest: Path) -> None:
    outcomes: dict[int, Outcome] = {n: run_captured([str(guest), NAMES[n], "0"], StandIn()) for n in NAMES}
    assert [n for n, outcome in outcomes.items() if outcome.host.calls] == TRAPPING


def test_survey(tracing: None) -> None:
    shown = survey()
    assert set(shown) == {"cpuid", "dmi", "hypercalls"}
    assert shown["hypercalls"] == f"{NAMES[TRAPPING[0]]} is offered"
    assert shown["cpuid"].startswith("as VMware's, by ")
