"""A guest's network and disks, byte by byte: worked examples, what open-vm-tools sent, the limits."""

from __future__ import annotations

import struct

import pytest

from tests.unit.wire_codecs import payload
from tests.unit.wire_models import PEER
from vmtools.wire import WireError, disk, guestinfo, nic
from vmtools.wire.bounded import number
from vmtools.wire.disk import Disk
from vmtools.wire.xdr import XdrReader, XdrWriter

# -- network -----------------------------------------------------------------------------------------------------------

ONE_NIC = nic.NicInfo(
    nics=(nic.Nic("00:0c:29:01:02:03", (nic.Ip(nic.Address.of("192.168.0.5"), 24, None, nic.Status.PREFERRED),)),)
)
ONE_NIC_BYTES = bytes.fromhex(
    "00000003 00000001 00000001 00000011 30303a30633a32393a30313a30323a3033000000"
    "00000001 00000001 00000004c0a80005 00000018 00000000 00000001 00000001"
) + bytes(4 * 4 + 4 + 4 * 4)
"""Specification A.4."""


def test_nic_worked_example() -> None:
    assert len(ONE_NIC_BYTES) == 104
    assert nic.encode(ONE_NIC) == ONE_NIC_BYTES
    assert nic.decode(ONE_NIC_BYTES) == ONE_NIC
    assert guestinfo.encode(10, ONE_NIC_BYTES) == b"SetGuestInfo  10 " + ONE_NIC_BYTES


def test_peers_network() -> None:
    info = nic.decode(payload("ip-address-v3"))
    assert isinstance(info, nic.NicInfo)
    assert [one.mac for one in info.nics] == ["00:0c:29:01:02:03", "00:50:56:aa:bb:cc"]
    assert [f"{ip.address}/{ip.prefix}" for ip in info.nics[1].ips] == [
        "198.51.100.7/25",
        "203.0.113.9/32",
        "fe80::250:56ff:feaa:bbcc/64",
    ]
    assert {(ip.address.type, ip.status) for one in info.nics for ip in one.ips} == {
        (nic.AddressType.IPV4, nic.Status.PREFERRED),
        (nic.AddressType.IPV6, nic.Status.UNKNOWN),
    }
    gateway = next(route for route in info.routes if route.prefix == 0)
    assert (str(gateway.next_hop), gateway.interface, gateway.type, gateway.metric) == ("192.0.2.1", 0, 0, 0)
    assert len(info.routes) == 13
    servers = (nic.Address.of("192.0.2.53"), nic.Address.of("2001:db8::53"))
    assert info.dns == nic.Dns("guest7", "example.org", servers, ("example.org", "lab.example.org"))


def test_ladder_is_the_peers() -> None:
    """Of one network, each older record says what open-vm-tools lets it say."""
    info = nic.decode(payload("ip-address-v3"))
    assert isinstance(info, nic.NicInfo)
    assert nic.encode(nic.with_old_limit(info)) == payload("ip-address-v2-of-version-3")
    assert nic.encode(nic.to_v2(info)) == payload("ip-address-v2-of-version-2")
    assert nic.decode_v1(payload("ip-address")) == nic.to_v1(info)


def test_ladder_cuts() -> None:
    many = nic.Nic("m", tuple([nic.Ip(nic.Address.of(f"10.0.0.{last}"), 8) for last in range(100)]))
    strange = nic.Nic("s", (nic.Ip(nic.Address(nic.AddressType.DNS, b"name"), 0),))
    info = nic.NicInfo((many, strange))
    assert len(nic.with_old_limit(info).nics[0].ips) == 64
    assert [len(one.ips) for one in nic.to_v2(info).nics] == [100, 0]
    assert nic.to_v1(info).nics[0].ips == tuple([f"10.0.0.{last}" for last in range(8)])


