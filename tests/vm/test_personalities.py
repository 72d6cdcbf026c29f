"""Our host's QEMU personalities beside QEMU's device: the same calls, register by register."""

from __future__ import annotations

import json
import uuid

import pytest

from vmtools.constants import HB_MESSAGE, MAGIC, PORT, PORT_HIGH, Command, Message
from vmtools.sim.backdoor import NOBODY, PORT_IN, PORT_LOW, PORT_OUT
from vmtools.sim.inprocess import ADDRESS, NO_MEMORY, BufferMemory
from vmtools.sim.machine import Machine
from vmtools.sim.personalities import ABSPOINTER_COMMAND, ABSPOINTER_DATA, ABSPOINTER_STATUS, backdoor
from vmtools.sim.vmport import Mouse

from .machine import BootedLinux

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

DEVICES = {"linux": "qemu", "old_qemu": "qemu-old"}
"""The fixture with the real device: the personality that is to be like it."""

JUNK = 0xDEADBEEF_00000000
"""What stands in the upper halves, which the device may clear or leave."""

ALL_COMMANDS = range(111)
"""Those that exist on VMware end at 104."""


def call(command: int, bx: int = 0x11111111, *, ax: int = MAGIC, high: int = 0x5555) -> list[int]:
    words = (ax, bx, high << 16 | command, 0x77770000 | PORT, 0x22222222, 0x33333333, 0x44444444)
    return [JUNK | word for word in words]


def mouse() -> list[list[int]]:
    """Through the mouse's states, and out of them again: the device remembers."""
    orders = (Mouse.ENABLE, Mouse.ENABLE, 0x53424152, 0x4C455252, Mouse.DISABLE, Mouse.ENABLE)
    calls = [call(ABSPOINTER_STATUS)]
    for order in orders:
        calls += [call(ABSPOINTER_COMMAND, order), call(ABSPOINTER_STATUS)]
    for count in (0, 7, 4, 2, 1, 1):
        calls += [call(ABSPOINTER_DATA, count), call(ABSPOINTER_STATUS)]
    return calls


CALLS = [
    *(call(command) for command in ALL_COMMANDS),
    *(call(command, 0, high=0) for command in ALL_COMMANDS if command != ABSPOINTER_DATA),
    *(call(Command.MESSAGE, 0xC9435052, high=type_) for type_ in range(8)),
    *(call(command) for command in (0x10A, 0xFF0A, 0x11E)),
    *(call(Command.GETVERSION, ax=ax) for ax in (0, 5, MAGIC + 1, 0xFFFFFFFF)),
    *(call(1, ax=ax) for ax in (0, 5)),
    *mouse(),
]


@pytest.mark.parametrize("guest", DEVICES)
def test_like_the_real_device(request: pytest.FixtureRequest, guest: str) -> None:
    booted: BootedLinux = request.getfixturevalue(guest)
    done = booted.run(["python3", "/opt/programs/scan.py"], stdin=json.dumps(CALLS))
    assert (done.code, done.stderr) == (0, "")
    ours = backdoor(DEVICES[guest], Machine(memory_mb=512, machine_uuid=uuid.UUID(int=0)))
    answers = json.loads(done.stdout)
    assert len(answers) == len(CALLS)
    for asked, real in zip(CALLS, answers, strict=True):
        regs = asked.copy()
        assert ours.exit(PORT_LOW, regs, NO_MEMORY, NOBODY)
        assert [hex(word) for word in regs] == [hex(word) for word in real], [hex(word) for word in asked]


@pytest.mark.parametrize("guest", DEVICES)
def test_an_empty_high_bandwidth_port(request: pytest.FixtureRequest, guest: str) -> None:
    """What ``programs/instructions.py`` meets there."""
    booted: BootedLinux = request.getfixturevalue(guest)
    done = booted.run(["python3", "/opt/programs/instructions.py"])
    real = json.loads(done.stdout)
    ours = backdoor(DEVICES[guest], Machine())
    buffer = bytearray(8)
    for name, instruction, pointer in (("high out", PORT_OUT, "si"), ("high in", PORT_IN, "di")):
        regs = [MAGIC, HB_MESSAGE, 8, PORT_HIGH, ADDRESS, ADDRESS, 0]
        assert ours.exit(instruction, regs, BufferMemory(buffer), NOBODY)
        after = dict(zip(("ax", "bx", "cx", "dx", "si", "di", "bp"), regs, strict=True))
        assert real[name]["fault"] is None
        for register in ("ax", "bx", "cx", "dx", "bp"):
            assert after[register] == real[name][register], (name, register)
        assert after[pointer] == ADDRESS + 8
    assert buffer.hex() == real["bytes in"]


def test_messages_fail_at_open_and_nowhere_else() -> None:
    """Why a guest must judge OPEN alone: the other types, left in ECX, look like statuses of success."""
    ours = backdoor("qemu", Machine())
    statuses = {}
    for type_ in range(7):
        regs = call(Command.MESSAGE, high=type_)
        assert ours.exit(PORT_LOW, regs, NO_MEMORY, NOBODY)
        statuses[type_] = regs[2] >> 16 & 0xFFFF
    assert [type_ for type_, status in statuses.items() if status & 1] == [
        Message.SENDSIZE,
        Message.RECVSIZE,
        Message.RECVSTATUS,
    ]
