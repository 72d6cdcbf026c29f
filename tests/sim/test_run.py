"""How programs start, stop and end under the simulated host, and what remains of them."""

from __future__ import annotations

import errno
import os
import pty
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vmtools.sim.backdoor import Guest, Memory
from vmtools.sim.run import run
from vmtools.sim.tracer import Program, Tracer

from .standin import Outcome, StandIn, run_captured

Run = Callable[..., Outcome]
TIMEOUT = 20


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Poll; fail after TIMEOUT seconds."""
    limit = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < limit, f"waited in vain until {what}"
        time.sleep(0.01)


def state(pid: int) -> str:
    """The kernel's letter for a process' state; "" if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


Start = Callable[..., tuple[subprocess.Popen[str], int]]


@pytest.fixture
def start(command: list[str]) -> Iterator[Start]:
    """Start ``vmtools sim run -- WORDS``; with it comes the process id that the program prints first."""
    processes = []

    def run_words(*words: str) -> tuple[subprocess.Popen[str], int]:
        # A process group of its own, with its parent outside: in an orphaned one SIGTSTP and SIGTTIN stop nobody.
        process = subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True, process_group=0)
        processes.append(process)
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    yield run_words
    for process in processes:
        with process:
            process.kill()


def children(tid: int) -> list[str]:
    """The processes that a thread started."""
    return Path(f"/proc/{tid}/task/{tid}/children").read_text().split()


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its end: status, rest of its output."""
    rest, _ = process.communicate(timeout=TIMEOUT)
    return process.returncode, rest


# -- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 3, 255])
def test_exit_status(run_guest: Run, status: int) -> None:
    assert run_guest("exit", status).status == status


@pytest.mark.parametrize("signum", [signal.SIGABRT, signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGINT])
def test_death_by_signal(run_guest: Run, signum: int) -> None:
    assert run_guest("raise", int(signum)).status == -signum


@pytest.mark.parametrize("signum", [signal.SIGABRT, signal.SIGKILL, signal.SIGSEGV, signal.SIGINT])
def test_command_dies_of_the_programs_signal(command: list[str], guest: Path, signum: int, tmp_path: Path) -> None:
    result = subprocess.run(
        [*command, guest, "raise", str(int(signum))], cwd=tmp_path, capture_output=True, timeout=TIMEOUT, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (-signum, b"", b"")


def test_command_passes_the_status_on(command: list[str], guest: Path) -> None:
    assert subprocess.run([*command, guest, "exit", "7"], timeout=TIMEOUT, check=False).returncode == 7


@pytest.mark.parametrize(
    ("program", "status", "message"),
    [
        ("no-such-program", 127, "No such file or directory"),
        ("/no/such/program", 127, "No such file or directory"),
        ("/etc/passwd/x", 127, "Not a directory"),
        ("/etc/passwd", 126, "Permission denied"),
        ("/", 126, "Permission denied"),
        ("", 127, "No such file or directory"),
    ],
)
def test_what_cannot_be_executed(command: list[str], program: str, status: int, message: str) -> None:
    result = subprocess.run([*command, program], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert result.returncode == status
    assert result.stderr == f"vmtools sim run: {program}: {message}\n"


def test_not_a_program(command: list[str], tmp_path: Path) -> None:
    program = tmp_path / "text"
    program.write_bytes(b"\x7fELF")
    program.chmod(0o755)
    result = subprocess.run([*command, program], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert (result.returncode, result.stderr) == (126, f"vmtools sim run: {program}: Exec format error\n")


def test_errors_of_the_function(tracing: None, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        run(["no-such-program"], StandIn())
    assert missing.value.filename == "no-such-program"
    with pytest.raises(FileNotFoundError) as folder:
        run(["true"], StandIn(), cwd=tmp_path / "missing")
    assert folder.value.filename == str(tmp_path / "missing")
    with pytest.raises(OSError, match="standard streams") as streams:
        run(["true"], StandIn(), stdin=12345)
    assert streams.value.errno == errno.EBADF
    with pytest.raises(ValueError, match="null byte"):
        run(["true", "a\0b"], StandIn())
    with pytest.raises(FileNotFoundError):
        run([], StandIn())


def test_program_is_found_by_the_path_given(tracing: None, tmp_path: Path) -> None:
    program = tmp_path / "hello"
    program.write_text("#!/bin/sh\necho $GREETING $0 $1; pwd\n")
    program.chmod(0o755)
    folder = tmp_path / "denied"
    folder.mkdir()
    (folder / "hello").write_text("not executable")
    environment = {"PATH": f"{folder}:{tmp_path}:/usr/bin:/bin", "GREETING": "ahoy"}
    outcome = run_captured(["hello", "you"], StandIn(), env=environment, cwd="/usr")
    assert outcome.output == f"ahoy {program} you\n/usr\n"


def test_standard_streams(tracing: None, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("some text")
    with (tmp_path / "in").open() as source, (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        assert run(["sh", "-c", "cat; echo oops >&2"], StandIn(), stdin=source, stdout=out, stderr=err.fileno()) == 0
    assert (tmp_path / "out").read_text() == "some text"
    assert (tmp_path / "err").read_text() == "oops\n"


def test_pipeline(run_guest: Run, guest: Path) -> None:
    script = f"{guest} in | tr a-z A-Z | wc -l; {guest} in >/dev/null && ({guest} exit 4; exit $?) & wait $!"
    outcome = run_captured(["sh", "-c", script], StandIn())
    assert (outcome.output.strip(), outcome.status, len(outcome.host.calls)) == ("1", 4, 2)


# -- signals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_signals_to_the_tracer_reach_the_program(start: Start, signum: int) -> None:
    process, _ = start("sh", "-c", "echo $$; exec sleep 60")
    process.send_signal(signum)
    assert finish(process) == (-signum, "")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_signal_before_the_program_has_started(tracing: None, signum: int) -> None:
    statuses: list[int] = []
    tracer = Tracer(StandIn())
    if signum == signal.SIGKILL:
        tracer.kill()
    else:
        tracer.send(signum)
    program = Program([b"/bin/sleep"], [b"sleep", b"60"], [])
    thread = threading.Thread(target=lambda: statuses.append(tracer.run(program)))
    thread.start()
    thread.join(TIMEOUT)
    assert statuses == [-signum]


def test_program_may_handle_a_forwarded_signal(start: Start) -> None:
    process, _ = start("sh", "-c", "trap 'echo bye; exit 6' TERM; echo $$; while :; do sleep 0.05; done")
    process.send_signal(signal.SIGTERM)
    assert finish(process) == (6, "bye\n")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGQUIT])
def test_the_terminals_signals_are_the_programs(start: Start, signum: int) -> None:
    process, pid = start("sh", "-c", "trap 'echo got; exit 5' INT QUIT; echo $$; while :; do sleep 0.05; done")
    process.send_signal(signum)
    time.sleep(0.2)
    assert process.poll() is None  # to the tracer alone: it is no terminal's
    os.kill(pid, signum)
    assert finish(process) == (5, "got\n")


def test_ignored_signals_stay_ignored(command: list[str]) -> None:
    script = "kill -HUP $$; kill -INT $$; grep SigIgn /proc/$$/status"
    result = subprocess.run(
        ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh", *command, "sh", "-c", f"trap : INT; {script}"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    ignored = int(result.stdout.split()[1], 16) & 0x7FFFFFFF  # above: glibc's own, which its posix_spawn leaves ignored
    assert ignored == 1 << (signal.SIGHUP - 1)  # and not what Python ignores: PIPE, XFSZ


@pytest.mark.parametrize("signum", [signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN])
def test_stop_and_continue(start: Start, guest: Path, signum: int) -> None:
    process, pid = start("sh", "-c", f"echo $$; exec {guest} raise {int(signum)}")
    wait_until(lambda: state(pid) in {"T", "t"}, "the program stops")
    time.sleep(0.1)
    assert state(pid) in {"T", "t"}
    assert process.poll() is None
    os.kill(pid, signal.SIGCONT)
    assert finish(process) == (0, "went on, 1\n")


def test_stopped_program_can_be_ended(start: Start) -> None:
    process, pid = start("sh", "-c", "echo $$; exec sleep 60")
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: state(pid) in {"T", "t"}, "the program stops")
    time.sleep(0.1)  # it stops for the tracer first, and then as a whole
    process.send_signal(signal.SIGTERM)  # pending, as for any stopped process
    time.sleep(0.1)
    assert process.poll() is None
    os.kill(pid, signal.SIGCONT)
    assert finish(process) == (-signal.SIGTERM, "")


class Terminal:
    """Our end of it."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._seen = b""

    def expect(self, text: bytes) -> None:
        """Read until the text comes."""
        limit = time.monotonic() + TIMEOUT
        while text not in self._seen:
            assert select.select([self._master], [], [], max(0, limit - time.monotonic()))[0], self._seen
            self._seen += os.read(self._master, 1024)
        self._seen = self._seen.partition(text)[2]

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._master, keys)


