"""What the commands share: output that survives a closed pipe, exit codes, an honest death by interrupt."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

OK = 0
REFUSED = 1
NO_HOST = 255


class OutputClosed(Exception):  # noqa: N818 - named for what happened
    """Nobody takes our output."""


def write(data: bytes, *, to_stderr: bool = False) -> None:
    """Write all of it, at once.

    :raises OutputClosed: standard output is closed or its reader gone; on standard error nobody could be told.
    """
    fd = 2 if to_stderr else 1
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        if not to_stderr:
            raise OutputClosed(error.strerror) from None


def complain(name: str, text: str) -> None:
    """One line on standard error."""
    write(f"{name}: {text}\n".encode("utf-8", "surrogateescape"), to_stderr=True)


def not_a_vm(called: str) -> int:
    """The original's words, for scripts that know them; ``called``: the name as it was called."""
    write(
        b"Error: " + os.fsencode(called) + b" must be run inside a virtual machine on a VMware hypervisor product.\n",
        to_stderr=True,
    )
    return NO_HOST


def guarded(action: Callable[[], int]) -> int:
    """Run a command to its exit status."""
    try:
        return action()
    except OutputClosed as closed:
        complain(os.path.basename(sys.argv[0]), f"standard output: {closed}")
        return REFUSED
    except KeyboardInterrupt:
        # Die of the interrupt, as whoever waits for us expects; channels are closed by now.
        import signal

        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        return 128 + signal.SIGINT
