"""The guest's network as its records model it, in three generations (specification 5.5).

:mod:`vmtools.wire.nic` encodes and decodes them, and has all the names of here.  Addresses keep
the numbers of the wire, so that one of a type not known here survives.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from enum import IntEnum

MAX_NICS = 16
MAX_IPS = 2048
OLD_IPS = 64
"""Addresses a NIC that a host of class 9 takes in a version 3 record."""

MAX_ROUTES = 100
MAX_MAC = 18
MAX_ADDRESS = 255
MAX_NAME = 255
MAX_SERVERS = 16
MAX_SUFFIXES = 10
MAX_DHCP_SETTINGS = 16384
V1_IPS = 8
"""Addresses of a NIC in a version 1 record."""

NO_METRIC = 0xFFFFFFFF
"""The metric of a route that has none."""


class AddressType(IntEnum):
    UNKNOWN = 0
    IPV4 = 1
    IPV6 = 2
    IPV4Z = 3
    IPV6Z = 4
    DNS = 16


class Origin(IntEnum):
    OTHER = 1
    MANUAL = 2
    DHCP = 4
    LINK_LAYER = 5
    RANDOM = 6


class Status(IntEnum):
    PREFERRED = 1
    DEPRECATED = 2
    INVALID = 3
    INACCESSIBLE = 4
    UNKNOWN = 5
    TENTATIVE = 6
    DUPLICATE = 7
    OPTIMISTIC = 8


class RouteType(IntEnum):
    NONE = 0
    """What the tools for Linux send."""
    OTHER = 1
    REJECT = 2
    LOCAL = 3
    REMOTE = 4


@dataclass(frozen=True, slots=True)
class Address:
    """A typed address: ``type`` is an :class:`AddressType` or a number not known here, ``data`` in network order."""

    type: int
    data: bytes

    @classmethod
    def of(cls, text: str) -> Address:
        """The address that ``text`` spells (IPv4 or IPv6); :raises ValueError: it spells none."""
        parsed = ipaddress.ip_address(text)
        return cls(AddressType.IPV4 if parsed.version == 4 else AddressType.IPV6, parsed.packed)

    def __str__(self) -> str:
        if (self.type, len(self.data)) in ((AddressType.IPV4, 4), (AddressType.IPV6, 16)):
            return str(ipaddress.ip_address(self.data))
        return self.data.hex(":")


@dataclass(frozen=True, slots=True)
class Ip:
    """An address of a NIC, its prefix in bits; ``origin`` and ``status``: None where the guest does not say."""

    address: Address
    prefix: int
    origin: int | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """``interface`` counts into :attr:`NicInfo.nics`; ``next_hop``: None for what is on the link."""

    destination: Address
    prefix: int
    next_hop: Address | None
    interface: int
    type: int = RouteType.NONE
    metric: int = NO_METRIC


@dataclass(frozen=True, slots=True)
class Dns:
    host_name: str | None = None
    domain_name: str | None = None
    servers: tuple[Address, ...] = ()
    suffixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wins:
    primary: Address
    secondary: Address


@dataclass(frozen=True, slots=True)
class Dhcp:
    enabled: bool
    settings: str = ""


@dataclass(frozen=True, slots=True)
class Nic:
    """A network interface; ``mac``: lower case with colons."""

    mac: str
    ips: tuple[Ip, ...] = ()
    dns: Dns | None = None
    wins: Wins | None = None
    dhcp4: Dhcp | None = None
    dhcp6: Dhcp | None = None


@dataclass(frozen=True, slots=True)
class NicInfo:
    """Version 3: the whole guest."""

    nics: tuple[Nic, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: Dns | None = None
    wins: Wins | None = None
    dhcp4: Dhcp | None = None
    dhcp6: Dhcp | None = None


@dataclass(frozen=True, slots=True)
class IpV2:
    """``mask``: the prefix length in decimal (Linux), or for IPv4 a mask in hexadecimal."""

    address: str
    mask: str
    v6: bool = False
    dhcp: bool = False


@dataclass(frozen=True, slots=True)
class NicV2:
    mac: str
    ips: tuple[IpV2, ...] = ()


@dataclass(frozen=True, slots=True)
class NicList:
    """Version 2."""

    nics: tuple[NicV2, ...] = ()


@dataclass(frozen=True, slots=True)
class NicV1:
    """``ips``: IPv4 addresses as text, at most :data:`V1_IPS`."""

    mac: str
    ips: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NicListV1:
    """Version 1."""

    nics: tuple[NicV1, ...] = ()


def with_old_limit(info: NicInfo) -> NicInfo:
    """For class 9: the first :data:`OLD_IPS` addresses of each NIC."""
    return replace(info, nics=tuple([replace(nic, ips=nic.ips[:OLD_IPS]) for nic in info.nics]))


def to_v2(info: NicInfo) -> NicList:
    """What version 2 can say of ``info``: the IPv4 and IPv6 addresses."""

    def ips(nic: Nic) -> tuple[IpV2, ...]:
        return tuple(
            [
                IpV2(str(ip.address), str(ip.prefix), ip.address.type == AddressType.IPV6, ip.origin == Origin.DHCP)
                for ip in nic.ips
                if ip.address.type in (AddressType.IPV4, AddressType.IPV6)
            ]
        )

    return NicList(tuple([NicV2(nic.mac, ips(nic)) for nic in info.nics]))


def to_v1(info: NicInfo) -> NicListV1:
    """What version 1 can say of ``info``: the first :data:`V1_IPS` IPv4 addresses of each NIC."""

    def ips(nic: Nic) -> tuple[str, ...]:
        return tuple([str(ip.address) for ip in nic.ips if ip.address.type == AddressType.IPV4][:V1_IPS])

    return NicListV1(tuple([NicV1(nic.mac, ips(nic)) for nic in info.nics]))
