"""The simulated host in the guest's own process: a gate that calls the backdoor, with no trap and no socket.

For tests: the whole guest side runs on it, and what the host knows is one attribute away.
"""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING

from vmtools.constants import PORT, PORT_HIGH
from vmtools.errors import GateFaulted, NoDevice
from vmtools.sim.backdoor import PORT_IN, PORT_LOW, PORT_OUT, Guest, Memory
from vmtools.sim.machine import Machine
from vmtools.sim.personalities import backdoor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmtools._gate import Frame
    from vmtools.sim.backdoor import Exits
    from vmtools.sim.faults import FaultPlan
    from vmtools.sim.transcript import Transcript

ADDRESS = 0x7000_0000_1000
"""Where the buffer of a high-bandwidth call lies, as far as the host can tell: above 4 GiB, as on a 64-bit guest."""


class BufferMemory(Memory):
    """A guest's memory that is one buffer at :data:`ADDRESS`."""

    __slots__ = ("buffer",)

    def __init__(self, buffer: bytearray | bytes | memoryview) -> None:
        self.buffer = memoryview(buffer).cast("B")

    def read(self, address: int, size: int) -> bytes:
        start = self._start(address, size)
        return bytes(self.buffer[start : start + size])

    def write(self, address: int, data: bytes) -> None:
        start = self._start(address, len(data))
        self.buffer[start : start + len(data)] = data

    def _start(self, address: int, size: int) -> int:
        start = address - ADDRESS
        if start < 0 or start + size > len(self.buffer):
            raise OSError(errno.EFAULT, "bad address")
        return start


NO_MEMORY = BufferMemory(b"")


class InProcessGate:
    """A guest's gate (``low``, ``high_out``, ``high_in``) onto a backdoor in this process; thread-safe.

    :raises GateFaulted: (each call) the host reflects the fault to the program.
    """

    name = "in-process"

    def __init__(self, backdoor: Exits) -> None:
        self.backdoor = backdoor
        self._lock = threading.RLock()  # a finalizer may call in the middle of a call

    def low(self, frame: Frame) -> None:
        """One low-bandwidth call."""
        frame.dx = frame.dx & 0xFFFF0000 | PORT
        self._exit(PORT_LOW, frame, NO_MEMORY)

    def high_out(self, frame: Frame, data: bytes | bytearray | memoryview) -> None:
        """The guest's bytes to the host."""
        memory = BufferMemory(data)
        frame.dx = frame.dx & 0xFFFF0000 | PORT_HIGH
        frame.cx, frame.si = len(memory.buffer), ADDRESS
        self._exit(PORT_OUT, frame, memory)

    def high_in(self, frame: Frame, buffer: bytearray | memoryview) -> None:
        """The host's bytes into the guest's buffer."""
        memory = BufferMemory(buffer)
        frame.dx = frame.dx & 0xFFFF0000 | PORT_HIGH
        frame.cx, frame.di = len(memory.buffer), ADDRESS
        self._exit(PORT_IN, frame, memory)

    def unanswered(self) -> NoDevice:
        """The error for a host that serves nothing."""
        return NoDevice("the simulated host does not answer")

    def _exit(self, instruction: int, frame: Frame, memory: Memory) -> None:
        regs = [frame.ax, frame.bx, frame.cx, frame.dx, frame.si, frame.di, frame.bp]
        thread = threading.get_native_id()
        with self._lock:
            answered = self.backdoor.exit(instruction, regs, memory, Guest(0, thread, "in-process"))
            # inside the lock: an interrupt between the two would lose an OPEN's answer
            frame.ax, frame.bx, frame.cx, frame.dx, frame.si, frame.di, frame.bp = regs
        if not answered:
            raise GateFaulted("the simulated host does not answer this instruction")


def host(
    guestinfo: Mapping[bytes, bytes] | None = None,
    *,
    high_bandwidth: bool = True,
    faults: FaultPlan | None = None,
    transcript: Transcript | None = None,
    personality: str = "vmware",
) -> tuple[Machine, InProcessGate]:
    """A machine and a gate onto it, ready to use; ``personality`` as in :mod:`vmtools.sim.personalities`."""
    machine = Machine(guestinfo=guestinfo, high_bandwidth=high_bandwidth)
    return machine, InProcessGate(backdoor(personality, machine, faults=faults, transcript=transcript))
