"""``vmtools sim``: run programs under the simulated host, serve a machine, ask and steer it, read transcripts."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vmtools.errors import VMToolsError
from vmtools.sim import machineargs, steer
from vmtools.sim.machineargs import UsageError
from vmtools.sim.view import lines, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from vmtools.sim.backdoor import Backdoor
    from vmtools.sim.script import Play


SCRIPT_HELP = (
    "what the host does when, and what it expects: steps in TOML; exit status 1 where an expectation is not met"
)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed when we were started
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for good
    arguments = _parser().parse_args(machineargs.shielded(sys.argv[1:] if argv is None else argv))
    try:
        return int(arguments.action(arguments))
    except VMToolsError as error:
        print(f"vmtools sim: {error}{'. ' + error.help if error.help else ''}", file=sys.stderr)
    except UsageError as error:
        print(f"vmtools sim: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # whoever read our output has enough; Python must not complain again when it flushes at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _parser() -> argparse.ArgumentParser:
    from vmtools.sim.faults import KINDS
    from vmtools.sim.machine import PERSONALITIES

    parser = argparse.ArgumentParser(prog="vmtools sim", description="A simulated VMware host.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    machine = argparse.ArgumentParser(add_help=False)
    machine.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a guestinfo variable; 'guestinfo.' may go"
    )
    machineargs.add(machine)
    machine.add_argument("--personality", choices=PERSONALITIES, default="vmware", help="vmware-lb: low bandwidth only")
    machine.add_argument("--no-hypercalls", action="store_true", help="a host that knows the port only")
    machine.add_argument("--transcript", metavar="FILE", help="record every exit there, as JSON lines")
    machine.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="KIND@N[:VALUE]",
        help="a fault at the Nth exit, N+ for each from the Nth on; kinds: "
        + "; ".join(f"{kind}: {text}" for kind, text in KINDS.items()),
    )

    run = commands.add_parser(
        "run",
        parents=[machine],
        usage="vmtools sim run [options] -- PROGRAM [ARG ...]",
        help="run a program as if in a VMware guest; its exit status is the command's",
    )
    run.add_argument("--no-cpuid", action="store_true", help="leave CPUID as it is here")
    run.add_argument("--no-dmi", action="store_true", help="leave DMI, and the mounts, as they are here")
    run.add_argument("--host", metavar="SOCKET", help="join the machine that 'serve' keeps there")
    run.add_argument("program", nargs=argparse.REMAINDER, metavar="-- PROGRAM [ARG ...]")
    run.add_argument("--script", metavar="FILE", help=SCRIPT_HELP)
    run.add_argument(
        "--unprotected",
        action="store_true",
        help="let a program that may do so set this computer's clock and restart it",
    )
    run.set_defaults(action=_run)

    serve = commands.add_parser("serve", parents=[machine], help="keep a machine alive behind a UNIX socket")
    serve.add_argument("--script", metavar="FILE", help=SCRIPT_HELP)
    serve.set_defaults(action=_serve)
    status = commands.add_parser("status", help="what a served machine knows of its guest")
    status.add_argument("--json", action="store_true", help="as JSON")
    status.set_defaults(action=_status)
    guestinfo = commands.add_parser("guestinfo", help="list, read or set guestinfo variables from the host's side")
    guestinfo.set_defaults(action=_guestinfo)
    log = commands.add_parser("log", help="print a served machine's log")
    log.set_defaults(action=_log)
    send = commands.add_parser("send", help="send a message to the guest's service and print its answer")
    send.set_defaults(action=_send)
    for command in (serve, status, guestinfo, log, send):
        command.add_argument("socket", metavar="SOCKET")
    guestinfo.add_argument("key", nargs="?", metavar="KEY")
    guestinfo.add_argument("value", nargs="?", metavar="VALUE")
    send.add_argument("text", metavar="TEXT")
    send.add_argument(
        "--escaped", action="store_true", help="\\xNN, \\0, \\n, \\r, \\t and \\\\ in TEXT stand for bytes"
    )
    send.add_argument("--app", help="the service that is meant: toolbox, toolbox-dnd (default: the first that listens)")
    send.add_argument(
        "--timeout", type=machineargs.seconds, default=10.0, metavar="SECONDS", help="how long to wait (default: 10)"
    )

    steer.add(commands)

    show = commands.add_parser("show", help="print a transcript readably, a line an exit")
    show.add_argument("file", metavar="FILE", help="'-' is standard input")
    show.set_defaults(action=_show)
    return parser


def _backdoor(arguments: argparse.Namespace, files: ExitStack) -> Backdoor:
    """The machine that the options describe; its transcript is closed with ``files``."""
    from vmtools.sim.backdoor import Backdoor
    from vmtools.sim.faults import FaultPlan
    from vmtools.sim.machine import PERSONALITIES, GuestInfoError, Machine
    from vmtools.sim.transcript import Transcript

    values: dict[bytes, bytes] = {}
    for item in arguments.set:
        key, equals, value = os.fsencode(item).partition(b"=")
        if not key or not equals:
            raise UsageError(f"--set {item}: KEY=VALUE is expected")
        values[key] = value
    try:
        plan = FaultPlan(arguments.fault) if arguments.fault else None
        machine = Machine(
            guestinfo=values,
            high_bandwidth=PERSONALITIES[arguments.personality],
            hypercalls=not arguments.no_hypercalls,
            **machineargs.settings(arguments),
        )
    except ValueError as error:
        raise UsageError(f"--fault: {error}") from None
    except GuestInfoError as error:
        raise UsageError(f"--set: {error}") from None
    transcript = None
    if arguments.transcript is not None:
        path = Path(arguments.transcript)
        try:
            transcript = Transcript(files.enter_context(path.open("w", encoding="utf-8")))
        except OSError as error:
            raise UsageError(f"--transcript {arguments.transcript}: {error.strerror}") from None
    return Backdoor(machine, transcript=transcript, faults=plan)


def _run(arguments: argparse.Namespace) -> int:
    program = arguments.program[1:] if arguments.program[:1] == ["--"] else arguments.program
    if not program:
        raise UsageError("run: which program? Name it after '--'")
    with ExitStack() as open_things:
        exits: Any
        if arguments.host is not None:
            from vmtools.sim.client import Control, RemoteBackdoor

            described = arguments.set or arguments.fault or arguments.transcript or arguments.no_hypercalls
            if described or arguments.script or machineargs.given(arguments):
                raise UsageError("with --host the machine is the server's: give 'serve' the options that describe it")
            exits = open_things.enter_context(RemoteBackdoor(arguments.host))
            with Control(arguments.host) as control:
                status = control.ask("status")["status"]
        else:
            exits = _backdoor(arguments, open_things)
            status = exits.machine.status()
        from vmtools.sim.disguise import NO_CAPSTONE, Disguise
        from vmtools.sim.run import run_command

        disguise = Disguise(status, cpuid=not arguments.no_cpuid, dmi=not arguments.no_dmi)
        if NO_CAPSTONE in disguise.limits and sys.stderr.isatty():  # a person; not into what a program says
            print(f"vmtools sim run: {NO_CAPSTONE}; --no-cpuid silences this", file=sys.stderr)
        play = None
        if arguments.script is not None:
            # the signal goes to the program: whoever runs it forwards it
            play = _play(arguments.script, exits, lambda: os.kill(os.getpid(), signal.SIGTERM))
        ended = None if play is None else partial(_scripted, play)
        return run_command(program, exits, ended=ended, disguise=disguise, unprotected=arguments.unprotected)


def _play(path: str, backdoor: Backdoor, stop: Callable[[], None]) -> Play:
    from vmtools.sim.script import Play, ScriptError, load

    try:
        script = load(Path(path))
    except ScriptError as error:
        raise UsageError(f"--script {error}") from None
    return Play(script, backdoor, stop=stop, say=lambda text: print(f"vmtools sim: {plain(text)}", file=sys.stderr))


def _scripted(play: Play, status: int) -> int:
    """The exit status under a script: the program's unless the script ended it, 1 for an expectation not met."""
    met = play.finish()
    if play.stopped and status == -signal.SIGTERM:
        status = 0
    return status or (0 if met else 1)


