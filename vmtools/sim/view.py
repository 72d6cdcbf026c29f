"""The status for a person: what vCenter's summary page shows of a virtual machine, and below it what a tester asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH = 18


def plain(value: object) -> str:
    """A value on one line that can do no harm to a terminal."""
    if value is None or value in ([], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))


def lines(status: dict[str, Any]) -> Iterator[str]:
    """The status (:func:`vmtools.sim.report.status`), line by line."""
    yield from _summary(status)
    guest = status["guest"]
    yield from _block("NICs", [f"{nic['mac']}: {', '.join(nic['addresses']) or '-'}" for nic in guest["nics"] or ()])
    yield from _block("disks", [_disk(disk) for disk in guest["disks"] or ()])
    yield from _block("statistics", [_statistic(name, item) for name, item in guest["statistics"].items()])
    yield from _block("not understood", [f"{n}: {r['error']}" for n, r in status["records"].items() if "error" in r])
    yield from _block("capabilities", _pairs(status["capabilities"]) + _pairs(status["features"], "feature "))
    yield from _block("options", _pairs(status["options"]))
    yield from _block("devices", [f"{name}: {_connected(on)}" for name, on in status["devices"].items()])
    changes = [f"{c['operation']}: {'done' if c['ok'] else 'failed'}" for c in status["state_changes"]]
    yield from _block("power changes", changes)
    yield from _block("events", [f"{event['event']} {event['text']}" for event in status["events"]])
    yield from _block("channels", [_channel(channel) for channel in status["channels"]])


def _summary(status: dict[str, Any]) -> Iterator[str]:
    guest, clock = status["guest"], status["clock"]
    machine = f"{status['product']} build {status['build']}, hardware version {status['hw_version']}"
    yield _line("power", status["power"])
    yield _line("host", machine + ("" if status["high_bandwidth"] else ", low bandwidth only"))
    yield _line("machine", f"{status['memory_mb']} MB, {status['mhz']} MHz, {status['uuid']}")
    yield _line("host clock", f"{clock['now']} ({clock['offset']:+g} s, drift {clock['drift_ppm']:g} ppm)")
    yield _line("tools", _tools(status["tools"]))
    yield _line("guest OS", guest["os"] if guest["os_id"] is None else f"{guest['os'] or '-'} ({guest['os_id']})")
    yield _line("host name", guest["host_name"])
    yield _line("IP address", guest["ip"])
    yield _line("up for", None if guest["uptime"] is None else f"{guest['uptime']:.0f} s")
    yield _line("guestinfo", f"{_count(status['guestinfo_keys'], 'variable')}, {status['guestinfo_bytes']} bytes")
    yield _line("log", _count(status["log_lines"], "line"))
    if status["rejections"]:
        yield _line("rejections", f"{_count(status['rejections'], 'message')} that the guest reported as failed")
    if status["faults"] is not None:
        yield _line("faults", f"{_count(status['faults']['plan'], 'fault')} planned, {status['faults']['exits']} exits")


def _tools(tools: dict[str, Any]) -> str:
    words = [tools["state"]]
    if tools["version"] is not None:
        words.append(f"version {tools['version_text']} ({tools['version']})")
    if tools["type_text"] is not None:
        words.append(tools["type_text"] + (", guest managed" if tools["guest_managed"] else ""))
    if tools["health"] is not None:
        words.append(f"health {tools['health']}")
    return ", ".join(words)


def _disk(disk: dict[str, Any]) -> str:
    text = f"{disk['name']}: {_size(disk['free'])} free of {_size(disk['size'])}"
    if "fs_type" in disk:
        text += f", {disk['fs_type']}"
    return text + (f" on {', '.join(disk['devices'])}" if disk.get("devices") else "")


def _size(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):.1f} MiB"


def _statistic(name: str, item: dict[str, Any]) -> str:
    value = item["value"]
    return f"{name}: {plain(round(value, 3) if isinstance(value, float) else value)} {item.get('unit', '')}".rstrip()


def _channel(channel: dict[str, Any]) -> str:
    app = f" {channel['app']}" if channel["app"] is not None else ""
    queued = f", {channel['queued']} queued" if channel["queued"] else ""
    return f"{channel['id']}: {channel['protocol']}{app}, {channel['program'] or 'unknown'} ({channel['pid']}){queued}"


def _connected(on: bool) -> str:
    return "connected" if on else "disconnected"


def _pairs(values: dict[str, Any], prefix: str = "") -> list[str]:
    return [f"{prefix}{name} {value}".rstrip() for name, value in values.items()]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _line(name: str, value: object) -> str:
    return f"{name + ':':<{WIDTH}}{plain(value)}"


def _block(name: str, entries: list[str]) -> Iterator[str]:
    if entries:
        yield f"{name}:"
        for entry in entries:
            yield f"  {plain(entry)}"
