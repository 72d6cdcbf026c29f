"""Which instruction, with which privilege: the choice, made once, of a way to the host.

The decision table (:func:`choose` with ``auto``):

=====================================  ==========================================================================
CPUID signature                        gate
=====================================  ==========================================================================
VMware, leaf 0x40000010 offers it      VMCALL, else VMMCALL
VMware without; or DMI says VMware     the port, with ``ioperm`` where the instruction faults without
any other, or none                     the port, without privilege: a host that traps the port answers (VMware under
                                       another hypervisor's signature, the simulated host); else it is a fault, and an
                                       answer: no VMware here
=====================================  ==========================================================================

Touching the port with privilege on a machine that does not claim to be VMware's is for those who ask for it
(``VMTOOLS_GATE=port``): some other device may own that port.

A fault costs a signal, not a crash; ``ioperm`` is asked for late (after a fault), narrowly (four ports) and for the
calling thread only, since the kernel grants by thread.
"""

from __future__ import annotations

import errno
import os
import sys
from _thread import _local, allocate_lock

from . import _gate, errors
from .constants import FLAG_HIGH, FLAG_OUT, MASK32, PORT, PORT_HIGH, PORTS
from .detect import Evidence, look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from ._gate import Frame

ENVIRONMENT = "VMTOOLS_GATE"

_HIGH_WORD = 0xFFFF0000
_SIGNALS = {4: "SIGILL", 7: "SIGBUS", 11: "SIGSEGV"}
_SIGSEGV = 11
_SI_KERNEL = 128
_CAP_SYS_RAWIO = 17
_LOCKDOWN = "/sys/kernel/security/lockdown"


class Gate:
    """A way to the host.  Callers fill in EAX (the magic) and the high word of EDX; its low word is the gate's.

    Each call changes the frame in place; only the low 32 bits of a register mean anything afterwards.
    """

    name = ""

    def low(self, frame: Frame) -> None:
        """One low-bandwidth call.

        :raises GateError: the instruction can't reach a host from here.
        """
        raise errors.GateUnavailable(f"{type(self).__name__} has no low-bandwidth form")

    def high_out(self, frame: Frame, data: bytes) -> None:
        """One high-bandwidth call that gives ``data`` to the host; ``frame.cx`` is its length."""
        raise errors.GateUnavailable(f"{type(self).__name__} has no high-bandwidth form")

    def high_in(self, frame: Frame, buffer: bytearray) -> None:
        """One high-bandwidth call that fills ``buffer``; ``frame.cx`` is its length."""
        raise errors.GateUnavailable(f"{type(self).__name__} has no high-bandwidth form")

    def unanswered(self) -> errors.GateError:
        """The error that says why nobody answered an instruction that ran."""
        return errors.NoDevice(f"nobody answers the gate '{self.name}' here")

    def release(self) -> None:
        """Give back what privilege this gate took for the calling thread."""

    def privilege(self) -> _Privilege:
        """``with gate.privilege(): …`` gives back, at its end, what the gate had to take for the calling thread."""
        return _Privilege(self)


class _Privilege:
    __slots__ = ("_gate",)

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def __enter__(self) -> Gate:
        return self._gate

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gate.release()


class InstructionGate(Gate):
    """A gate of :mod:`vmtools._gate`'s instructions."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self._mine = _local()

    def _execute(self, instruction: Callable[[Frame, bool], int], frame: Frame) -> int:
        """Execute a low-bandwidth form; a thread's first holds the GIL, since that is the one that may well fault."""
        proven = getattr(self._mine, "proven", False)
        fault = instruction(frame, not proven)
        if not (fault or proven):
            self._mine.proven = True
        return fault


