"""The tables of ``docs/sweep.md`` hold: run again, both commands end as it says."""

from __future__ import annotations

import pytest

from vmtools.sim.outcomes import FAULTS, OUTCOMES
from vmtools.sim.sweep import table

from .side_by_side import Side
from .sweep_tables import SUMMARY, TABLES, WIDTH, documented, swept

SLOW = {"checkpoint+", "never+"}
"""Faults that ours meets with patience: seconds for each exit.  Left out but in one table."""


def rows(lines: list[str], faults: list[str]) -> list[str]:
    """Those of a table that are about some faults, and the heads."""
    return [line for line in lines if line.split(" ")[0] in {"exit", "", *faults}]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", TABLES)
def test_as_documented(sides: tuple[Side, Side], name: str) -> None:
    faults = [fault for fault in FAULTS if fault not in SLOW or name == "ours" or TABLES[name].original]
    report = swept(TABLES[name], sides, faults)
    assert max(map(len, FAULTS)) == max(map(len, faults)), "else the columns would not be the document's"
    lines = documented(name)
    end = len(lines) - lines[::-1].index("")
    assert rows(lines[2:end], faults) == rows(table(report, WIDTH), faults)


@pytest.mark.parametrize("name", [name for name, entry in TABLES.items() if not entry.original])
def test_ours_never_crashes_hangs_or_leaks(name: str) -> None:
    """Whatever a host does, ours says why or has the answer; never ``NULL``."""
    lines = documented(name)
    found = {word for line in lines for word in line.split() if word in {outcome.upper() for outcome in OUTCOMES}}
    assert found <= {"WRONG"}
    assert not [line for line in lines if "unclear" in line]


def test_the_summary_is_of_the_tables() -> None:
    for row, name in zip(documented(SUMMARY)[2:], TABLES, strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[0] == name
        total = next(line for line in documented(name) if line.endswith(" runs")).split()[-2]
        assert cells[1] == total
        told = next(line for line in documented(name) if " answer, " in line).split(", ")
        assert {kind: int(cell) for kind, cell in zip(OUTCOMES, cells[2:], strict=True) if cell != "0"} == {
            kind: int(number) for number, kind in (item.split() for item in told)
        }
