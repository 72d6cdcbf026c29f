"""KVM's exits: what a monitor gets from KVM_RUN when its guest calls VMware's host, taken apart and completed.

Three forms (specification of the hypercalls, 9 and 10):

* the exit of the KVM series for VMware hypercalls (April 2025, its second version): a structure of 104 bytes in the
  union of ``struct kvm_run``, with room for an exception;
* that of its first version, which shared KVM_EXIT_HYPERCALL;
* KVM_EXIT_IO on the ports 0x5658 and 0x5659, which any KVM delivers.

The series was never merged, and other exits and capabilities have taken its numbers since: they are parameters here.

A monitor does, for each exit: KVM_GET_REGS, :meth:`VirtualCpu.exit`, KVM_SET_REGS with what came out of it, KVM_RUN.
The structures' own copies of the registers are input only.  Layouts are little endian, as x86 is.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, NamedTuple

from vmtools.constants import HB_MESSAGE, MAGIC, MASK32, PORT, PORT_HIGH, UNSUPPORTED
from vmtools.sim.backdoor import NOBODY, PORT_IN, PORT_LOW, PORT_OUT, VMCALL, Memory
from vmtools.sim.channels import AX, BX, CX, DI, DX, SI, UPPER

if TYPE_CHECKING:
    import mmap
    from collections.abc import Sequence

    from vmtools.sim.backdoor import Exits, Guest

    Buffer = bytearray | memoryview | mmap.mmap
    """``struct kvm_run`` as the monitor has it mapped."""

UNION = 32
"""Where the union of the exits begins in ``struct kvm_run``."""

EXIT_REASON = struct.Struct("<I")
EXIT_REASON_AT = 8

VMWARE = struct.Struct("<IIII7QQIIIIQ")
"""type, pad, longmode, cpl, rax … rbp, result, exception: inject, pad, vector, error code, address."""

RESULT_AT = 72
INJECT = struct.Struct("<QIIIIQ")
"""What the monitor fills in, from ``result`` on."""

HYPERCALL = struct.Struct("<Q6QQQ")
"""The older form: nr (RAX), args (RBX … RBP), ret (the privilege level, then RAX), flags (bit 0: long mode)."""

HYPERCALL_RET_AT = 56

IO = struct.Struct("<BBHIQ")
"""KVM_EXIT_IO: direction (0 in, 1 out), size of an item, port, count of items, where the data is in ``kvm_run``."""

ENABLE_CAP = struct.Struct("<II4Q64x")
KVM_REGS = struct.Struct("<18Q")
"""rax rbx rcx rdx rsi rdi rsp rbp r8 … r15 rip rflags"""

_PLACES = (0, 1, 2, 3, 4, 5, 7)
"""Where AX, BX, CX, DX, SI, DI, BP are in it."""

INVALID_OPCODE = 6
PAGE_FAULT = 14
"""Vectors."""

PRESENT, WRITE, USER = 1, 2, 4
"""Bits of a page fault's error code."""

CPL0_COMMANDS = frozenset(
    {2, 18, 28, 37, 48, 49, 50, 54, 64, 65, 69, 71, *range(73, 81), 85, 91, 92, 93, 103},
)
"""Commands for the guest's kernel alone, by the remarks of VMware's header."""

GATHERED = 1 << 20
"""Bytes of one REP OUTSB that are kept; no host takes a message that long."""


class Numbers(NamedTuple):
    """What the running kernel calls its exits.

    ``vmware`` and ``vmware_type``: the series' exit and its type for a hypercall (its second version: 40 and 1); None:
    this kernel has none.  The other two are KVM's since long before.
    """

    vmware: int | None = None
    vmware_type: int = 1
    io: int = 2
    hypercall: int = 3


class GuestException(NamedTuple):
    """An exception that the guest gets at its hypercall, which then counts as not executed.

    ``address``: of a page fault.  The series' second version carries its low 32 bits only.
    """

    vector: int
    error_code: int = 0
    address: int = 0


class Completed(NamedTuple):
    """An exit, answered: RAX, RBX, RCX, RDX, RSI, RDI, RBP as the guest is to find them, for KVM_SET_REGS."""

    registers: list[int]
    exception: GuestException | None = None


