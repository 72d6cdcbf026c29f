"""Our guest half on every host that we can be, and under faults at random: it answers, or it says what is wrong."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vmtools import errors
from vmtools.rpci import Rpci
from vmtools.sim.backdoor import Backdoor, Guest, Memory
from vmtools.sim.faults import FaultPlan
from vmtools.sim.inprocess import InProcessGate, host
from vmtools.sim.personalities import PERSONALITIES

WITH_MESSAGES = [name for name, row in PERSONALITIES.items() if row.messages is not None]
VALUE = b"a value of some words"


def gate(personality: str, *faults: str) -> InProcessGate:
    plan = FaultPlan(faults, sleep=lambda _: None)
    return host({b"k": VALUE}, personality=personality, faults=plan)[1]


@pytest.mark.parametrize("personality", WITH_MESSAGES)
def test_values(personality: str) -> None:
    with Rpci(gate(personality)) as rpci:
        assert rpci.call(b"info-get guestinfo.k") == VALUE
        assert rpci.call(b"info-set guestinfo.k x").strip(b"\0") == b""
        assert rpci.call(b"info-get guestinfo.k") == b"x"
    assert not rpci.gate.backdoor.channels.open_channels  # type: ignore[attr-defined]


@pytest.mark.parametrize("personality", WITH_MESSAGES)
def test_refusals_are_understood(personality: str) -> None:
    """The vmport_rpc device sends them with a NUL at the end."""
    with Rpci(gate(personality)) as rpci, pytest.raises(errors.NoSuchValue) as refused:
        rpci.call(b"info-get guestinfo.none")
    assert refused.value.text.removesuffix(b"\0") == b"No value found"


@pytest.mark.parametrize("personality", ["qemu", "qemu-old"])
def test_no_messages(personality: str) -> None:
    with Rpci(gate(personality)) as rpci, pytest.raises(errors.NoMessageChannel):
        rpci.call(b"info-get guestinfo.k")


def test_no_host() -> None:
    with Rpci(gate("none")) as rpci, pytest.raises(errors.GateFaulted):
        rpci.call(b"info-get guestinfo.k")


@pytest.mark.parametrize("personality", WITH_MESSAGES)
def test_a_channel_that_the_host_reaped(personality: str) -> None:
    """On vmport_rpc the calls on it are echoes, of which some look like success."""
    link = gate(personality)
    with Rpci(link) as rpci:
        assert rpci.call(b"info-get guestinfo.k") == VALUE
        link.backdoor.channels.lose()  # type: ignore[attr-defined]
        assert rpci.call(b"info-get guestinfo.k") == VALUE


@pytest.mark.parametrize("personality", WITH_MESSAGES)
def test_many_calls_on_one_channel(personality: str) -> None:
    """vmport_rpc's ring of replies comes round every fourth call."""
    with Rpci(gate(personality)) as rpci:
        for number in range(9):
            value = b"%d" % number * (number + 1)
            rpci.call(b"info-set guestinfo.n " + value)
            assert rpci.call(b"info-get guestinfo.n") == value


class Noted(FaultPlan):
    """A plan that notes what it did."""

    done: list[str]

    def exit(self, backdoor: Backdoor, instruction: int, regs: list[int], memory: Memory, who: Guest) -> bool:
        """As :meth:`FaultPlan.exit`."""
        answered = super().exit(backdoor, instruction, regs, memory, who)
        if self.applied:
            self.done.append(self.applied)
        return answered


LIES = {"vmware": ({"size", "echo"},), "vmware-lb": ({"size"}, {"garbage"}), "vmport-rpc": ({"size"}, {"garbage"})}
"""What a host has to do, all of a set, for a wrong answer that no guest can notice.

In low bandwidth the last word hides how many of its bytes count, and garbage in mid-reply is as good as a reply.  In
high bandwidth the host itself notices, at RECVSTATUS, that it was read too little, unless it echoes that call.
"""


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1 << 32), st.floats(0.01, 0.3), st.sampled_from(WITH_MESSAGES))
@example(512, 0.25, "vmware")
def test_random_faults(seed: int, rate: float, personality: str) -> None:
    """Whatever strikes, a call gives the value or an error of ours, in one line."""
    plan = Noted([f"random:{seed}:{rate:.3f}"], sleep=lambda _: None)
    link = host({b"k": VALUE}, personality=personality, faults=plan)[1]
    with Rpci(link) as rpci:
        for _ in range(5):
            plan.done = []
            said = ""
            answer = VALUE
            try:
                answer = rpci.call(b"info-get guestinfo.k", timeout=0.2)
            except errors.VMToolsError as error:
                said = str(error)
                if not said or "\n" in said:
                    raise
            kinds = {word.partition(":")[0] for done in plan.done for word in done.split(",")}
            assert answer == VALUE or any(lie <= kinds for lie in LIES[personality])
    plan.strays.clear()
    plan.done = []
    link.backdoor.channels.lose()  # type: ignore[attr-defined]
    with Rpci(link) as rpci:
        assert rpci.call(b"info-get guestinfo.k") == VALUE
