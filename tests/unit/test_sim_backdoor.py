"""Commands other than MESSAGE, and instructions that are none of the backdoor's."""

from __future__ import annotations

import uuid

import pytest

from vmtools.sim.backdoor import NOBODY, PORT_IN, PORT_LOW, PORT_OUT, RDPMC, VMCALL, VMMCALL, Backdoor
from vmtools.sim.clock import HostClock
from vmtools.sim.inprocess import NO_MEMORY, BufferMemory
from vmtools.sim.machine import Machine

from .naive_guest import JUNK, MAGIC, NaiveGuest

UUID = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
SENTINELS = {"bx": 0x11111111, "cx_high": 0x2222, "dx_high": 0x3333, "si": 0x44444444, "di": 0x55555555}


def machine() -> Machine:
    return Machine(
        product=2,
        hw_version=19,
        build=1234567,
        machine_uuid=UUID,
        memory_mb=5120,
        mhz=5000,
        bus_hz=66_000_000,
        screen=(1280, 800),
        clock=HostClock(wall=lambda: 0x1_2345_6789 * 1_000_000_000 + 250_000_000, monotonic=lambda: 0x10_0000_0001),
    )


LOW = 0x33330000 | 0x5658
TIME = {"bx": 250_000, "dx": 0x23456789, "si": 1}

CONTRACTS: list[tuple[str, int, dict[str, int]]] = [
    ("GETMHZ", 1, {"ax": 5000}),
    ("GETVERSION", 10, {"ax": 6, "bx": MAGIC, "cx": 2}),
    ("GETGUIOPTIONS", 13, {"ax": 0}),
    ("SETGUIOPTIONS", 14, {}),
    ("GETSCREENSIZE", 15, {"ax": 1280 << 16 | 800}),
    ("GETDEVICELISTELEMENT", 11, {"ax": 0}),
    ("TOGGLEDEVICE", 12, {"ax": 0}),
    ("GETHWVERSION", 17, {"ax": 19, "bx": MAGIC}),
    ("GETUUID", 19, {"ax": 0x33221100, "bx": 0x77665544, "cx": 0xBBAA9988, "dx": 0xFFEEDDCC}),
    ("GETMEMSIZE", 20, {"ax": 5120}),
    ("GETTIME", 23, {"ax": 0x23456789, "bx": 250_000, "cx": 1_000_000, "dx": 0}),
    ("STOPCATCHUP", 24, {}),
    ("GETHZ", 45, {"ax": 5_000_000_000 & 0xFFFFFFFF, "bx": 1, "cx": 66_000_000}),
    ("GETTIMEFULL", 46, {**TIME, "cx": 1_000_300}),
    ("GETTIMEFULL_WITH_LAG", 55, {**TIME, "cx": 1_000_000, "di": 300}),
    ("GET_VCPU_INFO", 68, {"ax": 8}),
    ("GETBUILDNUM", 100, {"ax": 1234567}),
    ("unknown", 101, {"ax": 0xFFFFFFFF}),
    ("none", 0, {"ax": 0xFFFFFFFF}),
    ("none", 0xFFFF, {"ax": 0xFFFFFFFF}),
]


@pytest.mark.parametrize("form", ["port", "vmcall", "junk"])
@pytest.mark.parametrize(("name", "number", "changes"), CONTRACTS)
def test_register_contracts(name: str, number: int, changes: dict[str, int], form: str) -> None:
    vm = machine()
    vm.interrupt_lag_us = 300
    guest = NaiveGuest(Backdoor(vm), hypercall=form == "vmcall", junk=form == "junk")
    after = guest.low(number, **SENTINELS)
    port = 0 if form == "vmcall" else 0x5658
    expected = {
        "ax": MAGIC, "bx": 0x11111111, "cx": 0x22220000 | number, "dx": 0x33330000 | port,
        "si": 0x44444444, "di": 0x55555555, "bp": 0, **changes,
    }  # fmt: skip
    upper = JUNK if form == "junk" else 0
    assert after._asdict() == {key: word | (upper if key != "bp" else 0) for key, word in expected.items()}


