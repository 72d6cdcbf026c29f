"""Which gate, with which privilege, and which error: with faked evidence, a faked processor and a faked kernel."""

from __future__ import annotations

import errno
import io
import logging
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from vmtools import _gate, detect, errors, gates
from vmtools._gate import Frame
from vmtools.backdoor import Backdoor
from vmtools.constants import FLAG_HIGH, FLAG_OUT, MAGIC, PORT, PORT_HIGH
from vmtools.detect import Evidence
from vmtools.gates import Gate, HypercallGate, PortGate, choose
from vmtools.simgate import SocketGate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VMWARE, KVM = b"VMwareVMware", b"KVMKVMKVM\0\0\0"
SEGV = 11 | 128 << 8
SIGILL = 4 | 2 << 8


@pytest.fixture(autouse=True)
def _nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "_chosen", {})
    monkeypatch.delenv(gates.ENVIRONMENT, raising=False)


def evidence(
    hypervisor: bool = False, signature: bytes = b"", features: int = 0, dmi: dict[str, str] | None = None
) -> Evidence:
    found = Evidence(hypervisor, signature, 0x40000010 if features else 0, features)
    found._dmi = dmi or {}
    return found


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Callable[[Evidence], list[int]]:
    """Let the machine show some evidence; the list counts how often it was looked for."""

    def show(found: Evidence) -> list[int]:
        looks: list[int] = []

        def look() -> Evidence:
            looks.append(1)
            return found

        monkeypatch.setattr(gates, "look", look)
        return looks

    return show


# -- the decision table ------------------------------------------------------------------------------------------------

VMWARE_DMI = {"product_serial": "VMware-56 4d"}

TABLE = [
    # evidence, the gate, whether it may ask for the privilege
    (evidence(True, VMWARE, 3), "vmcall", None),
    (evidence(True, VMWARE, 2), "vmcall", None),
    (evidence(True, VMWARE, 1), "vmmcall", None),
    (evidence(True, VMWARE, 0), "port", True),
    (evidence(True, VMWARE, 8), "port", True),
    (evidence(False, dmi=VMWARE_DMI), "port", True),
    (evidence(True, KVM, dmi=VMWARE_DMI), "port", True),
    (evidence(False, dmi={"product_name": "VMware7,1"}), "port", True),
    (evidence(True, KVM, 3), "port", False),
    (evidence(True, KVM), "port", False),
    (evidence(True, b"TCGTCGTCGTCG"), "port", False),
    (evidence(True, b"Microsoft Hv"), "port", False),
    (evidence(True, b"\0" * 12), "port", False),
    (evidence(False), "port", False),
    (evidence(False, dmi={"product_name": "Some PC"}), "port", False),
]


@pytest.mark.parametrize(("found", "name", "privileged"), TABLE)
@pytest.mark.parametrize("spec", [None, "auto", ""])
def test_the_decision_table(
    found: Evidence, name: str, privileged: bool | None, spec: str | None, seen: Callable[[Evidence], list[int]]
) -> None:
    seen(found)
    gate = choose(spec)
    assert gate.name == name
    assert isinstance(gate, PortGate if name == "port" else HypercallGate)
    if isinstance(gate, PortGate):
        assert gate.privileged is privileged


@pytest.mark.parametrize("found", [row[0] for row in TABLE])
def test_who_asks_gets(found: Evidence, seen: Callable[[Evidence], list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    seen(found)
    for spec in ("port", "vmcall", "vmmcall"):
        gate = choose(spec)
        assert gate.name == spec
        assert getattr(gate, "privileged", True) is True
        monkeypatch.setenv(gates.ENVIRONMENT, spec)
        assert choose() is choose("") is gate
        assert choose("vmmcall").name == "vmmcall", "the argument goes before the environment"
    gate = choose("sim:/run/host")
    assert isinstance(gate, SocketGate)
    assert (gate.name, gate.path) == ("sim:/run/host", "/run/host")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("ports", "there is no gate 'ports'"),
        ("PORT", "there is no gate 'PORT'"),
        ("sim", "there is no gate 'sim'"),
        ("sim:", "needs the path of a socket"),
        ("\udcff", "there is no gate"),
    ],
)
@pytest.mark.parametrize("by_environment", [True, False])
def test_no_such_gate(spec: str, words: str, by_environment: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gates.ENVIRONMENT, spec)
    for _ in range(2):
        with pytest.raises(errors.GateUnavailable, match=words):
            choose(None if by_environment else spec)