class VMwareExit(NamedTuple):
    """The structure of 104 bytes.  ``registers``: RAX, RBX, RCX, RDX, RSI, RDI, RBP."""

    type: int
    longmode: bool
    cpl: int
    registers: list[int]
    result: int = 0
    exception: GuestException | None = None


class PageFault(OSError):
    """A guest's address that translates to nothing: for a monitor's memory to raise.

    :param present: the page is there, and not for this access.
    """

    def __init__(self, address: int, *, present: bool = False) -> None:
        super().__init__(errno.EFAULT, f"page fault at {address:#x}")
        self.address = address
        self.present = present


def decode(data: bytes | bytearray | memoryview) -> VMwareExit:
    """The structure from its bytes; :raises ValueError: there are fewer than 104."""
    if len(data) < VMWARE.size:
        raise ValueError(f"the exit of a VMware hypercall has {VMWARE.size} bytes, not {len(data)}")
    kind, _, longmode, cpl, *rest = VMWARE.unpack_from(data)
    registers, (result, inject, _, vector, error_code, address) = rest[:7], rest[7:]
    exception = GuestException(vector, error_code, address) if inject else None
    return VMwareExit(kind, bool(longmode), cpl, registers, result, exception)


def encode(exit: VMwareExit) -> bytes:
    """The reverse."""
    vector, error_code, address = exit.exception or (0, 0, 0)
    inject = exit.exception is not None
    head = exit.type, 0, exit.longmode, exit.cpl
    return VMWARE.pack(*head, *exit.registers, exit.result, inject, 0, vector, error_code, address)


def enable_cap(capability: int, value: int) -> bytes:
    """``struct kvm_enable_cap`` for KVM_ENABLE_CAP on a virtual machine.

    The series' second version has three capabilities, each 0 or 1; its review asked for one with flag bits: 0 the
    backdoor's ports, 1 hypercalls, 2 the nested backdoor.
    """
    return ENABLE_CAP.pack(capability, 0, value, 0, 0, 0)


def registers_of(kvm_regs: bytes | bytearray) -> list[int]:
    """RAX, RBX, RCX, RDX, RSI, RDI, RBP from a ``struct kvm_regs``."""
    words = KVM_REGS.unpack_from(kvm_regs)
    return [words[place] for place in _PLACES]


def put_registers(kvm_regs: bytearray, registers: Sequence[int]) -> None:
    """Write them back into it."""
    for place, word in zip(_PLACES, registers, strict=True):
        struct.pack_into("<Q", kvm_regs, place * 8, word)


