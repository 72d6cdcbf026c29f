"""A command of open-vm-tools and ours, each alone with a machine that is the other's twin, and what the host saw."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmtools.constants import HB_MESSAGE, MAGIC, MASK32, Command, Message
from vmtools.detect import look
from vmtools.sim.backdoor import PORT_IN, PORT_LOW, PORT_OUT, Backdoor
from vmtools.sim.faults import FaultPlan
from vmtools.sim.machine import Machine
from vmtools.sim.run import run
from vmtools.sim.transcript import INSTRUCTIONS, Record, Transcript, operations, read

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vmtools.sim.transcript import Operation

UUID = uuid.UUID("564d9f6e-4b32-1c0a-b50f-7d3e2a91c847")

Word = str | bytes

COMMANDS = ("vmware-rpctool", "vmware-checkvm")
DEBIAN = "/usr/bin:/usr/sbin"
SIGNATURES = (b"KVMKVMKVM\0\0\0", b"XenVMMXenVMM")
"""CPUID signatures that open-vm-tools refuses before it looks at the backdoor."""


@dataclass(frozen=True)
class Side:
    """One of the two: the folder where its commands stand under the original names, what its environment needs."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(
        self,
        words: Sequence[Word],
        machine: Machine,
        *,
        faults: Iterable[str] = (),
        most: int = 1_000_000,
        stdout: str = "",
    ) -> Outcome:
        """Run ``./COMMAND ARG…`` under the simulated host, so that ``argv[0]`` is the same text on both sides.

        :param most: after so many exits the command is killed.
        :param stdout: a file for its output; by default the outcome has it.
        """
        lines = io.StringIO()
        backdoor = Backdoor(machine, transcript=Transcript(lines), faults=FaultPlan(faults))
        argv = [f"./{os.fsdecode(words[0])}", *words[1:]]
        environment = {**os.environ, "LC_ALL": "C.UTF-8", **self.environment}
        with (
            tempfile.TemporaryFile() as stdin,
            open(stdout, "r+b") if stdout else tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
        ):
            exits = Limited(backdoor, most)
            try:
                status = run(argv, exits, env=environment, cwd=self.folder, stdin=stdin, stdout=out, stderr=err)
            except Endless:
                status = None
            err.seek(0)
            lines.seek(0)
            printed = b""
            if not stdout:
                out.seek(0)
                printed = out.read()
            return Outcome(status, printed, err.read(), list(read(lines)), machine)


class Endless(Exception):
    """A command that does not come to an end."""


@dataclass
class Limited:
    """A backdoor that serves so many exits and no more."""

    backdoor: Backdoor
    most: int

    def exit(self, *arguments: Any) -> bool:
        """As :meth:`vmtools.sim.backdoor.Backdoor.exit`.

        :raises Endless: enough is enough.
        """
        if self.most == 0:
            raise Endless
        self.most -= 1
        return self.backdoor.exit(*arguments)


@dataclass(frozen=True)
class Outcome:
    """How a command ended (``status`` None: it did not), what it printed, what its host saw and kept."""

    status: int | None
    stdout: bytes
    stderr: bytes
    records: list[Record]
    machine: Machine

    @property
    def printed(self) -> tuple[int | None, bytes, bytes]:
        return self.status, self.stdout, self.stderr

    @property
    def conversation(self) -> list[Operation]:
        """The message channel's calls: type, protocol, length, payload, the host's reply."""
        return operations(self.records)

    @property
    def kept(self) -> dict[str, object]:
        """What the machine knows afterwards."""
        machine = self.machine
        return {
            "guestinfo": machine.guestinfo,
            "log": list(machine.log),
            "info": machine.info,
            "rejections": list(machine.rejections),
        }

    @property
    def knocks(self) -> int:
        """Calls that are none of the message channel: GETVERSION."""
        return sum(not talks(record) for record in self.records)

    @property
    def words(self) -> list[dict[str, int | str]]:
        """The register words of the message channel's calls that the specification defines."""
        cookie: tuple[int, int] | None = None
        found = []
        for record in filter(talks, self.records):
            found.append(defined_words(record, cookie))
            if found[-1]["insn"] == "IN" and found[-1]["cx"] == Message.OPEN << 16 | Command.MESSAGE:
                cookie = record.after[4] & MASK32, record.after[5] & MASK32
        return found


