"""What RPCI requests are answered, and what the machine keeps of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vmtools.sim.machine import GuestInfoError, Machine, bytes_of, text_of, version_text
from vmtools.sim.report import machine_status
from vmtools.sim.rpci import COMMANDS, answer


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (b"info-get guestinfo.hello", b"1 world"),
        (b"info-get guestinfo.hello\0", b"1 world"),
        (b"info-get guestinfo.hello ", b"1 world"),
        (b"info-get guestinfo.empty", b"1 "),
        (b"info-get guestinfo.binary", b"1 a\0b\xff"),
        (b"info-get guestinfo.nope", b"0 No value found"),
        (b"info-get hello", b"0 No value found"),
        (b"info-get", b"0 One and exactly one argument expected"),
        (b"info-get ", b"0 One and exactly one argument expected"),
        (b"info-get guestinfo.hello again", b"0 One and exactly one argument expected"),
        (b"info-set guestinfo.x y", b"1 "),
        (b"info-set guestinfo.x", b"0 Two and exactly two arguments expected"),
        (b"info-set", b"0 Two and exactly two arguments expected"),
        (b"info-set other.x y", b"0 Permission denied"),
        (b"info-set guestinfo. y", b"0 Permission denied"),
        (b"info-set guestinfo." + b"k" * 2000 + b" y", b"0 Key is too long"),
        (b"log anything", b"1 "),
        (b"machine.id.get", b"0 Command not found"),
        (b"tools.set.version 13344\0", b"1 "),
        (b"tools.set.version", b"0 Invalid argument"),
        (b"tools.set.version 99999999999999999999", b"0 Invalid argument"),
        (b"tools.set.versiontype 13344 4\0", b"1 "),
        (b"tools.set.versiontype 13344", b"0 Invalid argument"),
        (b"tools.os.statechange.status 1 3\0", b"1 "),
        (b"tools.os.statechange.status 2 3", b"0 Invalid argument"),
        (b"tools.capability.features 37=1 36=0\0", b"1 "),
        (b"tools.capability.features 37", b"0 Invalid argument"),
        (b"tools.capability.statechange ", b"1 "),
        (b"tools.capability.resolution_set 1\0", b"1 "),
        (b"tools.capability.", b"0 Unknown command"),
        (b"vmx.capability.unified_loop toolbox\0", b"1 "),
        (b"SetGuestInfo  1 host\0", b"1 "),
        (b"SetGuestInfo 1 host", b"0 Invalid argument"),
        (b"SetGuestInfo  12 host", b"0 Invalid argument"),
        (b"SetGuestInfo  0 host", b"0 Invalid argument"),
        (b"SetGuestInfo  1", b"0 Invalid argument"),
        (b"SetGuestInfo", b"0 Invalid argument"),
        (b'SetGuestDiskInfo {"version":"1"}\0', b"1 "),
        (b"SetGuestDiskInfo [1]", b"0 Invalid argument"),
        (b"SetGuestDiskInfo " + b"[" * 60_000, b"0 Invalid argument"),
        (b"Info-get guestinfo.hello", b"0 Unknown command"),
        (b"nonsense", b"0 Unknown command"),
        (b"", b"0 Unknown command"),
        (b"\0", b"0 Unknown command"),
        (b" log x", b"0 Unknown command"),
    ],
)
def test_replies(request_: bytes, reply: bytes) -> None:
    machine = Machine(guestinfo={b"hello": b"world", b"empty": b"", b"guestinfo.binary": b"a\0b\xff"})
    assert answer(machine, request_) == reply


@pytest.mark.parametrize(
    ("sent", "kept"),
    [(b"v", b"v"), (b"v\0", b"v"), (b" v ", b" v "), (b"", b""), (b"\0", b""), (b"a b\0c\0\0", b"a b\0c\0")],
)
def test_info_set_keeps_everything_after_one_blank_but_the_last_nul(sent: bytes, kept: bytes) -> None:
    machine = Machine()
    assert answer(machine, b"info-set guestinfo.k " + sent) == b"1 "
    assert machine.guestinfo == {b"guestinfo.k": kept}
    assert answer(machine, b"info-get guestinfo.k") == b"1 " + kept


def test_the_store_is_limited() -> None:
    machine = Machine()
    value = b"x" * 60_000
    replies = [answer(machine, b"info-set guestinfo.k%02d " % i + value) for i in range(20)]
    assert replies == [b"1 "] * 17 + [b"0 Value too long"] * 3
    assert answer(machine, b"info-set guestinfo.k00 smaller") == b"1 ", "replacing frees what was there"
    assert answer(machine, b"info-set guestinfo.k17 " + value) == b"1 "
    with pytest.raises(GuestInfoError, match="Value too long"):
        machine.set_guestinfo(b"host", b"x" * (1 << 20))


def test_the_number_of_keys_is_limited() -> None:
    machine = Machine(guestinfo={b"%d" % i: b"" for i in range(4096)})
    assert answer(machine, b"info-set guestinfo.more x") == b"0 Too many keys"
    assert answer(machine, b"info-set guestinfo.7 x") == b"1 "


def test_what_the_machine_remembers() -> None:
    machine = Machine(machine_id=b"id \xff")
    assert answer(machine, b"machine.id.get") == b"1 id \xff"
    for request in (
        b"log hello\n\0",
        b"vmx.capability.unified_loop toolbox\0",
        b"tools.set.versiontype 12352 4\0",
        b"tools.capability.statechange ",
        b"tools.capability.guest_conf_directory /etc/vmware-tools\0",
        b"tools.capability.features 37=1 36=0\0",
        b"tools.os.statechange.status 0 2\0",
        b"update.tools.health normal",
        b"SetGuestInfo  1 host\0",
        b"SetGuestInfo  8 \x01\0\0\xff",
        b'SetGuestDiskInfo {"version":"1","disks":[]}\0',
    ):
        assert answer(machine, request) == b"1 "
    assert list(machine.log) == [b"Guest: hello"]
    assert machine.info == {1: b"host\0", 8: b"\x01\0\0\xff"}
    assert list(machine.state_changes) == [(2, False)]
    status = machine_status(machine)
    assert json.loads(json.dumps(status)) == status
    assert status["tools"] == {
        "app": "toolbox",
        "version": 12352,
        "version_text": "12.2.0",
        "type": 4,
        "type_text": "open-vm-tools",
        "guest_managed": True,
        "health": "normal",
    }
    assert status["capabilities"] == {"guest_conf_directory": "/etc/vmware-tools", "statechange": ""}
    assert status["features"] == {"36": 0, "37": 1}
    assert status["guest"]["host_name"] == "host"
    assert status["records"]["dns-name"] == {"value": "host"}
    assert status["records"]["memory"] == {"error": "112 bytes are announced at offset 0; 4 are left", "size": 4}
    assert "error" in status["records"]["disk-info"], "JSON, but not in the one form"


def test_settings_refuse_commands() -> None:
    machine = Machine(guestinfo={b"k": b"v"})
    machine.refused[b"info-set"] = b"Permission denied"
    assert answer(machine, b"info-set guestinfo.k w") == b"0 Permission denied"
    assert answer(machine, b"info-get guestinfo.k") == b"1 v"


def test_a_hostile_guest_cannot_bloat_the_machine() -> None:
    machine = Machine()
    for i in range(20_000):
        answer(machine, b"log " + b"x" * 60_000)
        answer(machine, b"tools.capability.c%d " % i + b"x" * 60_000)
        answer(machine, b"tools.os.statechange.status 1 1")
    assert answer(machine, b"tools.capability." + b"n" * 1000 + b" 1") == b"0 Too many keys"
    assert sum(map(len, machine.log)) <= 10_000 * 4096
    assert sum(map(len, machine.capabilities.values())) <= 256 * 4096
    assert len(machine.state_changes) <= 1000
    assert len(json.dumps(machine_status(machine))) < 1 << 20


@given(st.binary(max_size=60) | st.tuples(st.sampled_from(sorted(COMMANDS)), st.binary(max_size=60)).map(b" ".join))
@example(b"tools.set.version \xc2\xb2")
def test_any_request_is_answered(request_: bytes) -> None:
    assert answer(Machine(), request_)[:2] in (b"1 ", b"0 ")


def test_versions_as_people_know_them() -> None:
    assert [version_text(n) for n in (13344, 12352, 0x7FFFFFFF)] == ["13.1.0", "12.2.0", "unmanaged"]


@given(st.binary())
def test_text_keeps_every_byte(value: bytes) -> None:
    assert bytes_of(json.loads(json.dumps(text_of(value)))) == value
