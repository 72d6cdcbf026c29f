"""A booted Linux: a whole virtual machine under QEMU's TCG, and a way to run commands in it.

>>> with BootedLinux(image.build(), {**files}, machine="pc,vmport=on") as guest:
...     guest.run("id -un", user="nobody").stdout
'nobody\n'

The payload's files are copied over the root of the (never changed) image at boot.  :mod:`.agent` runs as the guest's
first process, so that it is up in seconds; with ``init="/sbin/init"`` and a unit among the payload's files it
runs under systemd as well.  Jobs and results are lines of JSON on the second serial port; the first is the console.
"""

from __future__ import annotations

import json
import select
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from . import cpio
from .image import Image

TOOLS = {"qemu-system-x86_64": "qemu-system-x86", "setpriv": "util-linux"}
"""Commands that running needs, and the packages they are in."""

AGENT_PATH = "opt/agent/agent.py"
AGENT_INIT = "/opt/agent/init"
BOOT_LIMIT = 180.0
"""Seconds until the guest must be up (4 s where nothing else runs)."""

TAIL = 3000
"""Characters of the console, and of QEMU's own words, that an error shows."""


class GuestDied(Exception):
    """The virtual machine ended or fell silent; the text has the end of its console."""


class Result(NamedTuple):
    """How a job ended: ``code`` is the exit code, negative for a signal as in :mod:`subprocess`."""

    code: int
    stdout: str
    stderr: str
    seconds: float


class BootedLinux:
    """A virtual machine from its start to its end; a context manager.

    ``machine`` and ``cpu`` are QEMU's ``-M`` and ``-cpu``, ``append`` more words for the kernel's command line,
    ``options`` more of QEMU's own.  Starting does not wait: the first job does, so machines can boot side by side.
    """

    def __init__(
        self,
        image: Image,
        payload: Mapping[str, cpio.File],
        *,
        machine: str = "pc,vmport=on",
        cpu: str = "max",
        processors: int = 1,
        append: str = "",
        init: str = AGENT_INIT,
        options: Sequence[str] = (),
    ) -> None:
        self._image = image
        self._payload = payload
        self._command_line = f"console=ttyS0 panic=-1 root=/dev/vda rw loglevel=4 mitigations=off init={init} {append}"
        self._options = [
            *("-M", f"{machine},accel=tcg", "-cpu", cpu, "-smp", str(processors), "-m", "512"),
            *("-nodefaults", "-display", "none", "-no-reboot", "-monitor", "none"),
            *options,
        ]
        self.facts: dict[str, str] = {}
        """What the guest said when it was up: ``kernel`` and ``python``, the versions."""

    def __enter__(self) -> Self:
        self._scratch = tempfile.TemporaryDirectory(prefix="vmtools-vm-")
        folder = Path(self._scratch.name)
        initrd = folder / "initrd"
        initrd.write_bytes(self._image.initrd.read_bytes() + self._payload_archive())
        self._console = folder / "console"
        self._words = folder / "qemu"
        ours, theirs = socket.socketpair()
        with theirs, self._words.open("wb") as words:
            self._qemu = subprocess.Popen(
                [
                    # Nothing stays behind, however the tests end: QEMU dies with the thread that started it.
                    *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", *self._options),
                    *("-kernel", str(self._image.kernel), "-initrd", str(initrd), "-append", self._command_line),
                    *("-drive", f"file={self._image.root},if=virtio,format=raw,snapshot=on"),
                    *("-serial", f"file:{self._console}"),
                    *("-chardev", f"socket,id=agent,fd={theirs.fileno()}", "-serial", "chardev:agent"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                pass_fds=[theirs.fileno()],
            )
        self._agent = ours
        self._unread = b""
        self._boot_deadline = time.monotonic() + BOOT_LIMIT
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._agent.close()
        self._qemu.kill()
        self._qemu.wait()
        self._scratch.cleanup()

    def run(
        self,
        command: str | Sequence[str],
        *,
        user: str = "root",
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        timeout: float = 120.0,
    ) -> Result:
        """Runs ``command`` (a text is the shell's, a list is executed) as ``user`` with nothing in its environment but
        ``env`` and a usual ``PATH``.

        Raises GuestDied, also where the job takes more than ``timeout`` seconds.
        """
        self._wait_until_up()
        argv = ["sh", "-c", command] if isinstance(command, str) else list(command)
        job = {"argv": argv, "user": user, "env": dict(env or {}), "input": stdin, "timeout": timeout}
        self._agent.sendall(json.dumps(job).encode("ascii") + b"\n")
        answer = self._receive(time.monotonic() + timeout + 30, f"running {shlex.join(argv)[:200]}")
        if answer["code"] is None:
            raise self._died(f"{shlex.join(argv)[:200]} took over {timeout} s: {answer['stdout']}{answer['stderr']}")
        return Result(**answer)

    def python(self, source: str, **how: Any) -> Result:
        """Runs a Python program in the guest; ``how`` is as in :meth:`run`."""
        return self.run(["python3", "-c", source], **how)

    def _payload_archive(self) -> bytes:
        agent = Path(__file__).with_name("agent.py").read_bytes()
        files = {
            AGENT_PATH: cpio.File(agent),
            AGENT_INIT.lstrip("/"): cpio.program(f"#!/bin/sh\nexec python3 /{AGENT_PATH}\n"),
            **self._payload,
        }
        return cpio.archive({f"payload/{path}": file for path, file in files.items()})

    def _wait_until_up(self) -> None:
        if not self.facts:
            self.facts = self._receive(self._boot_deadline, "booting")

    def _receive(self, deadline: float, doing: str) -> dict[str, Any]:
        """The next line of the agent."""
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._agent], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise self._died(f"no answer in time while {doing}")
            arrived = self._agent.recv(65536)
            if not arrived:
                raise self._died(f"it ended while {doing}")
            self._unread += arrived
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _died(self, what: str) -> GuestDied:
        """An error with all there is to see: QEMU's own words and the end of the console."""
        said, console = (
            file.read_text("utf-8", "replace")[-TAIL:] if file.exists() else "" for file in (self._words, self._console)
        )
        return GuestDied(f"{what}\n--- QEMU said:\n{said}\n--- end of the console:\n{console}")
