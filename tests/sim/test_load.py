"""Threads and forks under load, and programs that start, end and guard themselves in unusual ways: no answer is lost,
and none goes to somebody else."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vmtools import Rpci
from vmtools.sim.backdoor import Backdoor, Guest, Memory
from vmtools.sim.client import RemoteBackdoor
from vmtools.sim.machine import Machine
from vmtools.sim.run import run
from vmtools.sim.server import Server
from vmtools.simgate import SocketGate

THREADS = 8
NOBODY_ID = 65534
PR_SET_DUMPABLE = 4
EXITS_PER_RPC = 5
EXITS_PER_CHANNEL = 2


class Counting(Backdoor):
    """A host that counts the exits of each thread."""

    def __init__(self) -> None:
        super().__init__(Machine())
        self.exits: dict[int, int] = {}

    def exit(self, instruction: int, regs: list[int], memory: Memory, who: Guest) -> bool:
        self.exits[who.tid] = self.exits.get(who.tid, 0) + 1
        return super().exit(instruction, regs, memory, who)


Load = Callable[..., tuple[int, str]]


@pytest.fixture(scope="session")
def program(tracing: None, compile_program: Callable[..., Path]) -> Path:
    """The program ``load.c``."""
    return compile_program("load.c", "-pthread", "-Werror")


@pytest.fixture
def host() -> Counting:
    return Counting()


@pytest.fixture
def load(program: Path, host: Counting) -> Load:
    """Run ``load MODE ARG…`` under the host; its status and its output."""

    def run_it(*words: str | int, exits: Backdoor | RemoteBackdoor = host) -> tuple[int, str]:
        return captured([str(program), *map(str, words)], exits)

    return run_it


def captured(argv: list[str], exits: Backdoor | RemoteBackdoor) -> tuple[int, str]:
    with tempfile.TemporaryFile("w+") as output:
        status = run(argv, exits, stdout=output, stderr=output)
        output.seek(0)
        return status, output.read().strip()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "socket", Backdoor(Machine())) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        try:
            yield served
        finally:
            served.stop()
            thread.join()


# -- load ------------------------------------------------------------------------------------------------------------


def test_100_000_rpcs_of_8_threads(load: Load, host: Counting) -> None:
    each = 12_500
    assert load("threads", THREADS, each) == (0, "0")
    assert sorted(host.exits.values()) == [each * EXITS_PER_RPC + EXITS_PER_CHANNEL] * THREADS
    values = host.machine.guestinfo
    assert len(values) == THREADS
    assert all(value.endswith(b"-%d" % (each - 2)) for value in values.values())
    assert not host.channels.open_channels


def test_the_same_over_the_socket(load: Load, server: Server) -> None:
    with RemoteBackdoor(server.path) as remote:
        assert load("threads", THREADS, 250, exits=remote) == (0, "0")
    assert len(server.backdoor.machine.guestinfo) == THREADS


@pytest.mark.parametrize("shared", [True, False], ids=["one connection", "a connection each"])
def test_threads_on_the_gate_without_traps(server: Server, shared: bool) -> None:
    gate, each = SocketGate(server.path), 150
    common = Rpci(gate)
    wrong: list[object] = []

    def talk(number: int) -> None:
        rpci = common if shared else Rpci(gate)
        for turn in range(each):
            value = b"%d-%d" % (number, turn)
            rpci.call(b"info-set guestinfo.t%d %s" % (number, value))
            if (answer := rpci.call(b"info-get guestinfo.t%d" % number)) != value:
                wrong.append((value, answer))
        rpci.close()

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not server.backdoor.channels.open_channels


PYTHON_GUEST = """
import os, sys, threading
from vmtools import Rpci
common, wrong = Rpci("port"), []

def talk(who, rpci, turns=60):
    for turn in range(turns):
        value = b"%s-%d" % (who, turn)
        rpci.call(b"info-set guestinfo.%s %s" % (who, value))
        if rpci.call(b"info-get guestinfo." + who) != value:
            wrong.append(value)

def child(number):
    talk(b"child%d" % number, common)
    common.close()
    os._exit(bool(wrong))

common.call(b"log before")
threads = [threading.Thread(target=talk, args=(b"t%d" % n, common if n % 2 else Rpci("port"))) for n in range(8)]
for thread in threads:
    thread.start()
children = [os.fork() or child(n) for n in range(4)]
for thread in threads:
    thread.join()
