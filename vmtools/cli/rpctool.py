"""``vmware-rpctool-py``: one RPC to the host; called as ``vmware-rpctool``, the original to the letter.

cloud-init and its like start this some ten times a boot, so the path of a plain call imports nothing that it does not
use, not even argparse.  Exit codes, output and errors: specification of the protocol, "vmware-rpctool"; where the
original was seen to do something, it is done here.
"""

from __future__ import annotations

import os
import sys

from .. import errors
from ..rpci import TIMEOUT, Rpci
from .common import NO_HOST, OK, REFUSED, complain, guarded, not_a_vm, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ORIGINAL = "vmware-rpctool"

_INPUT_LIMIT = 1 << 20
"""Bytes read from standard input: sixteen times what hosts take, so that the refusal is the host's."""

_ORIGINAL_USAGE = b"""\
rpctool syntax:

  -h | --help\tprint usage.
  rpctool <text>\tsend <text> as an RPC command.
"""

HELP = """\
usage: {name} [options] COMMAND...
       {name} [options] -

Send one RPC to the VMware host and print its answer.

  COMMAND...       the command; several words are joined by blanks
  -                read the command from standard input (one newline at its end is dropped)
  --raw            print the answer as it is, with no newline after it
  --json           print one JSON object: {{"ok": true, "reply": …}} or {{"ok": false, "error": …, "message": …}};
                   a reply that is not UTF-8 is given as "reply_base64"
  --gate GATE      the way to the host: auto, port, vmcall, vmmcall, sim:SOCKET (default: $VMTOOLS_GATE, else auto)
  --timeout SEC    give up after so many seconds (default: {timeout:g})
  -h, --help       print this text
  --version        print the version
  --               what follows is the command

Examples:
  {name} 'info-get guestinfo.hello'
  {name} info-set guestinfo.hello world
  printf 'info-set guestinfo.key two\\nlines' | {name} -

Exit status: 0 the host answered; 1 the host refused (its words are on standard error), or the channel failed, or the
usage was wrong; 255 there is no VMware host here.
"""


class _Usage(Exception):
    """The command line is wrong."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; ``argv`` begins with the name that it was called by."""
    argv = sys.argv if argv is None else argv
    action = original if os.path.basename(argv[0]) == ORIGINAL else ours
    return guarded(lambda: action(argv))


def original(argv: Sequence[str]) -> int:
    """What ``vmware-rpctool`` does: it sees its first argument only, and makes sure of the host before that."""
    try:
        if len(argv) < 2 or argv[1].startswith(("-h", "--help")):
            from ..backdoor import Backdoor
            from ..gates import choose

            Backdoor(choose()).version()
            write(_ORIGINAL_USAGE, to_stderr=True)
            return REFUSED if len(argv) < 2 else OK
        with Rpci() as rpci:
            reply = rpci.call(os.fsencode(argv[1]))
    except errors.GateError:
        return not_a_vm(argv[0])
    except errors.HostRefused as refusal:
        write(_text(refusal.text) + b"\n", to_stderr=True)
        return REFUSED
    except (errors.ChannelError, errors.ProtocolViolation) as error:
        write(_in_the_originals_words(error) + b"\n", to_stderr=True)
        return REFUSED
    write(_text(reply) + b"\n")
    return OK


def _text(reply: bytes) -> bytes:
    """The original prints a C string: what comes before the first NUL."""
    return reply.partition(b"\0")[0]


def _in_the_originals_words(error: errors.VMToolsError) -> bytes:
    """The original's text for a channel that failed; where it would print ``NULL``, what happened."""
    if isinstance(error, errors.NoMessageChannel):
        return b"RpcOut: Unable to open the communication channel"
    if isinstance(error, errors.RequestTooLarge) or (isinstance(error, errors.ChannelLost) and not error.arrived):
        return b"RpcOut: Unable to send the RPCI command"
    if isinstance(error, errors.MalformedReply):
        return b"RpcOut: Invalid format for the result of the RPCI command"
    return b"RpcOut: Unable to receive the result of the RPCI command"


