"""``vmtools sim run``: a program under the simulated host, as if it ran by itself.

Its exit status and its death by a signal are the tracer's, Ctrl-C and Ctrl-Z are its own business, and a signal sent to
the tracer reaches it.  As with ``strace -f``, the tracer stays until the last descendant has ended, daemons included,
and its status is the program's.  If the tracer is killed, the kernel kills all that it traced.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vmtools.errors import VMToolsError
from vmtools.sim import _tracer, protect
from vmtools.sim.tracer import Program, Tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType
    from typing import Any, Protocol

    from vmtools.sim.backdoor import Exits
    from vmtools.sim.disguise import Disguise

    class HasFileno(Protocol):
        """A file, a pipe, a socket."""

        def fileno(self) -> int: ...

    File = int | HasFileno | None
    Words = Sequence[str | bytes | os.PathLike[str]]
    Environment = Mapping[str, str]

FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
"""The terminal sends these to the whole process group: the program has them already."""

FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Sent to the tracer, meant for the program."""

NOT_FOUND = 127
NOT_EXECUTABLE = 126
"""Exit statuses of a shell that could not run a command."""


def run(
    argv: Words,
    exits: Exits,
    *,
    env: Environment | None = None,
    cwd: str | os.PathLike[str] | None = None,
    stdin: File = None,
    stdout: File = None,
    stderr: File = None,
    signals: bool | None = None,
    disguise: Disguise | None = None,
    note: Callable[[str], None] | None = None,
    unprotected: bool = False,
    timeout: float | None = None,
) -> int:
    """Run a program under the simulated host and wait for it and its descendants.

    :param exits: answers the trapped instructions (:class:`vmtools.sim.backdoor.Exits`), from one thread.
    :param env: the environment; None: this process' own.
    :param stdin, stdout, stderr: files or descriptors; None: inherited.
    :param signals: whether to forward signals that reach this process, and to leave the terminal's to the program,
        as long as it runs; None: if called in the main thread.
    :param disguise: what programs see of the machine besides its backdoor; None: this machine itself.
    :param note: told, once each, what a person should know: a program was refused what it asked for.
    :param unprotected: the program may set this computer's clock and restart it, if it otherwise could
        (:mod:`vmtools.sim.protect`).
    :param timeout: seconds after which the program and its descendants are killed.
    :returns: the exit status, or minus the signal that ended the program, as :mod:`subprocess` has it.
    :raises OSError: the program can't be executed.
    :raises vmtools.sim.tracer.TracingForbidden: ptrace or seccomp is not permitted here.
    :raises NotImplementedError: this is not Linux on x86-64.
    :raises TimeoutError: it was killed because its time was over.

    Whatever ``exits`` raises ends the program and is raised here.  So does what a signal handler of this process
    raises (KeyboardInterrupt, a test's time-out).  No other thread may meanwhile wait for just any child
    (``os.wait()``): it would take the tracer's news.
    """
    running = Running(
        argv,
        exits,
        env=env,
        cwd=cwd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        disguise=disguise,
        note=note,
        unprotected=unprotected,
    )
    take_signals = threading.current_thread() is threading.main_thread() if signals is None else signals
    with _signals(running.tracer, wanted=take_signals):
        running.start()
        try:
            return running.wait(timeout)
        except BaseException:
            running.kill()
            raise


