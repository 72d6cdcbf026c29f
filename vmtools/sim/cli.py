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
from vmtools.sim.hostargs import backdoor, describes_host, disguise, program
from vmtools.sim.machineargs import UsageError
from vmtools.sim.testbench import add_diff, add_sweep, run_replay
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
    from vmtools.sim.personalities import PERSONALITIES

    parser = argparse.ArgumentParser(prog="vmtools sim", description="A simulated VMware host.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    machine = argparse.ArgumentParser(add_help=False)
    machine.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a guestinfo variable; 'guestinfo.' may go"
    )
    machineargs.add(machine)
    machine.add_argument(
        "--personality",
        choices=PERSONALITIES,
        default="vmware",
        help="who the host is; " + "; ".join(f"{row.name}: {row.summary}" for row in PERSONALITIES.values()),
    )
    machine.add_argument("--no-hypercalls", action="store_true", help="a host that knows the port only")
    watched = argparse.ArgumentParser(add_help=False)
    watched.add_argument("--transcript", metavar="FILE", help="record every exit there, as JSON lines")
    watched.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="KIND@N[:VALUE]",
        help="a fault at the Nth exit, N+ for each from the Nth on, or random:SEED[:RATE] for some at random; kinds: "
        + "; ".join(f"{kind}: {text}" for kind, text in KINDS.items()),
    )

    traced = argparse.ArgumentParser(add_help=False)
    traced.add_argument("--no-cpuid", action="store_true", help="leave CPUID as it is here")
    traced.add_argument("--no-dmi", action="store_true", help="leave DMI, and the mounts, as they are here")
    traced.add_argument(
        "--unprotected",
        action="store_true",
        help="let a program that may do so set this computer's clock and restart it",
    )

    run = commands.add_parser(
        "run",
        parents=[machine, watched, traced],
        usage="vmtools sim run [options] -- PROGRAM [ARG ...]",
        help="run a program as if in a VMware guest; its exit status is the command's",
    )
    run.add_argument("--host", metavar="SOCKET", help="join the machine that 'serve' keeps there")
    run.add_argument("--replay", metavar="FILE", help="the host answers as this transcript has it")
    run.add_argument(
        "--ignore", action="append", default=[], choices=["knocks"], help="with --replay: GETVERSION may come or not"
    )
    run.add_argument(
        "--on-deviation",
        choices=["lost", "fault"],
        default="lost",
        help="with --replay, what the program gets that asks otherwise than recorded (default: lost, no more channels)",
    )
    run.add_argument("program", nargs=argparse.REMAINDER, metavar="-- PROGRAM [ARG ...]")
    run.add_argument("--script", metavar="FILE", help=SCRIPT_HELP)
    run.set_defaults(action=_run)
    add_sweep(commands, machine, traced)

    serve = commands.add_parser("serve", parents=[machine, watched], help="keep a machine alive behind a UNIX socket")
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
    add_diff(commands)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    words = program(arguments, "run")
    with ExitStack() as open_things:
        from vmtools.sim.run import run_command

        if arguments.replay is not None:
            return run_replay(arguments, words, open_things)
        exits: Any
        if arguments.host is not None:
            from vmtools.sim.client import Control, RemoteBackdoor

            if describes_host(arguments) or arguments.transcript or arguments.script:
                raise UsageError("with --host the machine is the server's: give 'serve' the options that describe it")
            exits = open_things.enter_context(RemoteBackdoor(arguments.host))
            with Control(arguments.host) as control:
                shown = disguise(arguments, control.ask("status")["status"])
        else:
            exits = backdoor(arguments, open_things)
            shown = disguise(arguments, exits)
        play = None
        if arguments.script is not None:
            # the signal goes to the program: whoever runs it forwards it
            play = _play(arguments.script, exits, lambda: os.kill(os.getpid(), signal.SIGTERM))
        ended = None if play is None else partial(_scripted, play)
        return run_command(words, exits, ended=ended, disguise=shown, unprotected=arguments.unprotected)


def _play(path: str, host: Backdoor, stop: Callable[[], None]) -> Play:
    from vmtools.sim.script import Play, ScriptError, load

    try:
        script = load(Path(path))
    except ScriptError as error:
        raise UsageError(f"--script {error}") from None
    return Play(script, host, stop=stop, say=lambda text: print(f"vmtools sim: {plain(text)}", file=sys.stderr))


def _scripted(play: Play, status: int) -> int:
    """The exit status under a script: the program's unless the script ended it, 1 for an expectation not met."""
    met = play.finish()
    if play.stopped and status == -signal.SIGTERM:
        status = 0
    return status or (0 if met else 1)


def _serve(arguments: argparse.Namespace) -> int:
    from vmtools.sim.server import Server, ServerError

    with ExitStack() as open_things:
        host = backdoor(arguments, open_things)
        try:
            server = open_things.enter_context(Server(arguments.socket, host))
        except ServerError as error:
            raise UsageError(str(error)) from None
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: server.stop())
        play = None
        if arguments.script is not None:
            play = _play(arguments.script, host, server.stop)
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
        if report["left_off"]:
            print(f"vmtools sim: {report['left_off']} more variables are not listed", file=sys.stderr)
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
