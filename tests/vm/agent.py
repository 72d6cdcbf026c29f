"""Runs in the guest, on Debian's python3, as the first process or as a service: does what the second serial port says.

A line of JSON in is a job, a line of JSON out its result (see :meth:`.machine.BootedLinux.run`); the first line out
says that the guest is up, and the end of the port (or of a job's line) is the end of the machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tty
from typing import Any

PORT = "/dev/ttyS1"
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}


def main() -> None:
    with open(os.open(PORT, os.O_RDWR | os.O_NOCTTY), "r+b", buffering=0) as port:
        tty.setraw(port.fileno())
        port.write(_line({"kernel": os.uname().release, "python": sys.version.split()[0]}))
        for line in iter(port.readline, b""):
            job = json.loads(line)
            if not job:
                break
            port.write(_line(perform(job)))
    if os.getpid() == 1:
        os.sync()
        with open("/proc/sysrq-trigger", "w") as trigger:
            trigger.write("o")  # power off; the first process must not end before
        time.sleep(60)


def perform(job: dict[str, Any]) -> dict[str, Any]:
    """Runs one job; a time-out is no exit code, with what was printed until then."""
    user = job["user"]
    identity: dict[str, Any] = {} if user == "root" else {"user": user, "group": "nogroup", "extra_groups": []}
    started = time.monotonic()
    try:
        done = subprocess.run(
            job["argv"],
            input=job["input"].encode(),
            capture_output=True,
            timeout=job["timeout"],
            env=ENVIRONMENT | job["env"],
            cwd="/",
            check=False,
            **identity,
        )
    except subprocess.TimeoutExpired as late:
        code, out, err = None, late.stdout or b"", late.stderr or b""
    except OSError as error:  # the program isn't there
        code, out, err = 127, b"", str(error).encode()
    else:
        code, out, err = done.returncode, done.stdout, done.stderr
    return {
        "code": code,
        "stdout": out.decode("utf-8", "backslashreplace"),
        "stderr": err.decode("utf-8", "backslashreplace"),
        "seconds": time.monotonic() - started,
    }


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode("ascii") + b"\n"


if __name__ == "__main__":
    main()