class Running:
    """A program under the simulated host, in the background; the parameters are those of :func:`run`.

    A tracer's thread waits for it, so that several may run at once: a thread has its own tracees, and waits for nobody
    else's children.

    :raises NotImplementedError: (on creation) this is not Linux on x86-64.
    """

    def __init__(
        self,
        argv: Words,
        exits: Exits,
        *,
        env: Environment | None = None,
        cwd: str | os.PathLike[str] | None = None,
        stdin: File = None,
        stdout: File = None,
        stderr: File = None,
        disguise: Disguise | None = None,
        note: Callable[[str], None] | None = None,
        unprotected: bool = False,
    ) -> None:
        if not _tracer.SUPPORTED:
            raise NotImplementedError("'vmtools sim run' needs Linux on x86-64 and a 64-bit Python")
        self._program = _program(argv, env, cwd, (stdin, stdout, stderr))
        self.tracer = Tracer(exits, disguise, note)
        self._unprotected = unprotected
        self._outcome: list[int] = []
        self._failure: list[BaseException] = []
        self._thread = threading.Thread(target=self._trace, name="vmtools-tracer", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the program or one of its descendants lives."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin; whether the program can be executed at all is what :meth:`wait` tells."""
        self._thread.start()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the program and its descendants; status and errors as :func:`run` has them.

        :raises TimeoutError: they have not ended within ``timeout`` seconds, and go on.
        """
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError(f"the program has not ended within {timeout} s")
        if self._failure:
            raise self._failure[0]
        return self._outcome[0]

    def kill(self) -> None:
        """End the program and all its descendants; return when they are gone."""
        self.tracer.kill()
        self._thread.join()

    def _trace(self) -> None:
        try:
            if not self._unprotected:
                protect.drop()
            self._outcome.append(self.tracer.run(self._program))
        except BaseException as error:  # raised again in the thread that waits
            self._failure.append(error)


def run_command(
    argv: Words,
    exits: Exits,
    *,
    name: str = "vmtools sim run",
    disguise: Disguise | None = None,
    ended: Callable[[int], int] | None = None,
    unprotected: bool = False,
) -> int:
    """What the command does: as :func:`run`, with a shell's messages and exit statuses; main thread only.

    ``ended`` is told the program's status and says what it is to be.

    A program that died of a signal takes this process with it, by the same signal and without a second core file.
    """
    sys.stdout.flush()

    def note(text: str) -> None:
        print(f"{name}: {text}", file=sys.stderr, flush=True)

    try:
        status = run(argv, exits, disguise=disguise, note=note, unprotected=unprotected)
    except VMToolsError as error:
        print(f"{name}: {error}. {error.help}", file=sys.stderr)
        return NOT_EXECUTABLE
    except OSError as error:
        print(f"{name}: {error.filename or os.fsdecode(argv[0])}: {error.strerror}", file=sys.stderr)
        return NOT_FOUND if error.errno in {errno.ENOENT, errno.ENOTDIR} else NOT_EXECUTABLE
    if ended is not None:
        status = ended(status)
    return status if status >= 0 else die_of(-status)


def die_of(signum: int) -> int:
    """End this process by a signal; return a shell's status for it where that is not possible (process 1)."""
    sys.stdout.flush()
    sys.stderr.flush()
    _tracer.no_core()
    if signum not in {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signum})
    os.kill(os.getpid(), signum)
    return 128 + signum


def _program(
    argv: Words, env: Environment | None, cwd: str | os.PathLike[str] | None, files: tuple[File, File, File]
) -> Program:
    words = [os.fsencode(word) for word in argv]
    if not words or not words[0]:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "")
    environment = os.environ if env is None else env
    paths = [words[0]]
    if b"/" not in words[0]:
        paths = [os.path.join(os.fsencode(folder), words[0]) for folder in os.get_exec_path(environment)]
    return Program(
        paths=paths,
        argv=words,
        envp=[os.fsencode(f"{key}={value}") for key, value in environment.items()],
        cwd=None if cwd is None else os.fsencode(cwd),
        stdio=(_descriptor(files[0]), _descriptor(files[1]), _descriptor(files[2])),
    )


def _descriptor(file: File) -> int:
    if file is None:
        return -1
    return file if isinstance(file, int) else file.fileno()


@contextmanager
def _signals(tracer: Tracer, *, wanted: bool) -> Iterator[None]:
    """Handlers and not SIG_IGN: exec resets a handler in the program, and what was ignored before stays ignored."""

    def forward(signum: int, _: FrameType | None) -> None:
        tracer.send(signum)

    def leave_to_program(signum: int, _: FrameType | None) -> None:
        pass

    before: dict[signal.Signals, Any] = {}
    if wanted:
        wishes = dict.fromkeys(FORWARDED, forward) | dict.fromkeys(FROM_TERMINAL, leave_to_program)
        for signum, wish in wishes.items():
            if signal.getsignal(signum) not in {None, signal.SIG_IGN}:
                before[signum] = signal.signal(signum, wish)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
