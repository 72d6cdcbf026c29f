"""The gate ``sim:SOCKET``: frames go to a simulated host over a UNIX socket, with no trap at all.

For places where ptrace is forbidden, and for guests on other architectures.  The host at the other end is trusted no
more than any other: every packet is checked.  An exchange that is broken off, by whatever is raised, ends the
connection; the next one makes another.
"""

from __future__ import annotations

import os
import sys
from _socket import AF_UNIX, MSG_PEEK, MSG_WAITALL, SOCK_STREAM, socket  # `socket` costs more than a whole call
from _thread import get_native_id
from _weakref import ref
from time import monotonic

from . import errors
from .constants import PORT, PORT_HIGH
from .gates import Gate
from .wire import simlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._gate import Frame

TIMEOUT = 30.0
"""Seconds for one exchange with the host."""

_LAST_WORDS = 1.0
"""Seconds for the answer to an exchange that was interrupted."""

_HIGH_WORD = 0xFFFF0000


class SocketGate(Gate):
    """Connections to ``vmtools sim serve SOCKET``; made when needed, and anew after a fork or a failure.

    Each call takes one for itself: calls of several threads, or one in the middle of another (a signal handler's, a
    finalizer's), share none.
    """

    def __init__(self, path: str) -> None:
        if not path:
            raise errors.GateUnavailable("the gate 'sim:' needs the path of a socket: sim:SOCKET")
        self.name = f"sim:{path}"
        self.path = path
        self._idle: list[socket] = []
        _gates.add(ref(self, _gates.discard))

    def _forget(self) -> None:
        """Close what no call is using: after a fork it is the parent's, after a failure it may be as broken."""
        while self._idle:
            self._idle.pop().close()

    def __del__(self) -> None:
        if hasattr(self, "_idle"):
            self._forget()

    def low(self, frame: Frame) -> None:
        frame.dx = frame.dx & _HIGH_WORD | PORT
        self._exchange(simlink.PORT_LOW, frame)

    def high_out(self, frame: Frame, data: bytes) -> None:
        frame.dx = frame.dx & _HIGH_WORD | PORT_HIGH
        self._exchange(simlink.PORT_OUT, frame, data)

    def high_in(self, frame: Frame, buffer: bytearray) -> None:
        frame.dx = frame.dx & _HIGH_WORD | PORT_HIGH
        payload = self._exchange(simlink.PORT_IN, frame, limit=len(buffer))
        buffer[: len(payload)] = payload

    def unanswered(self) -> errors.GateError:
        return errors.NoDevice(f"the simulated host at {self.path} plays a machine without the device")

    def _exchange(self, instruction: int, frame: Frame, payload: bytes = b"", *, limit: int = 0) -> bytes:
        regs = [frame.ax, frame.bx, frame.cx, frame.dx, frame.si, frame.di, frame.bp]
        connection, done = None, False
        try:
            connection = self._connection()
            connection.sendall(simlink.encode_exit(instruction, get_native_id(), regs, payload))
            outcome, data = self._answer(connection, frame, limit)
            done = True
        except simlink.WireError as error:
            raise errors.GateUnavailable(f"what answers at {self.path} is no simulated host: {error}") from None
        except OSError as error:
            what = error.strerror or str(error)
            raise errors.GateUnavailable(
                f"no simulated host at {self.path}: {what}", help="Start one with 'vmtools sim serve SOCKET'."
            ) from None
        finally:
            if done and connection is not None:
                self._idle.append(connection)
            elif connection is not None:
                self._break_off(connection, frame, limit)
        if outcome == simlink.FAULT:
            raise errors.GateFaulted(f"the simulated host at {self.path} lets this instruction fault")
        return data

    def _answer(self, connection: socket, frame: Frame, limit: int) -> tuple[int, bytes]:
        """Read the answer into the frame; without a payload it is only looked at first, for :meth:`_break_off`."""
        if limit:
            answer = _receive(connection, simlink.ANSWER)
        else:
            answer = simlink.body(connection.recv(simlink.ANSWER_SIZE, MSG_PEEK | MSG_WAITALL), simlink.ANSWER)
        outcome, regs, data = simlink.decode_answer(answer, limit)
        frame.ax, frame.bx, frame.cx, frame.dx, frame.si, frame.di, frame.bp = regs
        if not limit:
            connection.recv(simlink.ANSWER_SIZE, MSG_WAITALL)
        return outcome, data

    def _break_off(self, connection: socket, frame: Frame, limit: int) -> None:
        """End a connection that stands in the middle of an exchange.

        An interrupt may have struck between the host's answer and our reading it: what an OPEN opened must not be lost.
        """
        self._forget()
        try:
            if not limit:
                connection.settimeout(_LAST_WORDS)
                self._answer(connection, frame, limit)
        except (OSError, simlink.WireError):
            pass  # there was none
        finally:
            connection.close()

    def _connection(self) -> socket:
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def _connect(self) -> socket:
        connection = socket(AF_UNIX, SOCK_STREAM)
        try:
            connection.settimeout(TIMEOUT)
            connection.connect(self.path)
            program = os.path.basename(sys.argv[0]) if sys.argv else ""
            connection.sendall(simlink.hello("guest", os.getpid(), get_native_id(), program[:64]))
            simlink.check_hello(_receive(connection, simlink.HELLO))
        except BaseException:
            connection.close()
            raise
        return connection


_gates: set[ref[SocketGate]] = set()
"""All that there are: what is registered for forks stays registered for good, so that is one function."""


def _after_fork() -> None:
    for found in tuple(_gates):
        if (gate := found()) is not None:
            gate._forget()


os.register_at_fork(after_in_child=_after_fork)


def _receive(connection: socket, kind: int) -> bytes:
    header = _exactly(connection, 4)
    return simlink.body(bytes(header + _exactly(connection, simlink.length(header))), kind)


def _exactly(connection: socket, size: int) -> bytearray:
    buffer = bytearray(size)
    view = memoryview(buffer)
    end = monotonic() + TIMEOUT  # for the whole of it, however small the pieces
    while view:
        if monotonic() > end:
            raise TimeoutError("timed out")
        count = connection.recv_into(view)
        if not count:
            raise simlink.WireError("the connection ended in the middle of a packet")
        view = view[count:]
    return buffer
