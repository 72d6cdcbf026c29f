"""The gate's fault guard, with the processor's own traps.

Off VMware every one of these instructions faults in user space, which is what the guard is for.  Each scenario that
may kill a process runs in one of its own.
"""

from __future__ import annotations

import errno
import faulthandler
import mmap
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from vmtools import _gate
from vmtools._gate import Frame
from vmtools.constants import MAGIC, PORT, PORT_HIGH

SEGV_KERNEL = int(signal.SIGSEGV) | 128 << 8

pytestmark = pytest.mark.skipif(
    _gate.ARCHITECTURE not in ("x86_64", "i386"),
    reason="only x86 faults at the port; aarch64 reads a register",
)


def knock() -> int:
    return _gate.low(Frame(ax=MAGIC, cx=10, dx=PORT))


def in_process(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter of its own, core dumps off, with ``knock`` at hand."""
    prelude = """
        import faulthandler, os, resource, signal, sys, threading
        from vmtools import _gate
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        def knock(hold=False):
            return _gate.low(_gate.Frame(ax=0x564D5868, cx=10, dx=0x5658), hold)
        def crash():
            import ctypes
            ctypes.string_at(0)
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(prelude) + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_port_faults_are_answers_and_leave_the_frame_alone() -> None:
    frame = Frame(ax=MAGIC, bx=1 << 40, cx=10, dx=PORT, si=3, di=4, bp=5)
    assert _gate.low(frame) == SEGV_KERNEL
    assert (frame.ax, frame.bx, frame.cx, frame.dx, frame.si, frame.di, frame.bp) == (MAGIC, 1 << 40, 10, PORT, 3, 4, 5)


def test_string_forms_fault_before_they_move_a_byte() -> None:
    data, buffer = b"0123456789", bytearray(10)
    assert _gate.high_out(Frame(ax=MAGIC, cx=10, dx=PORT_HIGH), data) == SEGV_KERNEL
    frame = Frame(ax=MAGIC, cx=10, dx=PORT_HIGH, si=7, di=8)
    assert _gate.high_in(frame, buffer) == SEGV_KERNEL
    assert (bytes(buffer), frame.cx, frame.si, frame.di) == (bytes(10), 10, 7, 8)


def test_rdpmc_of_a_pseudo_counter_faults() -> None:
    assert _gate.rdpmc(Frame(cx=0x10000)) & 0xFF == signal.SIGSEGV


def test_cpuid_answers() -> None:
    frame = Frame(ax=0)
    assert _gate.cpuid(frame) == 0
    assert frame.ax >= 1
    name = b"".join(register.to_bytes(4, "little") for register in (frame.bx, frame.dx, frame.cx))
    assert name.decode("ascii") in Path("/proc/cpuinfo").read_text(encoding="ascii")


@pytest.mark.parametrize("name", ["vmcall", "vmmcall"])
def test_hypercalls_are_answered_or_fault_and_never_crash(name: str) -> None:
    result = in_process(f"print(_gate.{name}(_gate.Frame(ax=0x564D5868, cx=10)) & 0xFF)")
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) in (0, signal.SIGILL, signal.SIGSEGV)


@pytest.mark.parametrize("size", [0, 9, 11])
def test_a_count_that_is_not_the_buffers_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="CX says 10"):
        _gate.high_out(Frame(cx=10), bytes(size))
    with pytest.raises(ValueError, match="CX says 10"):
        _gate.high_in(Frame(cx=10), bytearray(size))


def test_read_only_and_non_contiguous_buffers_are_refused() -> None:
    with pytest.raises(BufferError):
        _gate.high_in(Frame(cx=2), memoryview(b"ab"))
    with pytest.raises(BufferError):
        _gate.high_out(Frame(cx=2), memoryview(b"abcd")[::2])
    with pytest.raises(TypeError):
        _gate.high_out(Frame(cx=2), "ab")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_a_register_has_64_bits(value: int) -> None:
    with pytest.raises(OverflowError):
        Frame(ax=value)
    with pytest.raises(OverflowError):
        Frame().bp = value