def test_gui_options_and_catch_ups_are_kept() -> None:
    vm = machine()
    guest = NaiveGuest(Backdoor(vm))
    guest.low(14, 0x400)
    assert guest.low(13).ax == 0x400
    guest.low(24)
    assert vm.catch_ups_stopped == 1


@pytest.mark.parametrize(
    ("instruction", "port"),
    [
        (PORT_LOW, 0x5659),
        (PORT_LOW, 0x60),
        (PORT_OUT, 0x5658),
        (PORT_IN, 0x5658),
        (PORT_IN, 0x3F8),
        (6, 0x5658),
        (-1, 0),
    ],
)
def test_other_ports_and_instructions_fault(instruction: int, port: int) -> None:
    regs = [MAGIC, 1, 10, port, 4, 5, 6]
    before = regs.copy()
    assert not Backdoor(machine()).exit(instruction, regs, NO_MEMORY, NOBODY)
    assert regs == before


@pytest.mark.parametrize("instruction", [PORT_LOW, VMCALL, VMMCALL])
def test_without_the_magic_nothing_is_answered(instruction: int) -> None:
    regs = [JUNK | 5, 1, 10, 0x5658 if instruction == PORT_LOW else 0, 4, 5, 6]
    assert Backdoor(machine()).exit(instruction, regs, NO_MEMORY, NOBODY)
    assert regs == [JUNK | 0xFFFFFFFF, 1, 10, regs[3], 4, 5, 6]


@pytest.mark.parametrize("flags", [2, 4, 5, 7, 0x5658, 0x5659, 0xFFFF])
def test_hypercall_flags_that_mean_nothing(flags: int) -> None:
    regs = [MAGIC, 1, 10, flags, 4, 5, 6]
    assert Backdoor(machine()).exit(VMCALL, regs, NO_MEMORY, NOBODY)
    assert regs == [0xFFFFFFFF, 1, 10, flags, 4, 5, 6]


@pytest.mark.parametrize(("ax", "bx"), [(0, 0x10000), (MAGIC, 0), (MAGIC, 0x10001), (MAGIC, 0x20000)])
@pytest.mark.parametrize("instruction", [PORT_OUT, PORT_IN])
def test_high_bandwidth_calls_that_are_no_message(instruction: int, ax: int, bx: int) -> None:
    buffer = bytearray(b"kept")
    regs = [ax, bx, 4, 0x5659, 0x7000_0000_1000, 0x7000_0000_1000, 6]
    assert Backdoor(machine()).exit(instruction, regs, BufferMemory(buffer), NOBODY)
    assert (regs[0], regs[1], regs[2], bytes(buffer)) == (0xFFFFFFFF, 0, 0, b"kept")


def test_a_string_instruction_that_moves_nothing_reaches_nobody() -> None:
    regs = [0, 7, 0, 0x5659, 1, 2, 3]
    assert Backdoor(machine()).exit(PORT_OUT, regs, NO_MEMORY, NOBODY)
    assert regs == [0, 7, 0, 0x5659, 1, 2, 3]


@pytest.mark.parametrize(
    ("index", "value"),
    [(0x10000, 0x50_0000_0005), (0x10001, 0x10_0000_0001), (0x10002, 0x10_0000_0001), (0x10003, 0x50_0000_0005)],
)
def test_pseudo_counters(index: int, value: int) -> None:
    regs = [JUNK, 1, JUNK | index, JUNK, 4, 5, 6]
    assert Backdoor(machine()).exit(RDPMC, regs, NO_MEMORY, NOBODY)
    assert regs == [value & 0xFFFFFFFF, 1, JUNK | index, value >> 32, 4, 5, 6]


@pytest.mark.parametrize("index", [0, 1, 0xFFFF, 0x10004, 0x20000])
def test_other_counters_fault(index: int) -> None:
    assert not Backdoor(machine()).exit(RDPMC, [0, 0, index, 0, 0, 0, 0], NO_MEMORY, NOBODY)
