"""A simulated host as one object: a machine, everybody who talks to it, and what was said, for tests in Python.

:class:`Host` is the host's half; with the guest's half beside it, it is :class:`vmtools.testing.SimulatedHost`.

Guests come in by three ways at once, if need be: programs under the tracer (:meth:`Host.run`, :meth:`Host.start`),
whoever connects to the socket (:attr:`Host.socket`), and code in this process (:attr:`Host.gate`).  One lock lets them
in one after the other; it is also what the methods here wait with, so all may be called from any thread.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import MutableMapping
from contextlib import ExitStack
from pathlib import Path
from re import Pattern
from typing import TYPE_CHECKING, Any, TypeVar

from vmtools.errors import VMToolsError
from vmtools.sim.backdoor import Backdoor, Guest, Memory
from vmtools.sim.control import perform
from vmtools.sim.faults import FaultPlan
from vmtools.sim.inprocess import InProcessGate
from vmtools.sim.machine import GUESTINFO, Machine, bytes_of, full_key, text_of
from vmtools.sim.personalities import backdoor
from vmtools.sim.recording import Recorder, Recording
from vmtools.sim.transcript import Exchange, Transcript

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from vmtools.sim.guests import GuestProgram, Result, Word
    from vmtools.sim.transcript import Lines

    Text = str | bytes
    Wanted = str | bytes | Pattern[bytes]

Found = TypeVar("Found")

TIMEOUT = 10.0
"""Seconds that a guest has to say something."""

RUN_TIMEOUT = 60.0
"""Seconds that a program has to end."""

KEEP_SAID = 10_000
"""Exchanges that are kept."""

SHOWN = 10
"""Messages that a failed expectation names."""


class ExpectationFailed(AssertionError):
    """The guest did not say what was expected; ``str()`` tells what it said instead."""


class GuestSilent(VMToolsError):
    """A message for the guest's service was not answered: nobody listens, or the answer did not come."""

    help = "Is a tools service running in the guest (on this host), and does it poll?"


class HostGuestInfo(MutableMapping[str, bytes]):
    """The guestinfo variables, from the host's side.

    Keys are names with or without ``guestinfo.`` before them, and without when listed; values are bytes, and a str is
    taken as UTF-8.  The host may also list and delete, which a guest may not.

    :raises vmtools.sim.machine.GuestInfoError: (setting) a limit of the store is passed.
    """

    def __init__(self, machine: Machine, lock: threading.Condition) -> None:
        self._machine = machine
        self._lock = lock

    def __getitem__(self, key: Text) -> bytes:
        with self._lock:
            return self._machine.guestinfo[full_key(_bytes(key))]

    def __setitem__(self, key: Text, value: Text) -> None:
        with self._lock:
            self._machine.set_guestinfo(full_key(_bytes(key)), _bytes(value))

    def __delitem__(self, key: Text) -> None:
        with self._lock:
            del self._machine.guestinfo[full_key(_bytes(key))]

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            keys = list(self._machine.guestinfo)
        return iter([text_of(key.removeprefix(GUESTINFO)) for key in keys])

    def __len__(self) -> int:
        return len(self._machine.guestinfo)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)!r})"