def test_no_handler_stays_behind() -> None:
    before = signal.getsignal(signal.SIGSEGV), faulthandler.is_enabled()
    status = Path("/proc/self/status")

    def caught() -> str:
        return next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("SigCgt"))

    masks = caught()
    knock()
    assert caught() == masks
    assert (signal.getsignal(signal.SIGSEGV), faulthandler.is_enabled()) == before


def test_in_threads_at_once() -> None:
    results: list[int] = []

    def work() -> None:
        results.extend([knock() for _ in range(2000)])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [SEGV_KERNEL] * 16000


def test_with_the_signals_blocked_in_the_thread() -> None:
    blocked = {signal.SIGSEGV, signal.SIGILL, signal.SIGBUS}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        assert knock() == SEGV_KERNEL
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before | blocked
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.mark.parametrize("order", ["faulthandler.enable(); knock()", "knock(); faulthandler.enable(); knock()"])
def test_a_real_fault_reaches_faulthandler(order: str) -> None:
    result = in_process(f"{order}; print(hex(knock()), flush=True); crash()")
    assert result.stdout == f"{SEGV_KERNEL:#x}\n"
    assert result.returncode == -signal.SIGSEGV
    assert result.stderr.count("Fatal Python error: Segmentation fault") == 1


def test_faulthandler_disabled_again_stays_silent() -> None:
    result = in_process("knock(); faulthandler.enable(); knock(); faulthandler.disable(); knock(); crash()")
    assert (result.returncode, result.stderr) == (-signal.SIGSEGV, "")


def test_without_any_handler_a_real_fault_kills_as_ever() -> None:
    result = in_process("knock(); crash()")
    assert (result.returncode, result.stderr) == (-signal.SIGSEGV, "")


RACE = """
    stop, wrong = False, []
    def work():
        while not stop:
            fault = knock()
            if fault != 0x800b: wrong.append(fault)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads: thread.start()
    import time; time.sleep(0.1)
"""


def test_a_real_fault_in_one_thread_while_others_are_inside_the_guard() -> None:
    """It kills, every time.  faulthandler begins by putting SIG_DFL back, so that a fault of another thread inside the
    guard may end the process before the dump is out: told in full at least once in a few."""
    results = [in_process("faulthandler.enable()\n" + textwrap.dedent(RACE) + "crash()") for _ in range(8)]
    assert [result.returncode for result in results] == [-signal.SIGSEGV] * 8
    assert 1 in [result.stderr.count("Fatal Python error: Segmentation fault") for result in results]
    assert all(result.stderr.count("Fatal Python error: ") <= 1 for result in results)


def test_faulthandler_switched_on_and_off_while_others_are_inside_the_guard() -> None:
    """With ``hold`` nobody gets between the guard and the fault: no dump, no death."""
    result = in_process(
        textwrap.dedent(RACE.replace("knock()", "knock(True)"))
        + textwrap.dedent("""
        for _ in range(3000):
            faulthandler.enable(); faulthandler.disable()
        stop = True
        for thread in threads: thread.join()
        print("survived", wrong, flush=True)
        faulthandler.enable(); knock(); crash()
        """)
    )
    assert result.stdout == "survived []\n", result.stderr
    assert result.returncode == -signal.SIGSEGV
    assert result.stderr.count("Fatal Python error: Segmentation fault") == 1


def test_a_python_handler_of_the_signal_is_kept_and_called() -> None:
    result = in_process("""
        hits = []
        signal.signal(signal.SIGSEGV, lambda *a: hits.append(a[0]))
        knock()
        os.kill(os.getpid(), signal.SIGSEGV)
        for _ in range(100): pass
        knock()
        print(hits, signal.getsignal(signal.SIGSEGV) is not signal.SIG_DFL)
    """)
    assert result.stdout == f"[{int(signal.SIGSEGV)}] True\n", result.stderr


def test_an_ignored_signal_that_is_sent_stays_ignored_inside_the_guard() -> None:
    result = in_process(
        """
    signal.signal(signal.SIGSEGV, signal.SIG_IGN)
    """
        + RACE
        + """
    for _ in range(2000): os.kill(os.getpid(), signal.SIGSEGV)
    stop = True
    for thread in threads: thread.join()
    print("alive", knock() & 0xFF)
    """
    )
    assert result.stdout == f"alive {int(signal.SIGSEGV)}\n", result.stderr


