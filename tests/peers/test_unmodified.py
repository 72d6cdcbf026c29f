"""Programs that nobody wrote for us, as they are: without a preloaded library, whatever this machine's CPUID says."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vmtools.detect import look
from vmtools.sim import dmi
from vmtools.sim import host as simulator
from vmtools.sim.backdoor import PORT_IN, PORT_LOW, PORT_OUT, Backdoor
from vmtools.sim.disguise import Disguise
from vmtools.sim.machine import Machine
from vmtools.sim.run import run
from vmtools.sim.transcript import Record, Transcript, read

DEBIAN = "/usr/bin:/usr/sbin:/bin:/sbin"
GOPATH = "/usr/share/gocode"
EX_UNAVAILABLE = 69
REFUSED = (b"KVMKVMKVM\0\0\0", b"XenVMMXenVMM")
"""CPUID signatures with which open-vm-tools does not look at the backdoor."""


@dataclass
class Host:
    """A simulated host, and what it saw."""

    machine: Machine = field(default_factory=lambda: Machine(guestinfo={b"hello": b"world"}))
    records: list[Record] = field(default_factory=list)
    stderr: str = ""

    def run(self, *words: str, status: int = 0, dmi: bool = False) -> str:
        """What a program prints that ends with this status."""
        lines = io.StringIO()
        environment = {**os.environ, "PATH": DEBIAN, "LC_ALL": "C.UTF-8"}
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            backdoor = Backdoor(self.machine, transcript=Transcript(lines))
            disguise = Disguise(self.machine.status(), dmi=dmi)
            ended = run(list(words), backdoor, disguise=disguise, env=environment, stdout=out, stderr=err)
            for file in (out, err, lines):
                file.seek(0)
            self.records = list(read(lines))
            self.stderr = err.read()
            assert ended == status, self.stderr
            return out.read()

    @property
    def instructions(self) -> set[int]:
        return {record.instruction for record in self.records}


@pytest.fixture
def host(traced: None) -> Host:
    return Host()


def need(command: str, package: str) -> str:
    path = shutil.which(command, path=DEBIAN)
    if path is None:
        pytest.skip(f"Debian's {package} is not installed")
    return path


def test_rpctool(host: Host) -> None:
    command = need("vmware-rpctool", "open-vm-tools")
    assert host.run(command, "info-get guestinfo.hello") == "world\n"
    assert PORT_LOW not in host.instructions  # the hypercall is offered, and taken
    host.run(command, "info-set guestinfo.answer 42")
    assert host.machine.guestinfo[b"guestinfo.answer"] == b"42"


def test_rpctool_where_no_hypercall_is_offered(host: Host) -> None:
    command = need("vmware-rpctool", "open-vm-tools")
    host.machine.hypercalls = False
    assert host.run(command, "info-get guestinfo.hello") == "world\n"
    assert host.instructions == {PORT_LOW, PORT_OUT, PORT_IN}


def test_for_tests_in_python(host: Host) -> None:
    """The host as one object shows its programs the same, unless told not to."""
    command = need("vmware-rpctool", "open-vm-tools")
    with simulator.Host(guestinfo={"hello": "world"}) as simulated:
        assert simulated.run(command, "info-get guestinfo.hello").stdout == "world\n"
    if look().signature in REFUSED:
        with simulator.Host(guestinfo={"hello": "world"}, disguise=False) as simulated:
            assert simulated.run(command, "info-get guestinfo.hello").returncode != 0


def test_checkvm(host: Host) -> None:
    assert host.run(need("vmware-checkvm", "open-vm-tools")) == "VMware software version 6 (good)\n"


def test_toolbox(host: Host) -> None:
    command = need("vmware-toolbox-cmd", "open-vm-tools")
    assert host.run(command, "-v").split()[1].startswith("(build-")
    assert host.run(command, "stat", "speed") == "2400 MHz\n"
    assert host.run(command, "timesync", "status", status=EX_UNAVAILABLE) == "Disabled\n"


def test_daemon(host: Host) -> None:
    """vmtoolsd registers as the tools and reports about the guest."""
    command = need("vmtoolsd", "open-vm-tools")
    host.run("timeout", "--signal=TERM", "5", command, status=124)
    assert host.machine.app == b"toolbox"
    assert host.machine.guestinfo[b"guestinfo.vmtools.description"].startswith(b"open-vm-tools ")
    assert host.machine.log[0].startswith(b"Guest: toolbox: Version: ")


def test_systemd(host: Host) -> None:
    assert host.run(need("systemd-detect-virt", "systemd"), "--vm") == "vmware\n"


def test_virt_what(host: Host) -> None:
    found = host.run(need("virt-what", "virt-what")).split()
    assert found[0] == "vmware"
    assert "kvm" not in found


def test_dmidecode(host: Host) -> None:
    command = need("dmidecode", "dmidecode")
    if not dmi.possible():
        pytest.skip("mounts of one's own take CAP_SYS_ADMIN")
    assert host.run(command, "-s", "system-product-name", dmi=True) == "VMware Virtual Platform\n"
    assert host.run(command, "-s", "system-manufacturer", dmi=True) == "VMware, Inc.\n"


@pytest.fixture(scope="session")
def go_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    go = need("go", "golang-go")
    if not Path(GOPATH, "src/github.com/vmware/vmw-guestinfo").exists():
        pytest.skip("Debian's golang-github-vmware-vmw-guestinfo-dev is not installed")
    folder = tmp_path_factory.mktemp("go")
    source = Path(__file__).with_name("guestinfo.go")
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": GOPATH, "GOCACHE": str(folder / "cache")}
    program = folder / "guestinfo"
    subprocess.run([go, "build", "-o", program, source], env=environment, check=True)
    return str(program)


def test_go(host: Host, go_program: str) -> None:
    """Static, without libc: its runtime and its library execute CPUID, iopl and IN themselves."""
    assert host.run(go_program, "hello", "missing") == "world <nil>\nnothing <nil>\n"
    assert host.machine.guestinfo[b"guestinfo.answer"] == b"from Go"
    assert PORT_LOW in host.instructions
    by_itself = subprocess.run([go_program], stdout=subprocess.PIPE, text=True, check=False)
    assert (by_itself.returncode, by_itself.stdout) == (1, "no VMware: <nil>\n")


def test_go_stripped(host: Host, go_program: str, tmp_path: Path) -> None:
    """No symbols and no unwinding tables."""
    strip = shutil.which("strip")
    if strip is None:
        pytest.skip("strip (binutils) is not installed")
    program = tmp_path / "stripped"
    subprocess.run([strip, "-o", program, go_program], check=True)
    assert host.run(str(program), "hello") == "world <nil>\n"
