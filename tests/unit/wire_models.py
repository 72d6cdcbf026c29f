"""Hypothesis strategies for the models of ``vmtools.wire``, and what open-vm-tools really sent."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TypeVar

from hypothesis import strategies as st

from vmtools.wire import datamap, disk, guestlib, hgfs, namespaces, nic, osdetail, stats, vix, vixprops, vixtext
from vmtools.wire.statnames import FLOATS, SIGNED, WIDTHS, Type

T = TypeVar("T")

PEER: dict[str, bytes] = {
    name: base64.b64decode(text)
    for name, text in json.loads((Path(__file__).parent / "data" / "open-vm-tools-12.2.json").read_bytes())[
        "messages"
    ].items()
}
"""Messages of Debian's open-vm-tools 12.2.0, whole."""


def texts(limit: int) -> st.SearchStrategy[str]:
    """Text of at most ``limit`` bytes, some of it no UTF-8 (such bytes are surrogates in it)."""
    raw = st.binary(max_size=limit).map(lambda data: data.replace(b"\0", b"x"))
    spoken = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=limit // 4)
    return raw.map(lambda data: data.decode("utf-8", "surrogateescape")) | spoken


def plain(limit: int) -> st.SearchStrategy[str]:
    """ASCII that JSON need not escape."""
    return st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\'), max_size=limit)


def tuples(items: st.SearchStrategy[T], most: int = 3, least: int = 0) -> st.SearchStrategy[tuple[T, ...]]:
    return st.lists(items, min_size=least, max_size=most).map(tuple)


i32 = st.integers(-(1 << 31), (1 << 31) - 1)
u8 = st.integers(0, 255)
u32 = st.integers(0, (1 << 32) - 1)
i64 = st.integers(-(1 << 63), (1 << 63) - 1)
u64 = st.integers(0, (1 << 64) - 1)

# -- network -----------------------------------------------------------------------------------------------------------

addresses = (
    st.builds(nic.Address.of, st.ip_addresses().map(str))
    | st.builds(nic.Address, i32, st.binary(max_size=20))
)  # fmt: skip
macs = plain(17)
ips = st.builds(nic.Ip, addresses, u32, st.none() | i32, st.none() | i32)
dns = st.builds(
    nic.Dns, st.none() | texts(255), st.none() | texts(255), tuples(addresses, 16), tuples(texts(255), 10)
)  # fmt: skip
wins = st.builds(nic.Wins, addresses, addresses)
dhcp = st.builds(nic.Dhcp, st.booleans(), texts(100))
settings = st.none() | dns, st.none() | wins, st.none() | dhcp, st.none() | dhcp
nics = st.builds(nic.Nic, macs, tuples(ips), *settings)
routes = st.builds(nic.Route, addresses, u32, st.none() | addresses, u32, i32, u32)
nic_infos = st.builds(nic.NicInfo, tuples(nics), tuples(routes), *settings)
nic_lists = st.builds(
    nic.NicList,
    tuples(st.builds(nic.NicV2, macs, tuples(st.builds(nic.IpV2, texts(63), texts(63), st.booleans(), st.booleans())))),
)
nic_lists_v1 = st.builds(nic.NicListV1, tuples(st.builds(nic.NicV1, texts(18), tuples(texts(15), 8)), 16))

# -- disks, statistics, OS ---------------------------------------------------------------------------------------------

disks = tuples(
    st.builds(disk.Disk, texts(120), u64, u64, st.none() | plain(8), st.none() | tuples(plain(8))), 5
)  # fmt: skip
binary_disks = tuples(st.builds(disk.Disk, texts(99), u64, u64), 5)


@st.composite
def records(draw: st.DrawFn) -> stats.Record:
    kind = draw(st.none() | st.integers(0, 20))
    value: st.SearchStrategy[int | float | str | bytes]
    if kind in WIDTHS:
        bits = 8 * WIDTHS[kind] - (kind in SIGNED)
        value = st.integers(-(1 << bits) if kind in SIGNED else 0, (1 << bits) - 1)
    elif kind in FLOATS:
        value = st.floats(allow_nan=False).map(lambda number: number + 0.0)
    else:
        value = texts(30) if kind == Type.STRING else st.binary(max_size=30)
    name = st.none() | texts(20)
    return stats.Record(
        id=draw(u64),
        type=kind,
        unit=draw(st.none() | u64),
        value=draw(st.none() | value),
        namespace=draw(name),
        type_name=draw(name),
        unit_name=draw(name),
        pragma=draw(st.none() | st.binary(max_size=5)),
    )


