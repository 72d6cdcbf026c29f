"""Keeps a guest program that runs as root from setting this computer's clock or restarting it.

A simulated guest is a program here: what a tools service does to "its" machine, it does to this one, and the host tells
it what the time is.  So a program under the host has neither CAP_SYS_TIME nor CAP_SYS_BOOT, unless that is asked for;
it gets EPERM.  This does not stop it from asking a service manager to shut down.
"""

from __future__ import annotations

import ctypes
import errno
import os

PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
CAPABILITIES = {"CAP_SYS_BOOT": 22, "CAP_SYS_TIME": 25}
"""Numbers of ``linux/capability.h``."""


def drop() -> None:
    """Take the capabilities from all that this *thread* will execute.

    The bounding set is a thread's own; the thread keeps what it has, its children lose it when they execute a program.
    One who may not change the set (EPERM) has no such capability to give.

    :raises OSError: the kernel refused for another reason.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for number in CAPABILITIES.values():
        if libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            code = ctypes.get_errno()
            if code not in (errno.EPERM, errno.EINVAL):  # EINVAL: a kernel that does not know the capability
                raise OSError(code, os.strerror(code))
