"""QEMU's device on the low-bandwidth port, and no device at all: hosts that answer less than VMware.

What the device does was measured on QEMU 7.2 under TCG (specification, hypercalls 8):

* The command is the low *byte* of ECX.
* ``IN`` writes EAX, so the upper half of RAX is 0 after each call, also where EAX stays; other registers that a
  command writes lose their upper halves too, and the mouse's commands write all six.
* Nothing is on the high-bandwidth port, and the guest is taken for one that may touch it: what comes out is lost,
  what comes in is 0xFF, EBX stays (and so looks like success).
* Hypercalls and RDPMC fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmtools.constants import MAGIC, MASK32, PORT, PORT_HIGH, Command
from vmtools.sim.backdoor import MASK64, PORT_IN, PORT_LOW, PORT_OUT, Backdoor
from vmtools.sim.channels import AX, BX, CX, DI, DX, SI
from vmtools.sim.personalities import ABSPOINTER_COMMAND, ABSPOINTER_DATA, ABSPOINTER_STATUS
from vmtools.sim.vmport_rpc import RingChannels

if TYPE_CHECKING:
    from vmtools.sim.backdoor import Guest, Memory
    from vmtools.sim.faults import FaultPlan
    from vmtools.sim.machine import Machine
    from vmtools.sim.personalities import Personality
    from vmtools.sim.transcript import Transcript

PORT_MAGIC = 0x1177
"""EBX of GETMEMSIZE."""

MAX_STRING = 1 << 20
"""Bytes that one string instruction may move on the empty port before the guest gets a fault."""

WRITTEN = {
    Command.GETVERSION: (BX,),
    Command.GETUUID: (BX, CX, DX),
    Command.GETMEMSIZE: (BX,),
    Command.GETHZ: (BX,),
    ABSPOINTER_DATA: (BX, CX, DX, SI, DI),
    ABSPOINTER_STATUS: (BX, CX, DX, SI, DI),
    ABSPOINTER_COMMAND: (BX, CX, DX, SI, DI),
}
"""Registers besides RAX whose upper halves a command clears."""


class Vmport(Backdoor):
    """The device, as ``personality`` has it."""

    def __init__(
        self,
        machine: Machine,
        personality: Personality,
        *,
        transcript: Transcript | None = None,
        faults: FaultPlan | None = None,
    ) -> None:
        self._speaks = personality.messages is not None
        channels = RingChannels(machine) if self._speaks else None
        super().__init__(machine, transcript=transcript, faults=faults, channels=channels)
        self._unsupported = personality.unsupported
        self._product = personality.product
        mouse = Mouse()
        served = {
            Command.GETVERSION: self._get_version,
            Command.GETUUID: self._get_uuid,
            Command.GETMEMSIZE: self._get_mem_size,
            Command.GETHZ: self._get_hz,
            Command.GET_VCPU_INFO: self._get_vcpu_info,
            ABSPOINTER_DATA: mouse.data,
            ABSPOINTER_STATUS: mouse.status,
            ABSPOINTER_COMMAND: mouse.command,
        }
        known = personality.commands if personality.commands is not None else frozenset(served)
        self._commands = {command: serve for command, serve in served.items() if command in known}

    def serve(self, instruction: int, regs: list[int], memory: Memory, who: Guest) -> bool:
        """As :meth:`vmtools.sim.backdoor.Backdoor.serve`."""
        port = regs[DX] & 0xFFFF
        if instruction == PORT_LOW and port == PORT:
            self._ask(regs, who)
            regs[AX] &= MASK32
            return True
        if instruction in (PORT_OUT, PORT_IN) and port == PORT_HIGH:
            return _empty_port(instruction == PORT_OUT, regs, memory)
        return False

    def _ask(self, regs: list[int], who: Guest) -> None:
        command = regs[CX] & 0xFF
        serve = self._commands.get(command)
        if regs[AX] & MASK32 == MAGIC:
            if serve is not None:
                for place in WRITTEN.get(command, ()):
                    regs[place] &= MASK32
                serve(regs)
                return
            if self._speaks and command == Command.MESSAGE:
                self.channels.call(regs, who)
                return
        if self._unsupported is not None:
            regs[AX] = self._unsupported

    # -- commands whose answers are not VMware's ---------------------------------------------------------------------

    def _get_version(self, regs: list[int]) -> None:
        regs[AX], regs[BX] = self.machine.version, MAGIC
        if self._product is not None:
            regs[CX] = self._product

    def _get_mem_size(self, regs: list[int]) -> None:
        regs[AX] = self.machine.memory_mb << 20 & MASK32  # in bytes, cut to 32 bits
        regs[BX] = PORT_MAGIC

    def _get_hz(self, regs: list[int]) -> None:
        regs[BX] = MASK32  # under TCG nobody knows the frequencies

    def _get_vcpu_info(self, regs: list[int]) -> None:
        regs[AX] = 0


class Nothing(Backdoor):
    """No backdoor at all."""

    def serve(self, instruction: int, regs: list[int], memory: Memory, who: Guest) -> bool:
        """Answers nothing, so that the program gets its fault."""
        return False


class Mouse:
    """The absolute mouse, which nobody moves: it can be enabled, and then says what it is."""

    IDENTITY = 0x3442554A
    ENABLE = 0x45414552
    DISABLE = 0xF5
    QUEUE = 1024
    """Words that wait for the guest at most."""

    def __init__(self) -> None:
        self._enabled = False
        self._queue: list[int] = []

    def status(self, regs: list[int]) -> None:
        """High word 0xFFFF: disabled; low word: how many words wait."""
        regs[AX] = (0 if self._enabled else 0xFFFF0000) | len(self._queue)

    def command(self, regs: list[int]) -> None:
        """EBX: what to do."""
        order = regs[BX] & MASK32
        if order == self.ENABLE:
            self._enabled = True
            if len(self._queue) < self.QUEUE:
                self._queue.append(self.IDENTITY)
        elif order == self.DISABLE:
            self._enabled = False

    def data(self, regs: list[int]) -> None:
        """EBX: how many words to take, 1 to 6; asking for what is not there disables the mouse."""
        count = regs[BX] & MASK32
        if not 0 < count <= 6 or count > len(self._queue):
            self._enabled = False
            return
        for place in range(count):
            regs[(AX, BX, CX, DX, SI, DI)[place]] = self._queue.pop(0)


def _empty_port(out: bool, regs: list[int], memory: Memory) -> bool:
    """A string instruction where no device is."""
    count, pointer = regs[CX], SI if out else DI
    if count > MAX_STRING:
        return False
    try:
        if count and out:
            memory.read(regs[pointer], count)
        elif count:
            memory.write(regs[pointer], b"\xff" * count)
    except OSError:
        return False
    regs[pointer] = regs[pointer] + count & MASK64
    regs[CX] = 0
    return True
