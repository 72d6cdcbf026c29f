"""``vmware-rpctool-py``, and the same called as ``vmware-rpctool``: in this process, and as people start it."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import vmtools
from vmtools import errors, gates
from vmtools.cli import rpctool
from vmtools.cli.common import guarded
from vmtools.rpci import TIMEOUT, Rpci
from vmtools.sim.faults import FaultPlan

from .commands import environment, run, shell
from .hosts import Answering, Host, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vmtools._gate import Frame

OURS, ORIGINAL = "/usr/bin/vmware-rpctool-py", "/usr/bin/vmware-rpctool"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    """The host that the commands in this process reach by any gate."""
    return reach(Host(lambda request: b"1 [" + request + b"]"), monkeypatch)


def reach(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(gates, "choose", lambda spec=None: host.gate)
    return host


class Outcome:
    """A command's exit status and what it printed."""

    def __init__(self, argv: list[str], capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        self.status = rpctool.main(argv)
        self.out, self.err = capfdbinary.readouterr()


@pytest.fixture
def command(capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Outcome]:
    return lambda *words, called=OURS: Outcome([called, *words], capfdbinary)


# -- ours: the request -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        (["info-get guestinfo.a"], b"info-get guestinfo.a"),
        (["info-get", "guestinfo.a"], b"info-get guestinfo.a"),
        (["log", "two  blanks", "", "end"], b"log two  blanks  end"),
        (["log", "--raw"], b"log --raw"),
        (["log", "-"], b"log -"),
        (["log", "--", "x"], b"log -- x"),
        (["--", "--raw"], b"--raw"),
        (["--raw", "--", "log", "--gate"], b"log --gate"),
        ([""], b""),
        (["", "a"], b" a"),
        (["log \udcff\udc80"], b"log \xff\x80"),
        (["log grün"], "log grün".encode()),
        (["x" * 65536], b"x" * 65536),
    ],
)
def test_the_words_are_the_request(
    words: list[str], request_: bytes, host: Host, command: Callable[..., Outcome]
) -> None:
    done = command(*words)
    assert (done.status, done.err) == (0, b"")
    assert host.requests == [request_]
    assert done.out.removesuffix(b"\n") == b"[" + request_ + b"]"
    assert host.open_channels == 0


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        (b"log text\n", b"log text"),
        (b"log text", b"log text"),
        (b"log two\nlines\n\n", b"log two\nlines\n"),
        (b"", b""),
        (b"\n", b""),
        (b"log \xff\0\r\n", b"log \xff\0\r"),
        (b"x" * 65536, b"x" * 65536),
    ],
)
def test_the_request_from_standard_input(
    text: bytes, request_: bytes, host: Host, command: Callable[..., Outcome], tmp_path: Path
) -> None:
    (tmp_path / "input").write_bytes(text)
    saved = os.dup(0)
    try:
        with (tmp_path / "input").open("rb") as file:
            os.dup2(file.fileno(), 0)
            done = command("-")
    finally:
        os.dup2(saved, 0)
        os.close(saved)
    assert (done.status, done.err) == (0, b"")
    assert host.requests == [request_]


# -- ours: the answer --------------------------------------------------------------------------------------------------

ANSWERS = [
    # the reply, printed, with --raw
    (b"1 ", b"\n", b""),
    (b"1 v", b"v\n", b"v"),
    (b"1 v\n", b"v\n\n", b"v\n"),
    (b"1 v\0", b"v\n", b"v\0"),
    (b"1 a\0b\0\0", b"a\0b\n", b"a\0b\0\0"),
    (b"1 \xff\xfe", b"\xff\xfe\n", b"\xff\xfe"),
    (b"1 " + b"x" * 300_000, b"x" * 300_000 + b"\n", b"x" * 300_000),
]