class _Options:
    __slots__ = ("gate", "json", "raw", "timeout", "words")

    def __init__(self) -> None:
        self.gate: str | None = None
        self.json = False
        self.raw = False
        self.timeout = TIMEOUT
        self.words: list[str] = []


def _parse(arguments: Sequence[str]) -> _Options:
    """By hand, since argparse costs as much as the whole call.

    :raises _Usage: the command line is wrong.
    """
    options = _Options()
    rest = iter(arguments)
    for argument in rest:
        if options.words or not argument.startswith("-") or argument == "-":
            options.words += [argument, *rest]
        elif argument == "--":
            options.words += rest
        elif argument in ("--raw", "--json"):
            setattr(options, argument[2:], True)
        else:
            name, equals, value = argument.partition("=")
            if name not in ("--gate", "--timeout"):
                raise _Usage(f"unknown option {argument}; a command that begins with '-' goes after '--'")
            if not equals and not (value := next(rest, "")):
                raise _Usage(f"{name} needs a value")
            if name == "--gate":
                options.gate = value
            else:
                options.timeout = _seconds(value)
    if not options.words:
        raise _Usage("no command given")
    return options


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86400:
        raise _Usage(f"--timeout {text}: a number of seconds, over 0 and up to a day, is needed")
    return seconds


def ours(argv: Sequence[str]) -> int:
    """The command with what users of the original lack."""
    name = os.path.basename(argv[0])
    if len(argv) == 2 and argv[1] in ("-h", "--help"):
        write(HELP.format(name=name, timeout=TIMEOUT).encode())
        return OK
    if len(argv) == 2 and argv[1] == "--version":
        from .._version import __version__

        write(f"{name} {__version__}\n".encode())
        return OK
    try:
        options = _parse(argv[1:])
        request = _standard_input() if options.words == ["-"] else os.fsencode(" ".join(options.words))
    except _Usage as usage:
        complain(name, f"{usage}. Try '{name} --help'.")
        return REFUSED
    try:
        with Rpci(options.gate, timeout=options.timeout) as rpci:
            reply = rpci.call(request)
    except errors.VMToolsError as error:
        return _failed(name, argv[0], error, as_json=options.json)
    if options.json:
        _print_json({"ok": True, **_readable(reply)})
    else:
        # Some hosts end every text with a NUL; within a value it is the value's.
        write(reply if options.raw else reply.rstrip(b"\0") + b"\n")
    return OK


def _standard_input() -> bytes:
    """All of it but the last newline.

    :raises _Usage: it can't be read, or is more than any host takes.
    """
    try:
        with open(0, "rb", closefd=False) as file:
            request = file.read(_INPUT_LIMIT + 1)
    except OSError as error:
        raise _Usage(f"standard input: {error.strerror}") from None
    if len(request) > _INPUT_LIMIT:
        raise _Usage(f"standard input: over {_INPUT_LIMIT} bytes")
    return request[:-1] if request.endswith(b"\n") else request


def _failed(name: str, called: str, error: errors.VMToolsError, *, as_json: bool) -> int:
    no_host = isinstance(error, errors.GateError)
    if as_json:
        _print_json({"ok": False, "error": type(error).__name__, "message": str(error), "help": error.help})
        return NO_HOST if no_host else REFUSED
    if no_host:
        not_a_vm(called)
        complain(name, f"{error}. {error.help}")
        return NO_HOST
    if isinstance(error, errors.HostRefused):
        # The host's words alone: scripts compare them.
        write(error.text.rstrip(b"\0") + b"\n", to_stderr=True)
    else:
        complain(name, f"{error}. {error.help}")
    return REFUSED


def _readable(reply: bytes) -> dict[str, str]:
    try:
        return {"reply": reply.decode()}
    except UnicodeDecodeError:
        from base64 import b64encode

        return {"reply_base64": b64encode(reply).decode("ascii")}


def _print_json(value: dict[str, object]) -> None:
    import json

    # A byte of the command line that is no UTF-8 is a lone surrogate, and escaped in JSON's own way.
    write(json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
