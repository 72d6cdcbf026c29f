"""The other end of ``vmtools sim serve``: a backdoor that is elsewhere, and the control client."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from vmtools.constants import FLAG_HIGH, FLAG_OUT, MASK32
from vmtools.errors import VMToolsError
from vmtools.sim.backdoor import PORT_IN, PORT_OUT, VMCALL, VMMCALL, Guest, Memory
from vmtools.sim.channels import CX, DI, DX, SI
from vmtools.wire import simlink

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

EXIT_TIMEOUT = 120.0
CONTROL_TIMEOUT = 30.0
MAX_NAME = 64


class HostError(VMToolsError):
    """The simulated host is not there, went away, refused, or answered nonsense."""

    help = "Start one with 'vmtools sim serve SOCKET'."


class _Link:
    """A connection: packets out, packets in.  :raises HostError: whatever goes wrong."""

    def __init__(self, path: str | os.PathLike[str], timeout: float | None) -> None:
        self.path = os.fspath(path)
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.settimeout(timeout)
        try:
            self._sock.connect(self.path)
        except OSError as error:
            self._sock.close()
            raise HostError(f"no simulated host at {self.path}: {error.strerror or error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._sock.close()

    def _send(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise HostError(f"the simulated host at {self.path} went away: {error.strerror or error}") from None

    def _receive(self, wanted: int) -> bytes:
        """The body of the next packet."""
        try:
            whole = self._exactly(simlink.length(self._exactly(4)))
        except simlink.WireError as error:
            raise HostError(f"the simulated host at {self.path} sent nonsense: {error}") from None
        if whole[0] != wanted:
            raise HostError(f"the simulated host at {self.path} sent a packet of kind {whole[0]}, not {wanted}")
        return whole[1:]

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                piece = self._sock.recv(size - len(data))
            except OSError as error:
                raise HostError(f"the simulated host at {self.path} went away: {error.strerror or error}") from None
            if not piece:
                raise HostError(f"the simulated host at {self.path} went away")
            data += piece
        return bytes(data)


class RemoteBackdoor(_Link):
    """Answers exits as :class:`vmtools.sim.backdoor.Backdoor` does, by asking a served machine; one thread at a time.

    :raises HostError: there is no host at ``path``; later, from :meth:`exit`: it went away.
    """

    def __init__(self, path: str | os.PathLike[str], timeout: float | None = EXIT_TIMEOUT) -> None:
        super().__init__(path, timeout)
        self._introduced: tuple[int, str] | None = None

    def exit(self, instruction: int, regs: list[int], memory: Memory, who: Guest) -> bool:
        """As :meth:`vmtools.sim.backdoor.Backdoor.exit`."""
        out, into = _directions(instruction, regs)
        size = regs[CX] & MASK32 if instruction in (VMCALL, VMMCALL) else regs[CX]
        payload = b""
        if out and size <= simlink.MAX_PAYLOAD:
            try:
                payload = memory.read(regs[SI], size)
            except OSError:  # the host must see the call all the same: it may refuse it before it looks there
                payload = b""
        packets = simlink.encode_exit(instruction, who.tid, regs, payload)
        introduce = self._introduced != (who.pid, who.name)
        if introduce:
            packets = simlink.hello("guest", who.pid, who.tid, who.name[:MAX_NAME]) + packets
        self._send(packets)
        try:
            if introduce:
                simlink.check_hello(self._receive(simlink.HELLO))
                self._introduced = who.pid, who.name
            limit = min(size, simlink.MAX_PAYLOAD) if into else 0
            outcome, after, data = simlink.decode_answer(self._receive(simlink.ANSWER), limit)
        except simlink.WireError as error:
            raise HostError(f"the simulated host at {self.path} sent nonsense: {error}") from None
        if outcome != simlink.ANSWERED:
            return False
        if data:
            try:
                memory.write(regs[DI], data)
            except OSError:
                return False
        regs[:] = after
        return True


def _directions(instruction: int, regs: list[int]) -> tuple[bool, bool]:
    """Whether this exit carries bytes guest→host, host→guest."""
    if instruction in (VMCALL, VMMCALL):
        flags = regs[DX] & 0xFFFF
        return flags == FLAG_HIGH | FLAG_OUT, flags == FLAG_HIGH
    return instruction == PORT_OUT, instruction == PORT_IN


class Control(_Link):
    """Asks and steers a served machine (:mod:`vmtools.sim.control`)."""

    def __init__(self, path: str | os.PathLike[str], timeout: float | None = CONTROL_TIMEOUT) -> None:
        super().__init__(path, timeout)
        try:
            self._send(simlink.hello("control", os.getpid(), 0, "vmtools"))
            simlink.check_hello(self._receive(simlink.HELLO))
        except simlink.WireError as error:
            self.close()
            raise HostError(f"the simulated host at {self.path} sent nonsense: {error}") from None
        except HostError:
            self.close()
            raise

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """One request; :raises HostError: the host's refusal, in its words."""
        try:
            self._send(simlink.encode_json(simlink.CONTROL, {"do": do, **arguments}))
            report = simlink.decode_json(self._receive(simlink.REPORT))
        except simlink.WireError as error:
            raise HostError(str(error)) from None
        if report.get("ok") is not True:
            raise HostError(str(report.get("error", "the host gave no reason")), help="")
        return report

    def send(self, text: str, *, app: str | None = None, timeout: float = 10.0) -> str:
        """Queue a TCLO message and wait for the guest's answer ("OK …", "ERROR …")."""
        before = self._sock.gettimeout()
        self._sock.settimeout(timeout + CONTROL_TIMEOUT)
        try:
            answer = self.ask("send", text=text, app=app, timeout=timeout).get("answer")
        finally:
            self._sock.settimeout(before)
        if not isinstance(answer, str):
            raise HostError(f"the simulated host at {self.path} sent nonsense: a report without the guest's answer")
        return answer
