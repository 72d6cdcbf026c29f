"""``vmtools``: the umbrella command."""

from __future__ import annotations

import os
import sys

from .common import OK, REFUSED, complain, guarded, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_HELP = """\
usage: vmtools COMMAND ...

  rpc COMMAND...      send one RPC to the VMware host (vmware-rpctool-py)
  doctor [--json]     what this machine is, how a host can be reached from here, and what to do if it can't
  sim ...             the simulated VMware host: run programs under it, serve it, ask it
  install-links DIR   make the names of open-vm-tools' commands in DIR, as links to ours

Each command has its own --help.  'vmtools --version' prints the version.
"""

LINKS = {"vmware-rpctool": "vmware-rpctool-py", "vmware-checkvm": "vmware-checkvm-py"}
"""The names of open-vm-tools' commands, and ours that behave like them under that name."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; ``argv`` begins with the name that it was called by."""
    argv = sys.argv if argv is None else argv
    return guarded(lambda: dispatch(argv[1:]))


def dispatch(arguments: Sequence[str]) -> int:
    command, *rest = arguments or [""]
    if command == "rpc":
        from .rpctool import ours

        return ours(["vmtools rpc", *rest])
    if command == "doctor":
        return doctor(rest)
    if command == "sim":
        from vmtools.sim.cli import main as sim

        return sim(rest)
    if command == "install-links":
        return install_links(rest)
    if command in ("-h", "--help", "help"):
        write(_HELP.encode())
        return OK
    if command == "--version":
        from .._version import __version__

        write(f"vmtools {__version__}\n".encode())
        return OK
    complain("vmtools", f"unknown command {command!r}. Try 'vmtools --help'." if command else "no command given")
    if not command:
        write(_HELP.encode(), to_stderr=True)
    return REFUSED


def doctor(arguments: Sequence[str]) -> int:
    import argparse

    parser = argparse.ArgumentParser(
        prog="vmtools doctor",
        description="Find out whether this machine has a VMware host to talk to, and how.",
        epilog="Exit status: 0 where RPCs to the host work, else 1.",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as a JSON object")
    parser.add_argument("--gate", help="auto, port, vmcall, vmmcall, sim:SOCKET (default: $VMTOOLS_GATE, else auto)")
    options = parser.parse_args(arguments)
    from ..doctor import describe, examine

    report = examine(options.gate)
    if options.json:
        import json

        text = json.dumps(report, indent=2)
    else:
        text = describe(report)
    write(text.encode("utf-8", "surrogateescape") + b"\n")
    return OK if report["ok"] else REFUSED


def install_links(arguments: Sequence[str]) -> int:
    import argparse

    parser = argparse.ArgumentParser(
        prog="vmtools install-links",
        description="Make the names of open-vm-tools' commands, as links to ours: " + ", ".join(LINKS) + ".",
    )
    parser.add_argument("directory", metavar="DIR", help="where; it must exist (for example /usr/local/bin)")
    parser.add_argument("--force", action="store_true", help="replace what has these names there")
    parser.add_argument("--remove", action="store_true", help="remove links of ours instead")
    options = parser.parse_args(arguments)
    home = os.path.dirname(os.path.abspath(sys.argv[0]))
    status = OK
    for link, command in LINKS.items():
        target, path = os.path.join(home, command), os.path.join(options.directory, link)
        try:
            ours = os.path.islink(path) and os.path.basename(os.readlink(path)) == command
            if options.remove:
                if ours:
                    os.unlink(path)
                    write(f"removed {path}\n".encode())
                continue
            if not os.path.exists(target):
                complain("vmtools install-links", f"{target} does not exist; is vmtools-py installed there?")
                return REFUSED
            if os.path.lexists(path):
                if not (ours or options.force):
                    complain("vmtools install-links", f"{path} exists and is not ours; --force replaces it")
                    status = REFUSED
                    continue
                os.unlink(path)
            os.symlink(target, path)
            write(f"{path} -> {target}\n".encode())
        except OSError as error:
            complain("vmtools install-links", f"{path}: {error.strerror}")
            status = REFUSED
    return status
