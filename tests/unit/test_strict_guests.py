"""Guests that compare whole register words, as tables: kernels that no looser host can please.

Each row is what the source of that guest compares (specification, hypercalls 7).  They run here as they are on our
``vmware`` personality, and are rejected by the others at the step where the real hosts fail them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from vmtools.constants import Command, Message
from vmtools.sim.backdoor import Backdoor
from vmtools.sim.machine import Machine
from vmtools.sim.personalities import PERSONALITIES, backdoor

from .naive_guest import MAGIC, RPCI, Faulted, NaiveGuest, Regs

REQUEST = b"info-get guestinfo.hello"
ANSWER = b"1 world"
LOW = 0xFFFFFFFF

SUCCESS = 0x00010000
SUCCESS_HB = 0x00810000
SUCCESS_DORECV_HB = 0x00830000


@dataclass(frozen=True)
class Strict:
    """One guest: what it sets, and which whole words it wants.  Steps without a word test the bit SUCCESS."""

    name: str
    cookie: bool
    high: bool
    ecx: dict[str, int]
    edx_low_zero: frozenset[str] = field(default_factory=frozenset)
    receives_status: bool = True
    returns_data_id: bool = False
    """EBX of RECVPAYLOAD and RECVSTATUS is what EDX's high half was after RECVSIZE, and not 1."""
    clock_differs_from_magic: bool = False
    """GETMHZ must not leave the magic number in EAX."""


STRICT = (
    Strict(
        "OpenBSD",
        cookie=True,
        high=True,
        ecx={"OPEN": SUCCESS, "CLOSE": SUCCESS, "RECVSTATUS": SUCCESS},
        edx_low_zero=frozenset({"OPEN"}),
        clock_differs_from_magic=True,
    ),
    Strict(
        "NetBSD",
        cookie=True,
        high=True,
        ecx={"OPEN": SUCCESS, "CLOSE": SUCCESS, "RECVSTATUS": SUCCESS},
        edx_low_zero=frozenset({"OPEN"}),
        clock_differs_from_magic=True,
    ),
    Strict(
        "FreeBSD",
        cookie=False,
        high=False,
        ecx={
            "OPEN": SUCCESS,
            "SENDSIZE": SUCCESS_HB,
            "SENDPAYLOAD": SUCCESS,
            "RECVSIZE": SUCCESS_DORECV_HB,
            "RECVPAYLOAD": SUCCESS,
            "CLOSE": SUCCESS,
        },
        receives_status=False,
        returns_data_id=True,
    ),
    Strict(
        "iPXE",
        cookie=False,
        high=False,
        ecx={
            "OPEN": SUCCESS,
            "SENDSIZE": SUCCESS_HB,
            "SENDPAYLOAD": SUCCESS,
            "RECVSIZE": SUCCESS_DORECV_HB,
            "RECVPAYLOAD": SUCCESS,
            "RECVSTATUS": SUCCESS,
            "CLOSE": SUCCESS,
        },
        returns_data_id=True,
    ),
)


class Rejected(Exception):
    """The guest does not take this host for VMware, or gives up the call; ``str()`` is the step."""


