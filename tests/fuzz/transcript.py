"""Damaged transcripts: records or a TranscriptError, and what is shown is one printable line each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.fuzz.source import Source, says_why
from vmtools.sim.transcript import INSTRUCTIONS, NAME, REGISTERS, TranscriptError, exchanges, operations, read, show

if TYPE_CHECKING:
    from typing import Any

HEADER = json.dumps({"transcript": NAME, "version": 1, "started": 0.0}) + "\n"
WORDS: tuple[Any, ...] = (
    "0x0", "0x564d5868", "0x5658", "0x5659", "0x1001e", "0x3001e", "0xa", "0x10000", "0x83001e", "0xc9435052",
    "0x81001e", "0x1", "0xffffffffffffffff", "-0x1", "0x" + "f" * 5000, "zz", "", 5, None, [], 1e999,
)  # fmt: skip
NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 1e999, -1e999, float("nan"), 10**400, "7", "1" * 5000, "x", None, [], {}, True, 1 << 70,
)  # fmt: skip
MOST_RECORDS = 30


def _registers(source: Source) -> dict[str, Any]:
    kind = source.below(16)
    return {
        name: hex(source.number(4)) if kind == 15 else source.choice(WORDS[: 13 if kind else None])
        for name in REGISTERS[: 7 if kind != 14 else source.below(8)]
    }


def _record(source: Source) -> dict[str, Any]:
    insn = source.choice([*INSTRUCTIONS.values(), *NUMBERS])
    record = {
        "seq": source.choice(NUMBERS[: None if source.below(8) == 7 else 2]),
        "time": source.choice(NUMBERS[: None if source.below(8) == 7 else 2]),
        "who": {key: source.choice(NUMBERS) for key in ("pid", "tid", "name")[: source.below(4)]},
        "insn": insn,
        "before": _registers(source),
        "after": _registers(source),
        "answered": source.flag(),
        "data": source.choice(("", "aGVsbG8=", "!", "AAAA", None, 5)),
        "fault": source.choice(("", "lost", None, "\x1b[2J\n")),
    }
    if source.below(8) == 7:
        record[source.choice(sorted(record))] = source.choice(NUMBERS)
        record.pop(source.choice(sorted(record)))
    return record


def one(data: bytes) -> None:
    source = Source(data)
    lines = [HEADER]
    if source.flag():
        lines += source.rest().decode("utf-8", "replace").splitlines(keepends=True)
    else:
        while not source.empty and len(lines) < MOST_RECORDS:
            lines.append(json.dumps(_record(source)) + "\n")
    try:
        records = list(read(lines[source.below(2) :]))
    except TranscriptError as error:
        says_why(error)
        return
    shown = list(show(records))
    assert len(shown) == len(records)
    assert all(line.isprintable() for line in shown), "a line can do harm to a terminal"
    assert len(operations(records)) <= len(records)
    assert len(exchanges(records)) <= len(records)