def test_a_signal_that_is_sent_kills_although_the_guard_is_up() -> None:
    result = in_process(RACE + "\n    os.kill(os.getpid(), signal.SIGSEGV)\n    time.sleep(5)\n")
    assert result.returncode == -signal.SIGSEGV


def test_children_of_fork_while_others_are_inside_the_guard() -> None:
    result = in_process(
        RACE
        + """
    for _ in range(100):
        pid = os.fork()
        if not pid:
            signal.alarm(20)
            os._exit(0 if knock() & 0xFF == signal.SIGSEGV else 1)
        assert os.waitpid(pid, 0)[1] == 0
    stop = True
    for thread in threads: thread.join()
    print("done")
    """
    )
    assert result.stdout == "done\n", result.stderr


def test_a_forked_child_has_the_dispositions_of_its_parent() -> None:
    result = in_process(
        RACE
        + """
    for _ in range(200):
        pid = os.fork()
        if not pid:
            line = next(l for l in open("/proc/self/status") if l.startswith("SigCgt"))
            os._exit(0 if not int(line.split()[1], 16) >> (signal.SIGSEGV - 1) & 1 else 1)
        assert os.waitpid(pid, 0)[1] == 0
    stop = True
    for thread in threads: thread.join()
    print("done")
    """
    )
    assert result.stdout == "done\n", result.stderr


def test_sub_interpreters() -> None:
    result = in_process("""
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        code = "import faulthandler; from vmtools import _gate; " \\
               "print(hex(_gate.low(_gate.Frame(ax=0x564D5868, cx=10, dx=0x5658))), flush=True); faulthandler.enable()"
        for _ in range(3):
            sub = interpreters.create()
            threads = [threading.Thread(target=knock) for _ in range(4)]
            for thread in threads: thread.start()
            getattr(interpreters, "run_string")(sub, code)
            for thread in threads: thread.join()
            interpreters.destroy(sub)
            print(hex(knock()), flush=True)
        crash()
    """)
    assert result.stdout == f"{SEGV_KERNEL:#x}\n" * 6, result.stderr
    assert result.returncode == -signal.SIGSEGV
    assert result.stderr.count("Fatal Python error: Segmentation fault") == 1


def test_a_buffer_whose_file_was_cut_short(tmp_path: Path) -> None:
    """SIGBUS from a mapped buffer; reached only where the port itself does not fault first, so the order is checked."""
    path = tmp_path / "buffer"
    path.write_bytes(bytes(8192))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 8192) as mapped:
        os.truncate(path, 0)
        fault = _gate.high_in(Frame(ax=MAGIC, cx=8192, dx=PORT_HIGH), mapped)
        assert fault & 0xFF in (signal.SIGSEGV, signal.SIGBUS)


def test_ioperm_without_the_capability() -> None:
    result = in_process("""
        if os.geteuid() == 0:
            os.setgroups([]); os.setgid(65534); os.setuid(65534)
        try:
            _gate.ioperm(0x5658, 4, True)
        except OSError as error:
            print(error.errno)
    """)
    # ENOSYS: a kernel without CONFIG_X86_IOPL_IOPERM, which is refused all the same
    assert result.stdout in (f"{errno.EPERM}\n", f"{errno.ENOSYS}\n"), result.stderr


def test_no_growth_over_many_calls() -> None:
    import resource

    frame, buffer = Frame(ax=MAGIC, cx=64, dx=PORT), bytearray(64)

    def rounds(count: int) -> None:
        for _ in range(count):
            frame.cx, frame.dx = 64, PORT
            _gate.low(frame), _gate.high_out(frame, b"x" * 64), _gate.high_in(frame, buffer)
            _gate.rdpmc(frame), _gate.vmcall(Frame(ax=1)), _gate.cpuid(Frame(ax=1)), repr(frame)

    rounds(2000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rounds(20000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1024, "KiB"