class Host:
    """One simulated machine and its host; a context manager that ends all that it started.

    :param guestinfo: variables to begin with.
    :param personality: what kind of host: one of :data:`vmtools.sim.personalities.PERSONALITIES`.
    :param faults: what goes wrong and when, as for :meth:`fault`.
    :param machine_id: what ``machine.id.get`` answers; None where none is configured.
    :param transcript: a file that gets every exit, as JSON lines; the latest are kept in :attr:`transcript` anyway.
    :param disguise: whether programs that it runs see VMware's CPUID and, for root, firmware, too
        (:mod:`vmtools.sim.disguise`); False: this machine's own.
    :param machine: any other parameter of :class:`vmtools.sim.machine.Machine` (``hw_version``, ``mhz``, …).
    :raises ValueError: a personality or a fault that there is not.
    """

    machine: Machine
    """The state; hold :attr:`lock` to change it while guests run."""

    lock: threading.Condition
    """Held while an exit is answered; notified after each."""

    guestinfo: HostGuestInfo

    backdoor: Backdoor
    """Answers exits, for other front ends (:class:`vmtools.sim.kvm.VirtualCpu`)."""

    gate: InProcessGate
    """A guest's way to this host from the same process, with no trap and no socket."""

    def __init__(
        self,
        *,
        guestinfo: Mapping[str, Text] | None = None,
        personality: str = "vmware",
        faults: Iterable[str] = (),
        machine_id: Text | None = None,
        transcript: str | os.PathLike[str] | None = None,
        disguise: bool = True,
        **machine: Any,
    ) -> None:
        self.machine = Machine(machine_id=None if machine_id is None else _bytes(machine_id), **machine)
        self._disguise = disguise
        self.lock = threading.Condition()
        self.guestinfo = HostGuestInfo(self.machine, self.lock)
        self.guestinfo.update({} if guestinfo is None else guestinfo)  # type: ignore[arg-type]  # str values are taken too
        self._open = ExitStack()
        file: Lines | None = None
        if transcript is not None:
            file = self._open.enter_context(Path(transcript).open("w", encoding="utf-8"))  # noqa: SIM115
        self._recorder = Recorder(file)
        self._open.callback(self._recorder.detach)
        self._said: deque[Exchange] = deque(maxlen=KEEP_SAID)
        self._unexpected: deque[Exchange] = deque(maxlen=KEEP_SAID)
        self._plan = FaultPlan(faults)
        self.backdoor = _HostBackdoor(self, personality, Transcript(self._recorder), self._plan)
        self.gate = InProcessGate(self.backdoor)
        self._socket: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the programs that still run, and the socket.  What was recorded stays; closing twice is no error."""
        self._open.close()

    # -- guests ------------------------------------------------------------------------------------------------------

    def run(
        self,
        program: Word,
        *args: Word,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        input: Text = b"",
        timeout: float = RUN_TIMEOUT,
    ) -> Result:
        """Run a program as a guest of this host, and wait for it and its descendants.

        The instructions that it executes to reach the host trap, and this host answers them: no change to the program,
        no preloaded library.

        :param env: its whole environment, as :mod:`subprocess` has it; None: this process' own.
        :param input: its standard input.
        :param timeout: seconds, after which it is killed.
        :raises subprocess.TimeoutExpired: with what it printed until then.
        :raises OSError: the program can't be executed.
        :raises vmtools.sim.tracer.TracingForbidden: ptrace or seccomp is not permitted here.
        :raises NotImplementedError: this is not Linux on x86-64.
        """
        guest = self._guest([program, *args], env, cwd, input)
        try:
            return guest.wait(timeout)
        finally:
            guest.close()

    def start(
        self,
        program: Word,
        *args: Word,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        input: Text = b"",
    ) -> GuestProgram:
        """As :meth:`run`, in the background: for a service that the host talks to.  It ends with the host at last.

        That the program can't be executed is raised by :meth:`GuestProgram.wait`.
        """
        guest = self._guest([program, *args], env, cwd, input)
        self._open.callback(guest.close)
        return guest

    @property
    def socket(self) -> str:
        """The path of a socket for guests elsewhere: ``VMTOOLS_GATE=sim:SOCKET``, ``vmtools sim run --host SOCKET``.

        It is served from the first use on, in a thread; only this user (and root) may connect.
        """
        return self.serve()

    def serve(self, path: str | os.PathLike[str] | None = None) -> str:
        """Serve the socket, at ``path`` or in a new folder; once is enough.  Its path.

        :raises vmtools.sim.server.ServerError: ``path`` is taken or can't be used.
        :raises ValueError: it is served already, at another path.
        """
        from vmtools.sim.server import Server

        with self.lock:
            if self._socket is None:
                if path is None:
                    folder = tempfile.mkdtemp(prefix="vmtools-host-")
                    self._open.callback(shutil.rmtree, folder, ignore_errors=True)
                    path = os.path.join(folder, "socket")
                server = self._open.enter_context(Server(path, self.backdoor, lock=self.lock))
                thread = threading.Thread(target=server.serve_forever, name="vmtools-host", daemon=True)
                thread.start()
                self._open.callback(thread.join)
                self._open.callback(server.stop)
                self._socket = server.path
            elif path is not None and os.path.abspath(path) != self._socket:
                raise ValueError(f"this host is served already, at {self._socket}")
            return self._socket

    # -- what the host does ------------------------------------------------------------------------------------------

    def fault(self, *faults: str) -> None:
        """Put faults at exits to come: ``checkpoint@5`` is at the 5th from now, ``size@7+:0`` at each from the 7th on.

        The kinds are :data:`vmtools.sim.faults.KINDS`.  :raises ValueError: not of this form.
        """
        with self.lock:
            self._plan.add(faults)

    def lose_channels(self) -> None:
        """Forget all channels, as a suspend, a vMotion or a reset does."""
        with self.lock:
            self.backdoor.channels.lose()
            self.lock.notify_all()

    def send(
        self, text: Text, *, expect: Wanted | None = None, app: Text | None = None, timeout: float = TIMEOUT
    ) -> bytes:
        """Send a TCLO message to the guest's tools service and wait for its answer: ``OK …`` or ``ERROR …``.

        :param expect: what the answer must be, as for :meth:`expect`.
        :param app: the service that is meant (``toolbox``, ``toolbox-dnd``); None: the first that listens.
        :param timeout: seconds, also for the service to come and listen.
        :raises GuestSilent: nobody listens, or the answer did not come.
        :raises ExpectationFailed: the answer is another.
        """
        message = _bytes(text)
        service = None if app is None else _bytes(app)
        deadline = time.monotonic() + timeout
        channels = self.backdoor.channels
        with self.lock:
            request = self._until(lambda: channels.send(message, service), deadline)
            if request is None:
                raise GuestSilent(f"no guest service listens that could take {message!r}")
            if not self._until(lambda: request.state not in ("queued", "taken"), deadline):
                what = "was not read" if channels.withdraw(request) else "was read, and not answered"
                raise GuestSilent(f"the message {message!r} {what} within {timeout:g} s")
            if request.state != "answered" or request.answer is None:
                raise GuestSilent(f"the message {message!r} was {request.state}")
            self._said.append(Exchange("TCLO", message, request.answer))
        if expect is not None and not _fits(request.answer, expect):
            __tracebackhide__ = True
            raise ExpectationFailed(f"the guest answered {message!r} with {request.answer!r}, not {_wish(expect)}")
        return request.answer

    def expect(self, wanted: Wanted, *, reply: Wanted | None = None, timeout: float = TIMEOUT) -> Exchange:
        """Wait until a guest has sent an RPCI request; each call looks on behind the last one's find.

        :param wanted: the whole request (a NUL at its end counts for nothing), or a compiled pattern to search in it.
        :param reply: what the host must have answered (``1 value``, ``0 reason``), in the same form.
        :param timeout: seconds; 0 looks only at what was said already.
        :raises ExpectationFailed: it did not come; nothing is skipped then.
        """
        deadline = time.monotonic() + timeout
        passed: list[Exchange] = []

        def find() -> Exchange | None:
            while self._unexpected:
                exchange = self._unexpected.popleft()
                if _fits(exchange.request, wanted) and (reply is None or _fits(exchange.reply or b"", reply)):
                    return exchange
                passed.append(exchange)
            return None

        with self.lock:
            found = self._until(find, deadline)
            if found is not None:
                return found
            self._unexpected.extend(passed)
        __tracebackhide__ = True  # a test's report shows the test's own line
        raise ExpectationFailed(_disappointed(wanted, reply, timeout, passed))

    # -- what the host knows -----------------------------------------------------------------------------------------

    @property
    def said(self) -> list[Exchange]:
        """What passed between host and guests, whole messages and their answers: RPCI, and TCLO by :meth:`send`."""
        with self.lock:
            return list(self._said)

    @property
    def log(self) -> list[str]:
        """The machine's log, what guests wrote there included (``Guest: …``)."""
        with self.lock:
            return [line.decode("utf-8", "backslashreplace") for line in self.machine.log]

    @property
    def transcript(self) -> Recording:
        """Every exit so far (of very many, the latest)."""
        with self.lock:
            return self._recorder.recording()

    def status(self) -> dict[str, Any]:
        """What ``vmtools sim status`` shows: the machine, the tools, the open channels."""
        report: dict[str, Any] = {}
        with self.lock:
            perform(self.backdoor, {"do": "status"}, report.update)
        status: dict[str, Any] = report["status"]
        return status

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _guest(
        self,
        argv: list[Word],
        env: Mapping[str, str] | None,
        cwd: str | os.PathLike[str] | None,
        input: Text,
    ) -> GuestProgram:
        from vmtools.sim.disguise import Disguise, appearance
        from vmtools.sim.guests import GuestProgram

        with self.lock:
            before = self._recorder.count
            disguise = Disguise(appearance(self.backdoor)) if self._disguise else None

        def recording() -> Recording:
            with self.lock:
                return self._recorder.recording(before)

        environment = self._environment(env)
        return GuestProgram(argv, self.backdoor, recording, env=environment, cwd=cwd, input=input, disguise=disguise)

    def _environment(self, env: Mapping[str, str] | None) -> Mapping[str, str] | None:
        """What a program gets instead of ``env``."""
        return env

    def _until(self, found: Callable[[], Found], deadline: float) -> Found:
        """What ``found`` returns when it is true, or at the deadline; asked after each exit.  The lock is held."""
        while not (result := found()) and (left := deadline - time.monotonic()) > 0:
            self.lock.wait(left)
        return result


