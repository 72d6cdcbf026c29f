"""Guest operations: the messages that ask for them, and the answers."""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING

import pytest

from vmtools.sim import guestops
from vmtools.sim.guestops import OperationError
from vmtools.wire import hgfs, vix, vixops, vixprops, vixtext

if TYPE_CHECKING:
    from collections.abc import Callable

Op = vixops.Op


def test_operations_by_name_and_number() -> None:
    assert guestops.operation("get-tools-state") is guestops.operation("62") is Op.GET_TOOLS_STATE
    for name in ("nothing", "61", "-1", ""):
        with pytest.raises(OperationError, match="there are: "):
            guestops.operation(name)


def test_the_message_of_the_specification() -> None:
    """Appendix A.6: its header, byte by byte, but for our name."""
    header = bytes.fromhex(
        "01000dd0 0500 33000000 33000000 00000000 00000000 0d"
        "3e000000 00000000 ffffffff 0100000000000000 00000000 00000000"
    )
    assert guestops.vix_message(Op.GET_TOOLS_STATE, {}) == b'Vix_1_Relayed_Command "vmtools-sim"\0' + header


def test_fields_and_credentials() -> None:
    fields = {"options": "0x1", "path": "/tmp/ü", "offset": "7"}
    _, request = vix.decode_relayed(guestops.vix_message(Op.LIST_DIRECTORY, fields, "root", "secret"))
    assert vixops.decode_body(request.op, request.body) == {"options": 1, "path": "/tmp/ü", "offset": 7}
    credential = vixtext.decode_credential(request.credential_type, request.credential)
    assert credential == vixtext.NamePassword("root", "secret")
    _, request = vix.decode_relayed(guestops.vix_message(Op.LIST_PROCESSES_EX, {"pids": "1,0x10"}))
    assert vixops.decode_body(request.op, request.body)["pids"] == (1, 16)
    _, request = vix.decode_relayed(guestops.vix_message(Op.HGFS_SEND_PACKET, {"packet": "\udcff\0"}))
    assert vixops.decode_body(request.op, request.body)["packet"] == b"\xff\0"
    assert request.flags & vix.CommonFlag.RETURNS_BINARY


@pytest.mark.parametrize(
    ("op", "fields", "says"),
    [
        (Op.START_PROGRAM, {"minimized": "x"}, "a number is expected"),
        (Op.LIST_DIRECTORY, {"options": str(1 << 40)}, "out of range"),
        (Op.LIST_DIRECTORY, {"colour": "red"}, "no such field"),
        (Op.LIST_DIRECTORY, {"path": "a\0b"}, "NUL"),
        (Op.LIST_PROCESSES_EX, {"pids": "a"}, "a number is expected"),
        (Op.REGISTRY_READ, {}, "not known"),
    ],
)
def test_what_cannot_be_asked(op: Op, fields: dict[str, str], says: str) -> None:
    with pytest.raises(OperationError, match=says):
        guestops.vix_message(op, fields)


def test_answers() -> None:
    assert guestops.vix_answer(Op.START_PROGRAM, b"OK 0 0 1234\0") == {
        "error": 0,
        "error_name": "ok",
        "errno": 0,
        "result": "1234",
    }
    failed = guestops.vix_answer(Op.LIST_FILES, b"OK 4 2 \0")
    assert (failed["error_name"], failed["errno"], failed["result"]) == ("file not found", 2, "")
    assert guestops.vix_answer(Op.LIST_FILES, b"OK 4242 0 \0")["error_name"] == "error 4242"
    assert guestops.vix_answer(Op.HGFS_SEND_PACKET, b"OK 0 0 #\0\xff")["result"] == "00ff"
    items = vixprops.Property(4501, 1, 1), vixprops.Property(4505, 2, "vm"), vixprops.Property(4540, 3, True)
    state = guestops.vix_answer(Op.GET_TOOLS_STATE, b"OK 0 0 " + vixprops.encode_text(items) + b"\0")
    assert state["result"] == {"supports handle state": 1, "host name": "vm", "start program disabled": True}


@pytest.mark.parametrize(
    "answer",
    [b"", b"ERROR Unknown Command", b"OK ", b"OK x", b"OK 0", b"OK 0 0 !", b"OK 0 0 " + base64.b64encode(b"short")],
)
def test_answers_that_are_none(answer: bytes) -> None:
    with pytest.raises(OperationError):
        guestops.vix_answer(Op.GET_TOOLS_STATE, answer)


def entry(name: str) -> bytes:
    return hgfs.encode_entry(hgfs.Entry(name, hgfs.FileType.DIRECTORY, 0, 0, 0, 0, 0, 7))


def shares(names: list[str]) -> Callable[[bytes], bytes]:
    """A guest's HGFS server with these shares."""

    def exchange(message: bytes) -> bytes:
        number, op = struct.unpack_from("<II", message, 2)
        body = message[10:]
        replies = {4: struct.pack("<I", 77), 6: b""}
        if op == 5:
            handle, offset = struct.unpack("<II", body)
            assert handle == 77
            replies[5] = hgfs.encode_entry(None) if offset >= len(names) else entry(names[offset])
        return b"OK " + struct.pack("<II", number, 0) + replies[op]

    return exchange


def test_shares() -> None:
    assert [found.name for found in guestops.hgfs_list(shares([".", "..", "root"]))] == [".", "..", "root"]
    assert guestops.hgfs_list(shares([])) == []


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"ERROR Unknown Command", "answered ERROR"),
        (b"OK ", "can't be read"),
        (b"OK " + struct.pack("<II", 9, 0), "another request"),
        (b"OK " + struct.pack("<II", 0, 8), "access denied"),
        (b"OK " + struct.pack("<II", 0, 99), "status 99"),
        (b"OK " + struct.pack("<II", 0, 0), "can't be read"),
    ],
)
def test_replies_that_are_none(answer: bytes, says: str) -> None:
    with pytest.raises(OperationError, match=says):
        guestops.hgfs_list(lambda message: answer)


def test_a_server_without_end() -> None:
    replies = {4: struct.pack("<I", 1), 5: entry("x"), 6: b""}
    found = guestops.hgfs_list(lambda m: b"OK " + m[2:6] + bytes(4) + replies[m[6]])
    assert len(found) == guestops.MAX_ENTRIES