class PortGate(InstructionGate):
    """``IN EAX,DX``, ``REP OUTSB``, ``REP INSB`` (on aarch64 the MRS that stands for each)."""

    name = "port"

    def __init__(self, evidence: Evidence, *, privileged: bool = True) -> None:
        super().__init__(evidence)
        self.privileged = privileged

    def low(self, frame: Frame) -> None:
        frame.dx = frame.dx & _HIGH_WORD | PORT
        if fault := self._execute(_gate.low, frame):
            self._again(fault, _gate.low, frame, True)

    def high_out(self, frame: Frame, data: bytes) -> None:
        frame.dx = frame.dx & _HIGH_WORD | PORT_HIGH
        if fault := _gate.high_out(frame, data):
            self._again(fault, _gate.high_out, frame, data)

    def high_in(self, frame: Frame, buffer: bytearray) -> None:
        frame.dx = frame.dx & _HIGH_WORD | PORT_HIGH
        if fault := _gate.high_in(frame, buffer):
            self._again(fault, _gate.high_in, frame, buffer)

    def _again(self, fault: int, instruction: Callable[..., int], *operands: Any) -> None:
        """After a fault: ask for the privilege and repeat, or say why not."""
        if fault != _SIGSEGV | _SI_KERNEL << 8 or getattr(self._mine, "granted", False):
            raise faulted(self.name, fault)
        if not self.privileged:
            raise self._nobody()
        try:
            _gate.ioperm(PORT, PORTS, True)
        except OSError as error:
            _debug("ioperm(0x%x, %d, 1): %s", PORT, PORTS, error)
            raise self._refused(error) from None
        self._mine.granted = True
        if fault := instruction(*operands):
            raise faulted(self.name, fault)

    def release(self) -> None:
        if getattr(self._mine, "granted", False):
            self._mine.granted = self._mine.proven = False
            _gate.ioperm(PORT, PORTS, False)

    def unanswered(self) -> errors.GateError:
        if not self.privileged:
            return self._nobody()
        return errors.NoDevice(f"nobody answers the backdoor port (0x{PORT:x}) here")

    def _nobody(self) -> errors.GateError:
        if self.evidence.name:
            return errors.OtherHypervisor(f"the hypervisor of this machine is {self.evidence.name}, not VMware")
        return errors.NotVirtualMachine("this machine is not a VMware virtual machine: no hypervisor is present")

    def _refused(self, error: OSError) -> errors.NoPrivilege:
        """Which of the things that make ``ioperm`` fail it was."""
        tried = f"the kernel refused the backdoor port (ioperm: {error.strerror})"
        status = privilege_status()
        if error.errno == errno.ENOSYS and not status["seccomp"]:
            return errors.NoPrivilege(f"{tried}: it is built without I/O permissions for user space")
        if not status["rawio"]:
            return errors.NoRawIO(f"{tried}: CAP_SYS_RAWIO is missing")
        if status["lockdown"] not in ("", "none"):
            return errors.LockedDown(f"{tried}: the kernel is locked down ({status['lockdown']})")
        if status["seccomp"]:
            return errors.SeccompDenied(f"{tried}: a seccomp filter is in force")
        return errors.NoPrivilege(tried)


class HypercallGate(InstructionGate):
    """``VMCALL`` or ``VMMCALL``."""

    def __init__(self, name: str, evidence: Evidence) -> None:
        super().__init__(evidence)
        self.name = name
        self._low: Callable[[Frame, bool], int] = getattr(_gate, name)
        self._out: Callable[[Frame, bytes], int] = getattr(_gate, f"{name}_out")
        self._in: Callable[[Frame, bytearray], int] = getattr(_gate, f"{name}_in")

    def low(self, frame: Frame) -> None:
        frame.dx &= _HIGH_WORD
        if fault := self._execute(self._low, frame):
            raise faulted(self.name, fault)

    def high_out(self, frame: Frame, data: bytes) -> None:
        frame.dx = frame.dx & _HIGH_WORD | FLAG_HIGH | FLAG_OUT
        if fault := self._out(frame, data):
            raise faulted(self.name, fault)

    def high_in(self, frame: Frame, buffer: bytearray) -> None:
        frame.dx = frame.dx & _HIGH_WORD | FLAG_HIGH
        if fault := self._in(frame, buffer):
            raise faulted(self.name, fault)

    def unanswered(self) -> errors.GateError:
        if self.evidence.is_vmware:
            return super().unanswered()
        name = self.evidence.name or "nobody's"
        return errors.OtherHypervisor(f"{self.name} was not answered: the hypervisor here is {name}, not VMware")


