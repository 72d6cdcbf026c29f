"""``docs/transcript.schema.json`` and what is written: each line that a host writes is one that the schema allows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from vmtools.sim.faults import KINDS, FaultPlan
from vmtools.sim.machine import Machine
from vmtools.sim.personalities import PERSONALITIES, backdoor
from vmtools.sim.transcript import INSTRUCTIONS, REGISTERS, Transcript

from .naive_guest import TCLO, Faulted, NaiveGuest

DOCS = Path(__file__).resolve().parents[2] / "docs"
SCHEMA = json.loads((DOCS / "transcript.schema.json").read_text(encoding="utf-8"))

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
UNDERSTOOD = {
    *("$ref", "$defs", "$schema", "title", "description", "type", "required", "properties", "const", "enum"),
    *("pattern", "minimum", "oneOf"),
}


def faults_of(value: Any, schema: dict[str, Any], where: str = "$") -> list[str]:
    """In what a value breaks a schema, as far as this one goes."""
    assert set(schema) <= UNDERSTOOD, set(schema) - UNDERSTOOD
    if "$ref" in schema:
        return faults_of(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")], where)
    if "oneOf" in schema:
        fitting = [one for one in schema["oneOf"] if not faults_of(value, one, where)]
        return [] if len(fitting) == 1 else [f"{where}: fits {len(fitting)} of {len(schema['oneOf'])}"]
    if "const" in schema:
        return [] if value == schema["const"] else [f"{where}: not {schema['const']!r}"]
    wanted = TYPES[schema["type"]]
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        return [f"{where}: no {schema['type']}"]
    found = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where}: {value!r} is none of {schema['enum']}")
    if "pattern" in schema and not re.search(schema["pattern"], str(value)):
        found.append(f"{where}: {value!r} does not fit")
    if "minimum" in schema and value < schema["minimum"]:
        found.append(f"{where}: {value} is too small")
    if isinstance(value, dict):
        found += [f"{where}: no {key}" for key in schema.get("required", ()) if key not in value]
        for key, item in value.items():
            if key in schema["properties"]:
                found += faults_of(item, schema["properties"][key], f"{where}.{key}")
            else:
                found.append(f"{where}: {key} is not documented")
    return found


class Lines:
    """A file that checks what is written to it."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def write(self, text: str) -> int:
        assert text.endswith("\n")
        self.lines.append(json.loads(text))
        assert faults_of(self.lines[-1], SCHEMA) == []
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""


def record(personality: str = "vmware", *faults: str, high: bool = True, hypercall: bool = False) -> Lines:
    """Some of everything that a guest can do."""
    lines = Lines()
    host = backdoor(
        personality,
        Machine(guestinfo={b"k": b"\xff\0value"}),
        transcript=Transcript(lines),
        faults=FaultPlan(faults, sleep=lambda _: None),
    )
    guest = NaiveGuest(host, high=high, hypercall=hypercall, junk=True)
    for protocol in (0x49435052, TCLO, 5):
        try:
            guest.open(protocol)
            guest.rpc(b"info-get guestinfo.k")
            guest.close()
        except (AssertionError, Faulted):
            continue
    for command in range(0, 111, 3):
        try:
            guest.low(command)
        except Faulted:
            continue
    for instruction in range(6):
        try:
            guest.raw(instruction, 1, 2, 0x10000, 4, 5, 6, (1 << 64) - 1)
        except Faulted:
            continue
    return lines


@pytest.mark.parametrize("personality", PERSONALITIES)
@pytest.mark.parametrize("high", [False, True])
@pytest.mark.parametrize("hypercall", [False, True])
def test_what_is_written_fits(personality: str, high: bool, hypercall: bool) -> None:
    lines = record(personality, high=high, hypercall=hypercall).lines
    assert faults_of(lines[0], SCHEMA["$defs"]["header"]) == []
    assert len(lines) > 40
    assert all(faults_of(line, SCHEMA["$defs"]["exit"]) == [] for line in lines[1:])


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_with_faults_too(kind: str) -> None:
    assert any("fault" in line for line in record("vmware", f"{kind}@1+").lines)


def test_every_key_occurs() -> None:
    """So that the schema documents nothing that is never written."""
    seen: set[str] = set()

    def walk(value: Any, where: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                seen.add(f"{where}.{key}")
                walk(item, f"{where}.{key}")

    for lines in (record(), record("vmware", "lost@3"), record(hypercall=True)):
        for line in lines.lines[1:]:
            walk(line, "exit")
    for name, part in (("exit", "exit"), ("means", "meaning"), ("who", None)):
        where = "exit" if name == "exit" else f"exit.{name}"
        known = SCHEMA["$defs"]["exit"]["properties"]["who"] if part is None else SCHEMA["$defs"][part]
        assert {f"{where}.{key}" for key in known["properties"]} <= seen


def test_the_names_are_the_codes() -> None:
    defined = SCHEMA["$defs"]
    assert defined["exit"]["properties"]["insn"]["enum"] == list(INSTRUCTIONS.values())
    assert tuple(defined["registers"]["required"]) == REGISTERS == tuple(defined["registers"]["properties"])


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        ({"seq": 0}, "$.seq: 0 is too small"),
        ({"seq": True}, "$.seq: no integer"),
        ({"insn": "OUT"}, "$.insn: 'OUT' is none of"),
        ({"data": "a"}, "$.data: 'a' does not fit"),
        ({"before": {}}, "$.before: no ax"),
        ({"more": 1}, "$: more is not documented"),
    ],
)
def test_the_check_finds_what_is_wrong(damage: dict[str, Any], complaint: str) -> None:
    line = {**record().lines[1], **damage}
    assert any(fault.startswith(complaint) for fault in faults_of(line, SCHEMA["$defs"]["exit"]))


def test_the_guide_names_every_key() -> None:
    guide = (DOCS / "transcripts.md").read_text(encoding="utf-8")
    for key in SCHEMA["$defs"]["exit"]["properties"]:
        assert f"`{key}`" in guide
