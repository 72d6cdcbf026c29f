"""A simulated machine behind a UNIX socket: many guest processes and control clients, one thread.

The socket is for its user alone: mode 0600 from its first moment, and each peer's uid is checked (the server's own, or
root).  Input is bounded: a packet by :data:`vmtools.wire.simlink.MAX_LENGTH`, what waits to be sent to a client that
does not read by :data:`MAX_UNSENT` (nothing more is read from it until then), clients by :data:`MAX_CLIENTS`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import selectors
import socket
import stat
import struct
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from vmtools.constants import MASK32
from vmtools.sim.backdoor import NOBODY, Backdoor, Guest, Memory
from vmtools.sim.control import Pending, perform
from vmtools.wire import simlink
from vmtools.wire.simlink import WireError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType

READ_SIZE = 1 << 16
MAX_UNSENT = 1 << 22
MAX_CLIENTS = 512
MAX_NAME = 64
BACKLOG = 128


class ServerError(Exception):
    """The socket can't be served; ``str()`` says why."""


class PacketMemory(Memory):
    """The guest's memory as far as a packet carries it: the payload to read, room for what is written."""

    __slots__ = ("payload", "written")

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.written = b""

    def read(self, address: int, size: int) -> bytes:
        if size != len(self.payload):  # the guest's end of the link could not read it
            raise OSError(errno.EFAULT, "bad address")
        return self.payload

    def write(self, address: int, data: bytes) -> None:
        self.written = bytes(data)


class _Client:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.role = ""
        self.guest = NOBODY
        self.received = bytearray()
        self.unsent = bytearray()
        self.pending: list[tuple[float, Pending]] = []
        self.closed = False