@pytest.mark.parametrize(("reply", "printed", "raw"), ANSWERS)
def test_answers(
    reply: bytes, printed: bytes, raw: bytes, command: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(Host(reply), monkeypatch)
    done = command("ask")
    assert (done.status, done.out, done.err) == (0, printed, b"")
    done = command("--raw", "ask")
    assert (done.status, done.out, done.err) == (0, raw, b"")
    done = command("--json", "ask")
    assert (done.status, done.err) == (0, b"")
    assert done.out.endswith(b"\n")
    answer = json.loads(done.out)
    assert answer.pop("ok") is True
    if "reply" in answer:
        assert answer == {"reply": reply[2:].decode()}
    else:
        assert base64.b64decode(answer.pop("reply_base64"), validate=True) == reply[2:]
        assert answer == {}
        with pytest.raises(UnicodeDecodeError):
            reply.decode()


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (b"0 No value found", "NoSuchValue", b"No value found"),
        (b"0 No value found\0", "NoSuchValue", b"No value found"),
        (b"0 Permission denied", "PermissionDenied", b"Permission denied"),
        (b"0 Unknown command", "HostRefused", b"Unknown command"),
        (b"0 ", "HostRefused", b""),
        (b"0 \xff", "HostRefused", b"\xff"),
    ],
)
def test_refusals(
    reply: bytes, error: str, words: bytes, command: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = reach(Host(reply), monkeypatch)
    for options in ([], ["--raw"]):
        done = command(*options, "ask")
        assert (done.status, done.out, done.err) == (1, b"", words + b"\n")
    done = command("--json", "ask")
    assert (done.status, done.err) == (1, b"")
    answer = json.loads(done.out)
    assert (answer["ok"], answer["error"]) == (False, error)
    assert answer["message"] == (words.decode("utf-8", "backslashreplace") or "the host refused without a word")
    assert answer["help"].endswith(".")
    assert host.open_channels == 0


FAILURES: list[tuple[list[str], type[errors.VMToolsError], str]] = [
    (["refused@1+"], errors.NoDevice, "does not answer"),
    (["refused@1", "refused@2"], errors.NoMessageChannel, "opened no message channel"),
    (["refused@2", "refused@5"], errors.ChannelLost, "refused SENDSIZE"),
    (["lost@4"], errors.ChannelLost, "refused RECVSIZE"),
    (["size@4:0x7fffffff"], errors.ReplyTooLarge, "2147483647 bytes; the limit is 1048576"),
    (["type@4"], errors.ProtocolViolation, "type 7 where a size was due"),
    (["garbage@4:2 x"], errors.MalformedReply, "begins neither with"),
]


@pytest.mark.parametrize(("faults", "kind", "words"), FAILURES)
def test_failures(
    faults: list[str],
    kind: type[errors.VMToolsError],
    words: str,
    command: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    no_host = issubclass(kind, errors.GateError)
    status = 255 if no_host else 1
    reach(Host(faults=faults), monkeypatch)
    done = command("log text")
    assert (done.status, done.out) == (status, b"")
    *first, last = done.err.decode().splitlines()
    assert last.startswith("vmware-rpctool-py: ")
    assert words in last
    assert last.endswith(f". {kind.help}")
    assert first == (
        [f"Error: {OURS} must be run inside a virtual machine on a VMware hypervisor product."] if no_host else []
    )
    reach(Host(faults=faults), monkeypatch)
    done = command("--json", "log text")
    assert (done.status, done.err) == (status, b"")
    assert json.loads(done.out)["error"] == kind.__name__


def test_json_of_a_name_that_is_no_text(command: Callable[..., Outcome]) -> None:
    done = command("--json", "--gate", "no\udcff", "x")
    assert (done.status, done.err) == (255, b"")
    assert json.loads(done.out)["message"] == "there is no gate 'no\udcff'"
    assert b"\\udcff" in done.out


# -- ours: the command line --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "no command given"),
        (["--raw"], "no command given"),
        (["--"], "no command given"),
        (["--gate"], "--gate needs a value"),
        (["--timeout"], "--timeout needs a value"),
        (["--colour", "log x"], "unknown option --colour"),
        (["-x", "log x"], "unknown option -x"),
        (["--raw=1", "log x"], "unknown option --raw=1"),
        (["-h", "log x"], "unknown option -h"),
        (["--gat=port", "log x"], "unknown option --gat=port"),
        *[
            ([f"--timeout={value}", "log x"], f"--timeout {value}: a number of seconds")
            for value in ("0", "-1", "x", "nan", "inf", "1e400", "86401", "", "0x10", "1 s")
        ],
        (["--timeout", "zero", "log x"], "--timeout zero: a number of seconds"),
    ],
)
def test_wrong_usage(words: list[str], complaint: str, host: Host, command: Callable[..., Outcome]) -> None:
    done = command(*words)
    assert (done.status, done.out) == (1, b"")
    assert done.err.decode().startswith(f"vmware-rpctool-py: {complaint}")
    assert done.err.endswith(b"Try 'vmware-rpctool-py --help'.\n")
    assert done.err.count(b"\n") == 1
    assert host.exits == 0