class _HostBackdoor(Backdoor):
    """Lets in one guest at a time, and tells those who wait what was said."""

    def __init__(self, host: Host, personality: str, transcript: Transcript, plan: FaultPlan) -> None:
        played = backdoor(personality, host.machine)
        super().__init__(host.machine, transcript=transcript, faults=plan, channels=played.channels)
        self.personality = personality
        self.serve = played.serve  # type: ignore[method-assign]  # the same machine and channels, another device
        self.channels.heard = self._heard
        self._host = host

    def exit(self, instruction: int, regs: list[int], memory: Memory, who: Guest) -> bool:
        with self._host.lock:
            answered = super().exit(instruction, regs, memory, who)
            self._host.lock.notify_all()
        return answered

    def _heard(self, request: bytes, reply: bytes) -> None:
        exchange = Exchange("RPCI", request, reply)
        self._host._said.append(exchange)
        self._host._unexpected.append(exchange)


def _bytes(text: Text) -> bytes:
    return bytes_of(text) if isinstance(text, str) else bytes(text)


def _fits(message: bytes, wanted: Wanted) -> bool:
    if isinstance(wanted, Pattern):
        return wanted.search(message) is not None
    return message.removesuffix(b"\0") == _bytes(wanted).removesuffix(b"\0")


def _wish(wanted: Wanted) -> str:
    return f"what matches {wanted.pattern!r}" if isinstance(wanted, Pattern) else repr(_bytes(wanted))


def _disappointed(wanted: Wanted, reply: Wanted | None, timeout: float, said: list[Exchange]) -> str:
    text = f"no guest sent {_wish(wanted)}"
    if reply is not None:
        text += f" and was answered {_wish(reply)}"
    text += f" within {timeout:g} s; "
    if not said:
        return text + "none sent anything since the last expectation"
    shown = [f"  {e.request[:200]!r} -> {(e.reply or b'')[:200]!r}" for e in said[-SHOWN:]]
    count = f", the last {SHOWN} of {len(said)}" if len(said) > SHOWN else ""
    return text + f"since the last expectation they sent{count}:\n" + "\n".join(shown)
