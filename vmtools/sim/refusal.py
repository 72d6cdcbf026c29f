"""How a host refuses: the words, and what raises them.

``Unknown command`` and ``No value found`` are VMware's (guests compare them), ``Permission denied`` is what its tools
print for a channel without privilege; the others are modelled on the public vmport_rpc device or our own.
"""

from __future__ import annotations

UNKNOWN = b"Unknown command"
NO_VALUE = b"No value found"
ONE_ARGUMENT = b"One and exactly one argument expected"
TWO_ARGUMENTS = b"Two and exactly two arguments expected"
BAD_ARGUMENT = b"Invalid argument"
DENIED = b"Permission denied"

DIGITS = 10
"""The longest decimal number that is read: an int from a hostile guest must not be long."""


class RefusedError(Exception):
    """The command is answered with "0 text"."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text


def text(argument: bytes) -> bytes:
    """An argument without the NUL that most guests count into the length (specification 5.0)."""
    return argument.removesuffix(b"\0")


def number(argument: bytes, limit: int = 0xFFFFFFFF) -> int:
    """A decimal argument; :raises RefusedError: it is none, or over the limit."""
    if not argument.isdigit() or len(argument) > DIGITS or int(argument) > limit:
        raise RefusedError(BAD_ARGUMENT)
    return int(argument)