@pytest.mark.parametrize(
    ("words", "gate", "timeout"),
    [
        (["x"], None, TIMEOUT),
        (["--gate", "port", "x"], "port", TIMEOUT),
        (["--gate=sim:/a b=c", "x"], "sim:/a b=c", TIMEOUT),
        (["--timeout", "2.5", "x"], None, 2.5),
        (["--timeout=86400", "--gate=auto", "x"], "auto", 86400.0),
        (["--timeout=1e-3", "x"], None, 0.001),
        (["--gate=port", "--gate=vmcall", "x"], "vmcall", TIMEOUT),
    ],
)
def test_gate_and_timeout(
    words: list[str],
    gate: str | None,
    timeout: float,
    command: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[object] = []

    def connect(spec: str | None, *, timeout: float) -> Rpci:
        seen.extend([spec, timeout])
        return Rpci(Host().gate)

    monkeypatch.setattr(rpctool, "Rpci", connect)
    assert command(*words).out == b"ok\n"
    assert seen == [gate, timeout]


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(option: str, host: Host, command: Callable[..., Outcome]) -> None:
    done = command(option)
    assert (done.status, done.err, host.exits) == (0, b"", 0)
    assert done.out.startswith(b"usage: vmware-rpctool-py [options] COMMAND...\n")
    for name in ("--raw", "--json", "--gate", "--timeout", "--version", "VMTOOLS_GATE", "(default: 30)", '{"ok": true'):
        assert name.encode() in done.out
    assert max(map(len, done.out.splitlines())) <= 120


def test_version(command: Callable[..., Outcome]) -> None:
    done = command("--version")
    assert (done.status, done.out) == (0, f"vmware-rpctool-py {vmtools.__version__}\n".encode())


def test_the_number_of_exits(host: Host, command: Callable[..., Outcome]) -> None:
    """The original makes 9."""
    command("info-get", "guestinfo.a")
    assert host.exits == 7
    command("info-get guestinfo.a", called=ORIGINAL)
    assert host.exits == 14


# -- called as the original --------------------------------------------------------------------------------------------

USAGE = b"rpctool syntax:\n\n  -h | --help\tprint usage.\n  rpctool <text>\tsend <text> as an RPC command.\n"


@pytest.mark.parametrize(
    ("words", "status", "request_", "out", "err"),
    [
        (["log text"], 0, b"log text", b"[log text]\n", b""),
        (["log", "text"], 0, b"log", b"[log]\n", b""),
        (["--raw", "text"], 0, b"--raw", b"[--raw]\n", b""),
        (["-"], 0, b"-", b"[-]\n", b""),
        (["log a", "-h"], 0, b"log a", b"[log a]\n", b""),
        ([], 1, None, b"", USAGE),
        (["-h"], 0, None, b"", USAGE),
        (["-hxyz"], 0, None, b"", USAGE),
        (["--help"], 0, None, b"", USAGE),
        (["--help-me", "x"], 0, None, b"", USAGE),
    ],
)
def test_the_original_sees_its_first_argument_only(
    words: list[str],
    status: int,
    request_: bytes | None,
    out: bytes,
    err: bytes,
    host: Host,
    command: Callable[..., Outcome],
) -> None:
    for called in (ORIGINAL, "vmware-rpctool"):
        host.requests.clear()
        done = command(*words, called=called)
        assert (done.status, done.out, done.err) == (status, out, err)
        assert host.requests == ([] if request_ is None else [request_])


@pytest.mark.parametrize(
    ("reply", "status", "out", "err"),
    [
        (b"1 v\0more", 0, b"v\n", b""),
        (b"1 ", 0, b"\n", b""),
        (b"1 \xff", 0, b"\xff\n", b""),
        (b"0 No value found", 1, b"", b"No value found\n"),
        (b"0 a\0b", 1, b"", b"a\n"),
        (b"2 x", 1, b"", b"RpcOut: Invalid format for the result of the RPCI command\n"),
        (b"1", 1, b"", b"RpcOut: Invalid format for the result of the RPCI command\n"),
    ],
)
def test_the_originals_answers(
    reply: bytes,
    status: int,
    out: bytes,
    err: bytes,
    command: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reach(Host(reply), monkeypatch)
    done = command("ask", called=ORIGINAL)
    assert (done.status, done.out, done.err) == (status, out, err)


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        (["refused@1", "refused@2"], "Unable to open the communication channel"),
        (["refused@2", "refused@5"], "Unable to send the RPCI command"),
        (["lost@4"], "Unable to receive the result of the RPCI command"),
        (["size@4"], "Unable to receive the result of the RPCI command"),
        (["type@4"], "Unable to receive the result of the RPCI command"),
    ],
)
def test_the_originals_words_where_the_channel_fails(
    faults: list[str], words: str, command: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(Host(faults=faults), monkeypatch)
    done = command("log x", called=ORIGINAL)
    assert (done.status, done.out, done.err.decode()) == (1, b"", f"RpcOut: {words}\n")


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"], ["info-get guestinfo.a"], ["info-get", "x"]])
@pytest.mark.parametrize("called", ["vmware-rpctool", "./vmware-rpctool", "/any/where/vmware-rpctool"])
def test_the_original_outside_a_virtual_machine(
    words: list[str], called: str, command: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(form: int, frame: Frame, data: bytes | bytearray) -> None:
        raise errors.NotVirtualMachine("nothing here")

    gate = Answering(nobody)
    monkeypatch.setattr(gates, "choose", lambda spec=None: gate)
    done = command(*words, called=called)
    assert (done.status, done.out) == (255, b"")
    assert done.err.decode() == (
        f"Error: {called} must be run inside a virtual machine on a VMware hypervisor product.\n"
    )


# -- as processes ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Host, str]]:
    """One host for all processes; each test finds it with no channel open, and leaves it so."""
    host = Host(None)
    host.machine.set_guestinfo(b"hello", b"world")
    host.machine.set_guestinfo(b"big", b"x" * 600_000)
    with serving(host.backdoor) as path:
        yield host, f"sim:{path}"


@pytest.fixture
def gate(served: tuple[Host, str]) -> Iterator[str]:
    host, spec = served
    assert host.open_channels == 0
    yield spec
    assert host.open_channels == 0


def test_a_process(installed: Path, gate: str) -> None:
    done = run([installed / "vmware-rpctool-py", "info-get", "guestinfo.hello"], gate)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"world\n", b"")
    done = run([installed / "vmware-rpctool-py", f"--gate={gate}", "info-get guestinfo.none"])
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"No value found\n")
    done = run([installed / "vmware-rpctool-py", "-"], gate, input=b"info-set guestinfo.two a\nb\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\n", b"")
    done = run([installed / "vmware-rpctool-py", "--raw", "info-get guestinfo.two"], gate)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"a\nb", b"")


