"""A host whose answers a test can tell by heart, and ways to run a program under it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from typing import Any

from vmtools.sim.backdoor import PORT_IN, PORT_LOW, PORT_OUT, RDPMC, VMCALL, VMMCALL, Guest, Memory
from vmtools.sim.run import run

AX, BX, CX, DX, SI, DI, BP = range(7)
UPPER = 0xFFFFFFFF00000000
MASK64 = 0xFFFFFFFFFFFFFFFF
ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass
class StandIn:
    """Low-bandwidth calls and hypercalls: EAX's low half becomes 0x99, BX one more.  REP OUTSB: the data is kept.
    REP INSB: the alphabet.  RDPMC 0x10000: EDX:EAX is 0x12_00000034; others fault."""

    calls: list[tuple[int, list[int], Guest]] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)

    def exit(self, instruction: int, regs: list[int], memory: Memory, who: Guest) -> bool:
        """As :meth:`vmtools.sim.backdoor.Backdoor.exit`."""
        self.calls.append((instruction, list(regs), who))
        try:
            return self._answer(instruction, regs, memory)
        except OSError:
            return False

    def _answer(self, instruction: int, regs: list[int], memory: Memory) -> bool:
        count = regs[CX] & 0xFFFFFFFF
        if instruction in {PORT_LOW, VMCALL, VMMCALL}:
            regs[AX] = regs[AX] & UPPER | 0x99
            regs[BX] = regs[BX] + 1 & MASK64
        elif instruction == PORT_OUT:
            self.data.append(memory.read(regs[SI], count))
            regs[SI] += count
            regs[CX] = 0
        elif instruction == PORT_IN:
            memory.write(regs[DI], (ALPHABET * (count // 26 + 1))[:count])
            regs[DI] += count
            regs[CX] = 0
        elif instruction == RDPMC and count == 0x10000:
            regs[AX], regs[DX] = 0x34, 0x12
        else:
            return False
        return True


@dataclass
class Outcome:
    """How a program ended, what it printed, and the host that it met."""

    status: int
    output: str
    host: StandIn

    @property
    def registers(self) -> list[int]:
        """The first line of what it printed: seven registers."""
        return [int(word, 16) for word in self.output.splitlines()[0].split()]


def run_captured(argv: list[str], host: StandIn, **options: Any) -> Outcome:
    """Run a program under the host and keep what it prints."""
    with tempfile.TemporaryFile("w+") as output:
        status = run(argv, host, stdout=output, **options)
        output.seek(0)
        return Outcome(status, output.read(), host)
