"""Hostile clients of the server's socket: any bytes, in any pieces, and clients that do not read.

What must hold: the server never raises; what it keeps of a client is bounded; and a client beside them is answered all
the time.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

from tests.fuzz.bounds import check_bounded
from tests.fuzz.source import Source
from tests.unit.naive_guest import COOKIE, RPCI, TCLO
from vmtools.constants import HB_MESSAGE, MAGIC, MASK32, PORT, PORT_HIGH
from vmtools.sim.backdoor import PORT_IN, PORT_LOW, PORT_OUT, Backdoor
from vmtools.sim.machine import Machine
from vmtools.sim.server import MAX_UNSENT, READ_SIZE, Server
from vmtools.wire import simlink

MOST_CLIENTS = 4
MOST_ACTS = 60
ROUNDS = 20
"""Turns of the server's loop that an answer may take."""

KNOCK = simlink.encode_exit(PORT_LOW, 1, [MAGIC, 0, 10, PORT, 0, 0, 0])
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 1 << 33, 1e999, "", "status", "guestinfo", "log", "send", "guest", "control",
    "\udcff", "\ud800", [], {}, [[[[]]]], "x" * 2000,
)  # fmt: skip
KEYS = ("do", "role", "pid", "tid", "program", "text", "app", "timeout", "key", "value")

_folder = tempfile.mkdtemp(prefix="vmtools-fuzz-")
_owner = os.getpid()


@atexit.register
def _tidy() -> None:
    if os.getpid() == _owner:
        shutil.rmtree(_folder, ignore_errors=True)


class Attack:
    """One input: a server, some hostile clients, and one that is none."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.backdoor = Backdoor(Machine(guestinfo={b"a": b"1"}))
        self.server = Server(Path(_folder, "socket"), self.backdoor)
        self.clients: list[socket.socket] = []
        self.honest = self._connect()

    def close(self) -> None:
        for client in (*self.clients, self.honest):
            client.close()
        self.server.close()

    def _connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.setblocking(False)
        client.connect(self.server.path)
        return client

    def turn(self, times: int = 1) -> None:
        """Let the server run, and look at what it keeps."""
        for _ in range(times):
            self.server.serve_once(0)
        for client in self.server._clients.values():
            assert len(client.received) <= simlink.MAX_LENGTH + 4 + READ_SIZE
            assert len(client.unsent) <= MAX_UNSENT + simlink.MAX_LENGTH + 4

    def ask(self, packet: bytes, kind: int) -> bytes:
        """What the honest client is answered.  :raises AssertionError: it is not."""
        self.honest.send(packet)
        received = bytearray()
        for _ in range(ROUNDS):
            self.turn()
            try:
                received += self.honest.recv(READ_SIZE)
            except BlockingIOError:
                continue
            if (answer := simlink.split(received)) is not None:
                assert answer[0] == kind
                return answer[1]
        raise AssertionError("the honest client is not answered")

    # -- what a hostile client may do --------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        if not self.clients:
            return
        client = self.source.choice(self.clients)
        pieces = self.source.below(4) + 1
        size = max(1, len(data) // pieces)
        for at in range(0, len(data), size):
            try:
                client.send(data[at : at + size])
            except OSError:  # its buffer is full, or the server has dropped it
                return
            self.turn()

    def arrive(self) -> None:
        if len(self.clients) < MOST_CLIENTS:
            self.clients.append(self._connect())
            if self.source.flag():
                self.send(simlink.hello(self.source.choice(("guest", "control")), 1, 1, "x"))
            self.turn()

    def leave(self) -> None:
        if self.clients:
            self.clients.pop(self.source.below(len(self.clients))).close()
            self.turn()

    def read(self) -> None:
        for client in self.clients:
            try:
                client.recv(1 << 20)
            except OSError:  # nothing there
                continue
        self.turn()

    def any_bytes(self) -> None:
        self.send(self.source.text())

    def any_packet(self) -> None:
        self.send(simlink.packet(self.source.below(7), self.source.text()))

    def announce(self) -> None:
        """A length that is not kept."""
        self.send(self.source.choice((0, 1, 1 << 20, simlink.MAX_LENGTH, MASK32)).to_bytes(4, "little") + b"\2")

    def json(self) -> None:
        pairs = {self.source.choice(KEYS): self.source.choice(VALUES) for _ in range(self.source.below(6))}
        pairs["do"] = self.source.choice(("status", "guestinfo", "log", "send", pairs.get("do")))
        kind = self.source.choice((simlink.CONTROL, simlink.HELLO, simlink.REPORT))
        self.send(simlink.packet(kind, json.dumps(pairs).encode()))

    def exits(self) -> None:
        source = self.source
        words = (0, 1, MAGIC, HB_MESSAGE, RPCI | COOKIE, TCLO | COOKIE, PORT, PORT_HIGH, 30, 1 << 16 | 30, MASK32)
        regs = [MAGIC, *[source.choice(words) for _ in range(6)]]
        instruction = source.choice((PORT_LOW, PORT_OUT, PORT_IN, 3, 5, 255))
        self.send(simlink.encode_exit(instruction, source.number(4), regs, source.text()) * (1 + source.below(50)))

    ACTS = (arrive, any_bytes, any_packet, json, exits, announce, read, leave)

    def run(self) -> None:
        self.ask(simlink.hello("guest", 1, 1, "honest"), simlink.HELLO)
        for act in range(MOST_ACTS):
            if self.source.empty:
                break
            self.source.choice(self.ACTS)(self)
            if act % 5 == 0:
                self.knock()
        self.knock()
        check_bounded(self.backdoor)

    def knock(self) -> None:
        outcome, regs, _ = simlink.decode_answer(self.ask(KNOCK, simlink.ANSWER), 0)
        assert (outcome, regs[1]) == (simlink.ANSWERED, MAGIC)


def one(data: bytes) -> None:
    attack = Attack(Source(data))
    try:
        attack.run()
    finally:
        attack.close()