class VirtualCpu:
    """One virtual CPU's exits, answered by a host.

    :param exits: the host (:class:`vmtools.sim.backdoor.Backdoor`).
    :param who: for the log and the transcript.
    """

    def __init__(self, exits: Exits, numbers: Numbers, who: Guest = NOBODY) -> None:
        self.exits = exits
        self.numbers = numbers
        self.who = who
        self._out = _Gathering()
        self._in = _Handing()

    def exit(
        self, run: Buffer, registers: Sequence[int], memory: Memory, *, cpl: int = 0, address_bits: int = 64
    ) -> Completed | None:
        """Answer one exit and complete its structure in ``run``; None: it is not the backdoor's, nothing was touched.

        :param run: ``struct kvm_run``, all of the mapping.
        :param registers: RAX, RBX, RCX, RDX, RSI, RDI, RBP by KVM_GET_REGS.
        :param memory: the guest's, by its linear addresses; where it raises :class:`PageFault`, or any other OSError,
            the guest gets a page fault (hypercalls only: KVM moves a string instruction's bytes itself).
        :param cpl: the privilege level, for an I/O exit, which does not tell it.
        :param address_bits: of an I/O exit's string instruction: 16 in 16-bit code that counts in CX.
        """
        (reason,) = EXIT_REASON.unpack_from(run, EXIT_REASON_AT)
        if reason == self.numbers.io:
            return self.io(run, registers, cpl=cpl, address_bits=address_bits)
        if reason == self.numbers.vmware:
            with memoryview(run) as whole, whole[UNION : UNION + VMWARE.size] as frame:
                return self.vmware(frame, memory)
        if reason == self.numbers.hypercall:
            with memoryview(run) as whole, whole[UNION : UNION + HYPERCALL.size] as frame:
                return self.hypercall(frame, memory)
        return None

    def vmware(self, frame: bytearray | memoryview, memory: Memory) -> Completed | None:
        """The series' exit: ``result`` and the exception are filled in, the rest of the frame stays.

        KVM passes on *every* VMCALL and VMMCALL, those for itself or for Xen's and Hyper-V's interfaces too: without
        VMware's magic in EAX it is not ours.
        """
        call = decode(frame)
        if call.type != self.numbers.vmware_type:
            return None
        completed = self._call(call.registers, memory, longmode=call.longmode, cpl=call.cpl)
        if completed is not None:
            done = encode(call._replace(result=completed.registers[AX], exception=completed.exception))
            frame[RESULT_AT : VMWARE.size] = done[RESULT_AT:]
        return completed

    def hypercall(self, frame: bytearray | memoryview, memory: Memory) -> Completed | None:
        """The older form: ``ret`` is filled in.  It has no room for an exception: that is the monitor's to inject."""
        *registers, cpl, flags = HYPERCALL.unpack_from(frame)
        completed = self._call(registers, memory, longmode=bool(flags & 1), cpl=cpl)
        if completed is not None:
            struct.pack_into("<Q", frame, HYPERCALL_RET_AT, completed.registers[AX])
        return completed

    def io(self, run: Buffer, registers: Sequence[int], *, cpl: int = 0, address_bits: int = 64) -> Completed | None:
        """KVM_EXIT_IO: what is read is put where KVM looks for it.

        One REP OUTSB or REP INSB comes as many exits: KVM gives bytes out one by one, and asks for them by the rest of
        a page or 1024.  The host gets it as the one call that it is.  KVM has advanced the registers before an exit of
        OUTSB, and does so after that of INSB (seen on 6.18; the emulator behind it is common to all processors).

        :raises ValueError: the data is said to be outside of ``run``.
        """
        incoming, size, port, count, at = _io(run)
        if registers[AX] & MASK32 != MAGIC or registers[DX] & 0xFFFF != port:
            return None
        regs = list(registers)
        if (port, incoming, size, count) == (PORT, True, 4, 1):
            if not self._low(PORT_LOW, regs, _NOWHERE, cpl):
                return None
            struct.pack_into("<I", run, at, regs[AX] & MASK32)
            return Completed(regs)
        if (port, size) != (PORT_HIGH, 1):
            return None
        mask = (1 << address_bits) - 1
        counter = regs[CX] & mask
        data = bytes(run[at : at + count])
        if not incoming:
            return self._gather(regs, counter, regs[SI] - count & mask, data)
        if not self._in.continues(counter, regs[DI] & mask):
            answer = self._high_in(regs, counter)
            if answer is None:
                return None
            self._in = _Handing(answer)
        run[at : at + count] = self._in.take(count, counter - count, regs[DI] + count & mask)
        return Completed(regs)

    # -- what the host is asked --------------------------------------------------------------------------------------

    def _call(self, registers: list[int], memory: Memory, *, longmode: bool, cpl: int) -> Completed | None:
        if registers[AX] & MASK32 != MAGIC:
            return None
        mask = MASK32 | UPPER if longmode else MASK32
        regs = [word & mask for word in registers]
        watched = _Watched(memory)
        served = (
            self.exits.exit(VMCALL, regs, watched, self.who)
            if regs[DX] & 0xFFFF
            else self._low(VMCALL, regs, watched, cpl)
        )
        if served:
            return Completed(regs)
        # the instruction counts as not executed, and may be executed again: with the RAX that it had
        exception = watched.exception(cpl) or GuestException(INVALID_OPCODE)
        return Completed([word & mask for word in registers], exception)

    def _low(self, instruction: int, regs: list[int], memory: Memory, cpl: int) -> bool:
        if cpl != 0 and regs[CX] & 0xFFFF in CPL0_COMMANDS:
            regs[AX] = regs[AX] & UPPER | UNSUPPORTED
            return True
        return self.exits.exit(instruction, regs, memory, self.who)

    def _gather(self, regs: list[int], left: int, address: int, data: bytes) -> Completed | None:
        """Some bytes of a REP OUTSB; with its last ones the host is called."""
        self._out.add(left, address, data)
        if left:
            return Completed(regs)
        done, self._out = self._out, _Gathering()
        call = [*regs]
        call[CX], call[SI] = done.total, 0
        if self.exits.exit(PORT_OUT, call, done, self.who):
            regs[AX], regs[BX] = call[AX], call[BX]
        elif done.total > GATHERED:
            regs[BX] &= UPPER
        else:
            return None
        return Completed(regs)

    def _high_in(self, regs: list[int], total: int) -> bytes | None:
        """All bytes of a REP INSB, asked for at its first exit; fewer where the host refused."""
        room = _Room()
        call = [*regs]
        call[CX], call[DI] = total, 0
        if not self.exits.exit(PORT_IN, call, room, self.who):
            return None
        regs[AX], regs[BX] = call[AX], call[BX]
        return room.data if regs[BX] & MASK32 == HB_MESSAGE else b""


