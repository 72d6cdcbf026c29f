"""Hosts other than VMware, word by word; ``tests/vm/test_personalities.py`` compares QEMU's with the real device."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Any

import pytest

from vmtools.constants import UNSUPPORTED, Command
from vmtools.sim import control
from vmtools.sim.backdoor import PORT_IN, PORT_OUT, RDPMC, VMCALL, VMMCALL, Backdoor
from vmtools.sim.cpuid import Processor
from vmtools.sim.disguise import appearance
from vmtools.sim.faults import KINDS, FaultPlan
from vmtools.sim.host import Host
from vmtools.sim.inprocess import ADDRESS, BufferMemory, host
from vmtools.sim.machine import Machine
from vmtools.sim.outcomes import OUTCOMES
from vmtools.sim.personalities import ABSPOINTER_COMMAND, ABSPOINTER_DATA, ABSPOINTER_STATUS, PERSONALITIES, backdoor
from vmtools.sim.vmport import MAX_STRING, Mouse

from .naive_guest import JUNK, MAGIC, OPEN, SENDSIZE, Faulted, NaiveGuest

UUID = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
QEMU = ("qemu", "qemu-old", "vmport-rpc")


def guest(personality: str, **options: Any) -> NaiveGuest:
    return NaiveGuest(backdoor(personality, Machine(machine_uuid=UUID, **options)), junk=True)


def ask(who: NaiveGuest, command: int, bx: int = 0x11111111, ax: int = MAGIC) -> list[int]:
    """A call with something in every register, its upper half too."""
    set_ = [ax, bx, 0x5555 << 16 | command, 0x77775658, 0x22222222, 0x33333333, 0x44444444]
    return list(who.raw(0, *(JUNK | word for word in set_)))


def untouched(command: int) -> list[int]:
    set_ = [0x11111111, 0x5555 << 16 | command, 0x77775658, 0x22222222, 0x33333333, 0x44444444]
    return [JUNK | word for word in set_]


def test_the_guide_has_them_all() -> None:
    guide = (Path(__file__).resolve().parents[2] / "docs" / "sweep.md").read_text(encoding="utf-8")
    names = re.findall(r"^\| `([\w-]+)` \|", guide, re.MULTILINE)
    assert names[: len(PERSONALITIES)] == list(PERSONALITIES)
    shown = [outcome if outcome in ("answer", "error", "unclear") else outcome.upper() for outcome in OUTCOMES]
    assert names[-len(shown) :] == shown
    assert set(names[len(PERSONALITIES) : -len(shown)]) == set(KINDS)


def test_the_status_says_who() -> None:
    reports: list[Any] = []
    for name in PERSONALITIES:
        control.perform(backdoor(name, Machine()), {"do": "status"}, reports.append)
    assert [report["status"]["personality"] for report in reports] == list(PERSONALITIES)


@pytest.mark.parametrize(
    ("personality", "leaf", "text"),
    [
        ("vmware", 0x40000010, b"VMwareVMware"),
        ("vmware-lb", 0x40000010, b"VMwareVMware"),
        ("qemu", 0x40000001, b"TCGTCGTCGTCG"),
        ("qemu-old", 0x40000001, b"TCGTCGTCGTCG"),
        ("vmport-rpc", 0x40000001, b"TCGTCGTCGTCG"),
    ],
)
def test_what_cpuid_says(personality: str, leaf: int, text: bytes) -> None:
    processor = Processor(2_400_000, 66_000, 2, PERSONALITIES[personality].signature)
    ax, *words = processor.words(0x40000000, 0, lambda leaf, subleaf: (0, 0, 0, 0))
    assert (ax, b"".join(word.to_bytes(4, "little") for word in words)) == (leaf, text)
    features = processor.words(0x40000010, 0, lambda leaf, subleaf: (1, 1, 1, 1))
    assert features == ((2_400_000, 66_000, 2, 0) if leaf == 0x40000010 else (0, 0, 0, 0))


def test_hypercalls_are_vmwares() -> None:
    machines = {name: Machine() for name in PERSONALITIES}
    hosts = [backdoor(name, machine) for name, machine in machines.items()]
    assert [name for name, machine in machines.items() if machine.hypercalls] == ["vmware", "vmware-lb"]
    assert [appearance(one)["personality"] for one in hosts] == list(PERSONALITIES)
    assert PERSONALITIES["none"].signature is None


def test_in_process() -> None:
    machine, gate = host({b"k": b"v"}, personality="qemu")
    assert machine.product == 2
    who = NaiveGuest(gate.backdoor)
    assert who.low(10).cx == 2
    assert not host(personality="vmware-lb")[0].high_bandwidth


def test_a_host_object_is_any_of_them() -> None:
    with Host(personality="vmport-rpc", guestinfo={"k": "v"}, faults=["refused@3"]) as one:
        who = NaiveGuest(one.backdoor)
        assert [who.low(10).ax for _ in range(4)] == [6, 6, UNSUPPORTED, 6]
        one.fault("refused@2", "random:seed:0")
        assert [who.low(10).ax for _ in range(3)] == [6, UNSUPPORTED, 6]
        assert who.open().cx == 0x0001001E
        who.message(SENDSIZE, 4)
        who.message(2, int.from_bytes(b"ping", "little"))
        assert one.expect(b"ping", timeout=0) is not None
        assert len(one.transcript) == 10
    with Host(personality="none") as nobody, pytest.raises(Faulted):
        NaiveGuest(nobody.backdoor).low(10)


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match="'esx'; there are: vmware, vmware-lb, qemu"):
        backdoor("esx", Machine())


def test_the_machine_is_told() -> None:
    machines = {name: Machine() for name in PERSONALITIES}
    for name, machine in machines.items():
        backdoor(name, machine)
    assert [name for name, machine in machines.items() if machine.high_bandwidth] == ["vmware"]
    assert {name: machine.product for name, machine in machines.items() if machine.product != 4} == {
        "qemu": 2,
        "vmport-rpc": 2,
    }
    without = Machine(high_bandwidth=False)
    backdoor("vmware", without)
    assert not without.high_bandwidth


@pytest.mark.parametrize("instruction", range(6))
def test_none_answers_nothing(instruction: int) -> None:
    who = guest("none")
    port = {0: 0x5658, PORT_OUT: 0x5659, PORT_IN: 0x5659, VMCALL: 0, VMMCALL: 0, RDPMC: 0}[instruction]
    with pytest.raises(Faulted):
        who.raw(instruction, MAGIC, 0, 10, port)


@pytest.mark.parametrize("personality", QEMU)
def test_qemu_knows_no_hypercalls_and_no_counters(personality: str) -> None:
    who = guest(personality)
    for instruction, cx, dx in ((VMCALL, 10, 0), (VMMCALL, 10, 0), (VMCALL, 10, 3), (RDPMC, 0x10000, 0)):
        with pytest.raises(Faulted):
            who.raw(instruction, MAGIC, 0, cx, dx)


@pytest.mark.parametrize(("personality", "eax"), [("qemu", UNSUPPORTED), ("vmport-rpc", UNSUPPORTED)])
def test_qemu_unknown_command(personality: str, eax: int) -> None:
    who = guest(personality)
    for command in (0, 1, 17, 23, 46, 55, 100, 110):
        assert ask(who, command) == [eax, *untouched(command)], command
    assert ask(who, 10, ax=5) == [eax, *untouched(10)]


def test_old_qemu_unknown_command() -> None:
    who = guest("qemu-old")
    for command in (0, 1, 17, 19, 23, 30, 45, 46, 55, 68, 100, 110):
        assert ask(who, command) == [MAGIC, *untouched(command)], command
    assert ask(who, 10, ax=5) == [5, *untouched(10)]


def test_qemu_without_messages_echoes() -> None:
    """OPEN has status 0; other types look like their own number."""
    for personality in ("qemu", "qemu-old"):
        who = guest(personality)
        regs = who.open()
        assert regs.cx & 0xFFFFFFFF == OPEN << 16 | 30
        assert who.message(SENDSIZE, 4).cx >> 16 & 0xFFFF == SENDSIZE


@pytest.mark.parametrize("personality", QEMU)
def test_qemu_the_command_is_a_byte(personality: str) -> None:
    assert ask(guest(personality), 0x10A)[:2] == [6, MAGIC]
    assert guest("vmware").low(0x10A).ax & 0xFFFFFFFF == UNSUPPORTED


def test_qemu_version() -> None:
    assert ask(guest("qemu"), 10) == [6, MAGIC, 2, *untouched(10)[2:]]
    # the old device says no product, and leaves all of RCX
    assert ask(guest("qemu-old"), 10) == [6, MAGIC, *untouched(10)[1:]]


def test_qemu_commands() -> None:
    who = guest("qemu", memory_mb=5120)
    assert ask(who, Command.GETUUID)[:4] == [0x33221100, 0x77665544, 0xBBAA9988, 0xFFEEDDCC]
    assert ask(who, Command.GETMEMSIZE) == [0x40000000, 0x1177, *untouched(20)[1:]], "bytes, cut to 32 bits"
    assert ask(who, Command.GETHZ) == [MAGIC, 0xFFFFFFFF, *untouched(45)[1:]]
    assert ask(who, Command.GET_VCPU_INFO) == [0, *untouched(68)]


@pytest.mark.parametrize("personality", QEMU)
def test_qemu_mouse(personality: str) -> None:
    who = guest(personality)

    def status() -> int:
        regs = ask(who, ABSPOINTER_STATUS)
        assert max(regs[:6]) <= 0xFFFFFFFF, "the mouse's commands write all six registers"
        return regs[0]

    assert status() == 0xFFFF0000
    ask(who, ABSPOINTER_COMMAND, 0x53424152)
    assert status() == 0xFFFF0000
    ask(who, ABSPOINTER_COMMAND, Mouse.ENABLE)
    assert status() == 1
    assert ask(who, ABSPOINTER_DATA, 3)[0] == MAGIC, "more than there is"
    assert status() == 0xFFFF0001
    assert ask(who, ABSPOINTER_DATA, 1)[0] == Mouse.IDENTITY
    for _ in range(2):
        ask(who, ABSPOINTER_COMMAND, Mouse.ENABLE)
    assert status() == 2
    assert ask(who, ABSPOINTER_DATA, 2)[:2] == [Mouse.IDENTITY, Mouse.IDENTITY]
    ask(who, ABSPOINTER_COMMAND, Mouse.DISABLE)
    assert status() == 0xFFFF0000


def test_a_mouse_that_nobody_reads_does_not_grow() -> None:
    who = guest("qemu")
    for _ in range(Mouse.QUEUE + 10):
        ask(who, ABSPOINTER_COMMAND, Mouse.ENABLE)
    assert ask(who, ABSPOINTER_STATUS)[0] == Mouse.QUEUE


@pytest.mark.parametrize("personality", QEMU)
def test_qemu_nothing_is_on_the_high_port(personality: str) -> None:
    who = guest(personality)
    regs = who.high_out(b"abcd")
    assert (regs.bx, regs.cx, regs.si) == (0x00010000, 0, ADDRESS + 4), "it looks like success"
    buffer = bytearray(4)
    assert (who.high_in(buffer).bx, bytes(buffer)) == (0x00010000, b"\xff" * 4)
    for instruction in (PORT_IN, PORT_OUT):
        with pytest.raises(Faulted):  # a bad pointer
            who.raw(instruction, MAGIC, 0x10000, 4, 0x5659, 8, 8, memory=BufferMemory(b""))
        with pytest.raises(Faulted):  # nothing a guest says makes the host allocate without bound
            who.raw(instruction, MAGIC, 0x10000, MAX_STRING + 1, 0x5659, ADDRESS, ADDRESS)
        with pytest.raises(Faulted):
            who.raw(instruction, MAGIC, 0x10000, 4, 0x60)
        assert who.raw(instruction, MAGIC, 0x10000, 0, 0x5659).bx == 0x00010000


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("personality", PERSONALITIES)
@pytest.mark.parametrize("at", range(1, 8))
def test_faults_at_every_personality(personality: str, kind: str, at: int) -> None:
    """Whatever it makes of it, the host goes on, and closing works."""
    plan = FaultPlan([f"{kind}@{at}"], sleep=lambda _: None)
    exits: Backdoor = backdoor(personality, Machine(guestinfo={b"k": b"v"}), faults=plan)
    who = NaiveGuest(exits, high=False)
    try:
        who.open()
        who.rpc(b"info-get guestinfo.k")
    except (AssertionError, Faulted):
        assert plan.count >= 1
    plan.faults.clear()
    exits.channels.lose()
    if PERSONALITIES[personality].messages is not None:
        who = NaiveGuest(exits, high=False)
        who.open()
        if personality == "vmport-rpc":  # its words are loose: checked in test_vmport_rpc.py
            assert who.message(SENDSIZE, 0).cx == 0x0001001E
        else:
            assert who.rpc(b"info-get guestinfo.k") == b"1 v"
