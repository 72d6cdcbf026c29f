"""The gate ``sim:SOCKET``: frames go to a simulated host over a UNIX socket, with no trap at all.

For places where ptrace is forbidden, and for guests on other architectures.  The host at the other end is trusted no
more than any other: every packet is checked.  An exchange that is broken off, by whatever is raised, breaks the
connection, and the host drops what was opened over it.
"""

from __future__ import annotations

import os
import socket
import sys
from _thread import LockType, allocate_lock, get_native_id

from . import errors
from .constants import PORT, PORT_HIGH
from .gates import Gate
from .wire import simlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._gate import Frame

TIMEOUT = 30.0
"""Seconds for one exchange with the host."""

_HIGH_WORD = 0xFFFF0000


class SocketGate(Gate):
    """A connection to ``vmtools sim serve SOCKET``; made at the first call, and anew after a fork or a failure."""

    def __init__(self, path: str) -> None:
        if not path:
            raise errors.GateUnavailable("the gate 'sim:' needs the path of a socket: sim:SOCKET")
        self.name = f"sim:{path}"
        self.path = path
        self._lock: LockType = allocate_lock()
        self._socket: socket.socket | None = None
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self._lock = allocate_lock()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

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
        with self._lock:
            connection = self._socket
            finished = False
            try:
                if connection is None:
                    connection = self._socket = self._connect()
                connection.sendall(simlink.encode_exit(instruction, get_native_id(), regs, payload))
                answer = _receive(connection, simlink.ANSWER)
                outcome, regs, data = simlink.decode_answer(answer, limit)
                frame.ax, frame.bx, frame.cx, frame.dx, frame.si, frame.di, frame.bp = regs
                finished = True
            except simlink.WireError as error:
                raise errors.GateUnavailable(f"what answers at {self.path} is no simulated host: {error}") from None
            except OSError as error:
                what = error.strerror or str(error)
                raise errors.GateUnavailable(
                    f"no simulated host at {self.path}: {what}", help="Start one with 'vmtools sim serve SOCKET'."
                ) from None
            finally:
                if not finished and connection is not None:
                    connection.close()
                    self._socket = None
        if outcome == simlink.FAULT:
            raise errors.GateFaulted(f"the simulated host at {self.path} lets this instruction fault")
        return data

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
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


def _receive(connection: socket.socket, kind: int) -> bytes:
    size = simlink.length(_exactly(connection, 4))
    body = _exactly(connection, size)
    if body[0] != kind:
        raise simlink.WireError(f"a packet of kind {body[0]} where {kind} was due")
    return bytes(body[1:])


def _exactly(connection: socket.socket, size: int) -> bytearray:
    buffer = bytearray(size)
    view = memoryview(buffer)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise simlink.WireError("the connection ended in the middle of a packet")
        view = view[count:]
    return buffer