def test_version_1_has_its_fixed_size() -> None:
    data = nic.encode_v1(nic.NicListV1((nic.NicV1("00:0c:29:01:02:03", ("192.0.2.5", "192.0.2.6")),)))
    assert len(data) == nic.V1_SIZE == 2436
    assert data[:8] == b"\1\0\0\0\2\0\0\0"
    assert data[8:27] == b"00:0c:29:01:02:03\0\0"
    assert data[27:59] == b"192.0.2.5".ljust(16, b"\0") + b"192.0.2.6".ljust(16, b"\0")


@pytest.mark.parametrize(
    "info",
    [
        nic.NicInfo(nics=(nic.Nic("m"),) * 17),
        nic.NicInfo(routes=(nic.Route(nic.Address(1, b""), 0, None, 0),) * 101),
        nic.NicInfo(nics=(nic.Nic("x" * 19),)),
        nic.NicInfo(nics=(nic.Nic("a\0b"),)),
        nic.NicInfo(nics=(nic.Nic("\ud800"),)),
        nic.NicInfo(nics=(nic.Nic("m", (nic.Ip(nic.Address(1, b""), -1),)),)),
        nic.NicInfo(nics=(nic.Nic("m", (nic.Ip(nic.Address(1, bytes(256)), 1),)),)),
        nic.NicInfo(dns=nic.Dns(suffixes=("a",) * 11)),
        nic.NicInfo(dns=nic.Dns(servers=(nic.Address(1, b""),) * 17)),
        nic.NicInfo(dns=nic.Dns(host_name="h" * 256)),
        nic.NicInfo(dhcp4=nic.Dhcp(True, "x" * 16385)),
        nic.NicList((nic.NicV2("m" * 18),)),
        nic.NicList((nic.NicV2("m"),) * 17),
    ],
)
def test_network_over_a_limit(info: nic.NicInfo | nic.NicList) -> None:
    with pytest.raises(WireError):
        nic.encode(info)


def test_announced_numbers_are_not_believed() -> None:
    """A count or length without the bytes behind it is refused before anything is made of it."""
    for head in ("00000003 00000001 00000010", "00000003 00000001 00000000 ffffffff", "00000002 00000001 00000011"):
        with pytest.raises(WireError):
            nic.decode(bytes.fromhex(head))
    with pytest.raises(WireError, match="17 NICs"):
        nic.decode_v1(b"\x11" + bytes(nic.V1_SIZE - 1))


@pytest.mark.parametrize("damaged", [ONE_NIC_BYTES + bytes(4), ONE_NIC_BYTES[:-1], b"\0\0\0\4" + ONE_NIC_BYTES[4:]])
def test_network_damaged(damaged: bytes) -> None:
    with pytest.raises(WireError):
        nic.decode(damaged)


def test_unknown_address_type_survives() -> None:
    strange = nic.NicInfo(nics=(nic.Nic("m", (nic.Ip(nic.Address(77, b"\1\2\3"), 5, 9, 99),)),))
    assert nic.decode(nic.encode(strange)) == strange
    assert guestinfo.plain(strange)["nics"][0]["ips"] == [{"address": "01:02:03/5", "origin": 9, "status": 99}]


# -- XDR ---------------------------------------------------------------------------------------------------------------


def test_xdr_units() -> None:
    out = XdrWriter()
    out.u32(1)
    out.u64(2)
    out.opaque(b"abcde", 5)
    out.optional(None, out.u32)
    assert out.written().hex() == "00000001 0000000000000002 00000005 6162636465000000 00000000".replace(" ", "")


@pytest.mark.parametrize(
    ("data", "take"),
    [
        (b"\0\0\0\2", XdrReader.boolean),
        (b"\0\0\0\1a\0\0", lambda xdr: xdr.opaque(4)),
        (b"\0\0\0\1a\0\0\1", lambda xdr: xdr.opaque(4)),
        (b"\0\0\0\5abcde\0\0\0", lambda xdr: xdr.opaque(4)),
        (b"\0\0\0\2a\0\0\0", lambda xdr: xdr.string(4, "it")),
        (b"\0\0\0\2\0\0\0\1", lambda xdr: xdr.array(4, "them", xdr.u32)),
    ],
)
def test_xdr_refuses(data: bytes, take: object) -> None:
    with pytest.raises(WireError):
        take(XdrReader(data))  # type: ignore[operator]


