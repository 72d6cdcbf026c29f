"""Writes the "newc" archives that a Linux kernel unpacks as its initramfs.

Source of the layout: the kernel's ``Documentation/driver-api/early-userspace/buffer-format.rst``.  Several archives
may follow one another in one initramfs; later files replace earlier ones.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from typing import NamedTuple


class File(NamedTuple):
    """One file: its content (of a symbolic link: the target) and its mode, type bits included."""

    data: bytes
    mode: int = stat.S_IFREG | 0o644


def program(text: str) -> File:
    """A script that may be executed."""
    return File(text.encode(), stat.S_IFREG | 0o755)


def link(target: str) -> File:
    """A symbolic link."""
    return File(target.encode(), stat.S_IFLNK | 0o777)


DIRECTORY = File(b"", stat.S_IFDIR | 0o755)


def archive(files: Mapping[str, File]) -> bytes:
    """``files`` by path (relative, no leading slash) as one archive owned by root; parent directories are added."""
    entries: dict[str, File] = {}
    for path, file in files.items():
        parents = path.split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            entries.setdefault("/".join(parents[:depth]), DIRECTORY)
        entries[path] = file
    pieces = [_entry(number, path, file) for number, (path, file) in enumerate(entries.items(), 1)]
    pieces.append(_entry(0, "TRAILER!!!", File(b"", 0)))
    return b"".join(pieces)


def _entry(inode: int, path: str, file: File) -> bytes:
    name = path.encode() + b"\0"
    # inode, mode, uid, gid, links, mtime, size, four device numbers, length of the name, checksum (unused)
    fields = (inode, file.mode, 0, 0, 1, 0, len(file.data), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
    return _padded(head) + _padded(file.data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