def test_a_process_by_the_originals_name(installed: Path, gate: str) -> None:
    tool = installed / "vmware-rpctool"
    done = run([tool, "info-get guestinfo.hello", "ignored"], gate)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"world\n", b"")
    done = run([tool, "info-get guestinfo.none"], gate)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"No value found\n")
    done = run([tool], gate)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", USAGE)
    done = run([tool, "--help"], gate)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", USAGE)
    error = f"Error: {tool} must be run inside a virtual machine on a VMware hypervisor product.\n"
    for words in ([tool], [tool, "-h"], [tool, "info-get x"]):
        done = run(words, "sim:/nowhere")
        assert (done.returncode, done.stdout, done.stderr.decode()) == (255, b"", error)


def test_the_environments_gate_and_the_options(installed: Path, gate: str) -> None:
    ask = "info-get guestinfo.hello"
    done = run([installed / "vmware-rpctool-py", "--gate", gate, ask], "sim:/nowhere")
    assert (done.returncode, done.stdout) == (0, b"world\n")
    done = run([installed / "vmware-rpctool-py", "--gate", "sim:/nowhere", ask], gate)
    assert done.returncode == 255
    assert b"no simulated host at /nowhere: No such file or directory." in done.stderr


@pytest.mark.parametrize(
    ("size", "status", "words"),
    [
        (65536, 1, "Key is too long"),
        (65537, 1, "takes no message of 65537 bytes"),
        (1 << 20, 1, "takes no message of 1048576 bytes"),
        ((1 << 20) + 1, 1, "standard input: over 1048576 bytes"),
        (5 << 20, 1, "standard input: over 1048576 bytes"),
    ],
)
def test_long_requests_from_standard_input(size: int, status: int, words: str, installed: Path, gate: str) -> None:
    done = run([installed / "vmware-rpctool-py", "-"], gate, input=b"info-set guestinfo.%b v" % (b"k" * (size - 21)))
    assert (done.returncode, done.stdout) == (status, b"")
    assert words in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