class Server:
    """Serves one backdoor on a socket; a context manager that removes the socket at the end.

    :param lock: held while the backdoor is used, where other threads use it too.
    :raises ServerError: (on creation) the path is taken by a living server or by something else, or can't be used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        backdoor: Backdoor,
        *,
        lock: AbstractContextManager[object] | None = None,
    ) -> None:
        self.path = os.path.abspath(path)
        self.backdoor = backdoor
        self._lock = nullcontext() if lock is None else lock
        self._clients: dict[int, _Client] = {}
        self._stopping = False
        self._listener = _claim(self.path)
        mine = os.lstat(self.path)
        self._inode = mine.st_dev, mine.st_ino
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = socket.socketpair()
        for sock in (self._listener, self._wake_in, self._wake_out):
            sock.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake_in, selectors.EVENT_READ, self._woken)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def serve_forever(self) -> None:
        """Serve until :meth:`stop`."""
        while not self._stopping:
            self.serve_once()

    def serve_once(self, timeout: float | None = None) -> None:
        """Wait for something to do, ``timeout`` seconds at most, and do it; for those who have a loop of their own."""
        with self._lock:
            nearest = self._expire()
        if timeout is None or (nearest is not None and nearest < timeout):
            timeout = nearest
        ready = self._selector.select(timeout)
        with self._lock:
            for key, events in ready:
                if isinstance(key.data, _Client):
                    self._ready(key.data, events)
                else:
                    key.data()

    def stop(self) -> None:
        """End :meth:`serve_forever`; from any thread, or from a signal handler."""
        self._stopping = True
        try:
            self._wake_out.send(b"\0")
        except OSError:  # full: it will wake; closed: it has ended
            return

    def close(self) -> None:
        """Close everything and remove the socket, if it is still ours."""
        for client in list(self._clients.values()):
            self._drop(client)
        self._selector.close()
        for sock in (self._listener, self._wake_in, self._wake_out):
            sock.close()
        try:
            found = os.lstat(self.path)
            if (found.st_dev, found.st_ino) == self._inode:
                os.unlink(self.path)
        except FileNotFoundError:
            return

    # -- the loop ----------------------------------------------------------------------------------------------------

    def _expire(self) -> float | None:
        """Do what is due, give up what has waited too long; seconds until the next."""
        schedule = self.backdoor.schedule
        if schedule.due <= schedule.monotonic():
            schedule.run()
        now, left = time.monotonic(), schedule.left()
        nearest = None if left is None else now + left
        for client in list(self._clients.values()):
            if not client.pending:
                continue
            for deadline, pending in client.pending:
                if deadline <= now:
                    pending.expire()
            client.pending = [(d, p) for d, p in client.pending if not p.done]
            for deadline, _ in client.pending:
                nearest = deadline if nearest is None else min(nearest, deadline)
        return None if nearest is None else max(0.0, nearest - now)

    def _woken(self) -> None:
        self._wake_in.recv(READ_SIZE)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:  # gone again, or out of descriptors: those that are served go on
            return
        sock.setblocking(False)
        if len(self._clients) >= MAX_CLIENTS or not _may_enter(sock):
            sock.close()
            return
        client = _Client(sock)
        self._clients[sock.fileno()] = client
        self._selector.register(sock, selectors.EVENT_READ, client)

    def _ready(self, client: _Client, events: int) -> None:
        if events & selectors.EVENT_READ and not client.closed:
            try:
                data = client.sock.recv(READ_SIZE)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._drop(client)
                return
            client.received += data
        if events & selectors.EVENT_WRITE:
            self._flush(client)
        self._work(client)

    def _work(self, client: _Client) -> None:
        """Serve the whole packets that are there, as long as the client takes what it is answered."""
        try:
            while not client.closed and len(client.unsent) <= MAX_UNSENT:
                packet = simlink.split(client.received)
                if packet is None:
                    break
                self._packet(client, *packet)
        except WireError:
            self._drop(client)
            return
        self._watch(client)

    def _watch(self, client: _Client) -> None:
        if not client.closed:
            events = selectors.EVENT_READ if len(client.unsent) <= MAX_UNSENT else 0
            self._selector.modify(client.sock, events | (selectors.EVENT_WRITE if client.unsent else 0), client)

    def _packet(self, client: _Client, kind: int, body: bytes) -> None:
        if kind == simlink.EXIT and client.role == "guest":
            self._exit(client, body)
        elif kind == simlink.CONTROL and client.role == "control":
            pending = perform(
                self.backdoor,
                simlink.decode_json(body),
                lambda value: self._report(client, value),
            )
            if pending is not None:
                client.pending.append((time.monotonic() + pending.timeout, pending))
        elif kind == simlink.HELLO:
            self._hello(client, simlink.decode_json(body))
        else:
            raise WireError(f"a packet of kind {kind} is not expected here")

    def _report(self, client: _Client, value: dict[str, Any]) -> None:
        try:
            data = simlink.encode_json(simlink.REPORT, value)
        except WireError as error:
            data = simlink.encode_json(simlink.REPORT, {"ok": False, "error": f"too much to report: {error}"})
        self._send(client, data)

    def _hello(self, client: _Client, value: dict[str, Any]) -> None:
        role, pid, tid = value.get("role"), value.get("pid", 0), value.get("tid", 0)
        if role not in ("guest", "control") or client.role not in ("", role):
            raise WireError("HELLO has no role, or another one than before")
        if not all(type(number) is int and 0 <= number <= MASK32 for number in (pid, tid)):
            raise WireError("HELLO has a bad process id")
        client.role = role
        client.guest = Guest(pid, tid, str(value.get("program", ""))[:MAX_NAME])
        self._send(client, simlink.encode_json(simlink.HELLO, {"version": simlink.VERSION}))

    def _exit(self, client: _Client, body: bytes) -> None:
        instruction, tid, regs, payload = simlink.decode_exit(body)
        memory = PacketMemory(payload)
        who = client.guest
        if tid != who.tid:
            who = client.guest = Guest(who.pid, tid, who.name)
        answered = self.backdoor.exit(instruction, regs, memory, who)
        outcome = simlink.ANSWERED if answered else simlink.FAULT
        self._send(client, simlink.encode_answer(outcome, regs, memory.written if answered else b""))

    # -- sending -----------------------------------------------------------------------------------------------------

    def _send(self, client: _Client, data: bytes) -> None:
        if client.closed:
            return
        client.unsent += data
        self._flush(client)
        self._watch(client)

    def _flush(self, client: _Client) -> None:
        if not client.unsent or client.closed:
            return
        try:
            sent = client.sock.send(client.unsent)
            del client.unsent[:sent]
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)

    def _drop(self, client: _Client) -> None:
        if not client.closed:
            client.closed = True
            self._selector.unregister(client.sock)
            del self._clients[client.sock.fileno()]
            client.sock.close()
            for _, pending in client.pending:
                pending.expire()


def _may_enter(sock: socket.socket) -> bool:
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return uid in (0, os.geteuid())


def _claim(path: str) -> socket.socket:
    """A listening socket at ``path``; a stale one, whose server was killed, is replaced."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            # two servers that start at once must not remove each other's socket
            fcntl.flock(folder, fcntl.LOCK_EX)
            _remove_stale(path)
            os.fchmod(sock.fileno(), 0o600)  # Linux gives the file the mode that the socket has before
            sock.bind(path)
            sock.listen(BACKLOG)
        finally:
            os.close(folder)
    except OSError as error:
        sock.close()
        raise ServerError(f"{path}: {error.strerror or error}") from None
    except ServerError:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ServerError(f"{path} exists and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except (TimeoutError, BlockingIOError):
            pass  # its queue is full: somebody is there
    raise ServerError(f"{path} is served already; stop that server or choose another name")
