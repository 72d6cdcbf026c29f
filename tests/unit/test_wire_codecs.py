"""Every codec of ``vmtools.wire``: what is encoded decodes, and any bytes give a value or a WireError, nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.wire_codecs import CODECS, Codec
from tests.unit.wire_models import PEER
from vmtools.wire import WireError, guestinfo
from vmtools.wire.guestinfo import InfoClass

each = pytest.mark.parametrize("codec", CODECS, ids=[codec.name for codec in CODECS])
quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@each
def test_round_trip(codec: Codec) -> None:
    @quick
    @given(codec.models)
    def check(model: Any) -> None:
        assert codec.decode(codec.encode(model)) == model

    check()


@each
def test_any_bytes(codec: Codec) -> None:
    @settings(quick, max_examples=40)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        decodes_or_refuses(codec, data.draw(hostile(codec)))

    check()


@each
def test_all_prefixes(codec: Codec) -> None:
    for sample in codec.samples or (example(codec),):
        for size in range(min(len(sample), 600)):
            decodes_or_refuses(codec, sample[:size])


def example(codec: Codec) -> bytes:
    """The bytes of some model, always the same."""
    found: list[bytes] = []

    @settings(max_examples=20, derandomize=True, database=None, deadline=None)
    @given(codec.models)
    def look(model: Any) -> None:
        found.append(codec.encode(model))

    look()
    return max(found, key=len)


@st.composite
def hostile(draw: st.DrawFn, codec: Codec) -> bytes:
    """Bytes that are all but right, or just bytes."""
    whole = draw(codec.models.map(codec.encode) | st.sampled_from(codec.samples or (b"",)) | st.binary(max_size=80))
    data = bytearray(whole)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        piece = draw(
            st.sampled_from([b"\0", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x80", b"'", b"a"]) | st.binary()
        )
        data[at : at + draw(st.integers(0, 8))] = piece[: draw(st.integers(0, 8))]
    return bytes(data)


def decodes_or_refuses(codec: Codec, data: bytes) -> None:
    """The invariant: a value, which can be encoded and then decodes to itself; or a WireError."""
    try:
        model = codec.decode(data)
    except WireError:
        return
    if codec.name == "DataMap RPC" and model == data:
        return  # a PING
    try:
        again = codec.decode(codec.encode(model))
    except WireError as error:
        raise AssertionError(f"{model!r} was decoded and can't be encoded: {error}") from error
    assert comparable(again) == comparable(model)


def comparable(model: Any) -> str:
    """As text, in which not-a-number equals itself; zero has no sign on this wire."""
    return repr(model).replace("-0.0", "0.0")


@pytest.mark.parametrize("number", InfoClass)
@settings(quick, max_examples=40)
@given(st.data())
def test_descriptions_are_json(number: InfoClass, data: st.DataObject) -> None:
    codec = next(codec for codec in CODECS if codec.name == f"class {number.name}")
    try:
        description = guestinfo.describe(number, data.draw(hostile(codec)))
    except WireError:
        return
    assert json.loads(json.dumps(description, allow_nan=False)) == description


def test_peers_records_byte_for_byte() -> None:
    """What open-vm-tools sent decodes, and encodes to the very same bytes: no one here wrote them."""
    checked = 0
    for codec in CODECS:
        for sample in codec.samples:
            if codec.name != f"class {InfoClass.IP_ADDRESS.name}":  # has pieces of the peer's stack in it
                assert codec.encode(codec.decode(sample)) == sample, codec.name
                checked += 1
    assert checked >= 15
    assert all(guestinfo.encode(*guestinfo.decode(m)) == m for m in PEER.values() if m.startswith(b"SetGuestInfo"))