def test_the_longest_argument_that_the_kernel_passes(installed: Path, gate: str) -> None:
    """128 KiB with its NUL; a request of 1 MiB comes by standard input only."""
    for name in ("vmware-rpctool-py", "vmware-rpctool"):
        done = run([installed / name, "log " + "x" * (131071 - 4)], gate)
        assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    with pytest.raises(OSError, match="Argument list too long"):
        run([installed / "vmware-rpctool-py", "log " + "x" * (1 << 20)], gate)


@pytest.mark.parametrize("name", ["vmware-rpctool-py", "vmware-rpctool"])
@pytest.mark.parametrize("key", ["hello", "big"])
def test_output_that_nobody_takes(name: str, key: str, installed: Path, gate: str) -> None:
    words = [installed / name, f"info-get guestinfo.{key}"]
    reader, writer = os.pipe()
    os.close(reader)
    with Path("/dev/full").open("wb") as full, os.fdopen(writer, "wb") as pipe:
        for what, done in (
            ("No space left on device", run(words, gate, stdout=full)),
            ("Broken pipe", run(words, gate, stdout=pipe)),
            ("Bad file descriptor", shell(">&-", words, gate)),
            ("Bad file descriptor", shell(">&- <&-", words, gate)),
        ):
            assert done.returncode == 1
            assert done.stderr.decode() == f"{name}: standard output: {what}\n"


