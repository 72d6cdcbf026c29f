"""What values mean: encodings there and back, and every way in which they can be broken."""

from __future__ import annotations

import base64
import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.dict_host import Host
from vmtools.errors import BadValue
from vmtools.guestinfo import GuestInfo
from vmtools.values import decode, stripped

GZIP_BASE64 = ["gzip+base64", "gz+b64"]
BASE64 = ["base64", "b64"]


@pytest.mark.parametrize("encoding", BASE64)
@settings(deadline=None)
@given(data=st.binary(), trailer=st.sampled_from([b"", b"\n", b" ", b"\0", b"\r\n\0"]))
def test_base64_round_trip(encoding: str, data: bytes, trailer: bytes) -> None:
    value = base64.b64encode(data)
    host = Host(k=value + trailer, k__encoding=encoding.encode() + trailer)
    assert GuestInfo(host).decoded("k", b"") == data


@pytest.mark.parametrize("encoding", GZIP_BASE64)
@settings(deadline=None)
@given(data=st.binary(), trailer=st.sampled_from([b"", b"\n", b"\0"]))
def test_gzip_round_trip(encoding: str, data: bytes, trailer: bytes) -> None:
    value = base64.encodebytes(gzip.compress(data))
    host = Host(k=value + trailer, k__encoding=encoding.encode() + trailer)
    assert GuestInfo(host).decoded("k") == data


@settings(deadline=None)
@given(
    text=st.text().filter(lambda text: "\0" not in text), encoding=st.sampled_from([None, b"", b" ", b"---", b"none"])
)
def test_plain_text_round_trip(text: str, encoding: bytes | None) -> None:
    guestinfo = GuestInfo(Host())
    guestinfo["k"] = text
    if encoding is not None:
        guestinfo["k.encoding"] = encoding
    meant = text.rstrip()
    assert guestinfo.text.decoded("k", "") == ("" if meant == "---" else meant)


@pytest.mark.parametrize("value", [b"", b" ", b"\n", b"---", b"--- \n", b"---\0", b"\0", "\u00a0\u2003".encode()])
def test_blank_and_redacted_are_no_value(value: bytes) -> None:
    host = Host(k=value, k__encoding=b"base64")
    guestinfo = GuestInfo(host)
    with pytest.raises(KeyError, match="'k'"):
        guestinfo.decoded("k")
    with pytest.raises(KeyError, match="'k'"):
        guestinfo.text.decoded("k")
    assert guestinfo.decoded("k", None) is None
    assert guestinfo.text.decoded("k", b"-") == b"-"
    assert b"info-get guestinfo.k.encoding" not in host.requests


@pytest.mark.parametrize(
    "encoding", [b"BASE64", b"Base64", b"Gzip+Base64", b" base64", b"gzip", b"utf-8", b"base64,", b"\xff"]
)
def test_an_encoding_that_cloud_init_does_not_know_is_plain_text(encoding: bytes) -> None:
    assert GuestInfo(Host(k=b"aGk=\n", k__encoding=encoding)).decoded("k") == b"aGk="


@pytest.mark.parametrize("encoding", [*BASE64, *GZIP_BASE64])
@pytest.mark.parametrize("value", [b"a", b"aGk", b"aGkx=a", "aGü=".encode(), b"\xff\xff\xff\xff"])
def test_broken_base64(encoding: str, value: bytes) -> None:
    with pytest.raises(BadValue, match=r"^guestinfo\.k is no base64"):
        GuestInfo(Host(k=value, k__encoding=encoding.encode())).decoded("k")


def test_what_does_not_begin_as_gzip_is_passed_on() -> None:
    assert decode(base64.b64encode(b"plain"), b"gzip+base64") == b"plain"


PACKED = gzip.compress(b"some words" * 20, mtime=0)


@pytest.mark.parametrize("size", range(2, len(PACKED)))
def test_gzip_cut_off_anywhere(size: int) -> None:
    with pytest.raises(BadValue, match="is broken gzip"):
        decode(base64.b64encode(PACKED[:size]), b"gz+b64")


@pytest.mark.parametrize(
    "packed",
    [
        PACKED[:-8] + bytes(4) + PACKED[-4:],  # checksum
        PACKED[:-4] + bytes(4),  # length
        PACKED[:10] + b"\xff" + PACKED[11:],  # deflate
        PACKED[:2] + b"\x01" + PACKED[3:],  # method
        PACKED + b"garbage",
    ],
)
def test_gzip_broken(packed: bytes) -> None:
    with pytest.raises(BadValue, match="is broken gzip"):
        decode(base64.b64encode(packed), b"gz+b64")


def test_gzip_members_and_padding() -> None:
    packed = gzip.compress(b"one ") + gzip.compress(b"two") + bytes(9)
    assert decode(base64.b64encode(packed), b"gz+b64") == b"one two"


def test_the_limit_is_exact() -> None:
    value = base64.b64encode(gzip.compress(bytes(1000)))
    assert len(decode(value, b"gz+b64", limit=1000)) == 1000
    with pytest.raises(BadValue, match="holds more than 999 bytes") as caught:
        decode(value, b"gz+b64", limit=999)
    assert "limit" in caught.value.help
    with pytest.raises(BadValue):
        decode(base64.b64encode(bytes(11)), b"b64", limit=10)
    with pytest.raises(BadValue):
        decode(b"four", b"", limit=3)


def test_a_gzip_bomb_ends_at_the_limit_not_in_memory() -> None:
    import tracemalloc

    bomb = base64.b64encode(gzip.compress(bytes(64 << 20)))
    tracemalloc.start()
    try:
        with pytest.raises(BadValue):
            GuestInfo(Host(k=bomb, k__encoding=b"gzip+base64")).decoded("k", limit=1 << 20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


def test_the_default_limit_is_16_mib() -> None:
    guestinfo = GuestInfo(Host(k=base64.b64encode(gzip.compress(bytes((16 << 20) + 1))), k__encoding=b"gz+b64"))
    with pytest.raises(BadValue, match="16777216"):
        guestinfo.decoded("k")
    assert len(guestinfo.decoded("k", limit=(16 << 20) + 1)) == (16 << 20) + 1


def test_errors_do_not_quote_the_value() -> None:
    for encoding in (b"base64", b"gz+b64"):
        with pytest.raises(BadValue) as caught:
            GuestInfo(Host(k=b"Passw0rd12", k__encoding=encoding)).decoded("k")
        assert "Passw0rd" not in str(caught.value)
        assert caught.value.__suppress_context__


@settings(deadline=None)
@given(st.binary())
def test_stripping_twice_is_stripping_once_but_for_nuls(value: bytes) -> None:
    once = stripped(value)
    assert stripped(once) == once or once.endswith(b"\0") or stripped(once) == b""
    assert value.startswith(once)


@settings(deadline=None)
@given(st.binary(), st.sampled_from([b"base64", b"gzip+base64"]))
def test_any_bytes_decode_or_are_a_bad_value(value: bytes, encoding: bytes) -> None:
    try:
        data = decode(value, encoding, limit=4096)
    except BadValue:
        return
    assert len(data) <= 4096
