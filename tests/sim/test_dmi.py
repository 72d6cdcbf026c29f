"""The firmware as VMware's: for those who run under the simulated host, and for nobody else."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from vmtools.sim import dmi, smbios
from vmtools.sim.backdoor import Backdoor
from vmtools.sim.disguise import NO_MOUNTS, Disguise
from vmtools.sim.machine import Machine
from vmtools.sim.run import run

from .disguised import run_disguised

UUID = uuid.UUID("564d9f6e-4b32-1c0a-b50f-7d3e2a91c847")
SERIAL = "VMware-56 4d 9f 6e 4b 32 1c 0a-b5 0f 7d 3e 2a 91 c8 47"
SIM = [sys.executable, "-c", "import sys; from vmtools.sim.cli import main; sys.exit(main(sys.argv[1:]))", "run"]
ID = "/sys/class/dmi/id"


@pytest.fixture
def mounts(tracing: None) -> None:
    if not dmi.possible():
        pytest.skip("mounts of one's own take CAP_SYS_ADMIN, and DMI a sysfs")


def show(script: str) -> str:
    """What a shell prints that sees the machine's firmware."""
    seen = run_disguised(["sh", "-c", script], machine=Machine(machine_uuid=UUID), cpuid=False, dmi=True)
    assert seen.status == 0
    return seen.output


def test_fields(mounts: None) -> None:
    names = ["sys_vendor", "product_name", "product_serial", "product_uuid", "board_vendor", "bios_vendor"]
    assert show(f"cd {ID} && cat {' '.join(names)}").splitlines() == [
        "VMware, Inc.",
        "VMware Virtual Platform",
        SERIAL,
        "6e9f4d56-324b-0a1c-b50f-7d3e2a91c847",
        "Intel Corporation",
        "Phoenix Technologies LTD",
    ]


def test_every_way_leads_there(mounts: None) -> None:
    paths = [ID, "/sys/devices/virtual/dmi/id", "/sys/class/net/lo/../../dmi/id"]
    assert show("cat " + " ".join(f"{path}/sys_vendor" for path in paths)) == "VMware, Inc.\n" * 3


def test_who_may_read_what(mounts: None) -> None:
    modes = show(f"stat -c '%a %n' {ID}/product_serial {ID}/product_name /sys/firmware/dmi/tables/DMI").splitlines()
    assert [line.split()[0] for line in modes] == ["400", "444", "400"]
    assert show(f"echo x 2>&- > {ID}/product_name || echo refused") == "refused\n"


def test_the_rest_of_sysfs_is_as_it_was(mounts: None) -> None:
    """Folders with all that is in them, links that lead out of them and back, and what can be written."""
    script = (
        "cd /sys/class && for f in *; do [ $f = dmi ] || echo $f $(ls -a $f); done; readlink -f /sys/class/net/lo;"
        " cat /sys/class/net/lo/address /sys/devices/virtual/net/lo/mtu; ls /sys/firmware | grep -v dmi;"
        " ls /sys/devices/virtual | grep -v dmi; test -w /sys/class/net/lo/mtu && echo writable"
    )
    outside = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    assert show(script) == outside.stdout


def test_nobody_else_sees_it(mounts: None) -> None:
    def outside() -> tuple[str, str, list[str]]:
        mounted = [Path(f"/proc/{whose}/mountinfo").read_text() for whose in ("self", "thread-self")]
        return mounted[0], mounted[1], os.listdir("/sys/class")

    before = outside()
    show("true")
    assert outside() == before


def test_what_is_mounted_later_is_seen(mounts: None, tmp_path: Path) -> None:
    """From outside it comes in, from inside it does not go out."""
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    inner.mkdir()
    outer.mkdir()
    show(f"mount -t tmpfs none {inner} && touch {inner}/file")
    assert list(inner.iterdir()) == []


