"""The backdoor, host side: a register frame in, one out.

One dispatcher serves every front end: a tracer that caught the instruction, a packet from a socket, a test.  It is
told which instruction trapped and gets the registers as the guest had them; it leaves them as the guest finds them
afterwards, what the instruction itself does included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from vmtools.constants import (
    FLAG_HIGH,
    FLAG_OUT,
    HB_MESSAGE,
    MAGIC,
    MASK32,
    PORT,
    PORT_HIGH,
    RDPMC_APPARENT_NS,
    RDPMC_HOST_TSC,
    RDPMC_PSEUDO_TSC,
    RDPMC_REAL_NS,
    UNSUPPORTED,
    Command,
)
from vmtools.sim import rpci
from vmtools.sim.channels import AX, BX, CX, DI, DX, SI, UPPER, Channels
from vmtools.sim.schedule import Schedule
from vmtools.sim.services import Services
from vmtools.wire.simlink import PORT_IN, PORT_LOW, PORT_OUT, RDPMC, VMCALL, VMMCALL

if TYPE_CHECKING:
    from collections.abc import Callable

    from vmtools.sim.faults import FaultPlan
    from vmtools.sim.machine import Machine
    from vmtools.sim.transcript import Transcript

__all__ = [
    "MASK64",
    "NOBODY",
    "PORT_IN",
    "PORT_LOW",
    "PORT_OUT",
    "RDPMC",
    "VMCALL",
    "VMMCALL",
    "Backdoor",
    "Exits",
    "Guest",
    "Memory",
]

MASK64 = 0xFFFFFFFFFFFFFFFF


class Memory(Protocol):
    """The guest's memory.  Both raise OSError (EFAULT) where the guest passed a bad pointer."""

    def read(self, address: int, size: int) -> bytes: ...

    def write(self, address: int, data: bytes) -> None: ...


class Guest:
    """Who trapped: for the log and the transcript."""

    __slots__ = ("name", "pid", "tid")

    def __init__(self, pid: int = 0, tid: int = 0, name: str = "") -> None:
        self.pid = pid
        self.tid = tid
        self.name = name


NOBODY = Guest()


class Exits(Protocol):
    """Whoever answers exits: a :class:`Backdoor`, or its :class:`vmtools.sim.client.RemoteBackdoor`."""

    def exit(self, instruction: int, regs: list[int], memory: Memory, who: Guest) -> bool: ...