def test_aarch64_has_no_hypercall_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_gate, "ARCHITECTURE", "aarch64")
    monkeypatch.setattr(detect, "firmware_vendor", lambda: b"VMware")
    for spec in ("vmcall", "vmmcall"):
        with pytest.raises(errors.GateUnavailable, match=f"aarch64 has no instruction {spec}"):
            choose(spec)
    assert isinstance(choose(), PortGate)


def test_the_choice_is_remembered(seen: Callable[[Evidence], list[int]]) -> None:
    looks = seen(evidence(True, VMWARE, 2))
    first = choose()
    assert all(choose() is first for _ in range(10))
    threads = [threading.Thread(target=choose) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(looks) == 1


def test_a_failure_is_not(seen: Callable[[Evidence], list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> Evidence:
        raise KeyboardInterrupt

    monkeypatch.setattr(gates, "look", interrupted)
    with pytest.raises(KeyboardInterrupt):
        choose()
    seen(evidence(True, VMWARE, 2))
    assert choose().name == "vmcall"


# -- what goes into DX -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "low", "out", "into"),
    [
        ("port", PORT, PORT_HIGH, PORT_HIGH),
        ("vmcall", 0, FLAG_HIGH | FLAG_OUT, FLAG_HIGH),
        ("vmmcall", 0, FLAG_HIGH | FLAG_OUT, FLAG_HIGH),
    ],
)
def test_the_low_word_of_edx_is_the_gates(
    name: str, low: int, out: int, into: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: list[tuple[int, Any]] = []

    def instruction(frame: Frame, *operand: object) -> int:
        words.append((frame.dx, operand[0] if operand else None))
        return 0

    prefix = "" if name == "port" else f"{name}_"
    for form in ("low" if name == "port" else name, f"{prefix or 'high_'}out", f"{prefix or 'high_'}in"):
        monkeypatch.setattr(_gate, form, instruction)
    gate: Gate = PortGate(evidence()) if name == "port" else HypercallGate(name, evidence())
    buffer = bytearray(3)
    for hold, before in ((True, 0x70000), (False, 0x7FFFF), (False, 0xDEADBEEF_00070000)):
        words.clear()
        gate.low(Frame(dx=before))
        gate.high_out(Frame(dx=before), b"abc")
        gate.high_in(Frame(dx=before), buffer)
        assert words == [(0x70000 | low, hold), (0x70000 | out, b"abc"), (0x70000 | into, buffer)]
        assert words[2][1] is buffer


def test_a_gate_with_no_form_of_an_instruction_says_so() -> None:
    with pytest.raises(errors.GateUnavailable, match="has no low-bandwidth form"):
        Gate().low(Frame())
    with pytest.raises(errors.GateUnavailable, match="has no high-bandwidth form"):
        Gate().high_out(Frame(), b"")
    with pytest.raises(errors.GateUnavailable, match="has no high-bandwidth form"):
        Gate().high_in(Frame(), bytearray())
    Gate().release()


@pytest.mark.parametrize("name", ["port", "vmcall"])
def test_a_threads_first_instruction_holds_the_gil_and_no_later_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is the one that may well fault: nobody must change the signals' handlers meanwhile."""
    holds: list[bool] = []
    faults = [SEGV, 0, 0, 0, 0]

    def instruction(frame: Frame, hold: bool = False) -> int:
        holds.append(hold)
        return faults.pop(0)

    monkeypatch.setattr(_gate, "low" if name == "port" else name, instruction)
    gate: Gate = PortGate(evidence(), privileged=False) if name == "port" else HypercallGate(name, evidence())
    with pytest.raises(errors.GateError):
        gate.low(Frame())
    for _ in range(3):
        gate.low(Frame())
    thread = threading.Thread(target=gate.low, args=(Frame(),))
    thread.start()
    thread.join()
    assert holds == [True, True, False, False, True]


# -- privilege ---------------------------------------------------------------------------------------------------------


class Kernel:
    """A processor and a kernel: the port faults in a thread that has not been granted it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, traps: bool = False, refuses: int = 0) -> None:
        self.traps = traps
        self.refuses = refuses
        self.fault = SEGV
        self.granted: set[int] = set()
        self.calls: list[tuple[int, int, bool]] = []
        self.instructions = 0
        self.status: dict[str, object] = {"uid": 0, "rawio": True, "lockdown": "none", "seccomp": 0}
        for form in ("low", "high_out", "high_in"):
            monkeypatch.setattr(_gate, form, self._instruction)
        monkeypatch.setattr(_gate, "ioperm", self._ioperm)
        monkeypatch.setattr(gates, "privilege_status", lambda: self.status)

    def _instruction(self, frame: Frame, *operand: object) -> int:
        self.instructions += 1
        if not self.traps and threading.get_ident() not in self.granted:
            return self.fault
        frame.ax, frame.bx, frame.cx = 6, MAGIC, 2
        return 0

    def _ioperm(self, first: int, count: int, on: bool) -> None:
        self.calls.append((first, count, on))
        if self.refuses:
            raise OSError(self.refuses, os.strerror(self.refuses))
        (self.granted.add if on else self.granted.discard)(threading.get_ident())


def test_where_the_host_traps_no_privilege_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, traps=True, refuses=errno.EPERM)
    for privileged in (True, False):
        gate = PortGate(evidence(), privileged=privileged)
        with gate.privilege():
            assert Backdoor(gate).version().version == 6
    assert kernel.calls == []


def test_after_a_fault_four_ports_are_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    gate = PortGate(evidence())
    for _ in range(3):
        assert Backdoor(gate).version().product == 2
        gate.high_out(Frame(), b"x")
        gate.high_in(Frame(), bytearray(1))
    assert kernel.calls == [(0x5658, 4, True)]
    assert kernel.instructions == 1 + 9


@pytest.mark.parametrize(("form", "operand"), [("low", []), ("high_out", [b"x"]), ("high_in", [bytearray(1)])])
def test_each_form_of_the_instruction_can_be_the_first(
    form: str, operand: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(monkeypatch)
    frame = Frame(ax=1)
    getattr(PortGate(evidence()), form)(frame, *operand)
    assert frame.ax == 6
    assert len(kernel.calls) == 1


def test_each_thread_is_granted_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    gate = PortGate(evidence())
    barrier = threading.Barrier(8)
    answers: list[int] = []

    def work() -> None:
        barrier.wait(30)
        answers.extend(Backdoor(gate).version().version for _ in range(5))
        barrier.wait(30)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == [6] * 40
    assert kernel.calls == [(PORT, 4, True)] * 8
    assert len(kernel.granted) == 8


def test_what_was_taken_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    gate = PortGate(evidence())
    with gate.privilege() as same:
        assert same is gate
        assert kernel.calls == [], "nothing before a fault"
        Backdoor(gate).version()
        assert kernel.granted
    assert kernel.calls == [(PORT, 4, True), (PORT, 4, False)]
    gate.release()
    assert len(kernel.calls) == 2, "once"

    def fail() -> None:
        with gate.privilege():
            Backdoor(gate).version()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not kernel.granted
    assert [on for _, _, on in kernel.calls] == [True, False, True, False]


def test_only_the_calling_threads_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    gate = PortGate(evidence())
    Backdoor(gate).version()

    def other() -> None:
        gate.release()
        with gate.privilege():
            Backdoor(gate).version()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert kernel.granted == {threading.get_ident()}
    Backdoor(gate).version()
    assert len(kernel.calls) == 3


# -- errors ------------------------------------------------------------------------------------------------------------

EPERM, ENOSYS = errno.EPERM, errno.ENOSYS

REFUSALS: list[tuple[int, dict[str, object], type[errors.NoPrivilege], str]] = [
    (EPERM, {"rawio": False}, errors.NoRawIO, "CAP_SYS_RAWIO is missing"),
    (EPERM, {"rawio": False, "lockdown": "integrity", "seccomp": 2}, errors.NoRawIO, "CAP_SYS_RAWIO is missing"),
    (EPERM, {"lockdown": "integrity"}, errors.LockedDown, r"locked down \(integrity\)"),
    (EPERM, {"lockdown": "confidentiality", "seccomp": 2}, errors.LockedDown, r"locked down \(confidentiality\)"),
    (EPERM, {"seccomp": 2}, errors.SeccompDenied, "a seccomp filter is in force"),
    (EPERM, {"seccomp": 2, "lockdown": ""}, errors.SeccompDenied, "a seccomp filter is in force"),
    (ENOSYS, {"seccomp": 2}, errors.SeccompDenied, "a seccomp filter is in force"),
    (ENOSYS, {}, errors.NoPrivilege, "built without I/O permissions"),
    (ENOSYS, {"rawio": False}, errors.NoPrivilege, "built without I/O permissions"),
    (EPERM, {}, errors.NoPrivilege, "Operation not permitted"),
    (EPERM, {"lockdown": ""}, errors.NoPrivilege, "Operation not permitted"),
    (errno.ENOMEM, {}, errors.NoPrivilege, "Cannot allocate memory"),
]


@pytest.mark.parametrize(("number", "status", "kind", "words"), REFUSALS)
def test_each_refusal_of_the_kernel_has_its_error(
    number: int,
    status: dict[str, object],
    kind: type[errors.NoPrivilege],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    kernel = Kernel(monkeypatch, refuses=number)
    kernel.status.update(status)
    gate = PortGate(evidence(True, VMWARE))
    with caplog.at_level(logging.DEBUG):
        for _ in range(2):
            with gate.privilege(), pytest.raises(errors.NoPrivilege, match=words) as caught:
                Backdoor(gate).version()
            assert type(caught.value) is kind
            assert one_sentence(caught.value.help)
    assert [record.levelno for record in caplog.records] == [logging.DEBUG] * 2
    assert kernel.granted == set()
    assert [on for _, _, on in kernel.calls] == [True, True], "nothing is given back that was not taken"


def one_sentence(text: str) -> bool:
    return text.endswith(".") and ". " not in text and text[0].isupper() and "\n" not in text


@pytest.mark.parametrize("name", errors.__all__)
def test_each_error_helps_with_one_sentence(name: str) -> None:
    kind = getattr(errors, name)
    if kind in (errors.VMToolsError, errors.GateError, errors.ChannelError):
        return  # these are for catching
    assert one_sentence(kind.help), kind.help


def test_all_granted_and_still_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    monkeypatch.setattr(_gate, "low", lambda frame, hold=False: SEGV)
    gate = PortGate(evidence(True, VMWARE))
    for _ in range(2):
        with pytest.raises(errors.GateFaulted, match=r"gate 'port' raised SIGSEGV \(si_code 128\)"):
            gate.low(Frame())
    assert len(kernel.calls) == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (SIGILL, r"SIGILL \(si_code 2\)"),
        (11 | 1 << 8, r"SIGSEGV \(si_code 1\)"),
        (7 | 2 << 8, "SIGBUS"),
        (31, "signal 31"),
    ],
)
def test_a_fault_of_another_kind_is_no_matter_of_privilege(
    fault: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(monkeypatch)
    kernel.fault = fault
    with pytest.raises(errors.GateFaulted, match=words) as caught:
        PortGate(evidence(True, VMWARE)).low(Frame())
    assert kernel.calls == []
    assert one_sentence(caught.value.help)


@pytest.mark.parametrize(
    ("found", "kind", "words"),
    [
        (evidence(), errors.NotVirtualMachine, "no hypervisor is present"),
        (evidence(True, KVM), errors.OtherHypervisor, "is KVM, not VMware"),
        (evidence(True, b"\0" * 12), errors.OtherHypervisor, "is unnamed, not VMware"),
        (Evidence(False, b"", 0, 0, b"linux,kvm\0"), errors.OtherHypervisor, "is linux,kvm, not VMware"),
    ],
)
@pytest.mark.parametrize("silent", [True, False])
def test_no_privilege_is_asked_for_where_nothing_says_vmware(
    found: Evidence, kind: type[errors.GateError], words: str, silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where the port faults nor where nobody answers it."""
    kernel = Kernel(monkeypatch)
    if silent:
        monkeypatch.setattr(_gate, "low", lambda frame, hold=False: 0)
    with pytest.raises(errors.GateError, match=words) as caught:
        Backdoor(PortGate(found, privileged=False)).version()
    assert type(caught.value) is kind
    assert one_sentence(caught.value.help)
    assert kernel.calls == []


def test_a_port_with_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel(monkeypatch)
    monkeypatch.setattr(_gate, "low", lambda frame, hold=False: 0)
    with pytest.raises(errors.NoDevice, match="nobody answers the backdoor port"):
        Backdoor(PortGate(evidence(True, VMWARE))).version()


@pytest.mark.parametrize(
    ("found", "kind", "words"),
    [
        (evidence(True, VMWARE, 2), errors.NoDevice, "nobody answers the gate 'vmcall'"),
        (evidence(True, KVM), errors.OtherHypervisor, "vmcall was not answered: the hypervisor here is KVM"),
        (evidence(), errors.OtherHypervisor, "the hypervisor here is nobody's"),
    ],
)
def test_a_hypercall_that_nobody_answers(
    found: Evidence, kind: type[errors.GateError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KVM answers any hypercall of a program with -1."""

    def refuse(frame: Frame, hold: bool) -> int:
        frame.ax = (1 << 64) - 1
        return 0

    monkeypatch.setattr(_gate, "vmcall", refuse)
    with pytest.raises(errors.GateError, match=words) as caught:
        Backdoor(HypercallGate("vmcall", found)).version()
    assert type(caught.value) is kind


@pytest.mark.parametrize("name", ["vmcall", "vmmcall"])
def test_a_hypercall_that_faults(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for form in (name, f"{name}_out", f"{name}_in"):
        monkeypatch.setattr(_gate, form, lambda frame, *operand: SIGILL)
    gate = HypercallGate(name, evidence(True, VMWARE, 3))
    words = rf"gate '{name}' raised SIGILL \(si_code 2\)"
    with pytest.raises(errors.GateFaulted, match=words):
        gate.low(Frame())
    with pytest.raises(errors.GateFaulted, match=words):
        gate.high_out(Frame(), b"x")
    with pytest.raises(errors.GateFaulted, match=words):
        gate.high_in(Frame(), bytearray(1))


# -- what the kernel says about privilege ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("[none] integrity confidentiality\n", "none"),
        ("none [integrity] confidentiality\n", "integrity"),
        ("none integrity [confidentiality]\n", "confidentiality"),
        ("", ""),
        ("none integrity\n", ""),
        (None, ""),
    ],
)
def test_lockdown(text: str | None, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "lockdown"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(gates, "_LOCKDOWN", str(file))
    assert gates.lockdown() == mode
    file.write_bytes(b"\xff[none]")
    assert gates.lockdown() == ""


@pytest.mark.parametrize(
    ("status", "rawio", "seccomp"),
    [
        ({"CapEff": "000001ffffffffff", "Seccomp": "0"}, True, 0),
        ({"CapEff": "0000000000020000", "Seccomp": "2"}, True, 2),
        ({"CapEff": "000001fffffdffff", "Seccomp": "2"}, False, 2),
        ({"CapEff": "0000000000000000"}, False, 0),
        ({}, False, 0),
    ],
)
def test_capabilities_and_seccomp(
    status: dict[str, str], rawio: bool, seccomp: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "_status", lambda: status)
    monkeypatch.setattr(gates, "_in_first_namespace", lambda: True)
    found = gates.privilege_status()
    assert (found["uid"], found["rawio"], found["seccomp"]) == (os.geteuid(), rawio, seccomp)
    monkeypatch.setattr(gates, "_in_first_namespace", lambda: False)
    assert gates.privilege_status()["rawio"] is False


@pytest.mark.parametrize(
    ("uid_map", "first"),
    [
        ("         0          0 4294967295\n", True),
        ("         0       1000          1\n", False),
        ("         0     100000      65536\n", False),
        ("         0          0      65536\n     65536 65536 1\n", False),
        ("", False),
        (None, True),
    ],
)
def test_the_first_user_namespace(uid_map: str | None, first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root of another one has every capability there, and none that counts here."""

    def proc(path: str, encoding: str) -> io.StringIO:
        if uid_map is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        return io.StringIO(uid_map)

    monkeypatch.setattr(gates, "open", proc, raising=False)
    assert gates._in_first_namespace() is first


def test_the_status_is_the_calling_threads() -> None:
    status = gates._status()
    assert int(status["Pid"]) == threading.get_native_id()
    assert {"CapEff", "Seccomp"} <= set(status)
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(int(gates._status()["Pid"])))
    thread.start()
    thread.join()
    assert seen == [thread.native_id]


def test_nothing_is_logged_above_debug(
    seen: Callable[[Evidence], list[int]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Kernel(monkeypatch, refuses=errno.EPERM)
    with caplog.at_level(logging.DEBUG):
        for found, *_ in TABLE:
            gates._chosen.clear()
            seen(found)
            gate = choose()
            if isinstance(gate, PortGate):
                with pytest.raises(errors.GateError):
                    Backdoor(gate).version()
    assert caplog.records
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}
    assert {record.name for record in caplog.records} == {"vmtools.gates"}
