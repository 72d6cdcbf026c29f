"""The virtual machine behind the simulated host: what it is made of, what its guest told it.

Nothing here knows registers or sockets.  All that a guest can fill is bounded: the guestinfo store by VMware's
``tools.setInfo.sizeLimit`` (1 MiB in all), the log and the other lists by a number of entries.
"""

from __future__ import annotations

import uuid
from collections import deque
from typing import TYPE_CHECKING, Any

from vmtools.constants import MAX_MESSAGE, PRODUCTS, VERSION
from vmtools.sim.clock import HostClock
from vmtools.sim.devices import Devices
from vmtools.sim.guestlib import GuestLib
from vmtools.sim.namespaces import Namespaces
from vmtools.sim.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vmtools.sim.devices import Device

GUESTINFO = b"guestinfo."
GUESTINFO_LIMIT = 1 << 20
"""Bytes of all keys and values together: the default of ``tools.setInfo.sizeLimit``."""

KEY_LIMIT = 1024
KEYS_LIMIT = 4096
LINE_LIMIT = 4096
"""Bytes of a log line, of a capability's value."""

NAME_LIMIT = 128
KEEP_LOG = 10_000
KEEP_EVENTS = 1_000
NAMED_LIMIT = 256
"""How many capabilities a guest may name."""

SHOWN = 512
"""Bytes of a guest's text that a list shows: a hostile guest must not make it unreadable."""

POWERED_ON = b"OS_PowerOn"
RESUMED = b"OS_Resume"

INFO_CLASSES = {
    1: "dns-name",
    2: "ip-address-v1",
    3: "disk-free-space",
    4: "build-number",
    5: "os-name-full",
    6: "os-name",
    7: "uptime",
    8: "memory",
    9: "ip-address-v2",
    10: "ip-address-v3",
    11: "os-detailed",
}
"""The classes of ``SetGuestInfo`` (specification 5.4)."""

TEXT_CLASSES = frozenset({1, 4, 5, 6, 7})
"""Those whose value is text, sent with its NUL (specification 5.0)."""


class GuestInfoError(Exception):
    """The store refuses a value; ``str()`` is the host's answer to the guest."""


def full_key(key: bytes) -> bytes:
    """The key as the guest spells it: ``hello`` and ``guestinfo.hello`` both give ``guestinfo.hello``."""
    return key if key.startswith(GUESTINFO) else GUESTINFO + key


