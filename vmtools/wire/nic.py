"""GuestNicProto: the guest's network as ``SetGuestInfo`` carries it (specification 5.5).

Three generations, which a guest tries from the newest down until its host accepts one:

* :class:`NicInfo`, version 3: classes 10 and, with at most :data:`OLD_IPS` addresses a NIC, 9
* :class:`NicList`, version 2: class 9; every character of its arrays is a word of four bytes
* :class:`NicListV1`, class 2: no XDR but a C structure of fixed size, IPv4 alone

:func:`encode` and :func:`decode` are for the first two, :func:`encode_v1` and :func:`decode_v1` for the last.
"""

from __future__ import annotations

import struct
from functools import partial

from vmtools.wire import WireError
from vmtools.wire.bounded import Reader, at_most, from_field, pack, to_field
from vmtools.wire.nicmodel import (
    MAX_ADDRESS,
    MAX_DHCP_SETTINGS,
    MAX_IPS,
    MAX_MAC,
    MAX_NAME,
    MAX_NICS,
    MAX_ROUTES,
    MAX_SERVERS,
    MAX_SUFFIXES,
    NO_METRIC,
    OLD_IPS,
    V1_IPS,
    Address,
    AddressType,
    Dhcp,
    Dns,
    Ip,
    IpV2,
    Nic,
    NicInfo,
    NicList,
    NicListV1,
    NicV1,
    NicV2,
    Origin,
    Route,
    RouteType,
    Status,
    Wins,
    to_v1,
    to_v2,
    with_old_limit,
)
from vmtools.wire.xdr import XdrReader, XdrWriter

__all__ = [
    "MAX_ADDRESS",
    "MAX_DHCP_SETTINGS",
    "MAX_IPS",
    "MAX_MAC",
    "MAX_NAME",
    "MAX_NICS",
    "MAX_ROUTES",
    "MAX_SERVERS",
    "MAX_SUFFIXES",
    "NO_METRIC",
    "OLD_IPS",
    "V1_IPS",
    "V1_SIZE",
    "Address",
    "AddressType",
    "Dhcp",
    "Dns",
    "Ip",
    "IpV2",
    "Nic",
    "NicInfo",
    "NicList",
    "NicListV1",
    "NicV1",
    "NicV2",
    "Origin",
    "Route",
    "RouteType",
    "Status",
    "Wins",
    "decode",
    "decode_v1",
    "encode",
    "encode_v1",
    "to_v1",
    "to_v2",
    "with_old_limit",
]


# -- versions 2 and 3: XDR ---------------------------------------------------------------------------------------------


def encode(info: NicInfo | NicList) -> bytes:
    """The payload of class 10 or 9; :raises WireError: a limit of the record is exceeded."""
    out = XdrWriter()
    out.i32(3 if isinstance(info, NicInfo) else 2)
    out.boolean(True)
    if isinstance(info, NicInfo):
        out.array(info.nics, MAX_NICS, "NICs", partial(_put_nic, out))
        out.array(info.routes, MAX_ROUTES, "routes", partial(_put_route, out))
        _put_settings(out, info)
    else:
        out.array(info.nics, MAX_NICS, "NICs", partial(_put_nic_v2, out))
    return out.written()


def decode(payload: bytes) -> NicInfo | NicList:
    """The payload of class 10 or 9; :raises WireError: it is none."""
    xdr = XdrReader(payload)
    version = xdr.i32()
    if version not in (2, 3):
        raise WireError(f"a NIC list of version {version}; 2 and 3 are known")
    if not xdr.boolean():
        raise WireError("a NIC list without a body")
    info: NicInfo | NicList
    if version == 3:
        nics = xdr.array(MAX_NICS, "NICs", partial(_take_nic, xdr))
        routes = xdr.array(MAX_ROUTES, "routes", partial(_take_route, xdr))
        info = NicInfo(nics, routes, *_take_settings(xdr))
    else:
        info = NicList(xdr.array(MAX_NICS, "NICs", partial(_take_nic_v2, xdr)))
    xdr.end()
    return info


