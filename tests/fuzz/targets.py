"""What is fuzzed: by name, a module with ``one(data)``, which raises where an invariant is broken."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

TARGETS = {
    "backdoor": "a hostile guest program: any exits, in any order, over any memory",
    "server": "hostile clients of the socket: any bytes, in any pieces",
    "wire": "any bytes for each decoder of vmtools.wire",
    "guest": "a hostile host: any answer to each exit of the guest side",
    "link": "a hostile host behind the socket: any bytes for the gate sim:SOCKET and the clients",
    "transcript": "damaged transcripts",
    "elf": "a hostile guest's program file, searched for instructions that are to be breakpoints",
    "values": "guestinfo values and OVF environments from a hostile host",
}
"""Name and what it attacks; the module of the same name in this folder has ``one``."""

CORPUS = Path(__file__).with_name("corpus")


def load(name: str) -> Callable[[bytes], None]:
    """The target's function."""
    one: Callable[[bytes], None] = import_module(f"tests.fuzz.{name}").one
    return one


def corpus(name: str) -> list[Path]:
    """The inputs that are kept in the repository: one for each thing that was once worth finding."""
    return sorted((CORPUS / name).iterdir())
