"""What CPUID, DMI, ACPI and the device tree say, and what is made of it: with faked evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vmtools import _gate, detect
from vmtools.detect import Evidence, cpuid, firmware_vendor, look, read_dmi

if TYPE_CHECKING:
    from pathlib import Path

    from vmtools._gate import Frame

VMWARE, KVM, TCG = b"VMwareVMware", b"KVMKVMKVM\0\0\0", b"TCGTCGTCGTCG"
HYPERVISOR = 1 << 31


class Processor:
    """A CPUID instruction that answers from a table and keeps the leaves it was asked for."""

    def __init__(self, hypervisor: bool, signature: bytes = b"", max_leaf: int = 0, features: int = 0) -> None:
        words = [int.from_bytes(signature[at : at + 4], "little") for at in (0, 4, 8)]
        self.leaves = {
            1: (0x806F8, 0, HYPERVISOR if hypervisor else 0x7FFFFFFF, 0),
            0x40000000: (max_leaf, *words),
            0x40000010: (2_400_000, 66_000, features, 0),
        }
        self.asked: list[int] = []
        self.junk = 0

    def __call__(self, frame: Frame) -> int:
        self.asked.append(frame.ax)
        answer = self.leaves[frame.ax]
        frame.ax, frame.bx, frame.cx, frame.dx = [value | self.junk << 32 for value in answer]
        return 0


def play(monkeypatch: pytest.MonkeyPatch, processor: Processor) -> Processor:
    monkeypatch.setattr(_gate, "ARCHITECTURE", "x86_64")
    monkeypatch.setattr(_gate, "cpuid", processor)
    return processor


@pytest.mark.parametrize(
    ("processor", "name", "is_vmware", "hypercall", "leaves"),
    [
        (Processor(False), "", False, "", 1),
        (Processor(True, VMWARE, 0x40000010, 3), "VMware", True, "vmcall", 3),
        (Processor(True, VMWARE, 0x40000010, 2), "VMware", True, "vmcall", 3),
        (Processor(True, VMWARE, 0x40000010, 1), "VMware", True, "vmmcall", 3),
        (Processor(True, VMWARE, 0x40000010, 8), "VMware", True, "", 3),
        (Processor(True, VMWARE, 0x40000012, 3), "VMware", True, "vmcall", 3),
        # a leaf that is out of range may hold another one's data
        (Processor(True, VMWARE, 0x4000000F, 3), "VMware", True, "", 2),
        (Processor(True, VMWARE, 0, 3), "VMware", True, "", 2),
        # KVM publishes the leaf's frequencies, which make it no VMware
        (Processor(True, KVM, 0x40000010, 3), "KVM", False, "", 3),
        (Processor(True, KVM, 0x40000001, 3), "KVM", False, "", 2),
        (Processor(True, TCG, 0x40000001), "QEMU TCG", False, "", 2),
        (Processor(True, b"XenVMMXenVMM", 0x40000004), "Xen", False, "", 2),
        (Processor(True, b"Microsoft Hv", 0x4000000C), "Hyper-V", False, "", 2),
        (Processor(True, b"Something\xff\0\0", 0x40000000), "Something\ufffd", False, "", 2),
        (Processor(True, b"\0" * 12, 0x40000000), "unnamed", False, "", 2),
        (Processor(True, b"VMwareVMwarf", 0x40000010, 3), "VMwareVMwarf", False, "", 3),
    ],
)
@pytest.mark.parametrize("junk", [0, 0xFFFFFFFF])
def test_cpuid_is_read_as_far_as_it_goes(
    processor: Processor,
    name: str,
    is_vmware: bool,
    hypercall: str,
    leaves: int,
    junk: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    processor.asked, processor.junk = [], junk
    play(monkeypatch, processor)
    evidence = look()
    assert (evidence.name, evidence.is_vmware, evidence.hypercall) == (name, is_vmware, hypercall)
    assert processor.asked == [1, 0x40000000, 0x40000010][:leaves]


def test_a_processor_without_the_instruction_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_gate, "cpuid", lambda frame: 4 | 1 << 8)
    assert cpuid(1) == (0, 0, 0, 0)
    monkeypatch.setattr(_gate, "ARCHITECTURE", "x86_64")
    assert look().name == ""


@pytest.mark.parametrize(
    ("fields", "says_vmware"),
    [
        ({}, False),
        ({"product_serial": "VMware-56 4d 9c 00"}, True),
        ({"product_serial": "VMW4711"}, True),
        ({"product_serial": "Not-VMware-1"}, False),
        ({"product_name": "VMware7,1"}, True),
        ({"product_name": "Some vmware Thing"}, True),
        ({"product_name": "Standard PC (i440FX + PIIX, 1996)", "product_serial": "x"}, False),
        # vSphere's hardware vendor alone is no proof: VMware sells appliances
        ({"sys_vendor": "VMware, Inc."}, False),
    ],
)
def test_dmi(fields: dict[str, str], says_vmware: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for field, text in fields.items():
        (tmp_path / field).write_text(f"{text}\n")
    monkeypatch.setattr(detect, "DMI", str(tmp_path))
    assert read_dmi() == fields
    evidence = Evidence(False, b"", 0, 0)
    assert evidence.dmi_is_vmware is says_vmware
    (tmp_path / "product_name").write_text("VMware")
    assert evidence.dmi == fields, "it is read once"


def test_dmi_that_is_no_text_and_fields_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "product_name").write_bytes(b"\xff\xfeVMware\n")
    (tmp_path / "product_serial").mkdir()
    monkeypatch.setattr(detect, "DMI", str(tmp_path))
    assert read_dmi() == {"product_name": "\ufffd\ufffdVMware"}


def facp(vendor: bytes, revision: int = 6, size: int = 276) -> bytes:
    """The ACPI table, revision 6: the hypervisor's name is its last field, 8 bytes at 268."""
    table = bytearray(size)
    table[:4], table[8] = b"FACP", revision
    table[268:276] = vendor[: max(0, size - 268)].ljust(8, b"\0") if size >= 276 else table[268:276]
    return bytes(table)