@pytest.fixture
def terminal(command: list[str], guest: Path) -> Iterator[Terminal]:
    """``vmtools sim run`` at a terminal, as a job of a shell with job control."""
    pid, master = pty.fork()
    if pid == 0:
        program = "trap 'echo int' INT; trap 'echo quit' QUIT; echo ready; while ! read line; do :; done; exit 6"
        script = 'set -m; "$@"; echo status $?; fg >/dev/null; echo end $?'
        os.execvp("bash", ["bash", "-c", script, "bash", *command, "sh", "-c", program])
    try:
        yield Terminal(master)
    finally:
        os.close(master)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_keys_of_the_terminal(terminal: Terminal) -> None:
    """Ctrl-C, Ctrl-\\ and Ctrl-Z do to the program what they do to it without us, and to the shell's job too."""
    terminal.expect(b"ready")
    for _ in range(2):
        terminal.type(b"\x03")
        terminal.expect(b"int\r\n")
        terminal.type(b"\x1c")
        terminal.expect(b"quit\r\n")
    terminal.type(b"\x1a")
    terminal.expect(b"status 148")  # 128 + SIGTSTP
    terminal.type(b"done\n")
    terminal.expect(b"end 6")


# -- what remains ----------------------------------------------------------------------------------------------------


def test_nothing_is_left_when_the_tracer_is_killed(start: Start) -> None:
    process, pid = start("sh", "-c", "setsid sleep 60 & echo $!; sleep 60")
    main = [int(word) for task in Path(f"/proc/{process.pid}/task").iterdir() for word in children(int(task.name))]
    assert len(main) == 1
    process.kill()
    assert process.wait(TIMEOUT) == -signal.SIGKILL
    wait_until(lambda: all(state(gone) in {"", "Z"} for gone in (pid, *main)), "the kernel has killed the program")


