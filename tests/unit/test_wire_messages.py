"""The guest library, namespaces and DataMap, byte by byte: worked examples, what peers sent, the limits."""

from __future__ import annotations

import struct

import pytest

from vmtools.wire import WireError, datamap, guestlib, namespaces
from vmtools.wire.datamap import Ints, RpcPacket, Strings
from vmtools.wire.guestlib import Info
from vmtools.wire.namespaces import GetValues, SetKey, SetKeys

# -- guest library -----------------------------------------------------------------------------------------------------

VALUES: tuple[guestlib.Value | None, ...] = (1000, None, *range(3, 18), "/pool")


def test_version_2_is_a_structure() -> None:
    reply = guestlib.encode(Info(2, 0x1122334455667788, VALUES))
    assert len(reply) == guestlib.V2_SIZE == 669
    assert reply[:12] == struct.pack("<IQ", 2, 0x1122334455667788)
    # offsets from the specification's table
    assert struct.unpack_from("<B3xI", reply, 12) == (1, 1000)
    assert struct.unpack_from("<B3xI", reply, 20) == (0, 0)
    assert struct.unpack_from("<B3xQ", reply, 36) == (1, 4)
    assert struct.unpack_from("<B3xI", reply, 136) == (1, 16)
    assert struct.unpack_from("<B3xQ", reply, 144) == (1, 17)
    assert reply[156:163] == b"\1/pool\0"


def test_version_3_is_a_list() -> None:
    reply = guestlib.encode(Info(3, 7, (1000, None)))
    assert reply == struct.pack("<IQI", 3, 7, 28) + struct.pack(">I iII iII", 2, 1, 1, 1000, 2, 0, 0)
    assert guestlib.decode(reply + b"\0") == Info(3, 7, (1000, None))


def test_values_by_name() -> None:
    info = Info(3, 7, VALUES)
    assert info["CPU_RESERVATION_MHZ"] == 1000
    assert info["CPU_LIMIT_MHZ"] is None
    assert info["MEM_SHARES_64"] is None  # this host does not know it
    assert [item.id for item in guestlib.STATISTICS] == list(range(1, 39))


def test_a_newer_hosts_values_are_left_out() -> None:
    known = guestlib.encode(Info(3, 1, tuple([None] * 38)))
    data = known[16:]
    more = struct.pack(">I", 39) + data[4:] + struct.pack(">iIQ", 39, 1, 5)
    assert guestlib.decode(known[:12] + struct.pack("<I", len(more)) + more).values == (None,) * 38


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        struct.pack("<IQ", 4, 0),
        struct.pack("<IQ", 2, 0) + bytes(656),
        struct.pack("<IQI", 3, 0, 0xFFFFFFFF) + bytes(8),
        struct.pack("<IQI", 3, 0, 4) + b"\0\0\0\1",
        struct.pack("<IQI", 3, 0, 16) + struct.pack(">IiII", 1, 2, 1, 5),
        struct.pack("<IQI", 3, 0, 16) + struct.pack(">IiII", 1, 1, 2, 5),
        struct.pack("<IQI", 3, 0, 8) + bytes(8),
        struct.pack("<IQ", 2, 0) + bytes(144) + b"\1" + b"x" * 512,
    ],
)
def test_guestlib_damaged(reply: bytes) -> None:
    with pytest.raises(WireError):
        guestlib.decode(reply)


@pytest.mark.parametrize(
    "info",
    [
        Info(1, 0, ()),
        Info(2, 0, ()),
        Info(3, 0, (None,) * 39),
        Info(3, 0, ("text",)),
        Info(3, 0, (1 << 32,)),
        Info(3, 1 << 64, ()),
        Info(2, 0, (*VALUES[:-1], "x" * 512)),
    ],
)
def test_guestlib_over_a_limit(info: Info) -> None:
    with pytest.raises(WireError):
        guestlib.encode(info)


@pytest.mark.parametrize(
    ("version", "refusal", "next_version"),
    [
        (3, b"Unknown command", None),
        (3, b"no", 2),
        (2, b"no", None),
        (5, b"4:wrong version", 4),
        (5, b"9:wrong version", 4),
        (5, b"0:wrong version", 2),
        (5, b"no", 3),
    ],
)
def test_guestlib_falls_back(version: int, refusal: bytes, next_version: int | None) -> None:
    assert guestlib.fallback(version, refusal) == next_version


def test_guestlib_requests_as_the_peer_sends_them() -> None:
    assert guestlib.encode_request(3) == b"guestlib.info.get 3"
    for wrong in (b"guestlib.info.get", b"guestlib.info.get x", b"guestlib.info.get " + b"1" * 99, b"log 3"):
        with pytest.raises(WireError):
            guestlib.decode_request(wrong)
    # vmware-toolbox-cmd stat raw [ENCODING STAT [ARGUMENT]]
    assert guestlib.decode_stat_request(b"guestlib.stat.get   ") == ("", " ")
    assert guestlib.decode_stat_request(b"guestlib.stat.get json session ") == ("json", "session ")
    assert guestlib.encode_stat_request("text", "vscsi scsi0:0") == b"guestlib.stat.get text vscsi scsi0:0"
    with pytest.raises(WireError):
        guestlib.encode_stat_request("text", "x" * 240)
    with pytest.raises(WireError):
        guestlib.decode_atomic_update(b"guestlib.ioctl \0\0\0\2" + bytes(8))