def _put_address(out: XdrWriter, address: Address) -> None:
    out.i32(address.type)
    out.opaque(address.data, MAX_ADDRESS, "an address")


def _take_address(xdr: XdrReader) -> Address:
    return Address(xdr.i32(), xdr.opaque(MAX_ADDRESS, "an address"))


def _put_ip(out: XdrWriter, ip: Ip) -> None:
    _put_address(out, ip.address)
    out.u32(ip.prefix)
    out.optional(ip.origin, out.i32)
    out.optional(ip.status, out.i32)


def _take_ip(xdr: XdrReader) -> Ip:
    return Ip(_take_address(xdr), xdr.u32(), xdr.optional(xdr.i32), xdr.optional(xdr.i32))


def _put_nic(out: XdrWriter, nic: Nic) -> None:
    out.string(nic.mac, MAX_MAC, "a MAC address")
    out.array(nic.ips, MAX_IPS, "addresses", partial(_put_ip, out))
    _put_settings(out, nic)


def _take_nic(xdr: XdrReader) -> Nic:
    mac = xdr.string(MAX_MAC, "a MAC address")
    ips = xdr.array(MAX_IPS, "addresses", partial(_take_ip, xdr))
    return Nic(mac, ips, *_take_settings(xdr))


def _put_route(out: XdrWriter, route: Route) -> None:
    _put_address(out, route.destination)
    out.u32(route.prefix)
    out.optional(route.next_hop, partial(_put_address, out))
    out.u32(route.interface)
    out.i32(route.type)
    out.u32(route.metric)


def _take_route(xdr: XdrReader) -> Route:
    address = partial(_take_address, xdr)
    return Route(address(), xdr.u32(), xdr.optional(address), xdr.u32(), xdr.i32(), xdr.u32())


def _put_settings(out: XdrWriter, owner: Nic | NicInfo) -> None:
    """DNS, WINS and DHCP, which a NIC and the whole guest have alike."""
    out.optional(owner.dns, partial(_put_dns, out))
    out.optional(owner.wins, partial(_put_wins, out))
    out.optional(owner.dhcp4, partial(_put_dhcp, out))
    out.optional(owner.dhcp6, partial(_put_dhcp, out))


def _take_settings(xdr: XdrReader) -> tuple[Dns | None, Wins | None, Dhcp | None, Dhcp | None]:
    dhcp = partial(_take_dhcp, xdr)
    dns, wins = xdr.optional(partial(_take_dns, xdr)), xdr.optional(partial(_take_wins, xdr))
    return dns, wins, xdr.optional(dhcp), xdr.optional(dhcp)


def _put_dns(out: XdrWriter, dns: Dns) -> None:
    def name(text: str) -> None:
        out.string(text, MAX_NAME, "a DNS name")

    out.optional(dns.host_name, name)
    out.optional(dns.domain_name, name)
    out.array(dns.servers, MAX_SERVERS, "DNS servers", partial(_put_address, out))
    out.array(dns.suffixes, MAX_SUFFIXES, "DNS suffixes", name)


def _take_dns(xdr: XdrReader) -> Dns:
    name = partial(xdr.string, MAX_NAME, "a DNS name")
    host, domain = xdr.optional(name), xdr.optional(name)
    servers = xdr.array(MAX_SERVERS, "DNS servers", partial(_take_address, xdr))
    return Dns(host, domain, servers, xdr.array(MAX_SUFFIXES, "DNS suffixes", name))


def _put_wins(out: XdrWriter, wins: Wins) -> None:
    _put_address(out, wins.primary)
    _put_address(out, wins.secondary)


def _take_wins(xdr: XdrReader) -> Wins:
    return Wins(_take_address(xdr), _take_address(xdr))


