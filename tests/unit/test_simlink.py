"""The packets of the simulated host's socket: what is encoded decodes, all else is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmtools.wire import simlink
from vmtools.wire.simlink import WireError

registers = st.lists(st.integers(0, (1 << 64) - 1), min_size=7, max_size=7)


def test_exit_byte_for_byte() -> None:
    packet = simlink.encode_exit(2, 0x01020304, [1, 2, 3, 4, 5, 6, 0xFFEEDDCCBBAA9988], b"xy")
    assert packet[:13] == bytes.fromhex("43000000 02 02 00 0000 04030201")
    assert packet[13:] == struct.pack("<7Q", 1, 2, 3, 4, 5, 6, 0xFFEEDDCCBBAA9988) + b"xy"


def test_answer_byte_for_byte() -> None:
    packet = simlink.encode_answer(1, [1, 2, 3, 4, 5, 6, 7], b"xy")
    assert packet == struct.pack("<IBB3x7Q", 63, 3, 1, 1, 2, 3, 4, 5, 6, 7) + b"xy"


@given(st.integers(0, 255), st.integers(0, (1 << 32) - 1), registers, st.binary(max_size=50))
def test_exit_round_trip(instruction: int, tid: int, regs: list[int], payload: bytes) -> None:
    buffer = bytearray(simlink.encode_exit(instruction, tid, regs, payload) + b"rest")
    packet = simlink.split(buffer)
    assert packet is not None
    assert packet[0] == simlink.EXIT
    assert simlink.decode_exit(packet[1]) == (instruction, tid, regs, payload)
    assert buffer == b"rest"


@given(st.integers(0, 1), registers, st.binary(max_size=50))
def test_answer_round_trip(outcome: int, regs: list[int], payload: bytes) -> None:
    packet = simlink.split(bytearray(simlink.encode_answer(outcome, regs, payload)))
    assert packet is not None
    assert simlink.decode_answer(packet[1], len(payload)) == (outcome, regs, payload)
    if payload:
        with pytest.raises(WireError):
            simlink.decode_answer(packet[1], len(payload) - 1)


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=20)), max_size=5), st.integers(1, 7))
def test_packets_in_any_pieces(packets: list[tuple[int, bytes]], step: int) -> None:
    stream = b"".join(simlink.packet(kind, body) for kind, body in packets)
    buffer, found = bytearray(), []
    for at in range(0, len(stream), step):
        buffer += stream[at : at + step]
        while (packet := simlink.split(buffer)) is not None:
            found.append(packet)
    assert found == packets
    assert not buffer


@pytest.mark.parametrize("size", [0, simlink.MAX_LENGTH + 1, 0xFFFFFFFF])
def test_lengths_that_nobody_sends(size: int) -> None:
    with pytest.raises(WireError, match=str(size)):
        simlink.split(bytearray(struct.pack("<I", size) + b"x"))


def test_limits_of_what_is_encoded() -> None:
    big = bytes(simlink.MAX_PAYLOAD + 1)
    with pytest.raises(WireError):
        simlink.encode_exit(0, 0, [0] * 7, big)
    with pytest.raises(WireError):
        simlink.encode_answer(1, [0] * 7, big)
    with pytest.raises(WireError):
        simlink.packet(4, bytes(simlink.MAX_LENGTH))
    largest = simlink.encode_answer(1, [0] * 7, big[1:])
    assert simlink.split(bytearray(largest)) is not None
    with pytest.raises(WireError):
        simlink.length(b"abc")


@given(st.binary(max_size=80))
def test_any_body_decodes_or_is_refused(body: bytes) -> None:
    for decode in (simlink.decode_exit, simlink.decode_answer, simlink.decode_json, simlink.check_hello):
        try:
            decode(body)
        except WireError:
            continue


@pytest.mark.parametrize("body", [b"", b"\x00" * 59, b"\x02" + bytes(59), b"\x01\x00\x00\x01" + bytes(56)])
def test_answers_that_are_none(body: bytes) -> None:
    with pytest.raises(WireError):
        simlink.decode_answer(body)


@pytest.mark.parametrize("body", [b"", bytes(63), b"\0\1" + bytes(62), b"\0\0\0\1" + bytes(60)])
def test_exits_that_are_none(body: bytes) -> None:
    with pytest.raises(WireError):
        simlink.decode_exit(body)


def test_hello() -> None:
    packet = simlink.split(bytearray(simlink.hello("guest", 1, 2, "prog")))
    assert packet is not None
    assert simlink.decode_json(packet[1]) == {"role": "guest", "pid": 1, "tid": 2, "program": "prog", "version": 1}
    with pytest.raises(WireError, match="version 2"):
        simlink.check_hello(b'{"version":2}')
