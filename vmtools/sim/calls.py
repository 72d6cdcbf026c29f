"""Which registers of an exit say something: what the guest asks with them, what the host tells.

What a call does not define differs from guest to guest (EBX of RECVSIZE, the upper halves, a buffer's address) and
is not among them.  Comparing transcripts and replaying one both read these tables.
"""

from __future__ import annotations

from vmtools.constants import FLAG_HIGH, FLAG_OUT, MAGIC, MASK32, OPEN_COOKIE, UNSUPPORTED, Command, Message, Status
from vmtools.sim.backdoor import PORT_IN, PORT_LOW, PORT_OUT, RDPMC, VMCALL, VMMCALL
from vmtools.sim.channels import AX, BX, CX, DI, DX, SI

LOW, OUT, IN, COUNTER, OTHER = "low", "out", "in", "counter", "other"
"""The forms of an exit: low bandwidth, high bandwidth to and from the host, RDPMC, no backdoor call."""

_NAMES = ("ax", "bx", "cx", "dx", "si", "di", "bp")

MAY_DIFFER = (
    "when: the time of an exit, the clock's values in an answer, counters",
    "who: process, thread and program",
    "channel numbers, as long as each is used as the other's counterpart is",
    "cookies, as long as each goes where it belongs",
    "addresses of buffers",
    "the machine's UUID",
    "registers, or parts of them, that a call does not define",
    "the record of faults that were put; what they caused may not",
)
"""What is never a difference."""

OPTIONAL = {
    "knocks": "GETVERSION may come or not",
    "transport": "the port's instructions and hypercalls are the same",
    "polls": "a TCLO guest may ask more or less often while there is nothing for it",
}
"""What is none if the user says so: name, meaning."""

TIMES = frozenset({Command.GETTIME, Command.GETTIMEFULL, Command.GETTIMEFULL_WITH_LAG})
"""Commands whose results are the clock's."""

RESULTS: dict[int, tuple[int, ...]] = {
    Command.GETMHZ: (AX,),
    Command.GETVERSION: (AX, BX, CX),
    Command.GETGUIOPTIONS: (AX,),
    Command.GETSCREENSIZE: (AX,),
    Command.GETHWVERSION: (AX, BX),
    Command.GETUUID: (AX, BX, CX, DX),
    Command.GETMEMSIZE: (AX, BX),
    Command.GETTIME: (AX, BX, CX, DX),
    Command.STOPCATCHUP: (AX,),
    Command.GETHZ: (AX, BX, CX),
    Command.GETTIMEFULL: (AX, BX, CX, DX, SI),
    Command.GETTIMEFULL_WITH_LAG: (AX, BX, CX, DX, SI, DI),
    Command.GET_VCPU_INFO: (AX,),
    Command.GETBUILDNUM: (AX,),
}
"""Commands that take no argument, and the registers they answer in; of others every register counts."""

_ARGUMENTS = {
    Message.OPEN: "protocol",
    Message.SENDSIZE: "size",
    Message.SENDPAYLOAD: "data",
    Message.RECVPAYLOAD: "verdict",
    Message.RECVSTATUS: "verdict",
}
"""What EBX of a message call is; the other types have nothing there."""


def form(instruction: int, regs: list[int]) -> str:
    """Which form an exit has, told by what the guest set."""
    if instruction == RDPMC:
        return COUNTER
    if regs[AX] & MASK32 != MAGIC:
        return OTHER
    if instruction in (VMCALL, VMMCALL):
        flags = {0: LOW, FLAG_HIGH: IN, FLAG_HIGH | FLAG_OUT: OUT}
        return flags.get(regs[DX] & 0xFFFF, OTHER)
    return {PORT_LOW: LOW, PORT_OUT: OUT, PORT_IN: IN}.get(instruction, OTHER)


def command(instruction: int, regs: list[int]) -> int:
    """The command of a low-bandwidth call, else -1."""
    return regs[CX] & 0xFFFF if form(instruction, regs) == LOW else -1


