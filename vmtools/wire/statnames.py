"""Numbers and names of guest statistics: ids, value types, units.

Specification 5.7; which type and unit a statistic has is as open-vm-tools 12.2 sends it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Type(IntEnum):
    """What a value is."""

    NIL = 1
    INT8 = 2
    UINT8 = 3
    INT16 = 4
    UINT16 = 5
    INT32 = 6
    UINT32 = 7
    INT64 = 8
    UINT64 = 9
    FLOAT = 10
    DOUBLE = 11
    STRING = 12
    BINARY = 13


WIDTHS = {kind: 1 << (kind - Type.INT8) // 2 for kind in range(Type.INT8, Type.UINT64 + 1)}
"""Bytes of an integer type."""

INTEGERS = frozenset(WIDTHS)
SIGNED = frozenset({Type.INT8, Type.INT16, Type.INT32, Type.INT64})
FLOATS = frozenset({Type.FLOAT, Type.DOUBLE})


class Unit(IntEnum):
    """What a value counts: a base, a scale and whether it is a rate, in one number; these are the ones in use."""

    NONE = 0x0001
    NUMBER = 0x0002
    BYTES = 0x0003
    KIB = 0x0803
    MIB = 0x1003
    PAGES = 0x8003
    HUGE_PAGES = 0x8803
    BYTES_PER_SECOND = 0x0043
    KIB_PER_SECOND = 0x0843
    PAGES_PER_SECOND = 0x8043
    PERCENT = 0x8002
    NUMBER_PER_SECOND = 0x0042
    SECONDS = 0x0004
    MILLISECONDS = 0x4004
    MICROSECONDS = 0x4804
    HERTZ = 0x0045


UNITS = {
    Unit.NONE: "",
    Unit.NUMBER: "",
    Unit.BYTES: "B",
    Unit.KIB: "KiB",
    Unit.MIB: "MiB",
    Unit.PAGES: "pages",
    Unit.HUGE_PAGES: "huge pages",
    Unit.BYTES_PER_SECOND: "B/s",
    Unit.KIB_PER_SECOND: "KiB/s",
    Unit.PAGES_PER_SECOND: "pages/s",
    Unit.PERCENT: "%",
    Unit.NUMBER_PER_SECOND: "/s",
    Unit.SECONDS: "s",
    Unit.MILLISECONDS: "ms",
    Unit.MICROSECONDS: "µs",
    Unit.HERTZ: "Hz",
}
"""How a person writes them."""


def unit_text(unit: int | None) -> str:
    """The unit as a person writes it: empty for none, the bare number for one not known here."""
    if unit is None:
        return ""
    return UNITS[Unit(unit)] if unit in UNITS else f"unit {unit:#06x}"


NAMES = {
    2: "guest.contextSwapRate",
    3: "guest.mem.activeFileCache",
    4: "guest.mem.free",
    5: "guest.mem.needed",
    6: "guest.mem.physUsable",
    7: "guest.page.inRate",
    8: "guest.page.outRate",
    9: "guest.swap.spaceRemaining",
    10: "guest.page.size",
    11: "guest.hugePage.size",
    12: "guest.hugePage.total",
    13: "guest.mem.neededReservation",
    14: "guest.swap.pageInRate",
    15: "guest.swap.pageOutRate",
    16: "guest.processCreationRate",
    17: "guest.swap.used",
    18: "guest.swap.filesCurrent",
    19: "guest.swap.filesMax",
    20: "guest.threadCreationRate",
    21: "guest.hugePage.free",
    22: "guest.mem.lowWaterMark",
    23: "guest.mem.active",
    24: "guest.mem.activeAnon",
    25: "guest.mem.available",
    26: "guest.mem.buffers",
    27: "guest.mem.cached",
    28: "guest.mem.committed",
    29: "guest.mem.dirty",
    30: "guest.mem.inactive",
    31: "guest.mem.inactiveAnon",
    32: "guest.mem.inactiveFile",
    33: "guest.mem.pinned",
    34: "guest.mem.slabReclaim",
    35: "guest.mem.swap.cached",
    36: "guest.page.directScanRate",
    37: "guest.page.faultRate",
    38: "guest.page.freeRate",
    39: "guest.page.majorFaultRate",
    40: "guest.page.stealRate",
    41: "guest.page.swapScanRate",
    42: "guest.swappiness",
    60: "guest.mem.total",
    61: "guest.cpu.runQueue",
    62: "guest.disk.requestQueue",
    63: "guest.disk.requestQueueAvg",
}
"""Names by id in the namespace ``_tools/v1``; 43 to 59 and 64 to 66 are Windows'."""


class Statistic(NamedTuple):
    """How a guest sends one."""

    id: int
    type: Type
    unit: Unit


LINUX = (
    Statistic(11, Type.UINT64, Unit.KIB),
    Statistic(6, Type.UINT64, Unit.KIB),
    Statistic(4, Type.UINT64, Unit.KIB),
    Statistic(3, Type.UINT64, Unit.KIB),
    Statistic(9, Type.UINT64, Unit.KIB),
    Statistic(12, Type.UINT64, Unit.HUGE_PAGES),
    Statistic(7, Type.DOUBLE, Unit.PAGES_PER_SECOND),
    Statistic(8, Type.DOUBLE, Unit.PAGES_PER_SECOND),
    Statistic(2, Type.DOUBLE, Unit.NUMBER_PER_SECOND),
    Statistic(10, Type.UINT64, Unit.BYTES),
    Statistic(5, Type.UINT64, Unit.KIB),
    Statistic(13, Type.UINT64, Unit.KIB),
    Statistic(25, Type.UINT64, Unit.KIB),
    Statistic(34, Type.UINT64, Unit.KIB),
    Statistic(26, Type.UINT64, Unit.KIB),
    Statistic(27, Type.UINT64, Unit.KIB),
    Statistic(60, Type.UINT64, Unit.KIB),
    Statistic(61, Type.UINT64, Unit.NUMBER),
    Statistic(62, Type.UINT64, Unit.NUMBER),
    Statistic(63, Type.DOUBLE, Unit.NUMBER),
)
"""What open-vm-tools for Linux sends, in its order."""
