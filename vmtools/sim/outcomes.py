"""How a program may end under a fault, and what a sweep puts to it: the tables of :mod:`vmtools.sim.sweep`."""

from __future__ import annotations

OUTCOMES = {
    "answer": "the exit status and the output are those of the run without a fault",
    "error": "an exit status that says failure, and words on standard error or output that say why",
    "unclear": "an exit status that says failure, and no words, or none but NULL",
    "wrong": "exit status 0, and another output than without the fault",
    "crash": "ended by a signal, or by an exception that nobody caught (a traceback of Python, a panic of Go)",
    "hang": "no end within the time allowed, or a hundred times as many exits as without the fault",
    "leak": "ended otherwise well, and left a channel open that it never tried to close",
}
"""How a run may end, the best first."""

FAILURES = ("crash", "hang", "leak")
"""What makes the exit status of the command 1, by default."""

FAULTS = (
    *("checkpoint", "checkpoint+", "lost", "lost+", "refused", "refused+", "echo", "echo+"),
    *("type", "size:0", "size:-1", "size:+1", "size:0xffffffff", "garbage", "never", "never+", "cookie", "slow:20ms"),
)
"""What is put at each exit, as ``KIND[+][:VALUE]``; ``+``: at all later exits too."""

TIMEOUT = 10.0
"""Seconds that a run may take."""
