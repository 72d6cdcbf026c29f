"""Builds the Debian that the tests boot, once, and keeps it in the user's cache.

An :class:`Image` is a folder with three files: the kernel; an initramfs that does nothing but load the few modules that
the root needs, mount it and go on; and the root as ext4.  Tests never write to it (QEMU's ``snapshot=on``), and what is
under test is not in it: that is handed over at each boot, as a second initramfs behind this one, whose folder
``payload`` is copied over the root (see :mod:`.machine`).

The cache's key is a hash of the recipe; packages are as new as the day of the build.  To build anew, delete the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from . import cpio

SUITE = "bookworm"
PACKAGES = ("busybox-static", "kmod", "linux-image-cloud-amd64", "open-vm-tools", "python3")
MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")
"""Kernel modules that the root needs; what they depend on is added."""

SIZE = "1G"
"""Of the root's file system; the file is sparse."""

INIT = """\
#!/bin/busybox sh
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
for module in $(cat /modules/order); do
    insmod /modules/$module || echo "initramfs: no module $module"
done
mount -t ext4 -o rw,noatime /dev/vda /root || exec poweroff -f
cp -a /payload/. /root/
mount -t tmpfs -o mode=755 run /root/run
mount -t tmpfs tmp /root/tmp
mount -t sysfs sys /root/sys
mount -t securityfs security /root/sys/kernel/security
mount --move /proc /root/proc
mount --move /dev /root/dev
init=/sbin/init
for word in $(cat /root/proc/cmdline); do
    case $word in init=*) init=${word#init=} ;; esac
done
exec switch_root /root $init
"""

APPLETS = ("cat", "cp", "echo", "insmod", "mount", "poweroff", "sh", "switch_root")

TOOLS = {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "apt-get": "apt"}
"""Commands that building needs, and the packages they are in."""


class Image(NamedTuple):
    """Paths of what QEMU boots."""

    kernel: Path
    initrd: Path
    root: Path


def cached(packages: tuple[str, ...] = PACKAGES) -> Image | None:
    """The image of these packages if it was built before."""
    image = _image(_folder(packages))
    return image if image.root.exists() else None


def obstacle() -> str | None:
    """Why this machine can't build an image, in one sentence; None if it can."""
    missing = [f"{package} ({tool})" for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing:
        return f"building the guest's image needs {', '.join(missing)}"
    if os.geteuid() != 0:
        return "building the guest's image needs root (the files in it belong to root)"
    return None


def build(packages: tuple[str, ...] = PACKAGES) -> Image:
    """The image of Debian's minimal system with these packages, from the cache or new (90 s).

    Tests that run side by side wait for the one that builds.  Raises CalledProcessError with the tool's standard error
    in its notes.
    """
    folder = _folder(packages)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        image = cached(packages)
        if image is None:
            prefix = f"{folder.name}-building-"
            for left in folder.parent.glob(prefix + "*"):  # by a build that was killed: nobody else holds the lock
                shutil.rmtree(left)
            with tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent) as scratch:
                made = Path(scratch) / "image"
                made.mkdir()
                _make(packages, Path(scratch) / "tree", _image(made))
                made.rename(folder)  # the last step: what has its name is whole
            image = _image(folder)
    return image


def _folder(packages: tuple[str, ...]) -> Path:
    recipe = json.dumps([SUITE, sorted(packages), MODULES, SIZE, INIT, APPLETS])
    key = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "vmtools-py" / f"{SUITE}-{key}"


def _image(folder: Path) -> Image:
    return Image(folder / "vmlinuz", folder / "initrd", folder / "root.ext4")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(packages: tuple[str, ...], tree: Path, image: Image) -> None:
    settings = tree.with_name("apt.conf")
    settings.write_text(_run("apt-config", "dump", "Acquire"))
    _run(
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        f"--aptopt={settings}",
        f"--include={','.join(packages)}",
        SUITE,
        str(tree),
        *_sources(),
    )
    kernel = next((tree / "boot").glob("vmlinuz-*"))
    shutil.copyfile(kernel, image.kernel)
    image.initrd.write_bytes(_initramfs(tree, kernel.name.removeprefix("vmlinuz-")))
    _run("mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", str(tree), str(image.root), SIZE)


def _sources() -> list[str]:
    """This machine's own sources for Debian's :data:`SUITE`, as lines of sources.list; none on another distribution,
    where mmdebstrap knows Debian's.
    """
    releases = (SUITE, f"{SUITE}-updates", f"{SUITE}-security")
    lines = []
    form = "--format=$(CREATED_BY) $(REPO_URI) $(RELEASE) $(COMPONENT)"
    for target in _run("apt-get", "indextargets", form).splitlines():
        match target.split():
            case ["Packages", uri, release, "main"] if release in releases:
                lines.append(f"deb {uri} {release} main")
    return lines


def _initramfs(tree: Path, version: str) -> bytes:
    folder = tree / "lib/modules" / version
    files = {f"bin/{applet}": cpio.link("busybox") for applet in APPLETS}
    files["bin/busybox"] = cpio.program("")._replace(data=(tree / "bin/busybox").read_bytes())
    files |= dict.fromkeys(("dev", "proc", "root", "payload"), cpio.DIRECTORY)
    files["init"] = cpio.program(INIT)
    order = _module_order(folder)
    for module in order:
        files[f"modules/{Path(module).name}"] = cpio.File((folder / module).read_bytes())
    files["modules/order"] = cpio.File("\n".join(Path(module).name for module in order).encode())
    return cpio.archive(files)


def _module_order(folder: Path) -> list[str]:
    """Paths of :data:`MODULES` and all they need, each after what it needs; what is built in is left out."""
    needs = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        path, _, dependencies = line.partition(":")
        needs[path] = dependencies.split()  # depmod lists the whole closure, nearest first
    by_name = {Path(path).name.partition(".")[0]: path for path in needs}
    order: dict[str, None] = {}
    for module in MODULES:
        if module in by_name:
            path = by_name[module]
            order |= dict.fromkeys([*reversed(needs[path]), path])
    return list(order)


def _run(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except subprocess.CalledProcessError as error:
        error.add_note(error.stderr[-4000:])
        raise
