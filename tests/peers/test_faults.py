"""A host that fails in mid-call, and what the original and ours make of it.

The original prints ``NULL`` where the channel is lost, forgets an answer that it has because CLOSE failed, and restarts
transfers for ever.  Ours prints nothing but words, and ends.
"""

from __future__ import annotations

import pytest

from .side_by_side import Outcome, Side, machine

WORDS = ["vmware-rpctool", "info-get guestinfo.hello"]
STEPS = ("OPEN", "SENDSIZE", "HIGH-OUT", "RECVSIZE", "HIGH-IN", "RECVSTATUS", "CLOSE")
"""Our exits; the original knocks twice before."""

KNOCKS = 2
KINDS = ("checkpoint", "lost", "refused", "type", "size", "echo", "garbage", "never", "cookie")

ANSWER = (0, b"world\n", b"")
SEND = b"RpcOut: Unable to send the RPCI command\n"
RECEIVE = b"RpcOut: Unable to receive the result of the RPCI command\n"
FORMAT = b"RpcOut: Invalid format for the result of the RPCI command\n"
NULL = (1, b"", b"NULL\n")

MANY = 2000
"""Exits after which a command is said to have no end; one that restarts 32 times needs less than 100."""


def run_both(theirs: Side, ours: Side, *faults: tuple[str, int, str]) -> tuple[Outcome, Outcome]:
    """Both under the same faults: kind, step from 1, and what follows."""
    return (
        theirs.run(WORDS, machine(), faults=[f"{kind}@{at + KNOCKS}{rest}" for kind, at, rest in faults], most=MANY),
        ours.run(WORDS, machine(), faults=[f"{kind}@{at}{rest}" for kind, at, rest in faults], most=MANY),
    )


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", KINDS)
def test_one_fault(theirs: Side, ours: Side, kind: str, step: str) -> None:
    """Where the original succeeds ours does; where it fails, ours succeeds or says why."""
    original, mine = run_both(theirs, ours, (kind, STEPS.index(step) + 1, ""))
    if original.status == 0 or mine.status == 0:
        assert mine.printed == ANSWER
        assert original.printed == ANSWER or original.status == 1
    else:
        assert original.printed == mine.printed == (1, b"", original.stderr)
        assert original.stderr in (SEND, RECEIVE, FORMAT)


@pytest.mark.parametrize("step", STEPS)
def test_a_channel_that_is_lost(theirs: Side, ours: Side, step: str) -> None:
    """Wanted difference: the original prints NULL, even after the answer had come; ours asks on a new channel."""
    original, mine = run_both(theirs, ours, ("lost", STEPS.index(step) + 1, ""))
    assert original.printed == NULL
    assert mine.printed == ANSWER


@pytest.mark.parametrize("step", STEPS[:-1])
def test_channels_that_are_lost_for_good(theirs: Side, ours: Side, step: str) -> None:
    original, mine = run_both(theirs, ours, ("lost", STEPS.index(step) + 1, "+"))
    assert original.printed == NULL
    assert mine.printed == (1, b"", SEND)


@pytest.mark.parametrize("step", STEPS[:-1])
def test_a_host_that_stops_answering(theirs: Side, ours: Side, step: str) -> None:
    """Wanted difference: the original prints NULL, ours that no VMware host is here (any more)."""
    original, mine = run_both(theirs, ours, ("refused", STEPS.index(step) + 1, "+"))
    assert original.printed == NULL
    assert (mine.status, mine.stdout) == (255, b"")
    assert mine.stderr.startswith(b"Error: ./vmware-rpctool must be run inside a virtual machine")


@pytest.mark.parametrize("step", ["HIGH-OUT", "HIGH-IN"])
def test_checkpoints_without_end(theirs: Side, ours: Side, step: str) -> None:
    """Wanted difference: at each payload a checkpoint, and the original never ends."""
    first = STEPS.index(step) + 1
    original, mine = run_both(theirs, ours, *[("checkpoint", at, "") for at in range(first, MANY + 10, 2)])
    assert original.status is None, f"it ended: {original.printed}"
    assert len(original.records) == MANY
    assert mine.printed == (1, b"", RECEIVE)
    assert len(mine.records) < 100