def test_a_reader_that_has_enough(installed: Path, gate: str) -> None:
    tool = subprocess.Popen(
        [installed / "vmware-rpctool-py", "info-get guestinfo.big"],
        env=environment(gate),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with tool:
        assert tool.stdout is not None
        assert tool.stderr is not None
        assert tool.stdout.read(10) == b"x" * 10
        tool.stdout.close()
        assert tool.stderr.read() == b"vmware-rpctool-py: standard output: Broken pipe\n"
    assert tool.returncode == 1


def test_closed_standard_error_and_input(installed: Path, gate: str) -> None:
    tool = installed / "vmware-rpctool-py"
    done = shell("2>&-", [tool, "info-get guestinfo.none"], gate)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
    done = shell("<&- 2>&- >&-", [tool, "info-get guestinfo.hello"], gate)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
    done = shell("<&-", [tool, "info-get guestinfo.hello"], gate)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"world\n", b"")
    for redirection in ("<&-", "0>/dev/null"):
        done = shell(redirection, [tool, "-"], gate)
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.startswith(b"vmware-rpctool-py: standard input: Bad file descriptor")


@pytest.mark.parametrize("name", ["vmware-rpctool-py", "vmware-rpctool"])
def test_an_interrupt_kills_it_and_the_channel_is_closed(name: str, installed: Path) -> None:
    """At each of its exits, on a host that takes its time for it."""
    for step in (1, 2, 4, 7):
        host = Host(None)
        host.backdoor.faults = FaultPlan([f"slow@{step}:0.4"])
        with serving(host.backdoor) as path:
            tool = subprocess.Popen(
                [installed / name, "info-get guestinfo.none"],
                env=environment(f"sim:{path}"),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            while host.backdoor.faults.count < step:
                time.sleep(0.005)
            tool.send_signal(signal.SIGINT)
            out, err = tool.communicate(timeout=30)
            assert tool.returncode == -signal.SIGINT
            assert (out, err) == (b"", b"")
            assert host.open_channels == 0, f"exit {step}"


def test_the_time_allowed(installed: Path) -> None:
    host = Host(None)
    host.backdoor.faults = FaultPlan(["slow@3:0.4"])
    with serving(host.backdoor) as path:
        done = run([installed / "vmware-rpctool-py", "--timeout=0.2", "log x"], f"sim:{path}")
        assert (done.returncode, done.stdout) == (1, b"")
        assert b"did not finish within the time allowed" in done.stderr
    assert host.open_channels == 0


def test_a_bug_is_shown_not_hidden() -> None:
    def broken() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        guarded(broken)


SLOW_MODULES = (
    "argparse asyncio collections contextlib dataclasses enum functools inspect json logging re select signal socket "
    "struct subprocess tempfile threading typing weakref"
)


def test_a_plain_call_imports_nothing_slow() -> None:
    """Counted is what we pull in ourselves: with -S, so that no .pth file of this environment imports anything."""
    code = """
import sys
before = set(sys.modules)
from vmtools import gates
from vmtools.cli.rpctool import main

class Gate(gates.Gate):
    def low(self, frame):
        frame.cx, frame.dx, frame.bx = {0: (1, 0, 0), 1: (1, 0, 0), 2: (1, 0, 0), 3: (3, 1, 4), 4: (1, 2, 0x6b6f2031),
                                        5: (1, 0, 0), 6: (1, 0, 0)}[frame.cx >> 16]
        frame.cx <<= 16
        frame.dx <<= 16

gates._make = lambda spec: gates.look() and Gate()
status = main(sys.argv[1:])
print(status, *sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""
    for name in ("vmware-rpctool-py", "vmware-rpctool"):
        done = subprocess.run(
            [sys.executable, "-P", "-S", "-c", code, name, "info-get guestinfo.hello"],
            capture_output=True,
            text=True,
            check=False,
            env={"PYTHONPATH": str(Path(vmtools.__file__).parents[1])},
        )
        assert done.stderr == ""
        answer, report = done.stdout.splitlines()
        status, *loaded = report.split()
        assert (answer, status) == ("ok", "0")
        assert "vmtools" in loaded
        assert set(loaded) & set(SLOW_MODULES.split()) == set()
