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


class OutputClosed(Exception):
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
    """Run a command to its exit status.

    :raises KeyboardInterrupt: as it came, with nothing printed about it.
    """
    _hold_standard_files()
    try:
        return action()
    except OutputClosed as closed:
        complain(os.path.basename(sys.argv[0]), f"standard output: {closed}")
        return REFUSED
    except KeyboardInterrupt:
        # The interpreter closes what is open and dies of the signal, as whoever waits for us expects.
        sys.excepthook = lambda kind, error, trace: None
        raise


def _hold_standard_files() -> None:
    """What is closed must stay so, and not become the next file or socket that we open."""
    for fd, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, mode)  # the lowest free number; its use the wrong way round fails as if closed
