"""How much a hostile guest can make the host keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmtools.constants import MAX_CHANNELS
from vmtools.sim import machine as limits
from vmtools.sim import namespaces
from vmtools.sim.channels import MAX_APP, MAX_QUEUE

if TYPE_CHECKING:
    from vmtools.sim.backdoor import Backdoor
    from vmtools.sim.channels import Channel

LARGEST_REPLY = limits.GUESTINFO_LIMIT + 2


def check_bounded(backdoor: Backdoor) -> None:
    """:raises AssertionError: something has grown over its limit."""
    machine, channels = backdoor.machine, backdoor.channels.open_channels
    assert len(channels) <= MAX_CHANNELS
    for number, channel in channels.items():
        _check_channel(number, channel, machine.max_message)
    assert sum(len(k) + len(v) for k, v in machine.guestinfo.items()) <= machine.guestinfo_limit
    assert len(machine.guestinfo) <= limits.KEYS_LIMIT
    assert len(machine.log) <= limits.KEEP_LOG
    assert all(len(line) <= limits.LINE_LIMIT for line in machine.log)
    assert set(machine.info) <= set(limits.INFO_CLASSES)
    assert sum(map(len, machine.info.values())) <= len(limits.INFO_CLASSES) * machine.max_message
    assert len(machine.disk_info or b"") <= machine.max_message
    assert len(machine.capabilities) <= limits.NAMED_LIMIT
    assert all(len(k) <= limits.NAME_LIMIT and len(v) <= limits.LINE_LIMIT for k, v in machine.capabilities.items())
    assert len(machine.features) <= 1024
    assert len(machine.health or b"") <= 64
    assert len(machine.app or b"") <= 64
    assert max(len(machine.state_changes), len(machine.rejections), len(machine.events)) <= limits.KEEP_EVENTS
    assert all(len(text) <= limits.LINE_LIMIT for _, text in machine.events)
    assert sum(map(_cost, machine.namespaces.stores.items())) <= namespaces.MAX_BYTES


def _cost(item: tuple[bytes, dict[bytes, bytes]]) -> int:
    name, store = item
    return sum(len(name) + len(key) + len(value) for key, value in store.items())


def _check_channel(number: int, channel: Channel, max_message: int) -> None:
    assert channel.id == number < MAX_CHANNELS
    assert -1 <= channel.expected <= max_message
    assert len(channel.incoming) <= max(0, channel.expected)
    assert channel.position <= (len(channel.outbox[0]) if channel.outbox else -1)
    assert len(channel.outbox) <= MAX_QUEUE
    assert all(len(message) <= LARGEST_REPLY for message in channel.outbox)
    assert len(channel.requests) == (len(channel.outbox) if channel.requests else 0)
    assert len(channel.app or b"") <= MAX_APP
