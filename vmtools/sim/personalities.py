"""Who the host pretends to be: real hosts, and what distinguishes each from VMware.

:data:`PERSONALITIES` is the table; :func:`backdoor` builds a host from one of its rows.

=============  ====================================================================================================
row            known how
=============  ====================================================================================================
``vmware``     the words that strict guests (OpenBSD, NetBSD, FreeBSD, iPXE) compare; specification, hypercalls 7
``vmware-lb``  the same; a VMware machine with encrypted memory has no high bandwidth either
``qemu``       QEMU 7.2's device under TCG, asked for each command; ``tests/vm`` compares word by word
``qemu-old``   the same with machine type pc-i440fx-5.0
``vmport-rpc`` the public device of that name, run in QEMU; specification, peers, "vmport_rpc, measured"
``none``       a machine without a hypervisor of VMware's
=============  ====================================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmtools.constants import CPUID_VMWARE, UNSUPPORTED, Command

if TYPE_CHECKING:
    from vmtools.sim.backdoor import Backdoor
    from vmtools.sim.faults import FaultPlan
    from vmtools.sim.machine import Machine
    from vmtools.sim.transcript import Transcript

ABSPOINTER_DATA = 39
ABSPOINTER_STATUS = 40
ABSPOINTER_COMMAND = 41
"""The absolute mouse (vmmouse), which comes with QEMU's device."""

CPUID_TCG = b"TCGTCGTCGTCG"
"""QEMU without KVM: with KVM, open-vm-tools takes no host for VMware."""

_FIRST = frozenset(
    {Command.GETVERSION, Command.GETMEMSIZE, ABSPOINTER_DATA, ABSPOINTER_STATUS, ABSPOINTER_COMMAND}
)  # fmt: skip
_SECOND = frozenset({Command.GETUUID, Command.GETHZ, Command.GET_VCPU_INFO})


@dataclass(frozen=True, slots=True)
class Personality:
    """One host."""

    name: str
    summary: str
    """For people, in a line."""
    device: str = "vmware"
    """What answers: ``vmware``; ``vmport``, QEMU's device on the low-bandwidth port (:mod:`vmtools.sim.vmport`);
    ``nothing``: every instruction faults."""
    commands: frozenset[int] | None = None
    """Commands that are known, MESSAGE apart; None: all that :mod:`vmtools.sim.backdoor` knows."""
    unsupported: int | None = UNSUPPORTED
    """EAX after a command that is not known, or without the magic number; None: as the guest set it."""
    product: int | None = None
    """ECX of GETVERSION; None: the machine's own where the host is VMware, else ECX as the guest set it."""
    messages: str | None = "vmware"
    """Whose message channel it has: ``vmware``, ``vmport-rpc`` (:mod:`vmtools.sim.vmport_rpc`) or None."""
    high_bandwidth: bool = False
    signature: bytes | None = CPUID_VMWARE
    """What CPUID says to programs under ``vmtools sim run``; None: what it says here.  DMI is VMware's on ``vmware``
    and as here on others."""


_ROWS = (
    Personality("vmware", "VMware, every register word as strict guests want it", high_bandwidth=True),
    Personality("vmware-lb", "VMware without high bandwidth"),
    Personality(
        "qemu",
        "QEMU's vmport: GETVERSION, mouse and a few more, no message channel",
        device="vmport",
        commands=_FIRST | _SECOND,
        product=2,
        messages=None,
        signature=CPUID_TCG,
    ),
    Personality(
        "qemu-old",
        "QEMU's vmport until 5.0: an unknown command leaves EAX as it was",
        device="vmport",
        commands=_FIRST,
        unsupported=None,
        messages=None,
        signature=CPUID_TCG,
    ),
    Personality(
        "vmport-rpc",
        "QEMU with the vmport_rpc device: RPCI and TCLO by low bandwidth, loose words",
        device="vmport",
        commands=_FIRST | _SECOND,
        product=2,
        messages="vmport-rpc",
        signature=CPUID_TCG,
    ),
    Personality(
        "none", "no backdoor: each of its instructions faults", device="nothing", messages=None, signature=None
    ),
)

PERSONALITIES = {row.name: row for row in _ROWS}
"""Each personality by its name."""


def backdoor(
    name: str,
    machine: Machine,
    *,
    transcript: Transcript | None = None,
    faults: FaultPlan | None = None,
) -> Backdoor:
    """The backdoor of ``machine`` as the host ``name`` has it.

    The machine learns what this host takes from it: high bandwidth, hypercalls, its product type.

    :raises ValueError: no personality is called so.
    """
    from vmtools.sim import vmport
    from vmtools.sim.backdoor import Backdoor

    row = PERSONALITIES.get(name)
    if row is None:
        raise ValueError(f"no personality is called {name!r}; there are: {', '.join(PERSONALITIES)}")
    machine.high_bandwidth = machine.high_bandwidth and row.high_bandwidth
    machine.hypercalls = machine.hypercalls and row.device == "vmware"
    if row.product is not None:
        machine.product = row.product
    host: Backdoor
    if row.device == "vmware":
        host = Backdoor(machine, transcript=transcript, faults=faults)
    elif row.device == "vmport":
        host = vmport.Vmport(machine, row, transcript=transcript, faults=faults)
    else:
        host = vmport.Nothing(machine, transcript=transcript, faults=faults)
    host.personality = name
    return host
