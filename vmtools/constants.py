"""The numbers of the backdoor and of the GuestRPC message channel, and nothing else.

Plain integers in plain classes: guest, simulated host and tests all read them, and a command that starts in
milliseconds can't afford :mod:`enum`.  Source: open-vm-tools' public headers (``backdoor_def.h``,
``guest_msg_def.h``, ``vm_vmx_type.h``) and Linux' ``asm/vmware.h``, as facts.
"""

from __future__ import annotations

MAGIC = 0x564D5868
"""EAX of every call: "VMXh"."""

PORT = 0x5658
"""The low-bandwidth port, "VX" (DX of the port form)."""

PORT_HIGH = 0x5659
"""The high-bandwidth port, "VY"."""

PORTS = 4
"""How many ports ``ioperm`` must grant from :data:`PORT`: a four-byte access checks four bits."""

UNSUPPORTED = 0xFFFFFFFF
"""EAX of a command that nobody answers; also what an empty port reads as."""

MASK32 = 0xFFFFFFFF
"""Registers carry 32 bits; hosts may leave anything above them."""

CPUID_SIGNATURE_LEAF = 0x40000000
CPUID_FEATURES_LEAF = 0x40000010
CPUID_VMWARE = b"VMwareVMware"
"""EBX, ECX, EDX of the signature leaf."""

FEATURE_VMMCALL = 0x1
"""ECX of the features leaf: VMMCALL is a way to the backdoor."""

FEATURE_VMCALL = 0x2
"""ECX of the features leaf: VMCALL is a way to the backdoor."""

FLAG_HIGH = 0x1
"""DX of the hypercall forms: high bandwidth."""

FLAG_OUT = 0x2
"""DX of the hypercall forms: the guest writes."""


class Command:
    """Backdoor commands: the low word of ECX."""

    GETMHZ = 1
    GETVERSION = 10
    GETDEVICELISTELEMENT = 11
    TOGGLEDEVICE = 12
    GETGUIOPTIONS = 13
    SETGUIOPTIONS = 14
    GETSCREENSIZE = 15
    GETHWVERSION = 17
    GETUUID = 19
    GETMEMSIZE = 20
    GETTIME = 23
    STOPCATCHUP = 24
    MESSAGE = 30
    GETHZ = 45
    GETTIMEFULL = 46
    GETTIMEFULL_WITH_LAG = 55
    NESTING_CONTROL = 63
    GET_VCPU_INFO = 68
    GETBUILDNUM = 100


class Message:
    """Types of a message-channel call: the high word of ECX going in."""

    OPEN = 0
    SENDSIZE = 1
    SENDPAYLOAD = 2
    RECVSIZE = 3
    RECVPAYLOAD = 4
    RECVSTATUS = 5
    CLOSE = 6


class Status:
    """Status bits of a message-channel call: the high word of ECX (high bandwidth: of EBX) coming out."""

    SUCCESS = 0x01
    DORECV = 0x02
    CLOSED = 0x04
    UNSENT = 0x08
    CPT = 0x10
    POWEROFF = 0x20
    TIMEOUT = 0x40
    HB = 0x80


class Protocol:
    """What a channel is opened for: EBX of OPEN."""

    RPCI = 0x49435052
    TCLO = 0x4F4C4354


OPEN_COOKIE = 0x80000000
"""Added to the protocol number in OPEN: give the channel a cookie."""

HB_MESSAGE = 0x00010000
"""EBX of a high-bandwidth call: command MESSAGE (0) below, status SUCCESS above; also the answer when all is well."""

VERSION = 6
"""EAX that GETVERSION answers."""

MAX_CHANNELS = 128
"""Channels of one virtual machine."""

MAX_MESSAGE = 65536
"""The largest message that a host takes from a guest, in bytes."""

PRODUCTS = {0: "unknown", 1: "Express", 2: "ESX", 3: "Server", 4: "Workstation", 5: "ACE"}
"""ECX that GETVERSION answers."""

RDPMC_HOST_TSC = 0x10000
RDPMC_REAL_NS = 0x10001
RDPMC_APPARENT_NS = 0x10002
RDPMC_PSEUDO_TSC = 0x10003