print(len(wrong), [os.waitpid(pid, 0)[1] for pid in children])
"""


def test_threads_and_forks_of_our_own_guest(tracing: None, host: Counting) -> None:
    """Real traps in one process with a fault handler, Python's threads, and children that inherit an open channel."""
    words = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PYTHON_GUEST]
    assert captured(words, host) == (0, "0 [0, 0, 0, 0]")
    assert len(host.machine.guestinfo) == 12
    assert not host.channels.open_channels


def test_forks(load: Load, host: Counting) -> None:
    """Each process and each thread its own channel; those who do not close it leave it to the host."""
    assert load("forks", 12, 100) == (0, "0")
    assert len(host.machine.guestinfo) == 12 * 4 + 1
    assert len(host.exits) == 12 * 4 + 1


def test_others_crash_are_killed_and_stop(load: Load, host: Counting) -> None:
    assert load("casualties", 8, 5_000) == (0, "0")
    assert host.exits[max(host.exits, key=host.exits.__getitem__)] >= 5_000 * EXITS_PER_RPC + EXITS_PER_CHANNEL


# -- starts and ends -------------------------------------------------------------------------------------------------


def test_vfork_and_posix_spawn(load: Load) -> None:
    assert load("starts") == (0, "vfork 1 in vfork 1 posix_spawn 1 missing 1 here 1")


def test_main_thread_ends_before_the_others(load: Load) -> None:
    assert load("main-ends") == (7, "0")


# -- privilege -------------------------------------------------------------------------------------------------------


@pytest.fixture
def setuid_program(program: Path) -> Iterator[Path]:
    """``load``, owned by root and setuid, where nobody may execute it."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a setuid-root program")
    with tempfile.TemporaryDirectory() as folder:
        if os.statvfs(folder).f_flag & os.ST_NOSUID:
            pytest.skip(f"{folder} is mounted nosuid")
        Path(folder).chmod(0o755)
        helper = Path(folder, "helper")
        shutil.copyfile(program, helper)
        helper.chmod(stat.S_ISUID | 0o755)
        yield helper


def as_nobody(argv: list[str]) -> str:
    """What a program prints whose tracer is nobody too."""
    with tempfile.TemporaryFile("w+") as output:
        pid = os.fork()
        if pid == 0:
            status = 99
            try:
                os.setgroups([])
                os.setgid(NOBODY_ID)
                os.setuid(NOBODY_ID)
                # a change of the user makes a process untraceable, and its children until they exec
                ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
                status = run(argv, Backdoor(Machine()), stdout=output, cwd="/")
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        output.seek(0)
        return output.read().strip()


def test_setuid_program_of_a_privileged_tracer(load: Load, setuid_program: Path, host: Counting) -> None:
    """Who may trace anything may trace it: it gets its privilege and its answers."""
    words = ["setpriv", "--reuid", str(NOBODY_ID), "--clear-groups", str(setuid_program), "who"]
    assert captured(words, host) == (0, f"uid {NOBODY_ID} euid 0 in 1 rpcs 0")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_setuid_program_of_an_unprivileged_tracer(setuid_program: Path) -> None:
    """The kernel gives it no privilege (as under strace and gdb), and it gets its answers."""
    assert as_nobody([str(setuid_program), "who"]) == f"uid {NOBODY_ID} euid {NOBODY_ID} in 1 rpcs 0"


# -- tracers and filters of the program's own ------------------------------------------------------------------------


def test_a_tracer_of_its_own_is_refused(load: Load) -> None:
    """A process has one tracer: the kernel refuses the second, and nothing else happens."""
    assert load("ptrace") == (0, f"traceme 1 attach -{errno.EPERM} seize -{errno.EPERM} here 1")


def test_strace_says_why(tracing: None, host: Counting) -> None:
    status, said = captured(["strace", "-o", "/dev/null", "true"], host)
    assert status == 1
    assert "ptrace" in said.lower()
    assert "Operation not permitted" in said


@pytest.mark.parametrize(
    ("action", "status", "said"),
    [
        ("errno", 0, "-71 in 1 rpcs 0"),
        ("trap", 0, "1 in 1 rpcs 0"),
        ("kill", -signal.SIGSYS, ""),
        ("kill-thread", 0, "1 in 1 rpcs 0"),
        ("ioperm", 0, "1 in 1 rpcs 0"),
        ("strict", 0, f"-{errno.EINVAL} in 1 rpcs 0"),
    ],
)
def test_a_filter_of_its_own(load: Load, action: str, status: int, said: str) -> None:
    """It does what it does elsewhere, also to ioperm; strict mode alone is not to be had beside a filter."""
    assert load("seccomp", action) == (status, said)
