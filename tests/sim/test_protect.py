"""What a program under the host may not do to this computer; asked of the kernel, never tried."""

from __future__ import annotations

import tempfile

import pytest

from vmtools.sim.protect import CAPABILITIES
from vmtools.sim.run import run

from .standin import StandIn

DANGEROUS = sum(1 << number for number in CAPABILITIES.values())


def capabilities(text: str) -> dict[str, int]:
    """The sets of ``/proc/PID/status``."""
    lines = [line.split() for line in text.splitlines() if line.startswith("Cap")]
    return {name.rstrip(":"): int(value, 16) for name, value in lines}


def mine() -> dict[str, int]:
    with open("/proc/thread-self/status", encoding="ascii") as file:
        return capabilities(file.read())


def its(*words: str, unprotected: bool = False) -> dict[str, int]:
    with tempfile.TemporaryFile("w+") as out:
        assert run([*words, "cat", "/proc/self/status"], StandIn(), stdout=out, unprotected=unprotected) == 0
        out.seek(0)
        return capabilities(out.read())


@pytest.mark.parametrize("words", [(), ("env",), ("sh", "-c", '"$@" & wait', "sh")])
def test_neither_clock_nor_power(tracing: None, words: tuple[str, ...]) -> None:
    """Nor its children; all other capabilities are as ours."""
    before = mine()
    found = its(*words)
    if before["CapEff"] & 1 << 8:  # CAP_SETPCAP: without it there is nothing to drop, and the set stays
        assert not found["CapBnd"] & DANGEROUS
    assert not found["CapEff"] & DANGEROUS
    assert found["CapEff"] | DANGEROUS == before["CapEff"] | DANGEROUS
    assert mine() == before, "the caller's own are as they were"


def test_who_asks_for_it_gets_it(tracing: None) -> None:
    assert its(unprotected=True) == mine()
