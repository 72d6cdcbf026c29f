"""What the processor and the firmware say about the machine: evidence, gathered without touching any host.

CPUID answers in every mode and to everybody; DMI is asked only where CPUID does not name VMware.  On aarch64 there is
no CPUID: the ACPI table FACP and the device tree stand in.
"""

from __future__ import annotations

from . import _gate
from .constants import (
    CPUID_FEATURES_LEAF,
    CPUID_SIGNATURE_LEAF,
    CPUID_VMWARE,
    FEATURE_VMCALL,
    FEATURE_VMMCALL,
    MASK32,
)

DMI = "/sys/class/dmi/id"
FACP = "/sys/firmware/acpi/tables/FACP"
DEVICE_TREE = "/proc/device-tree/hypervisor/compatible"

_HYPERVISOR_BIT = 1 << 31
_FACP_REVISION = 8
_FACP_VENDOR = slice(268, 276)
_FACP_HAS_VENDOR = 6

_NAMES = {
    CPUID_VMWARE: "VMware",
    b"KVMKVMKVM\0\0\0": "KVM",
    b"TCGTCGTCGTCG": "QEMU TCG",
    b"XenVMMXenVMM": "Xen",
    b"Microsoft Hv": "Hyper-V",
    b"bhyve bhyve ": "bhyve",
    b"VBoxVBoxVBox": "VirtualBox",
    b"ACRNACRNACRN": "ACRN",
    b"OpenBSDVMM58": "OpenBSD vmm",
    b" lrpepyh  vr\0": "Parallels",
}


class Evidence:
    """What :func:`look` found.

    ``hypervisor``: CPUID's hypervisor bit.  ``signature``: the 12 bytes of leaf 0x40000000, or ``b""``.
    ``max_leaf``: the highest hypervisor leaf, or 0.  ``features``: ECX of leaf 0x40000010, or 0 where that leaf is out
    of range (some processors answer an out-of-range leaf with another leaf's data).  ``dmi``: readable DMI fields.
    """

    __slots__ = ("_dmi", "features", "firmware", "hypervisor", "max_leaf", "signature")

    def __init__(self, hypervisor: bool, signature: bytes, max_leaf: int, features: int, firmware: bytes = b"") -> None:
        self.hypervisor = hypervisor
        self.signature = signature
        self.max_leaf = max_leaf
        self.features = features
        self.firmware = firmware
        self._dmi: dict[str, str] | None = None

    @property
    def dmi(self) -> dict[str, str]:
        if self._dmi is None:
            self._dmi = read_dmi()
        return self._dmi

    @property
    def name(self) -> str:
        """The hypervisor's name for people; "" where there is none."""
        name = _NAMES.get(self.signature) or (self.signature or self.firmware).decode("ascii", "replace").strip("\0 ")
        return name or ("unnamed" if self.hypervisor else "")

    @property
    def is_vmware(self) -> bool:
        """The hypervisor itself says that it is VMware."""
        return self.signature == CPUID_VMWARE or self.firmware.startswith(b"VMware")

    @property
    def dmi_is_vmware(self) -> bool:
        """The firmware says so: as Linux and FreeBSD (serial) and cloud-init (product name) look at it."""
        serial = self.dmi.get("product_serial", "")
        return serial.startswith(("VMware-", "VMW")) or "vmware" in self.dmi.get("product_name", "").lower()

    @property
    def hypercall(self) -> str:
        """The instruction that the hypervisor offers: ``vmcall``, ``vmmcall`` or ``""``."""
        if self.signature != CPUID_VMWARE:
            return ""
        if self.features & FEATURE_VMCALL:
            return "vmcall"
        return "vmmcall" if self.features & FEATURE_VMMCALL else ""


def cpuid(leaf: int) -> tuple[int, int, int, int]:
    """EAX, EBX, ECX, EDX of a leaf; zeros where the instruction faults or does not exist."""
    frame = _gate.Frame(ax=leaf)
    if _gate.cpuid(frame):
        return 0, 0, 0, 0
    return frame.ax & MASK32, frame.bx & MASK32, frame.cx & MASK32, frame.dx & MASK32


def look() -> Evidence:
    """Gather the evidence; costs up to three CPUID instructions."""
    if _gate.ARCHITECTURE == "aarch64":
        return Evidence(False, b"", 0, 0, firmware_vendor())
    if not cpuid(1)[2] & _HYPERVISOR_BIT:
        return Evidence(False, b"", 0, 0)
    max_leaf, *words = cpuid(CPUID_SIGNATURE_LEAF)
    signature = b"".join([word.to_bytes(4, "little") for word in words])
    features = cpuid(CPUID_FEATURES_LEAF)[2] if max_leaf >= CPUID_FEATURES_LEAF else 0
    return Evidence(True, signature, max_leaf, features)


def read_dmi() -> dict[str, str]:
    """The DMI fields that this process may read; the serial number usually needs root."""
    return {
        field: text.decode("utf-8", "replace").strip()
        for field in ("sys_vendor", "product_name", "product_serial")
        if (text := _read(f"{DMI}/{field}"))
    }


def firmware_vendor() -> bytes:
    """aarch64: the hypervisor's name from ACPI (revision 6 and newer, root only) or from the device tree."""
    table = _read(FACP)
    if len(table) >= _FACP_VENDOR.stop and table[_FACP_REVISION] >= _FACP_HAS_VENDOR:
        return table[_FACP_VENDOR].rstrip(b"\0")
    compatible = _read(DEVICE_TREE)
    return b"VMware" if b"vmware" in compatible.split(b"\0") else compatible


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(4096) or b""
    except OSError:
        return b""