def test_daemon_outlives_the_program_and_is_served(run_guest: Run) -> None:
    outcome = run_guest("daemonise")
    assert (outcome.status, outcome.output.strip(), len(outcome.host.calls)) == (5, "1", 1)


def test_signal_when_only_a_daemon_is_left(start: Start) -> None:
    process, pid = start("sh", "-c", "setsid sleep 60 >/dev/null & echo $$; exit 3")
    wait_until(lambda: not state(pid), "the program is gone")
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert finish(process) == (3, "")


def test_a_signal_that_finds_nobody_waits_for_somebody() -> None:
    """The kernel knows that the program has ended, and that its daemon was born, before the loop does."""
    with subprocess.Popen(["true"]) as ended, subprocess.Popen(["sleep", "60"]) as daemon:
        wait_until(lambda: state(ended.pid) == "Z", "the program ends")
        tracer = Tracer(StandIn())
        tracer._main = ended.pid
        tracer._tids = {ended.pid}
        tracer.send(signal.SIGTERM)
        assert daemon.poll() is None
        tracer._tids.add(daemon.pid)
        tracer._send_unsent()
        assert daemon.wait(TIMEOUT) == -signal.SIGTERM
        tracer._send_unsent()
        assert not tracer._unsent


def test_other_children_are_left_alone(tracing: None) -> None:
    with subprocess.Popen(["sh", "-c", "exit 4"]) as early:
        wait_until(lambda: state(early.pid) == "Z", "the other child ends")
        assert run(["true"], StandIn()) == 0
        assert early.wait(TIMEOUT) == 4


def test_two_runs_at_once(run_guest: Run) -> None:
    outcomes: list[Outcome] = []
    threads = [threading.Thread(target=lambda: outcomes.append(run_guest("threads", 200, 1))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert [(outcome.status, len(outcome.host.calls)) for outcome in outcomes] == [(0, 3200)] * 3


def test_handlers_and_descriptors_are_as_before(tracing: None) -> None:
    signums = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGQUIT)
    before = [signal.getsignal(signum) for signum in signums], sorted(os.listdir("/proc/self/fd"))
    for _ in range(5):
        run(["true"], StandIn())
        with pytest.raises(FileNotFoundError):
            run(["no-such-program"], StandIn())
    assert ([signal.getsignal(signum) for signum in signums], sorted(os.listdir("/proc/self/fd"))) == before


def test_program_gets_no_descriptor_of_ours(tracing: None) -> None:
    script = "for n in $(seq 3 30); do [ -e /proc/$$/fd/$n ] && echo $n; done; exit 0"
    by_itself = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, text=True, close_fds=False, check=True)
    assert run_captured(["sh", "-c", script], StandIn()).output == by_itself.stdout


class Failing(StandIn):
    """A host that breaks."""

    def exit(self, instruction: int, regs: list[int], memory: Memory, who: Guest) -> bool:
        self.calls.append((instruction, list(regs), who))
        raise RuntimeError("the host broke")


def test_failure_of_the_host_ends_the_program(run_guest: Run) -> None:
    host = Failing()
    with pytest.raises(RuntimeError, match="the host broke"):
        run_guest("threads", 1000, 3, host=host)
    assert host.calls
    wait_until(lambda: all(state(call[2].pid) in {"", "Z"} for call in host.calls), "the program is dead")


def test_exception_of_a_signal_handler_ends_the_program(tracing: None) -> None:
    class Alarm(Exception):
        pass

    def ring(*_: object) -> None:
        raise Alarm

    before = signal.getsignal(signal.SIGVTALRM)
    signal.signal(signal.SIGVTALRM, ring)
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGVTALRM))
    try:
        timer.start()
        with pytest.raises(Alarm):
            run(["sh", "-c", "setsid sleep 60 & sleep 60"], StandIn())
    finally:
        timer.join()
        signal.signal(signal.SIGVTALRM, before)
    assert "sleep" not in [Path(f"/proc/{child}/comm").read_text().strip() for child in children(os.getpid())]
