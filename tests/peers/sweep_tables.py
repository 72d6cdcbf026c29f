"""The tables of ``docs/sweep.md``: open-vm-tools' rpctool and ours under the same faults.

``python -m tests.peers.sweep_tables`` runs both anew and writes the tables into the file, between the marks that are
there for each (``<!-- NAME -->`` … ``<!-- end -->``).
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vmtools.sim.outcomes import FAULTS, OUTCOMES
from vmtools.sim.personalities import backdoor
from vmtools.sim.sweep import Report, sweep
from vmtools.sim.testbench import report_lines

from .side_by_side import Side, commands, machine

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "sweep.md"
WIDTH = 120
ASK = ["vmware-rpctool", "info-get guestinfo.hello"]
SET = ["vmware-rpctool", "info-set guestinfo.hello again"]


SUMMARY = "summary"


class Table(NamedTuple):
    """One sweep: whose command, what it asks, of which host."""

    original: bool
    words: Sequence[str]
    personality: str


TABLES = {
    "open-vm-tools": Table(True, ASK, "vmware"),
    "ours": Table(False, ASK, "vmware"),
    "open-vm-tools, low bandwidth": Table(True, ASK, "vmware-lb"),
    "ours, low bandwidth": Table(False, ASK, "vmware-lb"),
    "open-vm-tools, setting": Table(True, SET, "vmware"),
    "ours, setting": Table(False, SET, "vmware"),
}


def swept(table: Table, sides: tuple[Side, Side], faults: Sequence[str] = FAULTS) -> Report:
    """Run one of them."""
    side = sides[0] if table.original else sides[1]
    path = f"{side.folder}{os.pathsep}{os.environ['PATH']}"
    return sweep(
        table.words,
        lambda plan: backdoor(table.personality, machine(), faults=plan),
        faults=faults,
        timeout=30.0,
        jobs=2,
        env={**os.environ, "LC_ALL": "C.UTF-8", **side.environment, "PATH": path},
    )


def documented(name: str) -> list[str]:
    """The lines of a table as they stand in the document."""
    found = re.search(_marked(name), DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        raise ValueError(f"{DOCUMENT} has no table {name!r}")
    return found[2].removeprefix("```\n").removesuffix("```\n").splitlines()


def summary(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """How many runs ended how, a row for each table: the original's beside ours."""
    heads = ["", "runs", *OUTCOMES]
    rows = [[name, *map(str, (sum(found.values()), *found.values()))] for name, found in counts.items()]
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]


def _marked(name: str) -> str:
    return rf"(<!-- {re.escape(name)} -->\n)(.*?)(<!-- end -->)"


def _put(text: str, name: str, lines: Sequence[str]) -> str:
    inside = "".join(f"{line}\n" for line in lines)
    text, count = re.subn(_marked(name), lambda found: found[1] + inside + found[3], text, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{DOCUMENT} has no place for {name!r}")
    return text


def main() -> None:
    """Write all tables anew."""
    text = DOCUMENT.read_text(encoding="utf-8")
    counts = {}
    with tempfile.TemporaryDirectory() as folder:
        sides = commands(Path(folder))
        for name, table in TABLES.items():
            print(f"sweeping {name}", file=sys.stderr)
            report = swept(table, sides)
            counts[name] = report.counts()
            text = _put(text, name, ["```", *report_lines(report, WIDTH), "```"])
    DOCUMENT.write_text(_put(text, SUMMARY, summary(counts)), encoding="utf-8")


if __name__ == "__main__":
    main()
