"""A hostile host behind the socket: any bytes for the gate ``sim:SOCKET``, ``sim run --host`` and the control client.

What must hold: an answer or one of our errors, no buffer larger than a packet, and registers that fit.
"""

from __future__ import annotations

import socket as real
from types import SimpleNamespace
from typing import TYPE_CHECKING

from tests.fuzz.source import Source, says_why
from vmtools import errors, simgate
from vmtools._gate import Frame
from vmtools.constants import MAGIC
from vmtools.sim import client
from vmtools.sim.backdoor import NOBODY, PORT_IN, PORT_LOW, PORT_OUT
from vmtools.simgate import SocketGate
from vmtools.wire import simlink

if TYPE_CHECKING:
    from typing import Any

LARGEST = simlink.MAX_LENGTH + 4
HELLO = simlink.encode_json(simlink.HELLO, {"version": simlink.VERSION})


class HostileSocket:
    """Whatever is sent is swallowed; what is received are the input's bytes, in pieces; then the connection ends."""

    source = Source(b"")

    def __init__(self, *_: object) -> None:
        self.waiting = b""

    def settimeout(self, seconds: float | None) -> None:
        """Nothing here takes time."""

    def gettimeout(self) -> float | None:
        return None

    def connect(self, path: str) -> None:
        """Anybody may."""

    def close(self) -> None:
        """Nothing is open."""

    def sendall(self, data: bytes) -> None:
        assert len(data) <= 2 * LARGEST
        if self.source.byte() == 255:
            raise BrokenPipeError("Broken pipe")

    def recv(self, size: int, flags: int = 0) -> bytes:
        assert size <= LARGEST
        self._fill(size if flags & real.MSG_WAITALL else 1)
        data = self.waiting[:size]
        if not flags & real.MSG_PEEK:
            self.waiting = self.waiting[size:]
        return data

    def recv_into(self, view: memoryview, size: int = 0) -> int:
        data = self.recv(min(len(view), self.source.byte() + 1))
        view[: len(data)] = data
        return len(data)

    def _fill(self, size: int) -> None:
        while len(self.waiting) < size and not self.source.empty:
            self.waiting += self._packet()

    def _packet(self) -> bytes:
        source = self.source
        kind = source.below(8)
        if kind == 0:
            return source.text()
        if kind == 1:
            return HELLO
        if kind == 2:
            return simlink.packet(source.below(7), source.text())
        if kind == 3:
            value: Any = source.choice((1, "1", [], None, 1e999, [[[[]]]]))
            return simlink.encode_json(simlink.HELLO, {source.choice(("version", "ok")): value})
        if kind == 4:
            report = {
                "ok": source.choice((True, 1, False)),
                source.choice(("error", "answer")): source.choice((1, "x")),
            }
            return simlink.encode_json(simlink.REPORT, report)
        return simlink.encode_answer(source.below(3), [source.number(8) for _ in range(7)], source.text())


class Memory:
    """A guest's; keeps nothing."""

    def __init__(self, size: int) -> None:
        self.size = size

    def read(self, address: int, size: int) -> bytes:
        return bytes(size)

    def write(self, address: int, data: bytes) -> None:
        assert len(data) <= self.size


vars(simgate)["socket"] = HostileSocket
vars(client)["socket"] = SimpleNamespace(socket=HostileSocket, AF_UNIX=0, SOCK_STREAM=0)


def _gate(source: Source) -> None:
    gate = SocketGate("/nowhere")
    for _ in range(1 + source.below(4)):
        frame, size = Frame(ax=MAGIC), source.byte()
        try:
            which = source.below(3)
            if which == 0:
                gate.low(frame)
            elif which == 1:
                gate.high_out(frame, bytes(size))
            else:
                buffer = bytearray(size)
                gate.high_in(frame, buffer)
                assert len(buffer) == size
        except errors.VMToolsError as error:
            says_why(error)


def _remote(source: Source) -> None:
    with client.RemoteBackdoor("/nowhere") as remote:
        for _ in range(1 + source.below(4)):
            size = source.byte()
            regs = [MAGIC, 0, size, 0x5659, 0, 0, 0]
            try:
                remote.exit(source.choice((PORT_LOW, PORT_OUT, PORT_IN, 3, 5)), regs, Memory(size), NOBODY)
            except client.HostError as error:
                says_why(error)
            assert len(regs) == 7


def _control(source: Source) -> None:
    try:
        with client.Control("/nowhere") as control:
            control.ask("status")
            control.send("text")
    except client.HostError as error:
        says_why(error)


def one(data: bytes) -> None:
    source = HostileSocket.source = Source(data)
    users: Any = (_gate, _remote, _control)
    source.choice(users)(source)
