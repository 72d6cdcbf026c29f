"""A KVM virtual CPU in 16-bit real mode, and an assembler for the few instructions that its guests are made of.

The numbers of the ioctls and the layouts are those of x86-64 Linux (``linux/kvm.h``).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
from contextlib import ExitStack
from typing import TYPE_CHECKING

from vmtools.sim.backdoor import Memory
from vmtools.sim.kvm import KVM_REGS, put_registers, registers_of

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from vmtools.sim.kvm import VirtualCpu

CREATE_VM, GET_VCPU_MMAP_SIZE = 0xAE01, 0xAE04
CREATE_VCPU, SET_USER_MEMORY_REGION = 0xAE41, 0x4020AE46
RUN, GET_REGS, SET_REGS, GET_SREGS, SET_SREGS = 0xAE80, 0x8090AE81, 0x4090AE82, 0x8138AE83, 0x4138AE84
SREGS_SIZE = 312
EXIT_IO, EXIT_HLT = 2, 5

MEMORY = 0x10000
CODE = 0x1000
STACK = 0x8000
MANY = 100_000
"""Exits, after which a guest is taken for lost."""


class GuestMemory(Memory):
    """The guest's physical memory, which in real mode is its linear one."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory

    def read(self, address: int, size: int) -> bytes:
        self._check(address, size)
        return self._memory[address : address + size]

    def write(self, address: int, data: bytes) -> None:
        self._check(address, len(data))
        self._memory[address : address + len(data)] = data

    @staticmethod
    def _check(address: int, size: int) -> None:
        if address + size > MEMORY:
            raise OSError(errno.EFAULT, "bad address")


class KvmCpu:
    """One virtual machine with 64 KiB and one CPU; :raises OSError: this machine has no KVM that works."""

    def __init__(self) -> None:
        with ExitStack() as stack:
            system = _descriptor(stack, os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
            machine = _descriptor(stack, fcntl.ioctl(system, CREATE_VM, 0))
            self._memory = stack.enter_context(mmap.mmap(-1, MEMORY))
            self.memory = GuestMemory(self._memory)
            address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
            fcntl.ioctl(machine, SET_USER_MEMORY_REGION, struct.pack("<IIQQQ", 0, 0, 0, MEMORY, address))
            self._cpu = _descriptor(stack, fcntl.ioctl(machine, CREATE_VCPU, 0))
            size = fcntl.ioctl(system, GET_VCPU_MMAP_SIZE, 0)
            self._run = stack.enter_context(mmap.mmap(self._cpu, size))
            self._open = stack.pop_all()
        segments = bytearray(SREGS_SIZE)
        fcntl.ioctl(self._cpu, GET_SREGS, segments)
        struct.pack_into("<QIH", segments, 0, 0, 0xFFFF, 0)  # CS at 0
        fcntl.ioctl(self._cpu, SET_SREGS, bytes(segments))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def run(self, code: bytes, adapter: VirtualCpu) -> list[int]:
        """Run to the HLT; RAX, RBX, RCX, RDX, RSI, RDI, RBP at its end.

        An I/O exit that the adapter leaves alone finds no device: all ones.
        """
        self.memory.write(CODE, code)
        regs = bytearray(KVM_REGS.size)
        struct.pack_into("<Q", regs, 6 * 8, STACK)
        struct.pack_into("<QQ", regs, 16 * 8, CODE, 2)
        fcntl.ioctl(self._cpu, SET_REGS, bytes(regs))
        for _ in range(MANY):
            fcntl.ioctl(self._cpu, RUN, 0)
            fcntl.ioctl(self._cpu, GET_REGS, regs)
            (reason,) = struct.unpack_from("<I", self._run, 8)
            if reason == EXIT_HLT:
                return registers_of(regs)
            assert reason == EXIT_IO, f"KVM_EXIT {reason} at {regs[128:136].hex()}"
            completed = adapter.exit(self._run, registers_of(regs), self.memory, address_bits=16)
            if completed is None:
                (at,) = struct.unpack_from("<Q", self._run, 40)
                self._run[at : at + 4] = b"\xff" * 4
            else:
                put_registers(regs, completed.registers)
                fcntl.ioctl(self._cpu, SET_REGS, bytes(regs))
        raise AssertionError("the guest does not end")


def _descriptor(stack: ExitStack, number: int) -> int:
    stack.callback(os.close, number)
    return number


AX, CX, DX, BX, SP, BP, SI, DI = range(8)


class Code:
    """16-bit machine code, an instruction at a time; ``load`` and ``store`` take addresses of 32-bit words."""

    def __init__(self) -> None:
        self.bytes = bytearray()
        self._labels: dict[str, int] = {}
        self._jumps: list[tuple[int, str, int]] = []

    def mov(self, register: int, value: int) -> None:
        self.bytes += b"\x66" + bytes([0xB8 + register]) + struct.pack("<I", value)

    def load(self, register: int, address: int) -> None:
        self.bytes += b"\x66\x8b" + bytes([register << 3 | 6]) + struct.pack("<H", address)

    def store(self, address: int, register: int) -> None:
        self.bytes += b"\x66\x89" + bytes([register << 3 | 6]) + struct.pack("<H", address)

    def raw(self, code: str) -> None:
        self.bytes += bytes.fromhex(code)

    def in_eax_dx(self) -> None:
        self.raw("66 ed")

    def hlt(self) -> None:
        self.raw("f4")

    def label(self, name: str) -> None:
        self._labels[name] = len(self.bytes)

    def call(self, name: str) -> None:
        self._jump(b"\xe8", name)

    def jnz(self, name: str) -> None:
        self._jump(b"\x0f\x85", name)

    def _jump(self, opcode: bytes, name: str) -> None:
        self.bytes += opcode + b"\0\0"
        self._jumps.append((len(self.bytes), name, len(self.bytes) - 2))

    def assemble(self) -> bytes:
        """The code, its jumps filled in."""
        for origin, name, place in self._jumps:
            struct.pack_into("<h", self.bytes, place, self._labels[name] - origin)
        return bytes(self.bytes)