def test_left_alone(tracing: None) -> None:
    script = f"cat {ID}/* 2>&1; cat /proc/self/mountinfo"
    outside = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, text=True, check=False)
    done = subprocess.run([*SIM, "--no-dmi", "--", "sh", "-c", script], stdout=subprocess.PIPE, text=True, check=False)
    assert done.stdout == outside.stdout


def test_without_the_privilege(mounts: None) -> None:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("setpriv (util-linux) is not installed")
    script = f"cat {ID}/sys_vendor 2>&1"
    outside = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, text=True, check=False)
    words = [setpriv, "--bounding-set=-sys_admin", *SIM, "--", "sh", "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == (outside.stdout, "", outside.returncode)


def test_refusal_is_remembered(tracing: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: uuid.UUID) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(dmi, "show", refuse)
    machine = Machine()
    disguise = Disguise(machine.status(), cpuid=False)
    assert run(["true"], Backdoor(machine), disguise=disguise) == 0
    assert disguise.limits == [NO_MOUNTS]


# -- the tables ------------------------------------------------------------------------------------------------------


def structures(table: bytes) -> list[tuple[int, bytes, list[str]]]:
    """Type, formatted part and strings of each structure, and that nothing is left over (DSP0134 6.1)."""
    found: list[tuple[int, bytes, list[str]]] = []
    at = 0
    while at < len(table):
        kind, length, handle = struct.unpack_from("<BBH", table, at)
        assert handle == len(found)
        end = table.index(b"\0\0", at + length)
        found.append((kind, table[at + 4 : at + length], table[at + length : end].decode().split("\0")))
        at = end + 2
    assert at == len(table)
    return found


def test_tables() -> None:
    entry, table = smbios.tables(UUID)
    assert (len(entry), entry[:4], entry[5], entry[16:21]) == (31, b"_SM_", 31, b"_DMI_")
    assert sum(entry) % 256 == sum(entry[16:]) % 256 == 0
    size, _, count = struct.unpack_from("<HIH", entry, 22)
    found = structures(table)
    assert (size, count, [kind for kind, _, _ in found]) == (len(table), len(found), [0, 1, 2, 3, 127])
    _, system, strings = found[1]
    assert system[4:20] == UUID.bytes
    assert strings == ["VMware, Inc.", "VMware Virtual Platform", "None", SERIAL]
    assert [len(formatted) + 4 for _, formatted, _ in found] == [24, 27, 8, 22, 4]
    (largest,) = struct.unpack_from("<H", entry, 8)
    assert largest == max(len("\0".join(strings)) + len(formatted) + 6 for _, formatted, strings in found)


def test_fields_agree_with_the_tables() -> None:
    values = smbios.fields(UUID)
    strings = {text for _, _, texts in structures(smbios.tables(UUID)[1]) for text in texts}
    for name in ("sys_vendor", "product_name", "product_serial", "bios_vendor", "bios_version", "board_name"):
        assert values[name] in strings
    assert values["modalias"].startswith("dmi:bvnPhoenixTechnologiesLTD:bvr6.00:bd11/12/2020:")
    assert smbios.serial(UUID) == SERIAL


def test_dmidecode(mounts: None) -> None:
    """Who reads the tables and nothing else."""
    if shutil.which("dmidecode", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("dmidecode is not installed")
    text = show("PATH=/usr/sbin:$PATH dmidecode")
    assert "SMBIOS 2.7 present." in text
    assert f"Serial Number: {SERIAL}" in text
    assert "UUID: 6e9f4d56-324b-0a1c-b50f-7d3e2a91c847" in text
    assert "Manufacturer: No Enclosure" in text
    assert "ROM Size: 64 kB" in text
    assert not [word for word in ("BAD", "Wrong", "Invalid", "OUT OF SPEC", "broken") if word in text]
    assert show("PATH=/usr/sbin:$PATH dmidecode -s system-product-name") == "VMware Virtual Platform\n"


def test_file_types(mounts: None) -> None:
    """The link of sysfs is a link here, too."""
    assert show(f"readlink {ID}") == "../../devices/virtual/dmi/id\n"
