"""The instructions that reach a VMware host.

Every function that executes one changes the frame in place and returns 0, or the *fault*: the signal's number in the
low byte and its ``si_code`` above (``fault & 0xff``, ``fault >> 8``).  After a fault at the start of the instruction
the frame is as it was.  The GIL is released while the instruction runs: a host may take milliseconds for one.
``hold=True`` keeps it, for an instruction that is likely to fault: then no other Python code can change the signals'
handlers between the guard and the fault (``faulthandler.disable()`` there would be the end of the process).
A fault anywhere else goes to whoever handles it; nobody's signal handler is replaced for longer than the call.

Registers: specification of the backdoor, "Register ABI"; only the low 32 bits carry data, and hosts may leave anything
above them.
"""

from typing import Final, final

from _typeshed import ReadableBuffer, WriteableBuffer

ARCHITECTURE: Final[str]
"""``x86_64``, ``i386`` or ``aarch64``."""

@final
class Frame:
    """Seven registers, 64 bits each: EAX to EDX, ESI, EDI, EBP of the x86 form; X0 to X6 on aarch64.

    :raises OverflowError: a value is negative or over 64 bits.
    """

    ax: int
    bx: int
    cx: int
    dx: int
    si: int
    di: int
    bp: int
    def __init__(
        self, ax: int = 0, bx: int = 0, cx: int = 0, dx: int = 0, si: int = 0, di: int = 0, bp: int = 0
    ) -> None: ...

def low(frame: Frame, hold: bool = False) -> int:
    """``IN EAX,DX`` (aarch64: ``MRS XZR,MDCCSR_EL0`` that stands for it)."""

def high_out(frame: Frame, data: ReadableBuffer) -> int:
    """``REP OUTSB`` of ``data``, not copied.

    :raises ValueError: ``frame.cx`` is not the length of ``data``, or that is 0.
    """

def high_in(frame: Frame, buffer: WriteableBuffer) -> int:
    """``REP INSB`` into ``buffer``, not copied.

    :raises ValueError: ``frame.cx`` is not the length of ``buffer``, or that is 0.
    :raises BufferError: ``buffer`` is read-only.
    """

def vmcall(frame: Frame, hold: bool = False) -> int:
    """``VMCALL``."""

def vmcall_out(frame: Frame, data: ReadableBuffer) -> int:
    """``VMCALL`` with ESI pointing at ``data``; errors as :func:`high_out`."""

def vmcall_in(frame: Frame, buffer: WriteableBuffer) -> int:
    """``VMCALL`` with EDI pointing at ``buffer``; errors as :func:`high_in`."""

def vmmcall(frame: Frame, hold: bool = False) -> int:
    """``VMMCALL``."""

def vmmcall_out(frame: Frame, data: ReadableBuffer) -> int:
    """``VMMCALL`` with ESI pointing at ``data``; errors as :func:`high_out`."""

def vmmcall_in(frame: Frame, buffer: WriteableBuffer) -> int:
    """``VMMCALL`` with EDI pointing at ``buffer``; errors as :func:`high_in`."""

def rdpmc(frame: Frame) -> int:
    """``RDPMC`` of the counter in ``cx``; the low half of its value comes in ``ax``, the high half in ``dx``."""

def cpuid(frame: Frame) -> int:
    """``CPUID`` of leaf ``ax``, subleaf ``cx``; changes ``ax``, ``bx``, ``cx``, ``dx``."""

def ioperm(first: int, count: int, on: bool) -> None:
    """Grant (or revoke) ``count`` ports from ``first`` to the calling thread: ioperm(2).

    :raises OSError: ``EPERM`` without CAP_SYS_RAWIO or under lockdown, ``ENOSYS`` where there are no ports.
    """
