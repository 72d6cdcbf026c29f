"""VIX and HGFS, byte by byte: worked examples, what open-vm-tools answered, the limits."""

from __future__ import annotations

import pytest

from tests.unit.wire_models import PEER
from vmtools.wire import WireError, hgfs, vix, vixops, vixprops, vixtext
from vmtools.wire.vix import Answer, Code, Request, VixError
from vmtools.wire.vixops import Op

# -- VIX ---------------------------------------------------------------------------------------------------------------

TOOLS_STATE = bytes.fromhex(
    "01000dd0 0500 33000000 33000000 00000000 00000000 0d 3e000000 00000000 ffffffff 0100000000000000 00000000 00000000"
)


def test_vix_worked_examples() -> None:
    """Specification A.6."""
    request = Request(Op.GET_TOOLS_STATE, cookie=1)
    assert vix.HEADER == len(TOOLS_STATE) == 51
    assert vix.encode_request(request) == TOOLS_STATE
    assert vix.encode_relayed("req1", request) == b'Vix_1_Relayed_Command "req1"\0' + TOOLS_STATE
    assert vixtext.obfuscate(vixtext.NamePassword("root", "secret")) == b"cm9vdABzZWNyZXQA"
    assert vixtext.encode_string("/bin/ls -l") == b"aL2Jpbi9scyAtbA\1\1"
    assert vixtext.decode_string(b"aL2Jpbi9scyAtbA\1\1") == "/bin/ls -l"


def test_credentials_have_plain_base64() -> None:
    """open-vm-tools 12.2 takes ``=`` here, and crashes on the byte that stands for it elsewhere."""
    area = vixtext.encode_credential(vixtext.NamePassword("root", "x"))
    assert area == b"\4\0\0\0\1\0\0\0cm9vdAB4AA==\0"
    with pytest.raises(WireError):
        vixtext.decode_credential(1, area.replace(b"=", b"\1"))
    assert vixtext.decode_credential(vixtext.CredentialType.ROOT, b"anything") is None


def test_secrets_stay_out_of_logs() -> None:
    secret = vixtext.NamePassword("root", "hunter2")
    request = Request(1, credential=vixtext.encode_credential(secret))
    assert "hunter2" not in repr(secret)
    assert "credential=" not in repr(request)


def test_peers_tools_state() -> None:
    answer = vix.decode_answer(PEER["vix-tools-state"].removeprefix(b"OK "))
    assert (answer.error, answer.additional) == (0, 0)
    properties = vixprops.decode_text(answer.result)
    assert vixprops.encode_text(properties) == answer.result
    assert all(item.id in vixprops.NAMES for item in properties)
    values = {vixprops.NAMES[item.id]: item.value for item in properties}
    assert values["OS name"] == "debian12-64"
    assert values["host name"] == "guest7"
    assert values["start program"] is False
    assert [item.id for item in properties[:5]] == [4503, 4520, 4511, 4500, 4505]


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        TOOLS_STATE[:-1],
        b"\2" + TOOLS_STATE[1:],
        TOOLS_STATE[:4] + b"\4" + TOOLS_STATE[5:],
        TOOLS_STATE[:6] + b"\x34" + TOOLS_STATE[7:],
        TOOLS_STATE[:10] + b"\x17" + TOOLS_STATE[11:],
        TOOLS_STATE[:14] + b"\xff\xff\xff\xff" + TOOLS_STATE[18:],
        TOOLS_STATE[:27] + b"\x10" + TOOLS_STATE[28:],
    ],
)
def test_vix_header_damaged(damaged: bytes) -> None:
    with pytest.raises(VixError) as caught:
        vix.decode_request(damaged)
    assert caught.value.code == Code.INVALID_MESSAGE_HEADER
    with pytest.raises(VixError):
        vix.decode_relayed(b'Vix_1_Relayed_Command "r"\0' + damaged)


def test_vix_what_follows_is_not_looked_at() -> None:
    assert vix.decode_request(TOOLS_STATE + b"\0more") == vix.decode_request(TOOLS_STATE)
    path = vixops.encode_body(Op.GUEST_FILE_EXISTS, {"path": "/etc"})
    assert vixops.decode_body(Op.GUEST_FILE_EXISTS, path + b"more") == {"options": 0, "path": "/etc"}


