"""``SetGuestInfo  CLASS VALUE``: what a guest tells of itself, told apart by class (specification 5.4).

:func:`decode_payload` gives the model of the class; :func:`describe` gives it as plain lists, dicts, numbers and text
that :mod:`json` writes, for people and tests.
"""

from __future__ import annotations

import dataclasses
import math
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from vmtools.wire import WireError, disk, nic, osdetail, statnames, stats
from vmtools.wire.bounded import at_most, from_bytes, number, to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

COMMAND = b"SetGuestInfo "
MAX_TEXT = 1 << 16
MAX_UPTIME = (1 << 64) - 1


class InfoClass(IntEnum):
    """Kinds of information."""

    DNS_NAME = 1
    IP_ADDRESS = 2
    DISK_FREE_SPACE = 3
    BUILD_NUMBER = 4
    OS_NAME_FULL = 5
    OS_NAME = 6
    UPTIME = 7
    MEMORY = 8
    IP_ADDRESS_V2 = 9
    IP_ADDRESS_V3 = 10
    OS_DETAILED = 11


TEXTS = frozenset({InfoClass.DNS_NAME, InfoClass.BUILD_NUMBER, InfoClass.OS_NAME_FULL, InfoClass.OS_NAME})
"""Classes whose value is text, sent with its NUL; so is UPTIME's, a number."""


@dataclasses.dataclass(frozen=True, slots=True)
class Uptime:
    """How long the guest has been up, in 1/100 s."""

    hundredths: int


Model = (
    str
    | Uptime
    | nic.NicInfo
    | nic.NicList
    | nic.NicListV1
    | tuple[disk.Disk, ...]
    | stats.Statistics
    | osdetail.OsDetail
)


def encode(number: int, payload: bytes) -> bytes:
    """The request: the blank that ends an empty field of old, the class, the payload."""
    return COMMAND + b" %d " % _known(number) + payload


def decode(request: bytes) -> tuple[InfoClass, bytes]:
    """Class and payload; :raises WireError: it is no such request, or of a class not known."""
    head = COMMAND + b" "
    digits, blank, payload = request.removeprefix(head).partition(b" ")
    if not request.startswith(head) or not blank:
        raise WireError("no SetGuestInfo request")
    return _known(number(digits, "the class", 99)), payload


def encode_payload(number: int, model: Model) -> bytes:
    """The payload of that class; :raises WireError: ``model`` is another's, or exceeds a limit."""
    info_class = _known(number)
    match model:
        case nic.NicListV1() if info_class == InfoClass.IP_ADDRESS:
            return nic.encode_v1(model)
        case nic.NicInfo() if info_class in (InfoClass.IP_ADDRESS_V2, InfoClass.IP_ADDRESS_V3):
            return nic.encode(model)
        case nic.NicList() if info_class == InfoClass.IP_ADDRESS_V2:
            return nic.encode(model)
        case tuple() if info_class == InfoClass.DISK_FREE_SPACE:
            return disk.encode_binary(model)
        case stats.Statistics() if info_class == InfoClass.MEMORY:
            return stats.encode(model)
        case osdetail.OsDetail() if info_class == InfoClass.OS_DETAILED:
            return osdetail.encode(model)
        case Uptime(hundredths) if info_class == InfoClass.UPTIME and 0 <= hundredths <= MAX_UPTIME:
            return b"%d\0" % hundredths
        case str() if info_class in TEXTS:
            return to_bytes(model, info_class.name, MAX_TEXT) + b"\0"
    raise WireError(f"{type(model).__name__} does not go in class {number}")


def decode_payload(number: int, payload: bytes) -> Model:
    """The model of that class; :raises WireError: malformed, or a class not known."""
    return _DECODERS[_known(number)](payload)


def describe(number: int, payload: bytes) -> Any:
    """What the guest said, as JSON can have it; :raises WireError: malformed, or a class not known.

    Addresses are text, disks' and memory's sizes numbers of bytes and KiB as sent, statistics a dict by name of value
    and unit, uptime seconds.
    """
    return plain(decode_payload(number, payload))


def describe_disks(payload: bytes) -> Any:
    """The same for the JSON of ``SetGuestDiskInfo``."""
    return plain(disk.decode_json(payload))


def plain(value: Any) -> Any:
    """A model of this package as JSON can have it: dataclasses as dicts without what was not said."""
    match value:
        case nic.Address():
            return str(value)
        case nic.Ip(address, prefix, origin, status):
            words = {"origin": _word(nic.Origin, origin), "status": _word(nic.Status, status)}
            return {"address": f"{address}/{prefix}"} | {name: word for name, word in words.items() if word is not None}
        case nic.Route(destination, prefix, next_hop, interface, kind, metric):
            route = {"destination": f"{destination}/{prefix}", "interface": interface, "next_hop": plain(next_hop)}
            route |= {"type": _word(nic.RouteType, kind) if kind else None}
            route |= {"metric": None if metric == nic.NO_METRIC else metric}
            return {name: item for name, item in route.items() if item is not None}
        case Uptime(hundredths):
            return hundredths / 100
        case stats.Statistics():
            return _plain_statistics(value)
        case float() if not math.isfinite(value):
            return str(value)
        case bytes():
            return value.hex()
        case dict():
            return {name: plain(item) for name, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        items = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {name: plain(item) for name, item in items.items() if item is not None and item != ()}
    return value


def _plain_statistics(statistics: stats.Statistics) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for record in statistics.records:
        name = statnames.NAMES.get(record.id, f"id {record.id}") if record.id is not None else "no id"
        unit = record.unit_name or statnames.unit_text(record.unit)
        values[name] = {"value": plain(record.value)} | ({"unit": unit} if unit else {})
    head = {"mem_total_kib": statistics.mem_total, "huge_pages_total": statistics.huge_pages_total}
    return {name: item for name, item in head.items() if item is not None} | {"statistics": values}


def _word(words: type[IntEnum], value: int | None) -> str | int | None:
    """The number in words, or itself if there are none."""
    if value is None:
        return None
    try:
        return words(value).name.lower().replace("_", " ")
    except ValueError:
        return value


def _known(number: int) -> InfoClass:
    try:
        return InfoClass(number)
    except ValueError:
        raise WireError(f"class {number} is not known") from None


def _text(payload: bytes) -> str:
    text = payload.removesuffix(b"\0")
    at_most(len(text), "bytes of text", MAX_TEXT)
    return from_bytes(text, "a text")


def _nic_info(payload: bytes) -> nic.NicInfo:
    model = nic.decode(payload)
    if not isinstance(model, nic.NicInfo):
        raise WireError("class 10 has version 3 of the NIC list, not version 2")
    return model


def _uptime(payload: bytes) -> Uptime:
    return Uptime(number(payload.removesuffix(b"\0"), "the uptime", MAX_UPTIME))


_DECODERS: dict[InfoClass, Callable[[bytes], Model]] = {
    InfoClass.DNS_NAME: _text,
    InfoClass.IP_ADDRESS: nic.decode_v1,
    InfoClass.DISK_FREE_SPACE: disk.decode_binary,
    InfoClass.BUILD_NUMBER: _text,
    InfoClass.OS_NAME_FULL: _text,
    InfoClass.OS_NAME: _text,
    InfoClass.UPTIME: _uptime,
    InfoClass.MEMORY: stats.decode,
    InfoClass.IP_ADDRESS_V2: nic.decode,
    InfoClass.IP_ADDRESS_V3: _nic_info,
    InfoClass.OS_DETAILED: osdetail.decode,
}