@pytest.mark.parametrize("digits", [b"", b"-1", b"+1", b" 1", b"1_0", b"256", b"1" * 5000, "²".encode()])
def test_numbers_in_text(digits: bytes) -> None:
    with pytest.raises(WireError):
        number(digits, "it", 255)


# -- disks -------------------------------------------------------------------------------------------------------------


def test_disks_as_json() -> None:
    disks = (
        Disk("/", 1, 2, "ext4", ("scsi0:0", "nvme0:1")),
        Disk("/a b", 0, (1 << 64) - 1),
    )
    assert disk.encode_json(disks) == (
        b'{\n"version":"1",\n"disks":[\n'
        b'{"name":"Lw==","free":"1","size":"2","fstype":"ext4","devices":["scsi0:0","nvme0:1"]},\n'
        b'{"name":"L2EgYg==","free":"0","size":"18446744073709551615"}\n'
        b"]}\0"
    )
    assert disk.encode_json(()) == b'{\n"version":"1",\n"disks":[\n]}\0'
    assert disk.decode_json(disk.encode_json(disks).removesuffix(b"\0")) == disks


def test_peers_disks_agree() -> None:
    """The JSON and the binary form that open-vm-tools sent one after the other tell of the same file systems."""
    named = disk.decode_json(PEER["disks"].removeprefix(disk.COMMAND))
    assert [one.name for one in named][:2] == ["/", "/srv/Müll heap"]
    assert [one.fs_type for one in named][:2] == ["ext4", "ext2"]
    assert disk.decode_binary(payload("disk-free-space")) == tuple([Disk(d.name, d.free, d.size) for d in named])


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b'{"version":"1","disks":[]}',
        b'{\n"version":"2",\n"disks":[\n]}',
        b'{\n"version":"1",\n"disks":[\n{"name":"Lw==","free":"1","size":"2"}]}',
        b'{\n"version":"1",\n"disks":[\n{"name":"Lw=","free":"1","size":"2"}\n]}',
        b'{\n"version":"1",\n"disks":[\n{"name":"Lw==","free":1,"size":"2"}\n]}',
        b'{\n"version":"1",\n"disks":[\n{"name":"Lw==","size":"1","free":"2"}\n]}',
        b'{\n"version":"1",\n"disks":[\n{"name":"Lw==","free":"1","size":"18446744073709551616"}\n]}',
        b'{\n"version":"1",\n"disks":[\n{"name":"Lw==","free":"1","size":"2","devices":["a",]}\n]}',
        b'{\n"version":"1",\n"disks":[\n{"name":"Lw==","free":"1","size":"2"}\n]}\0\0',
    ],
)
def test_disks_in_another_form(text: bytes) -> None:
    with pytest.raises(WireError):
        disk.decode_json(text)


def test_disks_in_binary() -> None:
    data = disk.encode_binary((Disk("/", 1, 2), Disk("/" + "x" * 150, 3, 4)))
    assert len(data) == 1 + 2 * 116 + 2  # with the prefix of 16 it is the specification's 18 + 1 + 116 n
    assert data[:18] == b"\2" + struct.pack("<QQ", 1, 2) + b"/"
    assert disk.decode_binary(data)[1].name == "/" + "x" * 98
    with pytest.raises(WireError):
        disk.encode_binary((Disk("/", 1, 2),) * 256)
    with pytest.raises(WireError):
        disk.decode_binary(data + b"\0")
    with pytest.raises(WireError):
        disk.decode_binary(data[:-1] + b"\1")