class Backdoor:
    """The backdoor of one machine.

    :param transcript: records every exit.
    :param faults: what goes wrong, and when.
    :param schedule: what happens at a time; it is run before the exits that come when something is due.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        transcript: Transcript | None = None,
        faults: FaultPlan | None = None,
        channels: Channels | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        self.machine = machine
        self.personality = "vmware"
        """Who the host is (:data:`vmtools.sim.personalities.PERSONALITIES`)."""
        self.channels = channels if channels is not None else Channels(machine, self._rpci)
        self.schedule = Schedule() if schedule is None else schedule
        self.services = Services(machine, self.channels, self.schedule)
        self.transcript = transcript
        self.faults = faults
        self._commands: dict[int, Callable[[list[int]], None]] = {
            Command.GETMHZ: self._get_mhz,
            Command.GETVERSION: self._get_version,
            Command.GETDEVICELISTELEMENT: self._get_device,
            Command.TOGGLEDEVICE: self._toggle_device,
            Command.GETGUIOPTIONS: self._get_gui_options,
            Command.SETGUIOPTIONS: self._set_gui_options,
            Command.GETSCREENSIZE: self._get_screen_size,
            Command.GETHWVERSION: self._get_hw_version,
            Command.GETUUID: self._get_uuid,
            Command.GETMEMSIZE: self._get_mem_size,
            Command.GETTIME: self._get_time,
            Command.STOPCATCHUP: self._stop_catch_up,
            Command.GETHZ: self._get_hz,
            Command.GETTIMEFULL: self._get_time_full,
            Command.GETTIMEFULL_WITH_LAG: self._get_time_full_with_lag,
            Command.GET_VCPU_INFO: self._get_vcpu_info,
            Command.GETBUILDNUM: self._get_build_number,
        }
        self._counters: dict[int, Callable[[], int]] = {
            RDPMC_HOST_TSC: machine.tsc,
            RDPMC_REAL_NS: machine.clock.real,
            RDPMC_APPARENT_NS: machine.apparent,
            RDPMC_PSEUDO_TSC: machine.pseudo_tsc,
        }

    def exit(self, instruction: int, regs: list[int], memory: Memory, who: Guest) -> bool:
        """Answer one trapped instruction.

        :param instruction: one of :data:`PORT_LOW` … :data:`RDPMC`.
        :param regs: AX, BX, CX, DX, SI, DI, BP as 64-bit integers; changed in place.
        :returns: False where no backdoor answers this instruction, and the program gets the fault that it caused.
        """
        if self.schedule.due <= self.schedule.monotonic():
            self.schedule.run()
        if self.transcript is None and self.faults is None:
            return self.serve(instruction, regs, memory, who)
        return self._exit_watched(instruction, regs, memory, who)

    def _exit_watched(self, instruction: int, regs: list[int], memory: Memory, who: Guest) -> bool:
        if self.transcript is not None:
            self.transcript.begin(instruction, regs, memory)
            memory = self.transcript.memory
        if self.faults is not None:
            answered = self.faults.exit(self, instruction, regs, memory, who)
        else:
            answered = self.serve(instruction, regs, memory, who)
        if self.transcript is not None:
            self.transcript.end(regs, who, answered, self.faults.applied if self.faults is not None else "")
        return answered

    def serve(self, instruction: int, regs: list[int], memory: Memory, who: Guest) -> bool:
        """As :meth:`exit`, with no faults and no transcript."""
        if instruction == PORT_LOW:
            if regs[DX] & 0xFFFF != PORT:
                return False
            self._low(regs, who)
            return True
        if instruction in (PORT_OUT, PORT_IN):
            if regs[DX] & 0xFFFF != PORT_HIGH:
                return False
            return self._string(instruction == PORT_OUT, regs, memory)
        if instruction in (VMCALL, VMMCALL):
            if not self.machine.hypercalls:
                return False
            flags = regs[DX] & 0xFFFF
            if flags == 0:
                self._low(regs, who)
                return True
            if flags & FLAG_HIGH and flags <= FLAG_HIGH | FLAG_OUT:
                return self._high(bool(flags & FLAG_OUT), regs, regs[CX] & MASK32, memory)
            regs[AX] = regs[AX] & UPPER | UNSUPPORTED
            return True
        if instruction == RDPMC:
            return self._rdpmc(regs)
        return False

    # -- the forms of the instruction --------------------------------------------------------------------------------

    def _low(self, regs: list[int], who: Guest) -> None:
        command = regs[CX] & 0xFFFF
        if regs[AX] & MASK32 != MAGIC:
            regs[AX] = regs[AX] & UPPER | UNSUPPORTED
        elif command == Command.MESSAGE:
            self.channels.call(regs, who)
        else:
            serve = self._commands.get(command)
            if serve is None:
                regs[AX] = regs[AX] & UPPER | UNSUPPORTED
            else:
                serve(regs)

    def _string(self, out: bool, regs: list[int], memory: Memory) -> bool:
        count = regs[CX]  # REP counts with the whole register
        if count == 0:  # REP with nothing to do makes no access, so no host ever sees it
            return True
        pointer = SI if out else DI
        address = regs[pointer]
        if not self._high(out, regs, count, memory):
            return False
        regs[pointer] = address + count & MASK64
        regs[CX] = 0
        return True

    def _high(self, out: bool, regs: list[int], size: int, memory: Memory) -> bool:
        if regs[AX] & MASK32 != MAGIC or regs[BX] & MASK32 != HB_MESSAGE:
            regs[AX] = regs[AX] & UPPER | UNSUPPORTED
            regs[BX] &= UPPER
            return True
        try:
            serve = self.channels.high_out if out else self.channels.high_in
            done = serve(regs, size, memory)
        except OSError:  # a bad pointer: the guest faults on it, the channel stands where it stood
            return False
        regs[BX] = regs[BX] & UPPER | (HB_MESSAGE if done else 0)
        return True

    def _rdpmc(self, regs: list[int]) -> bool:
        index = regs[CX] & MASK32
        counter = self._counters.get(index)
        if counter is None:
            return False
        value = counter()
        # RDPMC writes EAX and EDX as any 32-bit instruction does: the upper halves become 0
        regs[AX] = value & MASK32
        regs[DX] = value >> 32 & MASK32
        return True

    # -- commands (specification 1.7 and hypercalls 6) ---------------------------------------------------------------

    def _rpci(self, request: bytes) -> bytes:
        return rpci.answer(self.machine, request)

    def _get_mhz(self, regs: list[int]) -> None:
        _set(regs, ax=self.machine.mhz)

    def _get_version(self, regs: list[int]) -> None:
        _set(regs, ax=self.machine.version, bx=MAGIC, cx=self.machine.product)

    def _get_hw_version(self, regs: list[int]) -> None:
        _set(regs, ax=self.machine.hw_version, bx=MAGIC)

    def _get_gui_options(self, regs: list[int]) -> None:
        _set(regs, ax=self.machine.options.gui)

    def _set_gui_options(self, regs: list[int]) -> None:
        self.machine.options.gui = regs[BX] & MASK32

    def _get_device(self, regs: list[int]) -> None:
        word = self.machine.devices.word(regs[BX] >> 16 & 0xFFFF, regs[BX] & 0xFFFF)
        if word is None:
            _set(regs, ax=0)
        else:
            _set(regs, ax=1, bx=word)

    def _toggle_device(self, regs: list[int]) -> None:
        _set(regs, ax=self.machine.devices.toggle(regs[BX] & MASK32))

    def _get_screen_size(self, regs: list[int]) -> None:
        width, height = self.machine.screen
        _set(regs, ax=width << 16 | height)

    def _get_uuid(self, regs: list[int]) -> None:
        words = [int.from_bytes(self.machine.uuid.bytes[at : at + 4], "little") for at in range(0, 16, 4)]
        _set(regs, ax=words[0], bx=words[1], cx=words[2], dx=words[3])

    def _get_mem_size(self, regs: list[int]) -> None:
        _set(regs, ax=self.machine.memory_mb)

    def _get_time(self, regs: list[int]) -> None:
        seconds, micro = self._now()
        _set(regs, ax=seconds, bx=micro, cx=self.machine.max_time_lag_us, dx=0)

    def _stop_catch_up(self, regs: list[int]) -> None:
        self.machine.catch_ups_stopped += 1

    def _get_time_full(self, regs: list[int]) -> None:
        seconds, micro = self._now()
        lag = self.machine.max_time_lag_us + self.machine.interrupt_lag_us
        _set(regs, bx=micro, cx=lag, dx=seconds, si=seconds >> 32)

    def _get_time_full_with_lag(self, regs: list[int]) -> None:
        self._get_time_full(regs)
        _set(regs, cx=self.machine.max_time_lag_us, di=self.machine.interrupt_lag_us)

    def _get_hz(self, regs: list[int]) -> None:
        hz = self.machine.mhz * 1_000_000
        _set(regs, ax=hz, bx=hz >> 32, cx=self.machine.bus_hz)

    def _get_vcpu_info(self, regs: list[int]) -> None:
        _set(regs, ax=1 << 3)  # legacy x2APIC is all right

    def _get_build_number(self, regs: list[int]) -> None:
        _set(regs, ax=self.machine.build)

    def _now(self) -> tuple[int, int]:
        return divmod(self.machine.clock.now() // 1000, 1_000_000)


_PLACES = {"ax": AX, "bx": BX, "cx": CX, "dx": DX, "si": SI, "di": DI}


def _set(regs: list[int], **values: int) -> None:
    """Write low halves; VMware leaves the upper ones as they are (hypercalls 2)."""
    for name, value in values.items():
        place = _PLACES[name]
        regs[place] = regs[place] & UPPER | value & MASK32
