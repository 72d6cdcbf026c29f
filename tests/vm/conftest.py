"""Virtual machines for the tests; each boots when first asked for (4 s) and serves all tests that want its kind.

Needs Debian's packages qemu-system-x86 and util-linux at each run; mmdebstrap, e2fsprogs and root once, to build the
guest's image, which is then kept in ``~/.cache/vmtools-py``.  Where one is missing the tests are skipped and say so.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from . import cpio, image, machine, wheel
from .machine import BootedLinux

GUEST_PROGRAMS = Path(__file__).with_name("programs")
"""Python programs that tests run in the guest; there in ``/opt/programs``."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "vm: boots a virtual machine")


@pytest.fixture(scope="session")
def debian() -> image.Image:
    """The image to boot."""
    if platform.machine() != "x86_64":
        pytest.skip("the guest is x86-64, and our wheel is built for this machine, which is not")
    for tool, package in machine.TOOLS.items():
        if shutil.which(tool) is None:
            pytest.skip(f"running a guest needs {package} ({tool})")
    cached = image.cached()
    if cached is None and (obstacle := image.obstacle()):
        pytest.skip(obstacle)
    return cached or image.build()


@pytest.fixture(scope="session")
def payload(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, cpio.File]:
    """What the guests get: our package, installed, and the tests' own programs."""
    files = wheel.installed(wheel.built(tmp_path_factory.mktemp("wheel")))
    for program in GUEST_PROGRAMS.glob("*.py"):
        files[f"opt/programs/{program.name}"] = cpio.File(program.read_bytes())
    return files


@pytest.fixture(scope="session")
def linux(debian: image.Image, payload: Mapping[str, cpio.File]) -> Iterator[BootedLinux]:
    """QEMU's backdoor device, and two processors so that threads really run side by side."""
    with BootedLinux(debian, payload, machine="pc,vmport=on", processors=2) as guest:
        yield guest


@pytest.fixture(scope="session")
def locked_down(debian: image.Image, payload: Mapping[str, cpio.File]) -> Iterator[BootedLinux]:
    """The same under kernel lockdown, as Secure Boot brings it."""
    with BootedLinux(debian, payload, append="lsm=lockdown lockdown=integrity") as guest:
        yield guest


@pytest.fixture(scope="session")
def deviceless(debian: image.Image, payload: Mapping[str, cpio.File]) -> Iterator[BootedLinux]:
    """No backdoor device: nobody answers the port."""
    with BootedLinux(debian, payload, machine="pc,vmport=off") as guest:
        yield guest


@pytest.fixture(scope="session")
def old_qemu(debian: image.Image, payload: Mapping[str, cpio.File]) -> Iterator[BootedLinux]:
    """The device as QEMU had it until 5.0: a command that it does not know leaves EAX as it was."""
    with BootedLinux(debian, payload, machine="pc-i440fx-5.0,vmport=on") as guest:
        yield guest


@pytest.fixture(scope="session")
def vmware_dmi(debian: image.Image, payload: Mapping[str, cpio.File]) -> Iterator[BootedLinux]:
    """The device, and firmware tables that say VMware, as on a host that hides its CPUID leaves."""
    serial = "VMware-56 4d 9f 6e 4b 32 1c 0a-b5 0f 7d 3e 2a 91 c8 47"
    tables = f"type=1,manufacturer=VMware,, Inc.,product=VMware Virtual Platform,serial={serial}"
    with BootedLinux(debian, payload, options=["-smbios", tables]) as guest:
        yield guest
