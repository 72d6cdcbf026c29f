"""What the extension takes it gives back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from vmtools.sim._tracer import Trace, decode, spawn

PAGE = 4096


def resident() -> int:
    """Resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def fail_to_spawn() -> None:
    with suppress(ValueError):
        spawn([b"x" * 500] * 50, [b"x" * 500] * 50, [b"x", b"\0"], b"/", (-1, -1, -1))


def fail_to_read() -> None:
    with suppress(OSError):
        Trace().read(1, 100_000)


def fail_to_answer() -> None:
    with suppress(ValueError, OverflowError):
        Trace().answer([0, 1, 2])
    with suppress(ValueError, OverflowError):
        Trace().answer([-1] * 7)


@pytest.mark.parametrize(
    ("call", "times"),
    [
        (lambda: decode(b"\xf3\x6e", 64), 100_000),
        (fail_to_spawn, 3_000),
        (fail_to_read, 10_000),
        (fail_to_answer, 20_000),
        (lambda: Trace().registers(), 50_000),
        (lambda: Trace().wait(), 20_000),
    ],
    ids=["decode", "spawn", "read", "answer", "registers", "wait"],
)
def test_memory_is_flat(call: Callable[[], object], times: int) -> None:
    for _ in range(times // 10):
        call()
    before = resident()
    for _ in range(times):
        call()
    assert resident() - before < 256 * 1024
