"""``vmware-toolbox-cmd`` and ``vmware-namespace-cmd`` of open-vm-tools believe in the machine behind the host."""

from __future__ import annotations

import json
import os
import re
import shutil
from datetime import UTC, datetime

import pytest

from vmtools.sim.clock import HostClock
from vmtools.sim.devices import Device
from vmtools.sim.machine import Machine
from vmtools.wire import guestinfo

from .original import Original, Result

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="vmware-toolbox-cmd wants root for this")


class Toolbox:
    """``vmware-toolbox-cmd`` on one machine."""

    def __init__(self, original: Original, machine: Machine) -> None:
        self.original, self.machine = original, machine

    def __call__(self, words: str) -> Result:
        return self.original.run(["vmware-toolbox-cmd", *words.split()], self.machine)

    def says(self, words: str) -> tuple[int, str]:
        result = self(words)
        assert not result.err
        return result.status, result.out


@pytest.fixture
def toolbox(original: Original) -> Toolbox:
    if shutil.which("vmware-toolbox-cmd") is None:
        pytest.skip("open-vm-tools is not installed")
    clock = HostClock()
    clock.adjust("@2030-06-01T12:00:00Z")
    devices = Device("ethernet0", connected=True), Device("sata0:0"), Device("nailed", fixed=True)
    return Toolbox(original, Machine(mhz=3456, clock=clock, devices=devices))


def test_version(toolbox: Toolbox) -> None:
    status, out = toolbox.says("-v")
    assert status == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\.\d+ \(build-\d+\)\n", out)


# -- stat --------------------------------------------------------------------------------------------------------------


def test_host_time_and_speed(toolbox: Toolbox) -> None:
    status, out = toolbox.says("stat hosttime")
    shown = datetime.strptime(out.strip(), "%d %b %Y %H:%M:%S").replace(tzinfo=UTC)
    assert status == 0
    assert 0 <= (shown - datetime(2030, 6, 1, 12, tzinfo=UTC)).total_seconds() < 60
    assert toolbox.says("stat speed") == (0, "3456 MHz\n")


def test_session_id(toolbox: Toolbox) -> None:
    first = toolbox.says("stat sessionid")
    assert first == (0, f"0x{toolbox.machine.guestlib.session:x}\n")
    assert toolbox.says("stat sessionid") == first
    toolbox.machine.guestlib.begin_session()
    assert toolbox.says("stat sessionid") not in (first, (75, ""))


@pytest.mark.parametrize(
    ("word", "name", "unit"),
    [
        ("balloon", "MEM_BALLOONED_MB", "MB"),
        ("swap", "MEM_SWAPPED_MB", "MB"),
        ("memlimit", "MEM_LIMIT_MB", "MB"),
        ("memres", "MEM_RESERVATION_MB", "MB"),
        ("cpures", "CPU_RESERVATION_MHZ", "MHz"),
        ("cpulimit", "CPU_LIMIT_MHZ", "MHz"),
    ],
)
def test_statistics(toolbox: Toolbox, word: str, name: str, unit: str) -> None:
    value = toolbox.machine.guestlib.values()[name]
    assert isinstance(value, int)
    assert toolbox.says(f"stat {word}") == (0, f"{value} {unit}\n")
    toolbox.machine.guestlib.fix(name, 1234)
    assert toolbox.says(f"stat {word}") == (0, f"1234 {unit}\n")
    toolbox.machine.guestlib.fix(name, None)
    missing = toolbox(f"stat {word}")
    assert (missing.status, missing.out) == (75, "")
    assert missing.err.endswith(": This value is not available on this host\n")


def test_raw_statistics(toolbox: Toolbox) -> None:
    assert toolbox.says("stat raw") == (0, "host\nresources\nsession\n")
    status, out = toolbox.says("stat raw json resources")
    assert (status, json.loads(out)["resources"]["mem.mapped.mb"]) == (0, 4096)
    for encoding in ("text", "xml", "yaml"):
        status, out = toolbox.says(f"stat raw {encoding} session")
        assert status == 0
        assert str(toolbox.machine.guestlib.session) in out
    missing = toolbox("stat raw text nothing")
    assert (missing.status, missing.err) == (75, "Failed to get stat: This value is not available on this host\n")


def test_a_host_without_the_guest_library(toolbox: Toolbox) -> None:
    toolbox.machine.refused[b"guestlib.info.get"] = b"Unknown command"
    for word in ("sessionid", "balloon"):
        refused = toolbox(f"stat {word}")
        assert (refused.status, refused.out) == (75, "")
        assert refused.err == "UpdateInfo failed: VMware Guest API is not enabled on the host\n"