def talks(record: Record) -> bool:
    """A call of the message channel, in either bandwidth."""
    return record.instruction != PORT_LOW or record.before[2] & 0xFFFF == Command.MESSAGE


ARGUMENTS = (Message.OPEN, Message.SENDSIZE, Message.SENDPAYLOAD, Message.RECVPAYLOAD, Message.RECVSTATUS)
"""Calls whose EBX means something."""


def defined_words(record: Record, cookie: tuple[int, int] | None) -> dict[str, int | str]:
    """What the guest has to put into the registers (specification 2.4 to 2.6).

    The cookie, which is random, by its halves' names; buffers' addresses not at all.  EBX of RECVSIZE and CLOSE is
    anybody's.
    """
    ax, bx, cx, dx, si, di, bp = (word & MASK32 for word in record.before)
    high, low = cookie or (None, None)
    names = {high: "cookie, high", low: "cookie, low"}
    words: dict[str, int | str] = {"insn": INSTRUCTIONS[record.instruction], "ax": ax, "cx": cx, "dx": dx}
    assert ax == MAGIC
    if record.instruction == PORT_OUT:
        assert bx == HB_MESSAGE
        return {**words, "bx": bx, "bp": names.get(bp, bp), "di": names.get(di, di)}
    if record.instruction == PORT_IN:
        assert bx == HB_MESSAGE
        return {**words, "bx": bx, "si": names.get(si, si), "bp": names.get(bp, bp)}
    if cx >> 16 in ARGUMENTS:
        words["bx"] = bx
    if cx >> 16 != Message.OPEN:
        words |= {"si": names.get(si, si), "di": names.get(di, di)}
    return words


def machine(**options: Any) -> Machine:
    """A machine like each other one."""
    options.setdefault("guestinfo", {b"hello": b"world"})
    return Machine(machine_uuid=UUID, **options)


class MissingError(Exception):
    """Something that a side needs is not on this machine; ``str()`` names it."""


def commands(folder: Path) -> tuple[Side, Side]:
    """open-vm-tools' commands and ours, as links under the original names in two new folders.

    :raises MissingError: one of them is not installed, or the original can't run here.
    """
    theirs = links(folder / "theirs", {name: shutil.which(name, path=DEBIAN) for name in COMMANDS}, "open-vm-tools")
    ours = links(folder / "ours", {name: shutil.which(f"{name}-py") for name in COMMANDS}, "vmtools-py")
    for name in COMMANDS:
        if (theirs / name).read_bytes()[:4] != b"\x7fELF":
            raise MissingError(f"{os.path.realpath(theirs / name)} is not open-vm-tools' program")
    side = Side(theirs, {"LD_PRELOAD": compile_shim(folder)} if look().signature in SIGNATURES else {})
    knock = side.run(["vmware-checkvm"], machine())
    if knock.status != 0:
        raise MissingError(f"open-vm-tools does not take this machine's hypervisor for VMware's: {knock.stderr!r}")
    return side, Side(ours)


def links(folder: Path, files: Mapping[str, str | None], package: str) -> Path:
    folder.mkdir()
    for name, file in files.items():
        if file is None:
            raise MissingError(f"{package} is not installed: no {name}")
        (folder / name).symlink_to(file)
    return folder


def compile_shim(folder: Path) -> str:
    compiler = shutil.which("gcc")
    if compiler is None:
        raise MissingError("on KVM and Xen open-vm-tools needs a preloaded library, and that a C compiler (gcc)")
    library = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    options = ["-O1", "-fno-builtin", "-Wall", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *options, "-o", library, source], check=True)
    return str(library)
