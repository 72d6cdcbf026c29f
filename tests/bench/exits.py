"""Exits: how often a command or a call leaves the guest, counted in the host's transcript."""

from __future__ import annotations

import io
import sys
import tempfile
from typing import TYPE_CHECKING

from tests.peers.side_by_side import commands, machine
from vmtools.sim.backdoor import Backdoor
from vmtools.sim.run import run
from vmtools.sim.transcript import Transcript, read

from .figures import Figure, Section

if TYPE_CHECKING:
    from pathlib import Path

TITLE = "Exits (traps into the host)"
HOW = "counted in the transcripts of one run each under the simulated host"

CALLS = """
import sys
from vmtools import Rpci
rpci = Rpci()
for _ in range(int(sys.argv[1])):
    rpci.call(sys.argv[2].encode())
"""


def calls(count: int, request: str, values: dict[bytes, bytes]) -> int:
    """Exits of a program that makes so many calls on one channel."""
    lines = io.StringIO()
    host = Backdoor(machine(guestinfo=values), transcript=Transcript(lines))
    with tempfile.TemporaryFile() as nothing:
        status = run([sys.executable, "-c", CALLS, str(count), request], host, stdin=nothing)
    if status:
        raise RuntimeError(f"a program that calls ended with status {status}")
    lines.seek(0)
    return len(list(read(lines)))


def one_more(request: str, values: dict[bytes, bytes]) -> int:
    """Exits of one call on a channel that is open."""
    return calls(2, request, values) - calls(1, request, values)


def measure(folder: Path) -> Section:
    theirs, ours = commands(folder)
    request = ["vmware-rpctool", "info-get guestinfo.hello"]
    values = {b"a": b"x", b"b": b"x" * (65536 - 2)}
    return Section(
        TITLE,
        HOW,
        [
            Figure("one info-get, process start to end", len(ours.run(request, machine()).records), at_most=7),
            Figure("the same, open-vm-tools' vmware-rpctool", len(theirs.run(request, machine()).records)),
            Figure("one call on an open channel", one_more("info-get guestinfo.a", values), at_most=5),
            Figure("the same, reading 64 KiB", one_more("info-get guestinfo.b", values), at_most=5),
            Figure("the same, writing 64 KiB", one_more("info-set guestinfo.c " + "x" * 65515, values), at_most=5),
        ],
    )