# -- timesync, device, config, info ------------------------------------------------------------------------------------


def test_timesync(toolbox: Toolbox) -> None:
    options = toolbox.machine.options
    assert toolbox.says("timesync status") == (69, "Disabled\n")
    assert toolbox.says("timesync enable") == (0, "Enabled\n")
    assert options["synctime"] == "1"
    assert toolbox.says("timesync enable") == (0, "Enabled\n")
    assert toolbox.says("timesync status") == (0, "Enabled\n")
    assert toolbox.says("timesync disable") == (0, "Disabled\n")
    assert options["synctime"] == "0"
    assert toolbox.says("timesync status") == (69, "Disabled\n")


def test_timesync_refused(toolbox: Toolbox) -> None:
    toolbox.machine.refused[b"vmx.set_option"] = b"Not today"
    refused = toolbox("timesync enable")
    assert (refused.status, refused.out, refused.err) == (1, "", "Error: Not today\n")


def test_devices(toolbox: Toolbox) -> None:
    assert toolbox.says("device list") == (0, "ethernet0: Enabled\nsata0:0: Disabled\nnailed: Disabled\n")
    assert toolbox.says("device status ethernet0") == (0, "Enabled\n")
    assert toolbox.says("device disable ethernet0") == (0, "Disabled\n")
    assert toolbox.says("device enable sata0:0") == (0, "Enabled\n")
    assert toolbox.says("device list") == (0, "ethernet0: Disabled\nsata0:0: Enabled\nnailed: Disabled\n")
    assert toolbox.says("device status ethernet0") == (69, "Disabled\n")
    fixed = toolbox("device enable nailed")
    assert (fixed.status, fixed.err) == (75, "Unable to connect device nailed.\n")
    unknown = toolbox("device status none")
    assert (unknown.status, unknown.err) == (72, "Error fetching interface information: device not found.\n")


@ROOT
def test_config(toolbox: Toolbox) -> None:
    assert toolbox.says("config get nosuchsection nosuchkey") == (0, "[nosuchsection] nosuchkey UNSET\n")


@ROOT
def test_info_update_network(toolbox: Toolbox) -> None:
    assert toolbox.says("info update network") == (0, "")
    (kind,) = toolbox.machine.info
    assert guestinfo.InfoClass(kind) == guestinfo.InfoClass.IP_ADDRESS_V3


# -- namespaces --------------------------------------------------------------------------------------------------------


def namespace(original: Original, machine: Machine, *words: str) -> Result:
    return original.run(["vmware-namespace-cmd", *words], machine)


@pytest.mark.skipif(shutil.which("vmware-namespace-cmd") is None, reason="vmware-namespace-cmd is not installed")
def test_namespaces(original: Original) -> None:
    machine = Machine(privileged=True)
    for words, result in [
        (["get-value", "ns", "-k", "a"], Result(0, "", "")),
        (["set-key", "ns", "-k", "a", "-v", "one"], Result(0, "", "")),
        (["get-value", "ns", "-k", "a"], Result(0, "one", "")),
        (
            ["set-key", "ns", "-k", "a", "-v", "two", "-o", "other"],
            Result(1, "", "failure: Value is not the expected one\n"),
        ),
        (["set-key", "ns", "-k", "a", "-v", "two", "-o", "one"], Result(0, "", "")),
        (["get-value", "ns", "-k", "a"], Result(0, "two", "")),
        (["delete-key", "ns", "-k", "a", "-o", "one"], Result(1, "", "failure: Value is not the expected one\n")),
        (["delete-key", "ns", "-k", "a"], Result(0, "", "")),
        (["get-value", "ns", "-k", "a"], Result(0, "", "")),
    ]:
        assert namespace(original, machine, *words) == result


@pytest.mark.skipif(shutil.which("vmware-namespace-cmd") is None, reason="vmware-namespace-cmd is not installed")
def test_namespaces_on_a_channel_without_privilege(original: Original) -> None:
    """It asks with the privileged commands, and over the backdoor where there is no vsock."""
    machine = Machine()
    for words in (
        ["get-value", "ns", "-k", "a"],
        ["set-key", "ns", "-k", "a", "-v", "1"],
        ["delete-key", "ns", "-k", "a"],
    ):
        assert namespace(original, machine, *words) == Result(1, "", "failure: Permission denied\n")
    assert machine.namespaces.stores == {}
