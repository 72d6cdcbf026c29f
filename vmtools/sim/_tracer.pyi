"""The system calls of the simulated host's tracer (Linux on x86-64).

Everything here belongs to the thread that spawned: ptrace(2) answers no other.  Elsewhere than on x86-64 Linux the
module can be imported, ``SUPPORTED`` is False, and whatever would trace raises NotImplementedError.
"""

from typing import Final, final

SUPPORTED: Final[bool]

# Trace.kind
EXIT: Final[int]
"""A backdoor instruction trapped: ``instruction``, ``bits``, :meth:`Trace.registers`; unserved, it is ``signal``."""
SIGNAL: Final[int]
"""``signal`` is about to be delivered."""
EVENT: Final[int]
"""``event`` is a PTRACE_EVENT number; with PTRACE_EVENT_STOP ``signal`` tells which stop."""
GONE: Final[int]
"""The thread ended: ``code`` is its exit status, or minus the signal that killed it."""

RETURN: Final[int]
"""The system call that :meth:`Trace.finish_call` let go on is done: :meth:`Trace.result`."""

CPUID: Final[int]
"""The number of an instruction that no backdoor answers, see :func:`decode`."""

# what the seccomp filter left to the tracer: PTRACE_EVENT_SECCOMP's message -> bits, as Trace.arguments() wants them
SECCOMP_MMAP: Final[dict[int, int]]
"""Memory that may be executed is to be mapped."""
SECCOMP_PROTECT: Final[dict[int, int]]
"""Memory is to become executable."""
SECCOMP_PTRACE: Final[dict[int, int]]
"""Somebody asks for ptrace's TRACEME, ATTACH or SEIZE."""

# how far a child came that could not run its program
AT_STDIO: Final[int]
AT_CHDIR: Final[int]
AT_SECCOMP: Final[int]
AT_EXEC: Final[int]

LARGEST_READ: Final[int]
"""Bytes that :meth:`Trace.read` hands out at once, at most."""

def spawn(
    paths: list[bytes],
    argv: list[bytes],
    envp: list[bytes],
    cwd: bytes | None,
    stdio: tuple[int, int, int],
    watch: bool = False,
) -> tuple[int, int]:
    """Start a program, traced by the calling thread and behind the simulation's seccomp filter.

    :param paths: files to try, one after the other.
    :param stdio: file descriptors for its standard streams; -1: inherited.
    :param watch: whether it is to stop (PTRACE_EVENT_SECCOMP) where it makes memory executable.
    :returns: the process id, and a file descriptor that yields ``struct { int32_t step, errno; }`` if the program
        could not be run; the caller closes it.
    :raises OSError: EPERM where ptrace is forbidden; EAGAIN, ENOMEM, EMFILE.
    :raises NotImplementedError: on other systems.
    """

def decode(code: bytes, bits: int) -> tuple[int, int, int, bool] | None:
    """The instruction of ours at the beginning of ``code``, if it is one, in 32- or 64-bit mode.

    CPUID and the hypercalls are known with :meth:`Trace.plant`'s breakpoint, too.

    :returns: its number (see :mod:`vmtools.sim.backdoor`; or :data:`CPUID`), its length in bytes, how many bytes of EAX
        ``IN`` changes (0: ``OUT``), and whether a string form uses 32-bit addresses in 64-bit code.
    """

def no_core() -> None:
    """This process leaves no core file from now on."""

def hypercalls() -> int:
    """Which hypercall instructions trap in user code here: ``1 << VMCALL``, ``1 << VMMCALL``; found out in a child.

    :raises OSError: no child can be had.
    """

def cpuid_faults() -> bool:
    """Whether processor and kernel can make CPUID fault (arch_prctl(2), ARCH_SET_CPUID)."""

def cpuid(leaf: int, subleaf: int) -> tuple[int, int, int, int]:
    """EAX, EBX, ECX, EDX as the processor that runs this thread has them."""

def own_mounts() -> None:
    """From now on the calling thread, and whom it starts, mounts for itself only; :raises OSError: EPERM."""

def mount(source: bytes, target: bytes, type: bytes | None, flags: int, options: bytes | None) -> None:
    """mount(2)."""

@final
class Trace:
    """What the calling thread's tracees do, one stop after the other.

    It is also the memory (``read``, ``write``) of the thread that stopped last, until that goes on.
    Methods that concern a thread which was killed meanwhile do nothing; :meth:`wait` tells its end.
    """

    @property
    def kind(self) -> int: ...
    @property
    def tid(self) -> int: ...
    @property
    def signal(self) -> int: ...
    @property
    def event(self) -> int: ...
    @property
    def code(self) -> int: ...
    @property
    def bits(self) -> int: ...
    @property
    def instruction(self) -> int: ...
    def wait(self) -> bool:
        """Wait for the next stop or end of a tracee; the GIL is released, and Python's signal handlers run.

        Threads that stopped at the same time are taken in turn, so that none is starved.

        :returns: False if there is no tracee any more.
        """

    def registers(self) -> list[int]:
        """AX, BX, CX, DX, SI, DI, BP of an EXIT; 32 bits each in 32-bit code."""

    def answer(self, registers: list[int]) -> None:
        """Give an EXIT its registers, step over the instruction and let the thread go on.

        ``OUT`` and the narrow forms of ``IN`` change of EAX only what VMware changes.

        :raises OverflowError: a register is negative or has more than 64 bits.
        """

    def resume(self, signal: int = 0) -> None:
        """Let the thread go on, with a signal."""

    def listen(self) -> None:
        """Leave the thread stopped, as SIGSTOP demands, until SIGCONT comes."""

    def message(self) -> int:
        """PTRACE_GETEVENTMSG of an EVENT; 0 if the thread is gone."""

    def judge(self) -> None:
        """Decide a system call that the seccomp filter left to the tracer (32-bit ``socketcall``), and go on."""

    def arguments(self, bits: int) -> list[int]:
        """The six arguments of the system call at which the seccomp filter stopped the thread."""

    def finish_call(self) -> None:
        """Let that system call be carried out: a RETURN follows."""

    def result(self) -> int:
        """What it returned: a value, or minus errno."""

    def plant(self, address: int, code: bytes) -> bool:
        """Put a breakpoint on the CPUID, VMCALL or VMMCALL at ``address``, if it stands there as ``code``.

        :raises OSError: EIO: the memory can't be changed.
        """

    def inject(self, number: int, number_32: int, first: int = 0, second: int = 0, third: int = 0) -> int:
        """Run a system call in a thread that stands at PTRACE_EVENT_EXEC; its registers and code are as before.

        :param number_32: the call's number where it has executed a 32-bit program.
        :returns: its result, or minus errno.  The thread is then at a RETURN's stop.
        """

    def read(self, address: int, size: int) -> bytes:
        """Memory of the stopped program.

        :raises OSError: EFAULT: not all of it is mapped and readable; EMSGSIZE: more than :data:`LARGEST_READ` bytes.
        """

    def write(self, address: int, data: bytes) -> None:
        """Change memory of the stopped program.

        :raises OSError: EFAULT: not all of it is mapped and writable; a part may have been written.
        """