class StrictGuest:
    """One RPC as the guest's source makes it."""

    def __init__(self, rules: Strict, exits: Backdoor) -> None:
        self.rules = rules
        self.guest = NaiveGuest(exits, high=rules.high)

    def run(self, request: bytes) -> bytes:
        rules, guest = self.rules, self.guest
        try:
            self.knock()
            self.check("OPEN", guest.open(RPCI, cookie=rules.cookie))
            self.check("SENDSIZE", guest.message(Message.SENDSIZE, len(request)))
            if rules.high:
                self.check_high("HIGH-OUT", guest.high_out(request))
            else:
                for at in range(0, len(request), 4):
                    word = int.from_bytes(request[at : at + 4], "little")
                    self.check("SENDPAYLOAD", guest.message(Message.SENDPAYLOAD, word))
            reply = self.receive()
            self.check("CLOSE", guest.message(Message.CLOSE))
        except Faulted:
            raise Rejected("fault") from None
        return reply

    def knock(self) -> None:
        regs = self.guest.low(Command.GETVERSION, ~MAGIC & LOW, 0xFFFF)
        if regs.ax & LOW == LOW or regs.bx & LOW != MAGIC:
            raise Rejected("GETVERSION")
        if self.rules.clock_differs_from_magic and self.guest.low(Command.GETMHZ).ax & LOW == MAGIC:
            raise Rejected("GETMHZ")

    def receive(self) -> bytes:
        rules, guest = self.rules, self.guest
        regs = guest.message(Message.RECVSIZE)
        self.check("RECVSIZE", regs)
        data = bytearray(regs.bx & LOW)
        verdict = regs.dx >> 16 & 0xFFFF if rules.returns_data_id else 1
        if rules.high:
            self.check_high("HIGH-IN", guest.high_in(data))
        else:
            for at in range(0, len(data), 4):
                regs = guest.message(Message.RECVPAYLOAD, verdict)
                self.check("RECVPAYLOAD", regs)
                data[at : at + 4] = (regs.bx & LOW).to_bytes(4, "little")[: len(data) - at]
        if rules.receives_status:
            self.check("RECVSTATUS", guest.message(Message.RECVSTATUS, verdict))
        return bytes(data)

    def check(self, step: str, regs: Regs) -> None:
        word = regs.cx & LOW
        wanted = self.rules.ecx.get(step)
        if (word != wanted if wanted is not None else not word >> 16 & 1) or (
            step in self.rules.edx_low_zero and regs.dx & 0xFFFF
        ):
            raise Rejected(step)

    @staticmethod
    def check_high(step: str, regs: Regs) -> None:
        if regs.bx & LOW != SUCCESS:
            raise Rejected(step)


def host(personality: str) -> Backdoor:
    return backdoor(personality, Machine(guestinfo={b"hello": b"world"}))


@pytest.mark.parametrize("rules", STRICT, ids=lambda rules: rules.name)
@pytest.mark.parametrize("hypercall", [False, True])
def test_vmware_is_taken_for_vmware(rules: Strict, hypercall: bool) -> None:
    exits = host("vmware")
    for request in (REQUEST, REQUEST + b"\0", b"log x", b"info-get guestinfo.none"):
        strict = StrictGuest(rules, exits)
        strict.guest.hypercall = hypercall
        reply = strict.run(request)
        assert reply[:2] in (b"1 ", b"0 ")
    assert StrictGuest(rules, exits).run(REQUEST) == ANSWER
    assert not exits.channels.open_channels


@pytest.mark.parametrize("rules", STRICT, ids=lambda rules: rules.name)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 4093])
def test_vmware_whatever_the_length(rules: Strict, size: int) -> None:
    exits = backdoor("vmware", Machine(guestinfo={b"k": b"v" * size}))
    assert StrictGuest(rules, exits).run(b"info-get guestinfo.k") == b"1 " + b"v" * size


WHERE = {
    "vmware-lb": {"OpenBSD": "HIGH-OUT", "NetBSD": "HIGH-OUT", "FreeBSD": "SENDSIZE", "iPXE": "SENDSIZE"},
    "qemu": dict.fromkeys(("OpenBSD", "NetBSD", "FreeBSD", "iPXE"), "OPEN"),
    "qemu-old": {"OpenBSD": "GETMHZ", "NetBSD": "GETMHZ", "FreeBSD": "OPEN", "iPXE": "OPEN"},
    "vmport-rpc": dict.fromkeys(("OpenBSD", "NetBSD", "FreeBSD", "iPXE"), "OPEN"),
    "none": dict.fromkeys(("OpenBSD", "NetBSD", "FreeBSD", "iPXE"), "fault"),
}
"""At which step each of the looser hosts loses each guest."""


def test_every_personality_is_decided() -> None:
    assert {*WHERE, "vmware"} == set(PERSONALITIES)


@pytest.mark.parametrize("rules", STRICT, ids=lambda rules: rules.name)
@pytest.mark.parametrize("personality", WHERE)
def test_looser_hosts_are_rejected(rules: Strict, personality: str) -> None:
    with pytest.raises(Rejected) as rejected:
        StrictGuest(rules, host(personality)).run(REQUEST)
    assert str(rejected.value) == WHERE[personality][rules.name]
