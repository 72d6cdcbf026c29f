"""CPUID as VMware's: in the program, in what it loads, forks, executes; and nothing else changed."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmtools.sim import _tracer
from vmtools.sim.backdoor import VMCALL, VMMCALL, Backdoor
from vmtools.sim.breakpoints import CODE_CPUID, CODE_VMCALL, CODE_VMMCALL, Finder
from vmtools.sim.cpuid import Processor
from vmtools.sim.disguise import Disguise
from vmtools.sim.machine import Machine
from vmtools.sim.run import run

from .disguised import Seen, run_disguised

SIGNATURE = (0x40000010, 0x61774D56, 0x4D566572, 0x65726177)
VMWA = "61774d56\n"
HYPERVISOR = 1 << 31
FREESTANDING = ("-ffreestanding", "-fno-pie", "-no-pie", "-nostdlib", "-static", "-fno-asynchronous-unwind-tables")
SIM = [sys.executable, "-c", "import sys; from vmtools.sim.cli import main; sys.exit(main(sys.argv[1:]))", "run"]


@pytest.fixture(scope="session")
def program(tracing: None, compile_program: Callable[..., Path]) -> str:
    return str(compile_program("cpuid.c", "-pthread", "-Werror"))


@pytest.fixture
def ask(program: str) -> Callable[..., Seen]:
    def run_program(*words: str, **options: object) -> Seen:
        return run_disguised([program, *words], **options)  # type: ignore[arg-type]

    return run_program


Ask = Callable[..., Seen]


# -- what is said ----------------------------------------------------------------------------------------------------


def real(leaf: int, subleaf: int) -> tuple[int, int, int, int]:
    return leaf, subleaf, 3, 4


@pytest.mark.parametrize(
    ("leaf", "words"),
    [
        (0, (0, 9, 3, 4)),
        (1, (1, 9, 3 | HYPERVISOR, 4)),
        (7, (7, 9, 3, 4)),
        (0x3FFFFFFF, (0x3FFFFFFF, 9, 3, 4)),
        (0x40000000, SIGNATURE),
        (0x40000001, (0, 0, 0, 0)),
        (0x40000010, (2_400_000, 66_000, 2, 0)),
        (0x40000100, (0, 0, 0, 0)),
        (0x80000001, (0x80000001, 9, 3, 4)),
    ],
)
def test_leaves(leaf: int, words: tuple[int, int, int, int]) -> None:
    assert Processor(2_400_000, 66_000, 2).words(leaf, 9, real) == words


def test_program_sees_vmware_and_its_own_processor(ask: Ask, program: str) -> None:
    leaves = ["0", "0", "40000000", "0", "40000010", "0", "80000002", "0", "80000003", "0", "7", "0", "d", "1"]
    seen = ask("leaf", *leaves, machine=Machine(mhz=2345, bus_hz=77_000_000))
    native = subprocess.run([program, "leaf", *leaves], stdout=subprocess.PIPE, text=True, check=True)
    own = Seen(0, native.stdout).words
    trapping = _tracer.hypercalls()
    offered = 2 if trapping >> VMCALL & 1 else 1 if trapping >> VMMCALL & 1 else 0
    assert seen.words == [own[0], SIGNATURE, (2_345_000, 77_000, offered, 0), *own[3:]]


def test_hypervisor_bit(ask: Ask, program: str) -> None:
    native = subprocess.run([program, "leaf", "1", "0"], stdout=subprocess.PIPE, text=True, check=True)
    ((ax, _, cx, dx),) = Seen(0, native.stdout).words
    ((seen_ax, _, seen_cx, seen_dx),) = ask("leaf", "1", "0").words
    assert (seen_ax, seen_cx, seen_dx) == (ax, cx | HYPERVISOR, dx)


def test_each_processor_has_its_own_number(ask: Ask, program: str) -> None:
    native = subprocess.run([program, "pinned"], stdout=subprocess.PIPE, text=True, check=True)
    assert ask("pinned").output == native.stdout
    assert len(native.stdout.splitlines()) == len(os.sched_getaffinity(0))


def test_nothing_is_shown_unless_asked_for(ask: Ask, program: str) -> None:
    native = subprocess.run([program, "leaf", "40000000", "0"], stdout=subprocess.PIPE, text=True, check=True)
    assert ask("leaf", "40000000", "0", cpuid=False).output == native.stdout


# -- wherever it stands ----------------------------------------------------------------------------------------------


def test_executed_program(ask: Ask) -> None:
    assert ask("exec").words == [SIGNATURE]


def test_script_and_its_children(tracing: None, program: str) -> None:
    script = f"{program} leaf 40000000 0; ({program} leaf 40000000 0 | cat) & wait"
    assert run_disguised(["sh", "-c", script]).words == [SIGNATURE] * 2


def test_threads_and_forks(ask: Ask) -> None:
    assert ask("threads").output == "0 0\n"


def test_library_that_is_loaded_later(ask: Ask, tmp_path: Path) -> None:
    library = tmp_path / "ask.so"
    source = Path(__file__).with_name("programs") / "ask.c"
    subprocess.run(["gcc", "-O2", "-Wall", "-shared", "-fPIC", "-o", library, source], check=True)
    assert ask("library", str(library)).output == VMWA
    removed = tmp_path / "removed.so"
    shutil.copy(library, removed)
    assert ask("library", str(removed)).output == VMWA  # another file


def test_file_that_becomes_executable_later(ask: Ask) -> None:
    assert ask("mapped", "private").output == VMWA


def test_shared_memory_is_left_alone(ask: Ask, program: str) -> None:
    """A breakpoint there would be one in the file."""
    before = Path(program).read_bytes()
    native = subprocess.run([program, "mapped", "shared"], stdout=subprocess.PIPE, text=True, check=True)
    assert ask("mapped", "shared").output == native.stdout
    assert Path(program).read_bytes() == before


def test_data_that_looks_like_it_is_left_alone(ask: Ask) -> None:
    assert ask("data").output == f"1234a20f {0xA20FB848 ^ 0x05C7A20F:08x} 1\n"


@pytest.mark.parametrize("bits", ["-m64", "-m32"])
@pytest.mark.parametrize("strip", ["-s", "-g0"])
def test_programs_without_libraries(
    tracing: None, compile_program: Callable[..., Path], tmp_path: Path, bits: str, strip: str
) -> None:
    """Where no symbol and no table says where the functions begin, the vote decides."""
    try:
        built = compile_program("bare.c", bits, strip, *FREESTANDING)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this compiler makes no such programs: {error}")
    assert run_disguised([str(built)]).status == 7
    assert subprocess.run([built], check=False).returncode != 7


def test_all_signals_blocked(ask: Ask) -> None:
    assert ask("blocked").output == "1\n"


@pytest.mark.parametrize(("how", "signum"), [("ud2", signal.SIGILL), ("hlt", signal.SIGSEGV)])
def test_own_illegal_instructions_are_the_programs(ask: Ask, how: str, signum: int) -> None:
    assert ask("own-ud2", how).output == f"signal {int(signum)}\n"


# -- the finder ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def finder() -> Finder:
    return Finder([CODE_CPUID, CODE_VMCALL, CODE_VMMCALL])


LIBRARIES = ["ld-linux-x86-64.so.2", "libc.so.6", "libgcc_s.so.1", "libvmtools.so.0", "libglib-2.0.so.0"]


@pytest.mark.parametrize("name", LIBRARIES)
def test_finder_agrees_with_objdump(finder: Finder, name: str) -> None:
    """Compilers put no data among the code, so a reading from the beginning to the end is right."""
    path = Path("/usr/lib/x86_64-linux-gnu") / name
    if not path.exists() or shutil.which("objdump") is None:
        pytest.skip(f"no {path}, or no objdump (binutils)")
    text = subprocess.run(["objdump", "-d", path], stdout=subprocess.PIPE, text=True, check=True).stdout
    lines = [line.split("\t") for line in text.splitlines() if line.count("\t") == 2]
    expected = sum(line[2].strip() in {"cpuid", "vmcall", "vmmcall"} for line in lines)
    assert len(finder.in_file(str(path))) == expected


def test_tables_among_the_code(finder: Finder) -> None:
    """libcrypto has both: what its own names call CPUID's, and tables of random bytes (objdump names them CPUID)."""
    path = "/usr/lib/x86_64-linux-gnu/libcrypto.so.3"
    if not os.path.exists(path):
        pytest.skip(f"no {path}")
    places = [site.offset for site in finder.in_file(path)]
    assert places
    assert max(places) - min(places) < 4096  # one function's


