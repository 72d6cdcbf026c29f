"""A figure, its target, and the table that shows both."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any


@dataclass(frozen=True)
class Figure:
    """``at_most``, ``at_least``: the target, where there is one."""

    what: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def target(self) -> str:
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return "" if self.at_least is None else f">= {self.at_least:g}"

    @property
    def holds(self) -> bool | None:
        """None where there is no target."""
        if self.at_most is not None:
            return self.value <= self.at_most
        return None if self.at_least is None else self.value >= self.at_least

    @property
    def text(self) -> str:
        places = 0 if self.value == int(self.value) or self.value >= 1000 else 2
        return f"{self.value:.{places}f}"

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "holds": self.holds}


@dataclass(frozen=True)
class Section:
    """Figures that were measured together, and how; ``missing``: why there are none."""

    title: str
    how: str
    figures: Sequence[Figure] = ()
    missing: str = ""

    def as_json(self) -> dict[str, Any]:
        figures = [figure.as_json() for figure in self.figures]
        return {"title": self.title, "how": self.how, "missing": self.missing, "figures": figures}


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def table(sections: Iterable[Section]) -> str:
    """All of it as text, a line a figure."""
    lines = []
    for section in sections:
        lines += [section.title, f"  ({section.how})"]
        if section.missing:
            lines.append(f"  not measured: {section.missing}")
        for figure in section.figures:
            holds = {True: "holds", False: "MISSED", None: ""}[figure.holds]
            line = f"  {figure.what:<66} {figure.text:>9} {figure.unit:<8} {figure.target:>8}  {holds}"
            lines.append(line.rstrip())
        lines.append("")
    return "\n".join(lines)
