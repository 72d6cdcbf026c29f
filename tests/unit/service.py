"""A guest service for tests of the host: polls TCLO as the specification has it, and answers from a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .naive_guest import TCLO, NaiveGuest

if TYPE_CHECKING:
    from collections.abc import Callable

    from vmtools.sim.backdoor import Backdoor

    Answer = bytes | Callable[[bytes], bytes]


class Service:
    """``heard``: what the host asked, in order; ``answers``: by command, ``OK `` for what is not there."""

    def __init__(self, backdoor: Backdoor, app: bytes = b"toolbox", answers: dict[bytes, Answer] | None = None) -> None:
        self.backdoor = backdoor
        self.app = app
        self.heard: list[bytes] = []
        self.answers: dict[bytes, Answer] = {
            b"reset": b"OK ATR " + app,
            b"OS_PowerOn": self.change_state(3),
            b"OS_Resume": self.change_state(4),
            **(answers or {}),
        }
        self._reply = b""
        self.start()

    def change_state(self, number: int) -> Callable[[bytes], bytes]:
        """Answer a power operation, and report at once that it is done."""

        def answer(message: bytes) -> bytes:
            self.rpc(b"tools.os.statechange.status 1 %d\0" % number)
            return b"OK "

        return answer

    def start(self) -> None:
        """Open a channel: at first, and when the last is lost."""
        self.guest = NaiveGuest(self.backdoor)
        self.guest.open(TCLO)
        self._reply = b""

    def poll(self) -> bytes | None:
        """Send the last answer, take the next message."""
        self.guest.send(self._reply)
        message = self.guest.receive()
        self._reply = b""
        if message is not None:
            self.heard.append(message)
            answer = self.answers.get(message.partition(b" ")[0], b"OK ")
            self._reply = answer if isinstance(answer, bytes) else answer(message)
        return message

    def settle(self) -> list[bytes]:
        """Poll until nothing is asked; what was."""
        before = len(self.heard)
        while self.poll() is not None:
            continue
        return self.heard[before:]

    def rpc(self, request: bytes) -> bytes:
        """A request by RPCI."""
        guest = NaiveGuest(self.backdoor)
        guest.open()
        reply = guest.rpc(request)
        guest.close()
        return reply