@pytest.mark.parametrize(
    ("table", "compatible", "vendor", "is_vmware", "name"),
    [
        (facp(b"VMware"), b"", b"VMware", True, "VMware"),
        (facp(b"VMware"), b"linux,kvm\0", b"VMware", True, "VMware"),
        (facp(b"QEMU"), b"vmware\0", b"QEMU", False, "QEMU"),
        (facp(b"VMware", revision=5), b"", b"", False, ""),
        (facp(b"VMware", revision=5), b"vmware\0", b"VMware", True, "VMware"),
        (facp(b"", size=275), b"vmware\0", b"VMware", True, "VMware"),
        (b"", b"vmware\0", b"VMware", True, "VMware"),
        (b"", b"other\0vmware\0", b"VMware", True, "VMware"),
        (b"", b"notvmware\0", b"notvmware\0", False, "notvmware"),
        (b"", b"linux,kvm\0", b"linux,kvm\0", False, "linux,kvm"),
        (b"", b"", b"", False, ""),
        (facp(b""), b"", b"", False, ""),
    ],
)
def test_aarch64_asks_the_firmware(
    table: bytes,
    compatible: bytes,
    vendor: bytes,
    is_vmware: bool,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for attribute, content in (("FACP", table), ("DEVICE_TREE", compatible)):
        file = tmp_path / attribute
        if content:
            file.write_bytes(content)
        monkeypatch.setattr(detect, attribute, str(file))
    assert firmware_vendor() == vendor
    monkeypatch.setattr(_gate, "ARCHITECTURE", "aarch64")
    evidence = look()
    assert (evidence.is_vmware, evidence.name, evidence.hypercall) == (is_vmware, name, "")
