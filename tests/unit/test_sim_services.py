"""What the host asks of its guest's services: the greeting, options that change, pings, power, interruptions."""

from __future__ import annotations

import pytest

from vmtools.sim import snapshot
from vmtools.sim.backdoor import Backdoor
from vmtools.sim.clock import ClockError
from vmtools.sim.machine import Machine
from vmtools.sim.options import DEFAULTS, MAX_OPTIONS
from vmtools.sim.report import status
from vmtools.sim.schedule import Schedule
from vmtools.sim.services import PING_SECONDS, REPORT_SECONDS

from .service import Service

OPTIONS = [f"Set_Option {name} {value}".encode() for name, value in DEFAULTS.items()]


class Now:
    """The schedule's time, set by a test."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def backdoor(now: Now) -> Backdoor:
    return Backdoor(Machine(), schedule=Schedule(now))


def test_the_greeting(backdoor: Backdoor) -> None:
    ready: list[bytes] = []
    backdoor.services.on_ready = ready.append
    service = Service(backdoor)
    assert service.settle() == [b"reset", b"Capabilities_Register", *OPTIONS, b"OS_PowerOn"]
    assert ready == [b"toolbox"]
    assert service.settle() == []
    assert Service(backdoor).settle()[-1] == OPTIONS[-1], "it has been told that it was powered on"


def test_a_service_is_ready_when_its_script_has_ended(backdoor: Backdoor, now: Now) -> None:
    ready: list[bytes] = []
    backdoor.services.on_ready = ready.append
    service = Service(backdoor, answers={b"OS_PowerOn": b"OK "})
    service.settle()
    assert ready == []
    service.rpc(b"tools.os.statechange.status 0 3\0")
    assert ready == [b"toolbox"]
    backdoor.machine.pending_power = b"OS_Resume"
    silent = Service(backdoor, answers={b"OS_Resume": b"OK "})
    silent.settle()
    now.seconds += REPORT_SECONDS
    silent.settle()
    assert ready == [b"toolbox"] * 2, "one that never reports is not waited for without end"


def test_a_service_that_fails_to_power_on_is_told_again(backdoor: Backdoor) -> None:
    service = Service(backdoor, answers={b"OS_PowerOn": b"ERROR State change already in progress"})
    assert service.settle()[-1] == b"OS_PowerOn"
    assert Service(backdoor).settle()[-1] == b"OS_PowerOn"


def test_only_the_main_service_is_told_of_power(backdoor: Backdoor) -> None:
    desktop = Service(backdoor, b"toolbox-dnd")
    assert desktop.settle() == [b"reset", b"Capabilities_Register", *OPTIONS]
    assert Service(backdoor).settle()[-1] == b"OS_PowerOn"


def test_a_host_without_manners() -> None:
    backdoor = Backdoor(Machine(handshake=False))
    ready: list[bytes] = []
    backdoor.services.on_ready = ready.append
    service = Service(backdoor)
    assert service.settle() == [b"reset"]
    backdoor.machine.options.set("synctime", "1")
    assert service.settle() == []
    assert ready == [b"toolbox"]


def test_options_that_change_are_pushed_to_all(backdoor: Backdoor) -> None:
    services = [Service(backdoor), Service(backdoor, b"toolbox-dnd")]
    for service in services:
        service.settle()
    assert services[0].rpc(b"vmx.set_option synctime 0 1\0") == b"1 "
    for service in services:
        assert service.settle() == [b"Set_Option synctime 1"]


def test_as_many_options_as_there_may_be_fit_into_a_greeting() -> None:
    machine = Machine(options={f"o{i}": "1" for i in range(MAX_OPTIONS - len(DEFAULTS))})
    assert len(Service(Backdoor(machine)).settle()) == MAX_OPTIONS + 3


def test_pings(backdoor: Backdoor, now: Now) -> None:
    service = Service(backdoor)
    service.settle()
    for _ in range(3):
        now.seconds += PING_SECONDS - 1
        assert service.settle() == []
        now.seconds += 1
        assert service.settle() == [b"ping"]
    service.guest.close()
    now.seconds += PING_SECONDS
    backdoor.schedule.run()
    assert backdoor.schedule.left() is None, "nobody is left to be pinged"
    again = Service(backdoor)
    again.settle()
    now.seconds += PING_SECONDS
    assert again.settle() == [b"ping"]


def test_no_ping_for_a_service_that_has_something_to_do(backdoor: Backdoor, now: Now) -> None:
    service = Service(backdoor)
    service.settle()
    backdoor.channels.send(b"work")
    service.poll()
    now.seconds += PING_SECONDS
    backdoor.schedule.run()
    assert service.settle() == []


@pytest.mark.parametrize(
    ("number", "power"), [(1, "off"), (2, "restarting"), (3, "on"), (4, "on"), (5, "suspended"), (9, "on")]
)
def test_power_follows_what_the_guest_reports(backdoor: Backdoor, number: int, power: str) -> None:
    service = Service(backdoor)
    assert service.rpc(b"tools.os.statechange.status 0 %d\0" % number) == b"1 "
    assert backdoor.machine.power == "on", "it failed"
    assert service.rpc(b"tools.os.statechange.status 1 %d\0" % number) == b"1 "
    assert backdoor.machine.power == power
    assert list(backdoor.machine.state_changes) == [(number, False), (number, True)]
    assert backdoor.machine.state_change_count == 2


@pytest.mark.parametrize(("kind", "told"), [("suspend-resume", [b"OS_Resume"]), ("vmotion", [])])
def test_an_interruption(backdoor: Backdoor, kind: str, told: list[bytes]) -> None:
    service = Service(backdoor)
    service.settle()
    machine = backdoor.machine
    session, real, apparent = machine.guestlib.session, machine.clock.real(), machine.clock.apparent()
    waiting = backdoor.channels.send(b"never answered")
    service.rpc(b"tools.os.statechange.status 1 5")
    snapshot.take(backdoor, kind, 90)
    assert waiting is not None
    assert waiting.state == "lost"
    assert not backdoor.channels.open_channels
    assert not service.guest.message(1).cx >> 16 & 1, "the channel is refused"
    assert machine.guestlib.session != session
    assert 90 <= (machine.clock.real() - real) / 1e9 < 91
    assert 0 <= (machine.clock.apparent() - apparent) / 1e9 < 1
    service.start()
    assert service.settle() == [b"reset", b"Capabilities_Register", *OPTIONS, *told]
    assert machine.power == ("on" if told else "suspended")


def test_interruptions_that_cannot_be(backdoor: Backdoor) -> None:
    session = backdoor.machine.guestlib.session
    with pytest.raises(KeyError):
        snapshot.take(backdoor, "holiday")
    with pytest.raises(ClockError):
        snapshot.take(backdoor, "vmotion", -1)
    assert backdoor.machine.guestlib.session == session


def test_a_service_that_falls_silent_is_not_running(backdoor: Backdoor) -> None:
    def tools() -> object:
        return status(backdoor)["tools"]["state"]

    assert tools() == "not running"
    service = Service(backdoor)
    service.settle()
    assert tools() == "running"
    channel = backdoor.services.listening()[0]
    channel.used -= 31
    assert tools() == "not running"
    service.settle()
    assert tools() == "running"
    service.guest.close()
    assert tools() == "not running"


def test_a_name_of_60000_bytes(backdoor: Backdoor) -> None:
    Service(backdoor, b"\x80" * 60_000).settle()
    assert [len(channel.app or b"") for channel in backdoor.services.listening()] == [64]