@pytest.mark.parametrize(
    ("body", "code"),
    [  # the codes are open-vm-tools' own answers to these bodies
        (b"\0\0\0\0\5\0\0\0/etc", Code.INVALID_MESSAGE_BODY),
        (b"\0\0\0\0\4\0\0\0/etcX", Code.INVALID_MESSAGE_BODY),
        (b"\0\0\0\0\4\0\0\0/\xffc\0\0", Code.INVALID_MESSAGE_BODY),
        (b"\0\0\0\0\4\0\0\0/\xffcc\0", Code.INVALID_UTF8),
        (b"\0\0\0\0\4\0\0", Code.INVALID_MESSAGE_HEADER),
    ],
)
def test_vix_body_damaged(body: bytes, code: Code) -> None:
    with pytest.raises(VixError) as caught:
        vixops.decode_body(Op.GUEST_FILE_EXISTS, body)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("op", "values", "data"),
    [
        (Op.RUN_PROGRAM, {"program": "/a"}, "00000000 02000000 00000000 2f6100"),
        (Op.RUN_PROGRAM, {"program": "/a", "arguments": "b"}, "00000000 02000000 01000000 2f6100 6200"),
        (
            Op.START_PROGRAM,
            {"program": "/a", "arguments": "b", "environment_count": 1, "environment": b"A=1\0"},
            "00 03000000 02000000 00000000 01000000 04000000 2f6100 6200 413d3100",
        ),
        (Op.LIST_PROCESSES_EX, {"pids": (1,)}, "00000000 00000000 01000000 0100000000000000"),
        (Op.LIST_DIRECTORY, {"path": "/"}, "00000000 01000000 2f00"),
        (Op.LIST_DIRECTORY, {"path": "/", "options": 1, "offset": 5}, "01000000 01000000 0500000000000000 2f00"),
        (Op.TERMINATE_PROCESS, {"pid": 7}, "0700000000000000 00000000"),
        (Op.GET_TOOLS_STATE, {}, ""),
    ],
)
def test_vix_bodies(op: Op, values: dict[str, vixops.Value], data: str) -> None:
    """Each of these open-vm-tools 12.2 understood and carried out."""
    assert vixops.encode_body(op, values) == bytes.fromhex(data)
    assert values.items() <= vixops.decode_body(op, bytes.fromhex(data)).items()


def test_vix_bodies_that_are_not_known() -> None:
    with pytest.raises(VixError) as caught:
        vixops.decode_body(12345, b"")
    assert caught.value.code == Code.UNRECOGNIZED_COMMAND_IN_GUEST
    bodies: list[tuple[int, dict[str, vixops.Value]]] = [
        (12345, {}),
        (Op.GUEST_FILE_EXISTS, {"file": "x"}),
        (Op.GUEST_FILE_EXISTS, {"path": b"x"}),
        (Op.GUEST_FILE_EXISTS, {"path": "a\0"}),
        (Op.GUEST_FILE_EXISTS, {"options": 1 << 40}),
    ]
    for op, values in bodies:
        with pytest.raises(WireError):
            vixops.encode_body(op, values)


@pytest.mark.parametrize(
    ("arguments", "first", "rest"),
    [
        (b'"a b" "c"', b"a b", b'"c"'),
        (b'junk "a"', b"a", b""),
        (b'"a\\"b" x', b'a\\"b', b"x"),
        (b'"open', b"open", b""),
        (b'"end\\', b"end\\", b""),
        (b'""', b"", b""),
        (b"none", b"", b""),
    ],
)
def test_quoted_strings(arguments: bytes, first: bytes, rest: bytes) -> None:
    assert vix.quoted(arguments) == (first, rest)


def test_answers() -> None:
    assert vix.encode_answer(Answer(0, 0, b"1")) == b"0 0 1\0"
    assert vix.encode_answer(Answer(0, 5, b"\0\1", binary=True)) == b"0 5 #\0\1"
    assert vix.decode_answer(b"20000 17") == Answer(20000, 17)  # as thawing answers
    assert vix.encode_done("req1", Answer(0), 5, 6801) == b"Run_Program_Done req1 0 0 5 6801\0"  # as the peer sent it
    for wrong in (b"", b"0", b"x 0 ", b"0 x ", b"0 0 a\0b\0", b"1" * 99 + b" 0 "):
        with pytest.raises(WireError):
            vix.decode_answer(wrong)
    for wrong in (b"0 0", b"0 0 x"):
        with pytest.raises(WireError):
            vix.decode_answer(wrong, binary=True)
    with pytest.raises(WireError):
        vix.encode_answer(Answer(0, 0, bytes(vix.MAX_RESULT + 1), binary=True))
    with pytest.raises(WireError):
        vix.encode_relayed('a"b', Request(1))


