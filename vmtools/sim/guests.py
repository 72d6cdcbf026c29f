"""Programs that run as guests of a host in this process: started, waited for, and what they left."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from vmtools.sim.run import Running

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from vmtools.sim.backdoor import Exits
    from vmtools.sim.disguise import Disguise
    from vmtools.sim.recording import Recording

    Word = str | bytes | os.PathLike[str]


@dataclass(frozen=True)
class Result:
    """How a program ended, what it printed, and what it said to the host meanwhile.

    ``returncode`` is minus the signal's number for a program that died of one, as :mod:`subprocess` has it.
    ``transcript`` holds all exits between its start and its end, those of other guests of the host too.
    """

    args: list[Word]
    returncode: int
    stdout_bytes: bytes = field(repr=False)
    stderr_bytes: bytes = field(repr=False)
    transcript: Recording

    @property
    def stdout(self) -> str:
        """As text; what is not UTF-8 as ``\\xNN``."""
        return self.stdout_bytes.decode("utf-8", "backslashreplace")

    @property
    def stderr(self) -> str:
        """As text; what is not UTF-8 as ``\\xNN``."""
        return self.stderr_bytes.decode("utf-8", "backslashreplace")

    def check(self) -> Result:
        """This result; :raises AssertionError: the program failed, with what it said about it."""
        if self.returncode != 0:
            said = self.stderr.strip() or self.stdout.strip() or "it printed nothing"
            __tracebackhide__ = True
            raise AssertionError(f"{self.args} ended with status {self.returncode}: {said}")
        return self


class GuestProgram:
    """A program that runs as a guest in the background; a context manager that ends it."""

    def __init__(
        self,
        argv: list[Word],
        exits: Exits,
        recording: Callable[[], Recording],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        input: str | bytes = b"",
        disguise: Disguise | None = None,
    ) -> None:
        self.args = argv
        self._recording = recording
        with ExitStack() as files:
            stdin, self._stdout, self._stderr = [files.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
            stdin.write(input.encode() if isinstance(input, str) else input)
            stdin.seek(0)
            self._running = Running(
                argv,
                exits,
                env=env,
                cwd=cwd,
                stdin=stdin,
                stdout=self._stdout,
                stderr=self._stderr,
                disguise=disguise,
            )
            self._running.start()
            self._files = files.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:  # what is under way says more than how the program ended
            self.close()
            return
        try:
            self.stop()
        finally:
            self.close()

    def wait(self, timeout: float | None = None) -> Result:
        """Wait for the end of the program and all its descendants.

        :raises subprocess.TimeoutExpired: they have not ended within ``timeout`` seconds, and go on.
        :raises OSError: the program can't be executed.
        :raises vmtools.sim.tracer.TracingForbidden: ptrace or seccomp is not permitted here.
        """
        try:
            status = self._running.wait(timeout)
        except TimeoutError:
            raise subprocess.TimeoutExpired(
                self.args, timeout or 0.0, _contents(self._stdout), _contents(self._stderr)
            ) from None
        return Result(self.args, status, _contents(self._stdout), _contents(self._stderr), self._recording())

    def send_signal(self, signum: int) -> None:
        """Send a signal to the program; if that has ended, to each of its descendants that live."""
        self._running.tracer.send(signum)

    def stop(self, timeout: float = 5.0) -> Result:
        """End it, if it lives: by SIGTERM, and what is left after ``timeout`` seconds by SIGKILL."""
        if self._running.alive:
            self.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                return self.wait(timeout)
            self._running.kill()
        return self.wait()

    def close(self) -> None:
        """Kill what is left and forget its output; closing twice is no error."""
        self._running.kill()
        self._files.close()


def _contents(file: IO[bytes]) -> bytes:
    """All of it, without moving the position: the program writes at the same one."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)