def asked(instruction: int, regs: list[int], size: int = 4) -> dict[str, int]:
    """What the guest asks, by name.

    :param size: how many bytes of a payload call belong to the message: the rest is padding.
    """
    kind = form(instruction, regs)
    words = {name: word & MASK32 for name, word in zip(_NAMES, regs, strict=True)}
    if kind == COUNTER:
        return {"counter": words["cx"]}
    if kind == OTHER:
        return words
    told = {"channel": words["dx"] >> 16, "dx low": words["dx"] & 0xFFFF}
    if kind == OUT:
        return {**told, "bx": words["bx"], "size": words["cx"], "cookie high": words["bp"], "cookie low": words["di"]}
    if kind == IN:
        return {**told, "bx": words["bx"], "size": words["cx"], "cookie high": words["si"], "cookie low": words["bp"]}
    number = words["cx"] & 0xFFFF
    if number != Command.MESSAGE:
        port = {"dx low": words["dx"] & 0xFFFF}
        if number in RESULTS:
            return {"command": number, **port}
        return {"command": number, **port, **{name: words[name] for name in ("bx", "cx", "si", "di")}}
    type_ = words["cx"] >> 16
    if type_ == Message.OPEN:
        return {"type": type_, "protocol": words["bx"], "dx low": words["dx"] & 0xFFFF}
    told |= {"type": type_, "cookie high": words["si"], "cookie low": words["di"]}
    if type_ in _ARGUMENTS:
        told[_ARGUMENTS[type_]] = words["bx"] & _mask(size) if type_ == Message.SENDPAYLOAD else words["bx"]
    return told


def answered_in(instruction: int, before: list[int], after: list[int]) -> tuple[int, ...]:
    """The registers in which the host answers this call."""
    kind = form(instruction, before)
    if kind == COUNTER:
        return (AX, DX)
    if kind in (OUT, IN):
        return (AX, BX)
    if kind == OTHER or after[AX] & MASK32 == UNSUPPORTED:
        return (AX,)
    number = before[CX] & 0xFFFF
    if number != Command.MESSAGE:
        return RESULTS.get(number, (AX, BX, CX, DX, SI, DI))
    type_, status = before[CX] >> 16 & 0xFFFF, after[CX] >> 16
    if type_ == Message.OPEN and status & Status.SUCCESS:
        return (AX, CX, DX, SI, DI) if before[BX] & OPEN_COOKIE else (AX, CX, DX)
    carries = type_ == Message.RECVPAYLOAD or (type_ == Message.RECVSIZE and status & Status.DORECV)
    return (AX, BX, CX, DX) if carries and status & Status.SUCCESS else (AX, CX, DX)


def told(instruction: int, before: list[int], after: list[int], size: int = 4) -> dict[str, int]:
    """What the host tells, by name; the clock's values not at all.

    :param size: as for :func:`asked`.
    """
    places = answered_in(instruction, before, after)
    words = {_NAMES[place]: after[place] & MASK32 for place in places}
    number = command(instruction, before)
    if form(instruction, before) == COUNTER:
        return {}
    if words.get("ax") != UNSUPPORTED and number in TIMES:
        return {"ax": MAGIC} if number != Command.GETTIME else {}
    if words.get("ax") != UNSUPPORTED and number == Command.GETUUID:
        return {}
    if number == Command.MESSAGE and "dx" in words:
        type_ = before[CX] >> 16 & 0xFFFF
        high, words["dx low"] = words["dx"] >> 16, words.pop("dx") & 0xFFFF
        words["type" if "bx" in words else "channel"] = high
        if type_ == Message.RECVPAYLOAD and "bx" in words:
            words["bx"] &= _mask(size)
        if type_ == Message.OPEN and "si" in words:
            words["cookie high"], words["cookie low"] = words.pop("si"), words.pop("di")
    return words


def pointer(instruction: int) -> int | None:
    """The register with the buffer's address of a string instruction, which moves on."""
    return {PORT_OUT: SI, PORT_IN: DI}.get(instruction)


def _mask(size: int) -> int:
    return (1 << 8 * max(0, min(size, 4))) - 1
