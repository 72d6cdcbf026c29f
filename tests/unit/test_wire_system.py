"""Statistics, the operating system, the envelope, the version: worked examples, what open-vm-tools sent, the limits."""

from __future__ import annotations

import struct

import pytest

from tests.unit.wire_codecs import payload
from tests.unit.wire_models import PEER
from vmtools.wire import WireError, disk, guestinfo, nic, osdetail, statnames, stats, version
from vmtools.wire.disk import Disk
from vmtools.wire.guestinfo import InfoClass
from vmtools.wire.statnames import Type, Unit
from vmtools.wire.version import Version

# -- statistics --------------------------------------------------------------------------------------------------------

FIRST = stats.Record(11, Type.UINT64, Unit.KIB, 2048, namespace=stats.NAMESPACE)
FIRST_BYTES = bytes.fromhex("ae000000 0a005f746f6f6c732f763100 01000b 010009 02000308 02000008")
RATE = stats.Record(7, Type.DOUBLE, Unit.PAGES_PER_SECOND, 1.5)
RATE_BYTES = bytes.fromhex("ac000000 010007 01000b 02004380 04000000c03f")
"""Specification A.5."""


@pytest.mark.parametrize(("record", "data"), [(FIRST, FIRST_BYTES), (RATE, RATE_BYTES)])
def test_statistics_worked_examples(record: stats.Record, data: bytes) -> None:
    assert stats.encode_record(record) == data
    whole = stats.encode(stats.Statistics(1024, 0, records=(record,)))
    assert whole == struct.pack("<IIQ", 5, 0x401, 1024) + bytes(112 - 16) + data
    assert stats.decode(whole).records == (record,)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (0, ""),
        (0xFF, "ff"),
        (0x100, "0001"),
        (0x10000, "00000100"),
        (1 << 32, "0000000001000000"),
        (0.0, ""),
        (0.5, "0000003f"),
        (0.1, "9a9999999999b93f"),
        (1e300, "9c7500883ce4377e"),
        (float("inf"), "0000807f"),
    ],
)
def test_values_take_few_bytes(value: float, data: str) -> None:
    kind = Type.DOUBLE if type(value) is float else Type.UINT64
    expected = struct.pack("<IH", 0x88, 1) + bytes([kind]) + struct.pack("<H", len(data) // 2) + bytes.fromhex(data)
    assert stats.encode_record(stats.Record(type=kind, value=value)) == expected


def test_peers_statistics() -> None:
    first, third = stats.decode(payload("memory-first")), stats.decode(payload("memory-third"))
    sent = [(record.id, record.type, record.unit) for record in third.records]
    assert sent == [(item.id, item.type, item.unit) for item in statnames.LINUX]
    assert [record.namespace for record in third.records] == [stats.NAMESPACE] + [None] * 19
    values = {record.id: record.value for record in third.records}
    assert values[10] == 4096
    assert third.mem_total == values[6]  # the header has what the specification calls physUsable
    assert all(isinstance(values[number], float) for number in (2, 7, 8, 63))
    assert {record.id for record in first.records if record.value is None} == {2, 7, 8, 62, 63}


@pytest.mark.parametrize(
    "record",
    [
        stats.Record(),
        stats.Record(1, Type.UINT64, value=1.0),
        stats.Record(1, Type.DOUBLE, value=1),
        stats.Record(1, Type.UINT8, value=256),
        stats.Record(1, Type.UINT8, value=-1),
        stats.Record(1, Type.INT8, value=-129),
        stats.Record(1, Type.STRING, value=b"x"),
        stats.Record(1, Type.STRING, value="a\0"),
        stats.Record(1, value=5),
        stats.Record(1 << 64),
        stats.Record(1, Type.BINARY, value=bytes(65536)),
    ],
)
def test_records_that_do_not_fit(record: stats.Record) -> None:
    with pytest.raises(WireError):
        stats.encode_record(record)


@pytest.mark.parametrize(
    "data",
    ["00000000", "00010000", "04000000 0300010203", "04000000 ffff", "88000000 01000b 0200 0000", "02000000 010041"],
)
def test_records_damaged(data: str) -> None:
    with pytest.raises(WireError):
        stats.decode(stats.encode(stats.Statistics()) + bytes.fromhex(data))


def test_units_in_words() -> None:
    assert statnames.unit_text(Unit.KIB) == "KiB"
    assert statnames.unit_text(0x1043) == "unit 0x1043"
    assert statnames.unit_text(None) == ""
    assert set(statnames.UNITS) == set(Unit)


# -- operating system --------------------------------------------------------------------------------------------------


def test_os_details_are_escaped_and_sorted() -> None:
    text = osdetail.encode_details({"b": "it's \\ here \n ", "a": "1", "empty": "  "})
    assert text == b"a='1' b='it\\'s \\\\ here'"
    assert osdetail.decode_details(text) == {"a": "1", "b": "it's \\ here"}


def test_peers_os() -> None:
    detail = osdetail.decode(payload("os-detailed"))
    assert detail.short_name == guestinfo.decode_payload(6, payload("os-name")) == "debian12-64"
    assert detail.full_name == guestinfo.decode_payload(5, payload("os-name-full"))
    assert set(detail.details) < set(osdetail.KEYS)
    assert detail.details["distroAddlVersion"] == "12 (bookworm)"


@pytest.mark.parametrize(
    "text",
    [b"a", b"a=", b"a='", b"a='1", b"a='1'b='2'", b"a='1'  b='2'", b"a='1' ", b"a='1' a='2'", b"='1'", b"a='\\'"],
)
def test_os_details_damaged(text: bytes) -> None:
    with pytest.raises(WireError):
        osdetail.decode_details(text)


@pytest.mark.parametrize(
    "detail",
    [
        osdetail.OsDetail("x" * 129, ""),
        osdetail.OsDetail("", "x" * 513),
        osdetail.OsDetail("", "", {"a b": "1"}),
        osdetail.OsDetail("", "", {"a": "x" * 1025}),
        osdetail.OsDetail("", "", {f"k{i}": "x" * 1024 for i in range(33)}),
    ],
)
def test_os_over_a_limit(detail: osdetail.OsDetail) -> None:
    with pytest.raises(WireError):
        osdetail.encode(detail)


# -- the envelope ------------------------------------------------------------------------------------------------------


def test_envelope() -> None:
    assert guestinfo.decode(b"SetGuestInfo  1 a b\0") == (InfoClass.DNS_NAME, b"a b\0")
    assert guestinfo.decode_payload(7, b"12345\0") == guestinfo.Uptime(12345)
    assert guestinfo.describe(7, b"12345\0") == 123.45
    for wrong in (
        b"",
        b"SetGuestInfo 1 a",
        b"SetGuestInfo  x a",
        b"SetGuestInfo  12 a",
        b"SetGuestInfo  1",
        b"info-get a",
    ):
        with pytest.raises(WireError):
            guestinfo.decode(wrong)
    with pytest.raises(WireError):
        guestinfo.encode(0, b"")
    with pytest.raises(WireError):
        guestinfo.decode_payload(99, b"")


@pytest.mark.parametrize("number", InfoClass)
def test_a_model_goes_in_its_class_alone(number: InfoClass) -> None:
    models: list[guestinfo.Model] = [
        "text",
        guestinfo.Uptime(5),
        nic.NicInfo(),
        nic.NicList(),
        nic.NicListV1(),
        (Disk("/", 1, 2),),
        stats.Statistics(),
        osdetail.OsDetail("a", "b"),
    ]
    taken = 0
    for model in models:
        try:
            data = guestinfo.encode_payload(number, model)
        except WireError:
            continue
        taken += 1
        assert guestinfo.decode_payload(number, data) == model
    assert taken == (2 if number == InfoClass.IP_ADDRESS_V2 else 1)


def test_descriptions() -> None:
    network = guestinfo.describe(*guestinfo.decode(PEER["ip-address-v3"]))
    assert network["nics"][0] == {
        "mac": "00:0c:29:01:02:03",
        "ips": [
            {"address": "192.0.2.5/24", "status": "preferred"},
            {"address": "2001:db8::5/64", "status": "unknown"},
            {"address": "fe80::20c:29ff:fe01:203/64", "status": "unknown"},
        ],
    }
    assert {"destination": "10.0.0.0/8", "interface": 1, "next_hop": "198.51.100.1", "metric": 50} in network["routes"]
    assert network["dns"]["servers"] == ["192.0.2.53", "2001:db8::53"]
    memory = guestinfo.describe(*guestinfo.decode(PEER["memory-first"]))
    assert memory["statistics"]["guest.hugePage.size"] == {"value": 2048, "unit": "KiB"}
    assert memory["statistics"]["guest.page.inRate"] == {"value": None, "unit": "pages/s"}
    disks = guestinfo.describe_disks(PEER["disks"].removeprefix(disk.COMMAND))
    assert disks[1] == {"name": "/srv/Müll heap", "free": 3946496, "size": 4169728, "fs_type": "ext2"}
    assert guestinfo.describe(*guestinfo.decode(PEER["disk-free-space"]))[1]["name"] == "/srv/Müll heap"
    infinite = stats.Statistics(
        records=(stats.Record(2, Type.DOUBLE, value=float("inf")), stats.Record(99, 13, value=b"x"))
    )
    assert guestinfo.plain(infinite) == {
        "statistics": {"guest.contextSwapRate": {"value": "inf"}, "id 99": {"value": "78"}}
    }


# -- the version -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "text"), [(12352, "12.2.0"), (13344, "13.1.0"), (0, "0.0.0")])
def test_versions(number: int, text: str) -> None:
    found = version.decode(number)
    assert str(found) == text
    assert found is not None
    assert version.encode(found) == number


def test_versions_out_of_range() -> None:
    assert version.decode(version.UNMANAGED) is None
    for wrong in (Version(1, 32, 0), Version(1, 0, -1), Version(-1, 0, 0), Version(1 << 21, 0, 0)):
        with pytest.raises(WireError):
            version.encode(wrong)
    with pytest.raises(WireError):
        version.decode(1 << 31)
