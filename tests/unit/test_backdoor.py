"""Single commands, the knock, and how steps are carried out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vmtools import backdoor, errors
from vmtools._gate import Frame
from vmtools.backdoor import HIGH_IN, HIGH_OUT, LOW, PAUSE, Backdoor, Version, carry_out
from vmtools.constants import MAGIC, MASK32, UNSUPPORTED, Command

from .hosts import Answering, Host, Tap, put_low, set_registers

if TYPE_CHECKING:
    from vmtools.backdoor import Steps

JUNK = 0xDEADBEEF << 32


@pytest.mark.parametrize("junk", [0, JUNK])
def test_a_command_and_its_answer(junk: int) -> None:
    def answer(form: int, frame: Frame, data: bytes | bytearray) -> None:
        set_registers(frame, [junk | value for value in (1, 2, 3, 4, 5, 6, 7)])

    gate = Tap(Answering(answer))
    frame = Backdoor(gate).call(Command.GETTIMEFULL, 0xAA, sub=0xBB)
    assert [frame.ax, frame.bx, frame.cx, frame.dx, frame.si, frame.di] == [1, 2, 3, 4, 5, 6]
    made = gate.exits[0]
    assert (made.form, made.ax, made.bx, made.cx) == (LOW, MAGIC, 0xAA, 0xBB002E)


@pytest.mark.parametrize(
    ("registers", "version", "product", "name"),
    [
        ((6, MAGIC, 2), 6, 2, "ESX"),
        ((6, MAGIC, 4), 6, 4, "Workstation"),
        ((6, MAGIC, 0), 6, 0, "unknown"),
        ((6, MAGIC, 77), 6, 77, "product 77"),
        ((6, MAGIC, 0xFFFF000A), 6, 0, "unknown"),  # a host that leaves ECX alone
        ((3235, MAGIC, 4), 3235, 4, "Workstation"),
        ((6 | JUNK, MAGIC | JUNK, 2 | JUNK), 6, 2, "ESX"),
    ],
)
def test_the_knock_is_answered(registers: tuple[int, int, int], version: int, product: int, name: str) -> None:
    def answer(form: int, frame: Frame, data: bytes | bytearray) -> None:
        frame.ax, frame.bx, frame.cx = registers

    gate = Tap(Answering(answer))
    found = Backdoor(gate).version()
    assert (found.version, found.product, found.product_name) == (version, product, name)
    made = gate.exits[0]
    assert (made.ax, made.bx, made.cx) == (MAGIC, ~MAGIC & MASK32, 0xFFFF000A)


@pytest.mark.parametrize(
    "registers",
    [
        {},  # all as it was
        {"ax": UNSUPPORTED},
        {"ax": UNSUPPORTED, "bx": MAGIC},
        {"ax": 6},
        {"ax": 6, "bx": 0},
        {"ax": 0, "bx": 0, "cx": 0},
        {"ax": UNSUPPORTED, "bx": UNSUPPORTED, "cx": UNSUPPORTED},
        {"ax": MAGIC, "bx": MAGIC - 1},
    ],
)
def test_the_knock_is_not_answered(registers: dict[str, int]) -> None:
    gate = Answering(lambda form, frame, data: put_low(frame, **registers))
    with pytest.raises(errors.NoDevice, match="nobody answers here"):
        Backdoor(gate).version()


def test_a_product_without_a_name_has_its_number() -> None:
    assert Version(6, 9).product_name == "product 9"


def test_each_kind_of_step_is_carried_out_and_the_result_returned() -> None:
    seen: list[tuple[int, bytes]] = []
    pauses: list[float] = []

    def answer(form: int, frame: Frame, data: bytes | bytearray) -> None:
        seen.append((form, bytes(data)))
        if form == HIGH_IN:
            assert isinstance(data, bytearray)
            data[:] = b"in"

    def steps() -> Steps[str]:
        buffer = bytearray(2)
        yield LOW, Frame(), None
        yield HIGH_OUT, Frame(), b"out"
        yield PAUSE, None, 0.25
        yield HIGH_IN, Frame(), buffer
        return buffer.decode()

    assert carry_out(Answering(answer), steps(), pause=pauses.append) == "in"
    assert seen == [(LOW, b""), (HIGH_OUT, b"out"), (HIGH_IN, b"\0\0")]
    assert pauses == [0.25]


@pytest.mark.parametrize(("deadline", "done"), [(None, 5), (3.5, 3), (0.0, 0), (100.0, 5)])
def test_after_the_deadline_no_step_is_begun(
    deadline: float | None, done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, ended = Host(), []

    def steps() -> Steps[None]:
        try:
            for _ in range(5):
                yield LOW, Frame(ax=MAGIC, cx=Command.GETVERSION), None
        finally:
            ended.append(True)

    # the time is the number of exits plus one
    monkeypatch.setattr(backdoor, "monotonic", lambda: host.exits + 1.0)
    if done == 5:
        carry_out(host.gate, steps(), deadline=deadline)
    else:
        with pytest.raises(errors.ChannelLost, match="within the time allowed"):
            carry_out(host.gate, steps(), deadline=deadline)
    assert host.exits == done
    assert ended == [True], "the generator is closed at once, not when somebody collects it"
