"""Byte layouts: pure functions that encode and decode, no I/O.  Guest and simulated host both may import these.

Every decoder takes any bytes and either gives a value or raises :class:`WireError`; every encoder raises the same for a
value that the layout can't hold.  Nothing is allocated by a length that was not compared with what is there.  Text is
``str`` as UTF-8 with surrogate escapes, so that a name which is no UTF-8 survives the way there and back.
"""


class WireError(ValueError):
    """Bytes that are no message of this layout, or a value that the layout can't hold; ``str()`` says which and why."""