# -- namespaces --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "data"),
    [  # as vmware-namespace-cmd 12.2 sends them
        (GetValues(b"ns.a", (b"key1",), True), b"namespace-priv-get-values ns.a\0key1\0"),
        (
            SetKeys(b"ns.a", (SetKey(b"key1", b"val ue"),), True),
            b"namespace-priv-set-keys ns.a\x001\x000\0key1\0val ue\0\0",
        ),
        (
            SetKeys(b"ns.a", (SetKey(b"key1", b"val ue", b"old"),), True),
            b"namespace-priv-set-keys ns.a\x001\x001\0key1\0val ue\0old\0",
        ),
        (SetKeys(b"ns.a", (SetKey(b"key1", b""),), True), b"namespace-priv-set-keys ns.a\x001\x000\0key1\0\0\0"),
        (GetValues(b"n", (b"a", b"b")), b"namespace-get-values n\0a\0b\0"),
    ],
)
def test_namespace_requests(request_: GetValues | SetKeys, data: bytes) -> None:
    assert namespaces.encode_request(request_) == data
    assert namespaces.decode_request(data) == request_


@pytest.mark.parametrize(
    "data",
    [
        b"namespace-get-values",
        b"namespace-get-values ",
        b"namespace-get-values n\0",
        b"namespace-get-values n\0a",
        b"namespace-get-values \0a\0",
        b"namespace-get-values n\0\0",
        b"namespace-set-keys n\0",
        b"namespace-set-keys n\x000\0",
        b"namespace-set-keys n\x002\x000\0k\0v\0\0",
        b"namespace-set-keys n\x001\x002\0k\0v\0\0",
        b"namespace-set-keys n\x001\x000\0\0v\0\0",
        b"namespace-set-keys n\x00-1\0",
        b"namespace-get-values n\0" + b"k\0" * 5000,
    ],
)
def test_namespace_requests_damaged(data: bytes) -> None:
    with pytest.raises(WireError):
        namespaces.decode_request(data)


def test_namespace_values() -> None:
    assert namespaces.encode_values([b"a", b"", b"b"]) == b"a\0\0b\0"
    with pytest.raises(WireError):
        namespaces.encode_values([b"a\0b"])
    with pytest.raises(WireError):
        namespaces.encode_request(GetValues(b"n", ()))


# -- DataMap -----------------------------------------------------------------------------------------------------------

LOG_HI = bytes.fromhex(
    "00000032 00000001 00000001 0000000100000000 00000002 00000002 00000006 6c6f67206869"
    "00000001 00000003 0000000100000000"
)
PING = bytes.fromhex("00000010 00000001 00000001 0000000200000000")
OK = bytes.fromhex("0000001f 00000001 00000001 0000000100000000 00000002 00000002 00000003 4f4b20")
GUEST_STORE = bytes.fromhex("0000001e 00000001 00000001 0000000100000000 00000002 00000002 00000002 2f61")


def test_datamap_worked_examples() -> None:
    """Specification 4.3 and A.1."""
    assert datamap.encode_rpc(RpcPacket(b"log hi", fast_close=True)) == LOG_HI
    assert datamap.encode_rpc(RpcPacket(b"OK ")) == OK
    assert datamap.encode_ping() == PING
    assert datamap.encode({1: 1, 2: b"/a"}) == GUEST_STORE
    assert datamap.decode_rpc(LOG_HI) == RpcPacket(b"log hi", fast_close=True)
    assert datamap.decode_rpc(PING) is None
    assert datamap.length(LOG_HI[:4]) == 50


def test_datamap_lists() -> None:
    fields: dict[int, datamap.Value] = {5: Ints([1, -2]), 6: Strings([b"a", b"bc"]), 7: Ints(), 8: -(1 << 63)}
    decoded = datamap.decode(datamap.encode(fields))
    assert decoded == fields
    assert [type(value) for value in decoded.values()] == [Ints, Strings, Ints, int]
    assert datamap.encode({1: -2})[-8:] == b"\xff\xff\xff\xfe\xff\xff\xff\xff"


@pytest.mark.parametrize(
    "body",
    [
        "00000005 00000001",
        "00000000 00000001",
        "00000002 00000001 00000000",
        "00000002 00000001 ffffffff",
        "00000002 00000001 00000005 61",
        "00000003 00000001 10000000",
        "00000004 00000001 ffffffff",
        "00000001 00000001 0000000000000000" * 2,
        "00000001",
    ],
)
def test_datamap_damaged(body: str) -> None:
    data = bytes.fromhex(body)
    with pytest.raises(WireError):
        datamap.decode(struct.pack(">i", len(data)) + data)


def test_datamap_lengths_are_not_believed() -> None:
    for header in (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\0\0"):
        with pytest.raises(WireError):
            datamap.length(header)
    for packet in (LOG_HI[:-1], LOG_HI + b"\0", b""):
        with pytest.raises(WireError):
            datamap.decode(packet)
    with pytest.raises(WireError):
        datamap.encode({1: 1 << 63})
    with pytest.raises(WireError):
        datamap.decode_rpc(datamap.encode({1: 1}))
    with pytest.raises(WireError):
        datamap.encode_rpc(RpcPacket(b""))
