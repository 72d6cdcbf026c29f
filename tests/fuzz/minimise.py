"""The few inputs of many that take every branch that all of them take: what the repository keeps.

libFuzzer's own merge counts how often a branch is taken, too, and keeps ten times as many.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import vmtools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType
    from typing import Any

    Branch = tuple[str, int, int]

FOUND = "found-"
PACKAGE = str(Path(vmtools.__file__).parent)


def branches(one: Callable[[bytes], None], data: bytes) -> set[Branch]:
    """The steps from line to line that an input makes in the package."""
    taken: set[Branch] = set()

    def enter(frame: FrameType, event: str, argument: object) -> Any:
        file, last = frame.f_code.co_filename, 0
        if not file.startswith(PACKAGE):
            return None

        def step(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal last
            taken.add((file, last, frame.f_lineno))
            last = frame.f_lineno
            return step

        return step

    sys.settrace(enter)
    try:
        one(data)
    finally:
        sys.settrace(None)
    return taken


def minimise(one: Callable[[bytes], None], inputs: Iterable[bytes]) -> list[bytes]:
    """Those that add a branch to what the shorter ones take."""
    seen: set[Branch] = set()
    kept = []
    for data in sorted(set(inputs), key=lambda data: (len(data), data)):
        taken = branches(one, data)
        if not taken <= seen:
            seen |= taken
            kept.append(data)
    return kept


def rewrite(one: Callable[[bytes], None], kept: Path, *others: Path) -> None:
    """Minimise a folder of inputs together with others, in place; a name is the content's hash.

    What is called :data:`FOUND` once broke something, and stays.
    """
    files = [file for folder in (kept, *others) if folder.is_dir() for file in folder.iterdir()]
    wanted = minimise(one, [file.read_bytes() for file in files])
    for file in kept.iterdir():
        if not file.name.startswith(FOUND):
            file.unlink()
    for data in wanted:
        (kept / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
