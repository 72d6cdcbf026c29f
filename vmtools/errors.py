"""What can go wrong, and whose fault it is.

The tree (each class says what the caller can do)::

    VMToolsError
    ├── GateError                    this process has no way to the host
    │   ├── NotVirtualMachine        no hypervisor here: nothing to talk to
    │   ├── OtherHypervisor          a hypervisor, but not VMware's
    │   ├── NoDevice                 the instruction runs, and nobody answers it
    │   ├── NoPrivilege              the kernel keeps us from the port
    │   │   ├── NoRawIO                  CAP_SYS_RAWIO is missing
    │   │   ├── LockedDown               the kernel is locked down
    │   │   └── SeccompDenied            a seccomp filter forbids it
    │   ├── GateFaulted              the instruction faulted although all was granted
    │   └── GateUnavailable          the gate that was asked for cannot exist here
    ├── ChannelError                 the way exists, the conversation does not
    │   ├── NoMessageChannel         the host has a backdoor but speaks no GuestRPC
    │   ├── ChannelLost              suspend, vMotion, reset or time-out: open anew and repeat
    │   ├── CheckpointStorm          the host demanded too many restarts of one transfer
    │   └── RequestTooLarge          the host takes no message of this size
    ├── HostRefused                  the host understood and said no, in its own words
    │   ├── NoSuchValue              the variable is not set
    │   └── PermissionDenied         the host keeps this from this guest
    ├── ProtocolViolation            the host broke the protocol; nothing it said was believed
    │   ├── MalformedReply           its reply began neither with '1 ' nor with '0 '
    │   └── ReplyTooLarge            its reply was over the limit that the caller set
    └── BadValue                     a value is not what it claims to be
"""

from __future__ import annotations

__all__ = [
    "BadValue",
    "ChannelError",
    "ChannelLost",
    "CheckpointStorm",
    "GateError",
    "GateFaulted",
    "GateUnavailable",
    "HostRefused",
    "LockedDown",
    "MalformedReply",
    "NoDevice",
    "NoMessageChannel",
    "NoPrivilege",
    "NoRawIO",
    "NoSuchValue",
    "NotVirtualMachine",
    "OtherHypervisor",
    "PermissionDenied",
    "ProtocolViolation",
    "ReplyTooLarge",
    "RequestTooLarge",
    "SeccompDenied",
    "VMToolsError",
]


class VMToolsError(Exception):
    """Anything that this package raises on purpose.

    ``str()`` is what happened; ``help`` is one sentence on what to do about it.
    """

    help = ""

    def __init__(self, message: str, *, help: str | None = None) -> None:
        super().__init__(message)
        if help is not None:
            self.help = help


class GateError(VMToolsError):
    """This process has no way to a VMware host."""


class NotVirtualMachine(GateError):
    """No hypervisor is present."""

    help = "Run this inside a VMware virtual machine, or under 'vmtools sim run'."


class OtherHypervisor(GateError):
    """A hypervisor is present, and it is not VMware's."""

    help = "If it emulates VMware's backdoor (QEMU's vmport), ask for it: VMTOOLS_GATE=port, as root."


class NoDevice(GateError):
    """The instruction was executed and no device answered it."""

    help = "Give the virtual machine the device (QEMU: -M pc,vmport=on)."


class NoPrivilege(GateError):
    """The kernel does not let this process reach the backdoor port."""

    help = "Run as root, or on VMware itself, where no privilege is needed."


class NoRawIO(NoPrivilege):
    """CAP_SYS_RAWIO is missing."""

    help = "Run as root or with CAP_SYS_RAWIO in the initial user namespace."


class LockedDown(NoPrivilege):
    """The kernel is locked down (Secure Boot)."""

    help = "Only a host that traps the port by itself, as VMware does, works under kernel lockdown."


class SeccompDenied(NoPrivilege):
    """A seccomp filter forbids ioperm."""

    help = "Allow the system call ioperm in the container's or service's seccomp profile."


class GateFaulted(GateError):
    """The instruction faulted although the kernel granted what it needs."""

    help = "No host answers this instruction here; 'vmtools doctor' shows what was tried."


class GateUnavailable(GateError):
    """The gate that was asked for cannot exist on this machine."""

    help = "Choose another with --gate or VMTOOLS_GATE: auto, port, vmcall, vmmcall, sim:SOCKET."


class ChannelError(VMToolsError):
    """The host is reachable and the conversation failed."""


class NoMessageChannel(ChannelError):
    """The host refuses to open a GuestRPC channel, or knows none."""

    help = "The host may have no GuestRPC (QEMU's vmport has none) or no free channel."


class ChannelLost(ChannelError):
    """The channel went away in mid-use: suspend, resume, vMotion, reset or time-out.

    ``arrived`` is False where the host can't have acted on the request yet.
    """

    help = "Repeat the call: it is made on a new channel."

    def __init__(self, message: str, *, arrived: bool = True, help: str | None = None) -> None:
        super().__init__(message, help=help)
        self.arrived = arrived


class CheckpointStorm(ChannelError):
    """The host asked to restart one transfer too many times."""

    help = "The host is being checkpointed without end; try again later."


class RequestTooLarge(ChannelError):
    """The host takes no message of this size; ``size`` is in bytes, the command's name included."""

    help = "Pack the value (gzip+base64), or spread it over several keys."

    def __init__(self, size: int, usual: int) -> None:
        super().__init__(f"the host takes no message of {size} bytes; the usual limit is {usual}")
        self.size = size


class HostRefused(VMToolsError):
    """The host answered "0 text": ``text`` is the host's own, undecoded."""

    help = "The host knows why: see the message."

    def __init__(self, text: bytes, *, help: str | None = None) -> None:
        # Some hosts count a NUL in, which is no word of theirs.
        words = text.rstrip(b"\0").decode("utf-8", "backslashreplace")
        super().__init__(words or "the host refused without a word", help=help)
        self.text = text


class NoSuchValue(HostRefused):
    """The variable that was asked for is not set."""

    help = "Set it on the host (for example 'guestinfo.NAME' in the virtual machine's settings)."


class PermissionDenied(HostRefused):
    """The host keeps this command from this guest or this process."""

    help = "The host's settings (guest_rpc.rpci.auth.*, isolation.*) decide who may use it."


class ProtocolViolation(VMToolsError):
    """The host's answer was not one that the protocol allows."""

    help = "Nothing of the answer was used; if this repeats, the host is broken or hostile."


class MalformedReply(ProtocolViolation):
    """The host's reply says neither yes nor no."""


class ReplyTooLarge(ProtocolViolation):
    """The host announced a reply over the limit."""

    help = "Raise the limit if you expect a reply of this size."

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the host announced a reply of {size} bytes; the limit is {limit}")
        self.size = size
        self.limit = limit


class BadValue(VMToolsError, ValueError):
    """A value is not what it claims to be (broken base64, broken gzip, unsafe XML), or is too large.

    The message never quotes the value: it may be a secret.
    """

    help = "Look at the undecoded value and at its '.encoding'; who set them has to set them right."