statistics = st.builds(stats.Statistics, st.none() | u64, st.none() | u64, st.booleans(), tuples(records(), 5))
details = st.dictionaries(
    st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True),
    texts(100).map(lambda text: text + "'"),  # no white space at the end, and not empty
    max_size=5,
)
os_details = st.builds(osdetail.OsDetail, texts(128), texts(512), details)

# -- guest library, namespaces, packets --------------------------------------------------------------------------------

_VALUES: dict[guestlib.Kind, st.SearchStrategy[guestlib.Value]] = {
    guestlib.Kind.U32: u32,
    guestlib.Kind.U64: u64,
    guestlib.Kind.STRING: texts(511),
    guestlib.Kind.OPAQUE: st.binary(max_size=50),
}


@st.composite
def guestlib_infos(draw: st.DrawFn) -> guestlib.Info:
    version = draw(st.sampled_from([2, 3]))
    count = guestlib.V2_COUNT if version == 2 else draw(st.integers(0, len(guestlib.STATISTICS)))
    known = guestlib.STATISTICS[:count]
    return guestlib.Info(version, draw(u64), tuple([draw(st.none() | _VALUES[item.kind]) for item in known]))


words = st.binary(max_size=10).map(lambda data: data.replace(b"\0", b"0"))
names = words.map(lambda data: data + b"k")
set_keys = st.builds(namespaces.SetKey, names, words, st.none() | words)
namespace_requests = st.builds(namespaces.GetValues, names, tuples(names, 5, 1), st.booleans()) | st.builds(
    namespaces.SetKeys, names, tuples(set_keys, 5, 1), st.booleans()
)
_some = st.binary(min_size=1, max_size=20)
datamap_fields = st.dictionaries(
    i32, i64 | _some | st.lists(i64, max_size=4).map(datamap.Ints) | st.lists(_some, max_size=4).map(datamap.Strings)
)
rpc_packets = st.builds(datamap.RpcPacket, _some, st.booleans())

# -- VIX and HGFS ------------------------------------------------------------------------------------------------------


@st.composite
def vix_requests(draw: st.DrawFn) -> vix.Request:
    flags = draw(u32)
    auth = vix.AUTH_SIZE if flags & vix.RequestFlag.AUTH_DATA else 0
    parts = draw(u32), draw(st.binary(max_size=40)), draw(st.binary(max_size=40)), draw(u32), draw(u8), flags
    return vix.Request(*parts, draw(u32), draw(u64), draw(u32), draw(st.binary(min_size=auth, max_size=auth)))


vix_responses = st.builds(
    vix.Response, u64, u32, u32, u32, u32, u32, u8, st.binary(max_size=40), st.binary(max_size=40)
)  # fmt: skip
_results = st.binary(max_size=50)
vix_answers = st.builds(vix.Answer, u64, u64, _results, st.just(True)) | st.builds(
    vix.Answer, u64, u64, _results.map(lambda data: data.replace(b"\0", b"0"))
)
credentials = (
    st.builds(vixtext.NamePassword, texts(30), texts(30))
    | st.builds(vixtext.SamlToken, texts(30), texts(30))
    | st.builds(vixtext.Ticket, texts(30))
)
_Type = vixprops.Type
properties = tuples(
    st.builds(vixprops.Property, u32, st.sampled_from([_Type.INT32, _Type.HANDLE]), i32)
    | st.builds(vixprops.Property, u32, st.just(_Type.INT64), i64)
    | st.builds(vixprops.Property, u32, st.just(_Type.BOOL), st.booleans())
    | st.builds(vixprops.Property, u32, st.just(_Type.STRING), texts(30))
    | st.builds(vixprops.Property, u32, st.just(_Type.BLOB), st.binary(max_size=30)),
    5,
)
hgfs_v4 = st.builds(hgfs.PacketV4, u32, u32, u32, u32, u32, u64, st.binary(max_size=50))
_not_v4 = u32.filter(lambda number: number != 0xFF)
hgfs_requests = hgfs_v4 | st.builds(hgfs.Request, u32, _not_v4, st.binary(max_size=50))
hgfs_replies = hgfs_v4 | st.builds(hgfs.Reply, u32, _not_v4, st.binary(max_size=50))
hgfs_entries = st.none() | st.builds(
    hgfs.Entry, texts(50).map(lambda name: name + "x"), u32, u64, u64, u64, u64, u64, u8
)
