"""The status: guests' records decoded, nonsense survived, and what a person reads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmtools.sim.backdoor import Backdoor
from vmtools.sim.machine import Machine
from vmtools.sim.report import machine_status, status
from vmtools.sim.rpci import answer
from vmtools.sim.view import lines
from vmtools.wire import disk, guestinfo, nic, osdetail, stats

from .naive_guest import NaiveGuest
from .service import Service

NICS = nic.NicInfo(
    (
        nic.Nic(
            "00:0c:29:01:02:03",
            (nic.Ip(nic.Address.of("192.0.2.5"), 24, nic.Origin.DHCP), nic.Ip(nic.Address.of("2001:db8::5"), 64)),
        ),
        nic.Nic("00:0c:29:01:02:04"),
    )
)
DISKS = (disk.Disk("/", 3 << 30, 10 << 30, "ext4", ("scsi0:0",)), disk.Disk("/böot", 1 << 20, 5 << 20))
DETAIL = osdetail.OsDetail("debian12-64", "Linux 6.1 Debian", {"distroName": "Debian", "bitness": "64"})
STATS = stats.Statistics(4096, records=(stats.Record(4, 9, 0x0803, 1234, "_tools/v1"), stats.Record(7, 11, 0x8043)))


def send(machine: Machine, number: int, model: guestinfo.Model) -> None:
    assert answer(machine, guestinfo.encode(number, guestinfo.encode_payload(number, model))) == b"1 "


def told() -> Machine:
    machine = Machine()
    send(machine, 1, "vm.example")
    send(machine, 7, guestinfo.Uptime(12345))
    send(machine, 8, STATS)
    send(machine, 10, NICS)
    send(machine, 11, DETAIL)
    for request in (
        disk.COMMAND + disk.encode_json(DISKS),
        b"info-set guestinfo.ip 192.0.2.5\0",
        b"tools.set.versiontype 12352 4\0",
        b"tools.capability.statechange ",
        b"tools.os.statechange.status 1 3\0",
        b"vmbackup.eventSet req.done 0 \0",
    ):
        assert answer(machine, request) == b"1 "
    return machine


def test_all_that_vcenter_shows() -> None:
    found = machine_status(told())
    assert json.loads(json.dumps(found)) == found
    guest = found["guest"]
    assert (guest["os"], guest["os_id"]) == ("Linux 6.1 Debian", "debian12-64")
    assert guest["os_details"]["distroName"] == "Debian"
    assert (guest["host_name"], guest["ip"], guest["uptime"]) == ("vm.example", "192.0.2.5", 123.45)
    assert guest["nics"] == [
        {"mac": "00:0c:29:01:02:03", "addresses": ["192.0.2.5/24", "2001:db8::5/64"]},
        {"mac": "00:0c:29:01:02:04", "addresses": []},
    ]
    assert [d["name"] for d in guest["disks"]] == ["/", "/böot"]
    assert guest["statistics"]["guest.mem.free"]["value"] == 1234
    assert found["tools"]["guest_managed"]
    assert found["state_changes"] == [{"state": 3, "operation": "poweron", "ok": True}]
    assert found["events"] == [{"event": "vmbackup.eventSet", "text": "req.done 0 "}]


@pytest.mark.parametrize(
    ("number", "model", "addresses"),
    [
        (2, nic.to_v1(NICS), ["192.0.2.5"]),
        (9, nic.to_v2(NICS), ["192.0.2.5/24", "2001:db8::5/64"]),
        (9, NICS, ["192.0.2.5/24", "2001:db8::5/64"]),
    ],
)
def test_older_forms(number: int, model: guestinfo.Model, addresses: list[str]) -> None:
    machine = Machine()
    send(machine, 10, nic.NicInfo())
    send(machine, number, model)
    send(machine, 3, DISKS)
    send(machine, 5, "An OS")
    send(machine, 6, "other")
    guest = machine_status(machine)["guest"]
    assert guest["nics"][0]["addresses"] == addresses, "the latest counts"
    assert (guest["os"], guest["os_id"], len(guest["disks"])) == ("An OS", "other", 2)
    send(machine, 10, nic.NicInfo())
    assert machine_status(machine)["guest"]["nics"] == []


def test_a_guest_that_said_nothing() -> None:
    guest = machine_status(Machine())["guest"]
    assert {name: value for name, value in guest.items() if value} == {}
    assert "tools:            not running\n" in shown(Backdoor(Machine()))


def shown(backdoor: Backdoor) -> str:
    return "\n".join(lines(status(backdoor))) + "\n"


def test_for_a_person() -> None:
    backdoor = Backdoor(told())
    Service(backdoor).settle()
    NaiveGuest(backdoor).open()
    text = shown(backdoor)
    for line in (
        "tools:            running, version 12.2.0 (12352), open-vm-tools, guest managed",
        "guest OS:         Linux 6.1 Debian (debian12-64)",
        "host name:        vm.example",
        "up for:           123 s",
        "  00:0c:29:01:02:03: 192.0.2.5/24, 2001:db8::5/64",
        "  00:0c:29:01:02:04: -",
        "  /: 3.0 GiB free of 10.0 GiB, ext4 on scsi0:0",
        "  /böot: 1.0 MiB free of 5.0 MiB",
        "  guest.mem.free: 1234 KiB",
        "  statechange",
        "  synctime 0",
        "  ethernet0: connected",
        "  poweron: done",
        "  vmbackup.eventSet req.done 0 ",
        "  0: TCLO toolbox, naive (7)",
        "  1: RPCI, naive (7)",
    ):
        assert f"{line}\n" in text


def test_nonsense_hides_nothing() -> None:
    machine = told()
    for number in range(1, 12):
        if number != 1:
            assert answer(machine, b"SetGuestInfo  %d \xff\x1b[2J" % number)[:2] == b"1 "
    text = shown(Backdoor(machine))
    assert "host name:        vm.example\n" in text
    assert "not understood:\n" in text
    assert "\x1b" not in text


@given(st.integers(1, 11), st.binary(max_size=200))
def test_any_record_is_shown_or_not_understood(number: int, payload: bytes) -> None:
    machine = Machine()
    answer(machine, b"SetGuestInfo  %d " % number + payload)
    answer(machine, b"SetGuestDiskInfo " + payload)
    found: dict[str, Any] = status(Backdoor(machine))
    json.dumps(found)
    assert all(line.isprintable() for line in lines(found))


def test_a_hostile_guest_cannot_make_it_too_long() -> None:
    """A report has to fit into a packet, 1 MiB, in the form in which JSON escapes it."""
    machine = Machine()
    many = nic.NicInfo(tuple(nic.Nic("x", tuple([nic.Ip(nic.Address(99, b""), 0)] * 200)) for _ in range(16)))
    for number in (9, 10):
        send(machine, number, many)
    for number in (1, 4, 5, 6):
        answer(machine, b"SetGuestInfo  %d " % number + b"\x80" * 60_000)
    for i in range(300):
        answer(machine, b"tools.capability.%03d" % i + b"\x80" * 120 + b" " + b"\x80" * 4000)
        answer(machine, b"vmbackup.eventSet " + b"\x80" * 60_000)
    answer(machine, b"tools.capability.features " + b" ".join(b"%d=4294967295" % i for i in range(1024)))
    answer(machine, b"info-set guestinfo.ip " + b"\x80" * 60_000)
    backdoor = Backdoor(machine)
    for _ in range(128):
        Service(backdoor, b"\x80" * 60_000).poll()
    for channel in backdoor.channels.open_channels.values():
        channel.app = b"\x80" * 64
    text = json.dumps(status(backdoor))
    assert len(text) < 1 << 20
    assert "it is too long to be shown" in text
