"""Shows programs the firmware of a VMware machine, in mounts of their own.

The kernel's files are in sysfs, where nobody can create any: where they exist a file system in memory covers them;
where they don't (machines without SMBIOS) one covers the folder above, with all else in it bound to where it was.

Takes CAP_SYS_ADMIN.  Linux gives mounts to a thread and to those whom it starts from then on, so all of this is for the
tracer's thread.  Whatever a traced program mounts stays among the traced.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from vmtools.sim import _tracer, smbios

if TYPE_CHECKING:
    import uuid

SYS = Path("/sys")

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 8, 32, 4096, 16384
FLAGS = MS_NOSUID | MS_NODEV | MS_NOEXEC
CAP_SYS_ADMIN = 21


def possible() -> bool:
    """This process may change its mounts and keep the change to itself, and there is a sysfs."""
    try:
        with open("/proc/thread-self/status", encoding="ascii", errors="replace") as file:
            effective = next((line.split()[1] for line in file if line.startswith("CapEff:")), "0")
    except OSError:
        return False
    return bool(int(effective, 16) >> CAP_SYS_ADMIN & 1) and (SYS / "class").is_dir() and _root_is_a_mount()


def _root_is_a_mount() -> bool:
    """In a bare chroot the root is a folder of some mount: what is mounted below can't be kept from the others."""
    with open("/proc/thread-self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return any(line.split()[4] == "/" for line in file)


def show(machine: uuid.UUID) -> None:
    """From now on the calling thread, and whom it starts, sees VMware's firmware.

    :raises OSError: EPERM: it takes CAP_SYS_ADMIN; ENOENT: there is no sysfs.
    """
    if not (SYS / "class").is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(SYS / "class"))
    _tracer.own_mounts()
    covers = []

    device = SYS / "devices/virtual/dmi"
    covers.append(_uncover(device))
    folder = device / "id"
    folder.mkdir()
    for name, text in smbios.fields(machine).items():
        _write(folder / name, f"{text}\n".encode(), private=name in smbios.PRIVATE)
    _write(folder / "uevent", f"MODALIAS={smbios.fields(machine)['modalias']}\n".encode(), private=False)

    link = SYS / "class/dmi"
    if not link.exists():
        covers.append(_uncover(link))
        (link / "id").symlink_to("../../devices/virtual/dmi/id")

    firmware = SYS / "firmware/dmi"
    covers.append(_uncover(firmware))
    (firmware / "tables").mkdir()
    for name, data in zip(("smbios_entry_point", "DMI"), smbios.tables(machine), strict=True):
        _write(firmware / "tables" / name, data, private=True)

    for cover in covers:
        _mount("none", cover, None, MS_REMOUNT | MS_RDONLY | FLAGS)


def _write(path: Path, data: bytes, *, private: bool) -> None:
    path.write_bytes(data)
    path.chmod(0o400 if private else 0o444)


def _mount(source: str, target: Path, kind: str | None, flags: int, options: str | None = None) -> None:
    try:
        _tracer.mount(
            os.fsencode(source),
            os.fsencode(target),
            None if kind is None else kind.encode(),
            flags,
            None if options is None else options.encode(),
        )
    except OSError as error:
        error.filename = os.fspath(target)
        raise


def _uncover(folder: Path) -> Path:
    """Make ``folder`` an empty one in memory; returns what is mounted for that."""
    if folder.is_dir():
        _mount("vmtools", folder, "tmpfs", FLAGS, "mode=0755,size=1m")
        return folder
    parent = folder.parent
    entries = []
    try:
        for entry in os.scandir(parent):
            descriptor = os.open(entry.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            entries.append((entry.name, descriptor))
        _mount("vmtools", parent, "tmpfs", FLAGS, "mode=0755,size=1m")
        for name, descriptor in entries:
            _bind(descriptor, parent / name)
    finally:
        for _, descriptor in entries:
            os.close(descriptor)
    folder.mkdir()
    return parent


def _bind(descriptor: int, target: Path) -> None:
    """What is open there appears at ``target``, with whatever is mounted in it."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISLNK(mode):
        target.symlink_to(os.readlink("", dir_fd=descriptor))
        return
    if stat.S_ISDIR(mode):
        target.mkdir()
    else:
        target.touch()
    _mount(f"/proc/self/fd/{descriptor}", target, None, MS_BIND | MS_REC)