def _serve(arguments: argparse.Namespace) -> int:
    from vmtools.sim.server import Server, ServerError

    with ExitStack() as open_things:
        backdoor = _backdoor(arguments, open_things)
        try:
            server = open_things.enter_context(Server(arguments.socket, backdoor))
        except ServerError as error:
            raise UsageError(str(error)) from None
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: server.stop())
        play = None
        if arguments.script is not None:
            play = _play(arguments.script, backdoor, server.stop)
        print(f"ready: {arguments.socket}", flush=True)
        server.serve_forever()
    return 0 if play is None else _scripted(play, 0)


def _status(arguments: argparse.Namespace) -> int:
    from vmtools.sim.client import Control

    with Control(arguments.socket) as control:
        status = control.ask("status")["status"]
    from vmtools.sim.disguise import survey

    status["programs_here"] = survey()
    if arguments.json:
        print(json.dumps(status, indent=2))
    else:
        for line in lines(status):
            print(line)
    return 0


def _guestinfo(arguments: argparse.Namespace) -> int:
    from vmtools.sim.client import Control

    with Control(arguments.socket) as control:
        report = control.ask("guestinfo", key=arguments.key, value=arguments.value)
    if arguments.key is None:
        for key, value in report["values"].items():
            size = report["sizes"][key]
            cut = f"… ({size} bytes)" if size > len(os.fsencode(value)) else ""
            print(f"{plain(key)}={plain(value) if value else ''}{cut}")
    elif arguments.value is None:
        sys.stdout.flush()
        os.write(sys.stdout.fileno(), os.fsencode(report["value"]) + b"\n")
    return 0


def _log(arguments: argparse.Namespace) -> int:
    from vmtools.sim.client import Control

    with Control(arguments.socket) as control:
        for line in control.ask("log")["lines"]:
            print(plain(line))
    return 0


def _send(arguments: argparse.Namespace) -> int:
    from vmtools.sim.client import Control
    from vmtools.sim.script import unescape

    text = arguments.text
    if arguments.escaped:
        try:
            text = os.fsdecode(unescape(text))
        except ValueError as error:
            raise UsageError(f"send: {error}") from None
    with Control(arguments.socket) as control:
        answer = control.send(text, app=arguments.app, timeout=arguments.timeout)
    print(plain(answer))
    return 0 if answer.startswith("OK") else 1


def _show(arguments: argparse.Namespace) -> int:
    from vmtools.sim.transcript import TranscriptError, read, show

    with ExitStack() as open_things:
        try:
            file = sys.stdin
            if arguments.file != "-":
                file = open_things.enter_context(Path(arguments.file).open(encoding="utf-8"))
            for line in show(read(file)):
                print(line)
            sys.stdout.flush()
        except TranscriptError as error:
            raise UsageError(f"{arguments.file}: {error}") from None
        except UnicodeDecodeError:
            raise UsageError(f"{arguments.file}: not UTF-8, so no transcript") from None
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            raise UsageError(f"{arguments.file}: {error.strerror}") from None
    return 0