class Machine:
    """One virtual machine.

    :param product: what GETVERSION says (:data:`vmtools.constants.PRODUCTS`); 4 is Workstation.
    :param guestinfo: variables to begin with; the prefix ``guestinfo.`` may be left out of the keys.
    :param machine_id: what ``machine.id.get`` answers; None where none is configured.
    :param high_bandwidth: False gives a host that offers none ("vmware-lb").
    :param hypercalls: False gives a host that knows the port only, as old ones do.
    :param max_message: the largest message taken from a guest, in bytes.
    :param devices: the removable ones; None: :data:`vmtools.sim.devices.DEFAULTS`.
    :param options: what ``Set_Option`` tells the guest, beside :data:`vmtools.sim.options.DEFAULTS`.
    :param privileged: a backdoor channel counts as privileged (:mod:`vmtools.sim.namespaces`).
    :param handshake: whether the host greets a guest service as VMware does (:mod:`vmtools.sim.services`).
    """

    def __init__(
        self,
        *,
        product: int = 4,
        version: int = VERSION,
        hw_version: int = 21,
        build: int = 24_000_000,
        guestinfo: Mapping[bytes, bytes] | None = None,
        machine_id: bytes | None = None,
        machine_uuid: uuid.UUID | None = None,
        memory_mb: int = 4096,
        mhz: int = 2400,
        bus_hz: int = 66_000_000,
        high_bandwidth: bool = True,
        hypercalls: bool = True,
        max_message: int = MAX_MESSAGE,
        guestinfo_limit: int = GUESTINFO_LIMIT,
        screen: tuple[int, int] = (1024, 768),
        clock: HostClock | None = None,
        devices: tuple[Device, ...] | None = None,
        options: Mapping[str, str] | None = None,
        privileged: bool = False,
        handshake: bool = True,
    ) -> None:
        self.product = product
        self.version = version
        self.hw_version = hw_version
        self.build = build
        self.machine_id = machine_id
        self.uuid = machine_uuid if machine_uuid is not None else uuid.uuid4()
        self.memory_mb = memory_mb
        self.mhz = mhz
        self.bus_hz = bus_hz
        self.high_bandwidth = high_bandwidth
        self.hypercalls = hypercalls
        self.max_message = max_message
        self.guestinfo_limit = guestinfo_limit
        self.screen = screen
        self.handshake = handshake
        self.clock = HostClock() if clock is None else clock
        self.devices = Devices(devices)
        self.options = Options(options)
        self.namespaces = Namespaces(privileged=privileged)
        self.guestlib = GuestLib(self)
        self.max_time_lag_us = 1_000_000
        self.interrupt_lag_us = 0
        self.power = "on"
        self.pending_power: bytes | None = POWERED_ON
        """What the guest's service is still to be told when it is there: that it was powered on, resumed."""
        self.catch_ups_stopped = 0

        self.guestinfo: dict[bytes, bytes] = {}
        """Full keys (``guestinfo.hello``) and their values."""
        self.refused: dict[bytes, bytes] = {}
        """Commands that the host's settings refuse: name and the text of the refusal (``Permission denied``)."""
        self.log: deque[bytes] = deque(maxlen=KEEP_LOG)
        self.info: dict[int, bytes] = {}
        """``SetGuestInfo`` as it came, by class number."""
        self.disk_info: bytes | None = None
        """``SetGuestDiskInfo`` as it came: JSON."""
        self.capabilities: dict[bytes, bytes] = {}
        self.features: dict[int, int] = {}
        self.tools_version: int | None = None
        self.tools_type: int | None = None
        self.health: bytes | None = None
        self.app: bytes | None = None
        """Who said ``vmx.capability.unified_loop`` last: the running tools service."""
        self.state_changes: deque[tuple[int, bool]] = deque(maxlen=KEEP_EVENTS)
        """Results of power scripts: state id, success."""
        self.state_change_count = 0
        self.on_state_change: Callable[[int, bool], None] = lambda state, ok: None
        self.events: deque[tuple[str, bytes]] = deque(maxlen=KEEP_EVENTS)
        """What a guest reported that the host only notes: command and text (vmbackup.eventSet, Run_Program_Done …)."""
        self.rejections: deque[tuple[str, int, int]] = deque(maxlen=KEEP_EVENTS)
        """What guests reported as failed (RECVSTATUS 0, RECVPAYLOAD 0): protocol, channel, the message's size."""
        for key, value in (guestinfo or {}).items():
            self.set_guestinfo(key, value)

    def set_guestinfo(self, key: bytes, value: bytes) -> None:
        """Store a variable; :raises GuestInfoError: the key or the store is over its limit."""
        key = full_key(key)
        if len(key) > KEY_LIMIT:
            raise GuestInfoError("Key is too long")
        if key not in self.guestinfo and len(self.guestinfo) >= KEYS_LIMIT:
            raise GuestInfoError("Too many keys")
        total = sum(len(k) + len(v) for k, v in self.guestinfo.items() if k != key)
        if total + len(key) + len(value) > self.guestinfo_limit:
            raise GuestInfoError("Value too long")
        self.guestinfo[key] = value

    def write_log(self, text: bytes) -> None:
        """Append a line to the machine's log; what is over 4096 bytes is cut off."""
        self.log.append(text[:LINE_LIMIT])

    def set_capability(self, name: bytes, value: bytes) -> bool:
        """Remember a capability; False where the guest named too many, or the name is no name."""
        if len(name) > NAME_LIMIT or (name not in self.capabilities and len(self.capabilities) >= NAMED_LIMIT):
            return False
        self.capabilities[name] = value[:LINE_LIMIT]
        return True

    def changed_state(self, state: int, ok: bool) -> None:
        """The guest has done with a change of its power state, or failed (specification 6.2 and 6.3)."""
        self.state_changes.append((state, ok))
        self.state_change_count += 1
        self.on_state_change(state, ok)

    def note(self, event: str, text: bytes) -> None:
        """Keep an event that the guest reported; what is over 4096 bytes is cut off."""
        self.events.append((event, text[:LINE_LIMIT]))

    def status(self) -> dict[str, Any]:
        """What the machine is made of, as JSON has it; what its guest said: :mod:`vmtools.sim.report`."""
        return {
            "power": self.power,
            "product": PRODUCTS.get(self.product, str(self.product)),
            "hw_version": self.hw_version,
            "build": self.build,
            "uuid": str(self.uuid),
            "memory_mb": self.memory_mb,
            "mhz": self.mhz,
            "bus_hz": self.bus_hz,
            "screen": list(self.screen),
            "high_bandwidth": self.high_bandwidth,
            "hypercalls": self.hypercalls,
        }

    def tsc(self) -> int:
        """The host's time-stamp counter: real time at the virtual processor's frequency."""
        return self.clock.real() * self.mhz // 1000

    def pseudo_tsc(self) -> int:
        """The guest's time-stamp counter, which stands while the guest does not run."""
        return self.apparent() * self.mhz // 1000

    def apparent(self) -> int:
        """The guest's time in nanoseconds: interrupts that it has not had yet, it has not counted."""
        return self.clock.apparent() - self.interrupt_lag_us * 1000


def version_text(number: int) -> str:
    """A tools version number as people know it (specification 5.3); 2147483647 means that the guest hides it."""
    if number == 0x7FFFFFFF:
        return "unmanaged"
    return f"{number >> 10}.{number >> 5 & 31}.{number & 31}"


def text_of(value: bytes) -> str:
    """Bytes as text, every byte kept (``surrogateescape``), as JSON between our own programs carries them."""
    return value.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    """The reverse of :func:`text_of`."""
    return text.encode("utf-8", "surrogateescape")