def test_properties_damaged() -> None:
    good = vixprops.encode((vixprops.Property(4514, vixprops.Type.STRING, "192.0.2.5"),))
    assert good == b"\xa2\x11\0\0\2\0\0\0\n\0\0\x00192.0.2.5\0"  # the peer's networking configuration
    for wrong in (good[:-1], good + b"\0", good[:4] + b"\7" + good[5:], good[:8] + b"\xff\xff\xff\xff" + good[12:]):
        with pytest.raises(WireError):
            vixprops.decode(wrong)
    for text in (b"a", b"\xff", b"===="):
        with pytest.raises(WireError):
            vixprops.decode_text(text)
    with pytest.raises(WireError):
        vixprops.encode((vixprops.Property(1, vixprops.Type.BOOL, 1),))


# -- HGFS --------------------------------------------------------------------------------------------------------------


def test_hgfs_listing_with_the_peer() -> None:
    """The conversation that open-vm-tools' server had with these requests."""
    assert hgfs.encode_request(hgfs.search_open()) == b"\0\0\0\0\4\0\0\0\0\0\0\0\0"
    assert hgfs.encode_request(hgfs.search_open("root/srv")) == b"\0\0\0\0\4\0\0\0\x08\0\0\0root\0srv\0"
    opened = hgfs.decode_reply(PEER["hgfs-opened"].removeprefix(b"OK "))
    assert isinstance(opened, hgfs.Reply)
    handle = hgfs.search_opened(opened)
    assert handle == 1
    assert hgfs.encode_request(hgfs.search_read(handle, 2)) == b"\0\0\0\0\5\0\0\0\1\0\0\0\2\0\0\0"
    assert hgfs.encode_request(hgfs.search_close(handle)) == b"\0\0\0\0\6\0\0\0\1\0\0\0"
    found = []
    for name in ("hgfs-share", "hgfs-entry", "hgfs-no-more"):
        reply = hgfs.decode_reply(PEER[name].removeprefix(b"OK "))
        assert isinstance(reply, hgfs.Reply)
        entry = hgfs.decode_entry(reply.body)
        assert hgfs.encode_entry(entry) == reply.body
        found.append(entry)
    share, folder, nothing = found
    assert share == hgfs.Entry("root", 0, 0, 0, 0, 0, 0, 0)
    assert folder is not None
    assert (folder.name, folder.type, folder.size, folder.permissions) == (
        "Müll heap",
        hgfs.FileType.DIRECTORY,
        1024,
        7,
    )
    assert nothing is None


def test_hgfs_version_4() -> None:
    packet = bytes.fromhex(
        "01000000 ff000000 34000000 34000000 05000000 29000000 07000000 02000000 07000000 ffffffffffffffff"
    ) + bytes(8)  # open-vm-tools' refusal of a session
    reply = hgfs.PacketV4(5, hgfs.Op.CREATE_SESSION_V4, 7, 2, 7, (1 << 64) - 1)
    assert hgfs.decode_reply(packet) == hgfs.decode_request(packet) == reply
    assert hgfs.encode_reply(reply) == hgfs.encode_request(reply) == packet
    for wrong in (packet[:-1], packet + b"\0", b"\2" + packet[1:], packet[:12] + b"\0" + packet[13:]):
        with pytest.raises(WireError):
            hgfs.decode_request(wrong)


def test_hgfs_limits() -> None:
    for packet in (b"", bytes(7), bytes(hgfs.LARGE_PACKET + 1)):
        with pytest.raises(WireError):
            hgfs.decode_request(packet)
    with pytest.raises(WireError):
        hgfs.encode_request(hgfs.Request(1, 0xFF))
    with pytest.raises(WireError):
        hgfs.search_opened(hgfs.Reply(0, 0))
    with pytest.raises(WireError):
        hgfs.encode_entry(hgfs.Entry("", 0, 0, 0, 0, 0, 0, 0))
    with pytest.raises(WireError):
        hgfs.decode_entry(bytes(45) + b"\xff\xff\0\0x\0")
