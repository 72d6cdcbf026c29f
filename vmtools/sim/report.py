"""What the host knows, as JSON: for ``vmtools sim status``, as vCenter would show it, and for tests.

All that a guest said is decoded here and bounded: a record that is malformed or too long becomes a sentence, and never
hides the others.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from vmtools.sim.channels import PROTOCOLS
from vmtools.sim.machine import INFO_CLASSES, SHOWN, text_of, version_text
from vmtools.sim.services import MAIN, POWER
from vmtools.wire import WireError, guestinfo

if TYPE_CHECKING:
    from collections.abc import Callable

    from vmtools.sim.backdoor import Backdoor
    from vmtools.sim.machine import Machine

RECORDS_LIMIT = 200_000
"""Characters of JSON that all records together may take; they are there twice, and a packet has 1 MiB."""

CAPABILITY_SHOWN = 128

TOOLS_TYPES = {0: "unknown", 1: "MSI", 2: "tar", 3: "OSP", 4: "open-vm-tools"}
UNMANAGED = (3, 4)
"""Types that are the guest's distribution's business: vCenter calls them guest managed."""

NETWORK = (2, 9, 10)
"""Classes of ``SetGuestInfo`` that describe the NICs."""

LAST = 20
"""How many power changes and events are shown: the latest."""


def status(backdoor: Backdoor) -> dict[str, Any]:
    """All of it: the machine, its channels, the fault plan."""
    channels = [
        {
            "id": channel.id,
            "protocol": PROTOCOLS.get(channel.protocol, hex(channel.protocol)),
            "app": None if channel.app is None else text_of(channel.app),
            "pid": channel.owner.pid,
            "program": channel.owner.name,
            "queued": len(channel.outbox),
        }
        for channel in backdoor.channels.open_channels.values()
    ]
    faults = None if backdoor.faults is None else {"exits": backdoor.faults.count, "plan": backdoor.faults.size}
    found = machine_status(backdoor.machine)
    running = backdoor.services.running()
    found["tools"]["services"] = {app: round(seconds, 1) for app, seconds in running.items()}
    found["tools"]["state"] = "running" if text_of(MAIN) in running else "not running"
    return {"personality": backdoor.personality, **found, "channels": channels, "faults": faults}


def machine_status(machine: Machine) -> dict[str, Any]:
    """What the machine itself knows: JSON values only; bytes as text with surrogate escapes."""
    records = _records(machine)
    return {
        **machine.status(),
        "clock": machine.clock.status(),
        "tools": {
            "app": None if machine.app is None else text_of(machine.app),
            "version": machine.tools_version,
            "version_text": None if machine.tools_version is None else version_text(machine.tools_version),
            "type": machine.tools_type,
            "type_text": None if machine.tools_type is None else TOOLS_TYPES.get(machine.tools_type, "unknown"),
            "guest_managed": machine.tools_type in UNMANAGED,
            "health": None if machine.health is None else text_of(machine.health),
        },
        "guest": _guest(machine, records),
        "records": records,
        "capabilities": {
            text_of(name[:CAPABILITY_SHOWN]): text_of(value[:CAPABILITY_SHOWN])
            for name, value in sorted(machine.capabilities.items())
        },
        "features": {str(k): v for k, v in sorted(machine.features.items())},
        "options": dict(machine.options.items()),
        "devices": {device.name: device.connected for device in machine.devices.all},
        "guestlib": {"session": f"{machine.guestlib.session:#x}", "fixed": sorted(machine.guestlib.set)},
        "namespaces": {text_of(k[:SHOWN]): len(v) for k, v in list(machine.namespaces.stores.items())[:LAST]},
        "state_changes": [
            {"state": state, "operation": POWER.get(state, ("unknown",))[0], "ok": ok}
            for state, ok in list(machine.state_changes)[-LAST:]
        ],
        "state_change_count": machine.state_change_count,
        "events": [{"event": event, "text": text_of(text[:SHOWN])} for event, text in list(machine.events)[-LAST:]],
        "rejections": len(machine.rejections),
        "guestinfo_keys": len(machine.guestinfo),
        "guestinfo_bytes": sum(len(k) + len(v) for k, v in machine.guestinfo.items()),
        "log_lines": len(machine.log),
    }


def _records(machine: Machine) -> dict[str, dict[str, Any]]:
    """By name, ``value``: the record decoded; or ``error``: why not, and ``size``."""
    room = RECORDS_LIMIT
    found: dict[str, dict[str, Any]] = {}
    sent: list[tuple[str, Callable[[], Any], int]] = [
        (INFO_CLASSES[kind], partial(guestinfo.describe, kind, value), len(value))
        for kind, value in machine.info.items()
    ]
    if machine.disk_info is not None:
        sent.append(("disk-info", partial(guestinfo.describe_disks, machine.disk_info), len(machine.disk_info)))
    for name, describe, size in sent:
        try:
            value = describe()
        except WireError as error:
            found[name] = {"error": str(error)[:SHOWN], "size": size}
            continue
        room -= len(json.dumps(value))
        found[name] = {"value": value} if room >= 0 else {"error": "it is too long to be shown", "size": size}
    return found


def _guest(machine: Machine, records: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the records say of the guest, whichever of them says it; None where none does."""

    def said(name: str) -> Any:
        return records.get(name, {}).get("value")

    detailed = said("os-detailed") or {}
    latest = next((kind for kind in reversed(machine.info) if kind in NETWORK), None)
    network = said(INFO_CLASSES[latest]) if latest is not None else None
    ip = machine.guestinfo.get(b"guestinfo.ip")
    disks = said("disk-info")
    return {
        "os": detailed.get("full_name") or said("os-name-full"),
        "os_id": detailed.get("short_name") or said("os-name"),
        "os_details": detailed.get("details", {}),
        "host_name": said("dns-name"),
        "ip": None if ip is None else text_of(ip[:SHOWN]),
        "nics": _nics(network),
        "disks": said("disk-free-space") if disks is None else disks,
        "uptime": said("uptime"),
        "statistics": (said("memory") or {}).get("statistics", {}),
    }


def _nics(network: Any) -> list[dict[str, Any]] | None:
    """The NICs of any of the three generations: ``mac`` and ``addresses``."""
    if network is None:
        return None
    return [
        {"mac": nic["mac"], "addresses": [_address(ip) for ip in nic.get("ips", ())]} for nic in network.get("nics", ())
    ]


def _address(ip: Any) -> str:
    if isinstance(ip, str):
        return ip
    return f"{ip['address']}/{ip['mask']}" if ip.get("mask") else str(ip["address"])