_lock = allocate_lock()
_chosen: dict[str, Gate] = {}


def choose(spec: str | None = None) -> Gate:
    """The process' gate: chosen once by ``spec`` (else ``$VMTOOLS_GATE``, else ``auto``) and remembered.

    :param spec: ``auto``, ``port``, ``vmcall``, ``vmmcall`` or ``sim:SOCKET``.
    :raises GateUnavailable: no such gate, or not on this architecture.

    Nothing is sent to the host yet; the first call over the gate shows whether there is one.
    """
    spec = spec or os.environ.get(ENVIRONMENT) or "auto"
    with _lock:
        gate = _chosen.get(spec)
        if gate is None:
            gate = _chosen[spec] = _make(spec)
            _debug("gate %s for '%s'", gate.name, spec)
        return gate


def _make(spec: str) -> Gate:
    if spec.startswith("sim:"):
        from .simgate import SocketGate

        return SocketGate(spec[4:])
    evidence = look()
    if spec == "auto":
        if evidence.hypercall:
            return HypercallGate(evidence.hypercall, evidence)
        return PortGate(evidence, privileged=evidence.is_vmware or evidence.dmi_is_vmware)
    if spec == "port":
        return PortGate(evidence)
    if spec in ("vmcall", "vmmcall"):
        if _gate.ARCHITECTURE == "aarch64":
            raise errors.GateUnavailable(f"aarch64 has no instruction {spec}")
        return HypercallGate(spec, evidence)
    raise errors.GateUnavailable(f"there is no gate '{spec}'")


def faulted(name: str, fault: int) -> errors.GateFaulted:
    """The error for a fault as the functions of :mod:`vmtools._gate` report it."""
    signal = _SIGNALS.get(fault & 0xFF, f"signal {fault & 0xFF}")
    return errors.GateFaulted(f"the instruction of gate '{name}' raised {signal} (si_code {fault >> 8 & MASK32})")


def lockdown() -> str:
    """The kernel's lockdown mode: ``none``, ``integrity``, ``confidentiality``; "" where it can't be read."""
    try:
        with open(_LOCKDOWN, encoding="ascii") as file:
            text = file.read(256)
    except (OSError, UnicodeDecodeError):
        return ""
    return text.partition("[")[2].partition("]")[0]


def privilege_status() -> dict[str, int | bool | str]:
    """What decides about privilege here.

    ``uid``, ``rawio`` (CAP_SYS_RAWIO where it counts), ``lockdown``, ``seccomp`` (its mode).
    """
    status = _status()
    return {
        "uid": os.geteuid(),
        "rawio": bool(int(status.get("CapEff", "0"), 16) >> _CAP_SYS_RAWIO & 1) and _in_first_namespace(),
        "lockdown": lockdown(),
        "seccomp": int(status.get("Seccomp", "0")),
    }


def _in_first_namespace() -> bool:
    """Root of another user namespace has every capability there, and none that counts here."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            return file.read().split() == ["0", "0", str(MASK32)]
    except OSError:
        return True  # a kernel without user namespaces


def _status() -> dict[str, str]:
    try:
        with open("/proc/thread-self/status", encoding="ascii", errors="replace") as file:
            return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}
    except OSError:
        return {}


def _debug(message: str, *arguments: object) -> None:
    """Log at debug level, where somebody uses logging at all: importing it costs more than a whole call."""
    if (logging := sys.modules.get("logging")) is not None:
        logging.getLogger(__name__).debug(message, *arguments)


def _after_fork() -> None:
    """Another thread of the parent may have been choosing."""
    global _lock
    _lock = allocate_lock()


os.register_at_fork(after_in_child=_after_fork)
