"""A host that is a dict, where an Rpci would be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmtools import errors

if TYPE_CHECKING:
    from collections.abc import Callable


class Host:
    """What an Rpci does, over a dict; ``calls`` keeps each request with its ``repeat``."""

    def __init__(
        self, refuse: Callable[[bytes], errors.VMToolsError | None] = lambda request: None, /, **values: bytes
    ) -> None:
        self.values = {b"guestinfo." + key.replace("__", ".").encode(): value for key, value in values.items()}
        self.calls: list[tuple[bytes, bool | None]] = []
        self.timeout: float | None = None
        self.refuse = refuse
        self.closed = 0

    def call(self, request: bytes, *, repeat: bool | None = None, timeout: float | None = None) -> bytes:
        self.calls.append((request, repeat))
        self.timeout = timeout
        if error := self.refuse(request):
            raise error
        verb, _, rest = request.partition(b" ")
        if verb == b"info-get":
            if rest not in self.values:
                raise errors.NoSuchValue(b"No value found")
            return self.values[rest]
        if verb == b"info-set":
            key, _, value = rest.partition(b" ")
            self.values[key] = value
            return b""
        if verb == b"machine.id.get":
            return b"id-7\0"
        return b""

    def close(self) -> None:
        self.closed += 1

    @property
    def requests(self) -> list[bytes]:
        return [request for request, _ in self.calls]