def _io(run: Buffer) -> tuple[bool, int, int, int, int]:
    """Whether it reads, size, port, count, where the data is."""
    direction, size, port, count, at = IO.unpack_from(run, UNION)
    if at + size * count > len(run):
        raise ValueError(f"{count} items of {size} bytes at {at} are outside of kvm_run, which has {len(run)} bytes")
    return direction == 0, size, port, count, at


class _Watched(Memory):
    """The guest's memory, which remembers where it failed."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._failed: tuple[int, bool, bool] | None = None

    def read(self, address: int, size: int) -> bytes:
        try:
            return self._memory.read(address, size)
        except OSError as error:
            self._fail(error, address, write=False)
            raise

    def write(self, address: int, data: bytes) -> None:
        try:
            self._memory.write(address, data)
        except OSError as error:
            self._fail(error, address, write=True)
            raise

    def _fail(self, error: OSError, address: int, *, write: bool) -> None:
        if isinstance(error, PageFault):
            self._failed = error.address, error.present, write
        else:
            self._failed = address, False, write

    def exception(self, cpl: int) -> GuestException | None:
        """The page fault that the guest gets for it."""
        if self._failed is None:
            return None
        address, present, write = self._failed
        code = (PRESENT if present else 0) | (WRITE if write else 0) | (USER if cpl == 3 else 0)
        return GuestException(PAGE_FAULT, code, address)


class _Gathering(Memory):
    """The bytes of a REP OUTSB so far: to the host, the guest's memory."""

    def __init__(self) -> None:
        self.total = 0
        self._kept = bytearray()
        self._next = -1, -1

    def add(self, left: int, address: int, data: bytes) -> None:
        """The next bytes, if they belong to the same instruction; else the first ones of another."""
        if (left + len(data), address) != self._next:
            self.total = 0
            self._kept.clear()
        self.total += len(data)
        self._kept += data[: GATHERED - len(self._kept)]
        self._next = left, address + len(data)

    def read(self, address: int, size: int) -> bytes:
        if size != len(self._kept):
            raise OSError(errno.EFAULT, "more than is kept")
        return bytes(self._kept)

    def write(self, address: int, data: bytes) -> None:
        raise OSError(errno.EFAULT, "these are the guest's bytes")


class _Handing:
    """The bytes for a REP INSB that have not been handed over yet; zeros where the host gave none."""

    def __init__(self, data: bytes = b"") -> None:
        self._data = data
        self._at = 0
        self._next = 0, 0

    def continues(self, counter: int, address: int) -> bool:
        """Whether an exit goes on with the same instruction."""
        return counter > 0 and (counter, address) == self._next

    def take(self, count: int, left: int, address: int) -> bytes:
        """The next bytes; what the registers will be after them."""
        piece = self._data[self._at : self._at + count]
        self._at += count
        self._next = left, address
        return piece.ljust(count, b"\0")


class _Room(Memory):
    """Takes what the host writes."""

    data = b""

    def read(self, address: int, size: int) -> bytes:
        raise OSError(errno.EFAULT, "there is nothing to read")

    def write(self, address: int, data: bytes) -> None:
        self.data = bytes(data)


_NOWHERE = _Room()