def _put_dhcp(out: XdrWriter, dhcp: Dhcp) -> None:
    out.boolean(dhcp.enabled)
    out.string(dhcp.settings, MAX_DHCP_SETTINGS, "DHCP settings")


def _take_dhcp(xdr: XdrReader) -> Dhcp:
    return Dhcp(xdr.boolean(), xdr.string(MAX_DHCP_SETTINGS, "DHCP settings"))


_MAC_V2, _TEXT_V2 = 18, 64


def _put_chars(out: XdrWriter, text: str, size: int, what: str) -> None:
    for char in to_field(text, what, size):
        out.i32(char - 256 if char > 127 else char)  # XDR's char is C's, which is signed on x86


def _take_chars(xdr: XdrReader, size: int, what: str) -> str:
    return from_field(bytes([xdr.i32() & 0xFF for _ in range(size)]), what)


def _put_nic_v2(out: XdrWriter, nic: NicV2) -> None:
    _put_chars(out, nic.mac, _MAC_V2, "a MAC address")
    out.u32(at_most(len(nic.ips), "addresses", MAX_IPS))
    for ip in nic.ips:
        out.u32(ip.v6)
        out.boolean(ip.dhcp)
        _put_chars(out, ip.address, _TEXT_V2, "an address")
        _put_chars(out, ip.mask, _TEXT_V2, "a mask")


def _take_nic_v2(xdr: XdrReader) -> NicV2:
    mac = _take_chars(xdr, _MAC_V2, "a MAC address")
    return NicV2(mac, xdr.array(MAX_IPS, "addresses", partial(_take_ip_v2, xdr)))


def _take_ip_v2(xdr: XdrReader) -> IpV2:
    v6, dhcp = xdr.boolean(), xdr.boolean()
    return IpV2(_take_chars(xdr, _TEXT_V2, "an address"), _take_chars(xdr, _TEXT_V2, "a mask"), v6, dhcp)


# -- version 1: a C structure ------------------------------------------------------------------------------------------

_V1_MAC, _V1_TEXT = 19, 16
_V1_NIC = struct.Struct(f"<I{_V1_MAC}s{V1_IPS * _V1_TEXT}sx")
_V1_COUNT = struct.Struct("<I")
V1_SIZE = _V1_COUNT.size + MAX_NICS * _V1_NIC.size
"""2436 bytes."""


def encode_v1(info: NicListV1) -> bytes:
    """The payload of class 2; :raises WireError: a limit of the structure is exceeded."""
    parts = [pack(_V1_COUNT, at_most(len(info.nics), "NICs", MAX_NICS))]
    for nic in info.nics:
        count = at_most(len(nic.ips), "addresses", V1_IPS)
        texts = b"".join([to_field(ip, "an address", _V1_TEXT) for ip in nic.ips])
        parts.append(pack(_V1_NIC, count, to_field(nic.mac, "a MAC address", _V1_MAC), texts))
    return b"".join(parts).ljust(V1_SIZE, b"\0")


def decode_v1(payload: bytes) -> NicListV1:
    """The payload of class 2; :raises WireError: it is none.

    What lies beyond the counts and the NULs is not looked at: open-vm-tools 12.2 sends pieces of its stack there.
    """
    if len(payload) != V1_SIZE:
        raise WireError(f"a version 1 NIC list has {V1_SIZE} bytes, not {len(payload)}")
    reader = Reader(payload)
    count = at_most(int(reader.unpack(_V1_COUNT)[0]), "NICs", MAX_NICS)
    nics = []
    for _ in range(count):
        found, mac, texts = reader.unpack(_V1_NIC)
        starts = range(0, at_most(found, "addresses", V1_IPS) * _V1_TEXT, _V1_TEXT)
        ips = tuple([from_field(texts[at : at + _V1_TEXT], "an address") for at in starts])
        nics.append(NicV1(from_field(mac, "a MAC address"), ips))
    return NicListV1(tuple(nics))