@pytest.mark.parametrize("path", ["/etc/passwd", "/", "/dev/null", "/no/such/file", "/proc/self/mem"])
def test_no_program(finder: Finder, path: str) -> None:
    assert finder.in_file(path) == []


def test_device_is_not_opened(finder: Finder, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert finder.in_file(str(tmp_path / "pipe")) == []


def test_changed_file_is_read_again(finder: Finder, program: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    shutil.copy("/bin/true", path)
    before = finder.in_file(str(path))
    shutil.copy(program, path)
    after = finder.in_file(str(path))
    assert before == []
    assert len(after) >= 2


@pytest.fixture(scope="session")
def image(program: str) -> bytes:
    return Path(program).read_bytes()


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_damaged_files_are_no_trouble(finder: Finder, image: bytes, data: st.DataObject) -> None:
    """Whatever headers and tables say: a list, and no endless search."""
    damaged = bytearray(image[: data.draw(st.sampled_from([len(image), 64, 200, 5000]))])
    interesting = st.one_of(st.integers(0, 64 + 56 * 13), st.integers(0, len(damaged) - 1))
    for place in data.draw(st.lists(interesting, max_size=8)):
        word = data.draw(st.binary(min_size=1, max_size=8))
        damaged[place : place + len(word)] = word
    length = len(damaged)
    found = finder.find(lambda offset, size: bytes(damaged[offset : offset + size]))
    assert all(damaged[site.offset :].startswith(site.code) for site in found)
    assert all(site.offset < length for site in found)


# -- system calls in a program ---------------------------------------------------------------------------------------


class Umask(Disguise):
    """Sets each program's umask from within."""

    def executed(self, trace: _tracer.Trace) -> None:
        trace.inject(95, 60, 0o123)
        super().executed(trace)


def test_injected_call(program: str, tmp_path: Path) -> None:
    """What CPUID faulting is switched on with, where a processor has it."""
    with (tmp_path / "out").open("w+") as output:
        machine = Machine()
        disguise = Umask(machine.status(), dmi=False)
        assert run([program, "umask"], Backdoor(machine), disguise=disguise, stdout=output) == 0
        output.seek(0)
        assert output.read() == "123\n"


def test_injected_call_in_32_bit_code(tracing: None, compile_program: Callable[..., Path]) -> None:
    try:
        built = compile_program("bare.c", "-m32", *FREESTANDING)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this compiler makes no 32-bit programs: {error}")
    machine = Machine()
    assert run([built], Backdoor(machine), disguise=Umask(machine.status(), dmi=False)) == 7


def test_faulting_and_breakpoints_are_one_to_the_decoder() -> None:
    for bits in (32, 64):
        assert _tracer.decode(b"\x0f\xa2", bits) == (_tracer.CPUID, 2, 0, False)
        assert _tracer.decode(b"\xf4\xa2", bits) == (_tracer.CPUID, 2, 0, False)
        assert _tracer.decode(b"\xf4\x01\xc1", bits) == (VMCALL, 3, 0, False)
        assert _tracer.decode(b"\xf4\x01\xd9", bits) == (VMMCALL, 3, 0, False)
        assert _tracer.decode(b"\xf4\x33", bits) is None
        assert _tracer.decode(b"\xf4\x01\xc2", bits) is None
        assert _tracer.decode(b"\xf4", bits) is None


# -- the command -----------------------------------------------------------------------------------------------------


def test_command(program: str) -> None:
    done = subprocess.run([*SIM, "--no-dmi", "--", program, "leaf", "40000000", "0"], capture_output=True, check=True)
    assert Seen(0, done.stdout.decode()).words == [SIGNATURE]
    native = subprocess.run([program, "leaf", "40000000", "0"], stdout=subprocess.PIPE, check=True)
    done = subprocess.run([*SIM, "--no-cpuid", "--", program, "leaf", "40000000", "0"], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (native.stdout, b"")


def test_without_capstone(program: str, tmp_path: Path) -> None:
    (tmp_path / "capstone.py").write_text("raise ImportError\n")
    place = importlib.util.find_spec("vmtools")
    assert place is not None
    assert place.origin is not None
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(place.origin).parents[1]}"}
    words = [*SIM, "--", program, "leaf", "40000000", "0"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    native = subprocess.run([program, "leaf", "40000000", "0"], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stderr == "", "a script is told nothing"
    if _tracer.cpuid_faults():  # this processor does it by itself
        assert done.stdout != native.stdout
        return
    assert done.stdout == native.stdout
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        subprocess.run(words, stdout=subprocess.DEVNULL, stderr=theirs, check=True, env=environment)
        os.close(theirs)
        said = terminal.read(4096)
    assert said == (
        b"vmtools sim run: CPUID shows this machine's own hypervisor: that takes capstone "
        b"(pip install 'vmtools-py[sim]'); --no-cpuid silences this\r\n"
    )


# -- programs with plans of their own --------------------------------------------------------------------------------


def test_program_that_traces_is_told_why_not(tracing: None, tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    done = subprocess.run([*SIM, "--no-dmi", "--", strace, "true"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    first, *rest = done.stderr.splitlines()
    assert first == "vmtools sim run: strace asks for ptrace: refused, a program here has a tracer already"
    assert "PTRACE_TRACEME" in rest[0]  # strace's own words follow
    # who does not hold it against us may go on
    script = f"{strace} -o /dev/null true; echo went on"
    done = subprocess.run([*SIM, "--no-dmi", "--", "sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "went on\n"
    assert sum("asks for ptrace" in line for line in done.stderr.splitlines()) == 1


@pytest.fixture
def setuid_program() -> Iterator[str]:
    """``id``, with the set-user-ID bit and root's, where everybody may execute it."""
    if os.geteuid() != 0:
        pytest.skip("giving a file to root takes root")
    folder = Path("/var/tmp") / f"vmtools-test-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        program = folder / "id"
        shutil.copy("/usr/bin/id", program)
        program.chmod(0o4755)
        yield str(program)
    finally:
        shutil.rmtree(folder)


def test_setuid_program(tracing: None, setuid_program: str) -> None:
    become = ["setpriv", "--reuid", "65534", "--clear-groups", setuid_program, "-u"]
    assert subprocess.run(become, stdout=subprocess.PIPE, text=True, check=True).stdout == "0\n"
    assert run_disguised(become).output == "0\n"


PR_SET_DUMPABLE = 4


def test_setuid_program_of_an_unprivileged_tracer(tracing: None, setuid_program: str) -> None:
    """Linux heeds the set-user-ID bit of a traced program only if the tracer has CAP_SYS_PTRACE."""
    libc = ctypes.CDLL(None)
    run_disguised(["true"])  # all that is imported late is imported
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresuid(65534, 65534, 65534)
            libc.prctl(PR_SET_DUMPABLE, 1)  # as any program that this user starts
            os._exit(run_disguised([setuid_program, "-u"], dmi=True).output == "65534\n")
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
