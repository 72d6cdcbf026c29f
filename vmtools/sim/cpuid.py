"""What CPUID says in a virtual machine of VMware's (specification, hypercalls 4): pure, leaf in, words out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmtools.constants import CPUID_FEATURES_LEAF, CPUID_SIGNATURE_LEAF, CPUID_VMWARE

if TYPE_CHECKING:
    from collections.abc import Callable

    Words = tuple[int, int, int, int]

HYPERVISOR_LEAVES = range(CPUID_SIGNATURE_LEAF, CPUID_SIGNATURE_LEAF + 0x10000)
"""The hypervisor's own: signature and features at the first, others' signatures every 0x100 from there."""

HYPERVISOR_BIT = 1 << 31
"""ECX of leaf 1."""

PER_PROCESSOR = frozenset({0x1, 0x2, 0x4, 0x7, 0xB, 0x18, 0x1A, 0x1F, 0x8000001E})
"""Leaves that differ from one processor of a machine to the next: APIC ids and topology; caches and core type where
the cores are not all of a kind."""


class Processor:
    """The processor as VMware shows it, or another hypervisor, which has its signature and no more.

    :param tsc_khz, bus_khz: frequencies of the time-stamp counter and of the APIC's bus.
    :param features: the hypercalls on offer (:data:`vmtools.constants.FEATURE_VMCALL` and its like).
    """

    def __init__(self, tsc_khz: int, bus_khz: int, features: int, signature: bytes | None = None) -> None:
        signature = CPUID_VMWARE if signature is None else signature
        ours = signature == CPUID_VMWARE
        bx, cx, dx = (int.from_bytes(signature[at : at + 4], "little") for at in (0, 4, 8))
        self.signature: Words = (CPUID_FEATURES_LEAF if ours else CPUID_SIGNATURE_LEAF + 1, bx, cx, dx)
        self.features: Words = (tsc_khz, bus_khz, features, 0) if ours else (0, 0, 0, 0)

    def words(self, leaf: int, subleaf: int, real: Callable[[int, int], Words]) -> Words:
        """EAX, EBX, ECX, EDX of a leaf; ``real`` asks the processor."""
        if leaf in HYPERVISOR_LEAVES:
            if leaf == CPUID_SIGNATURE_LEAF:
                return self.signature
            return self.features if leaf == CPUID_FEATURES_LEAF else (0, 0, 0, 0)
        ax, bx, cx, dx = real(leaf, subleaf)
        return ax, bx, cx | HYPERVISOR_BIT if leaf == 1 else cx, dx
