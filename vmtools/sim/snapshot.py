"""What a suspend and a vMotion have in common for the guest: its channels are gone, the clock has leapt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmtools.sim.machine import RESUMED

if TYPE_CHECKING:
    from vmtools.sim.backdoor import Backdoor

KINDS = {
    "suspend-resume": "suspended and resumed: the guest's service is then told OS_Resume",
    "vmotion": "moved to another host: the guest is told nothing",
}


def take(backdoor: Backdoor, kind: str, leap: float = 0.0) -> None:
    """Interrupt the machine.

    All channels are lost, a new session of the guest library begins, and of the host's time the guest misses ``leap``
    seconds.

    :param kind: one of :data:`KINDS`; :raises KeyError: it is none.
    :raises vmtools.sim.clock.ClockError: the leap is not possible; nothing has happened then.
    """
    if kind not in KINDS:
        raise KeyError(kind)
    machine = backdoor.machine
    machine.clock.leap(leap)
    backdoor.channels.lose()
    machine.guestlib.begin_session()
    if kind == "suspend-resume":
        machine.pending_power = RESUMED
        machine.power = "on"
    machine.write_log(f"The machine was interrupted: {kind}, {leap:g} s".encode())
