"""RPCI, host half: a request's bytes in, the reply's bytes out.

A reply is ``1 `` and the value, or ``0 `` and the reason.  The words of the refusals ``Unknown command`` and
``No value found`` are VMware's (guests compare them); ``Command not found`` is the specification's guess for a machine
with no id; the others are modelled on the public vmport_rpc device.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from vmtools.sim.machine import GUESTINFO, INFO_CLASSES, TEXT_CLASSES, GuestInfoError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vmtools.sim.machine import Machine

    Handler = Callable[[Machine, bytes], bytes]

UNKNOWN = b"Unknown command"
NO_VALUE = b"No value found"
ONE_ARGUMENT = b"One and exactly one argument expected"
TWO_ARGUMENTS = b"Two and exactly two arguments expected"
BAD_ARGUMENT = b"Invalid argument"
DENIED = b"Permission denied"

DIGITS = 10
"""The longest decimal number that is read: an int from a hostile guest must not be long."""


class RefusedError(Exception):
    """The command is answered with "0 text"."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text


def answer(machine: Machine, request: bytes) -> bytes:
    """What the host replies to one request; never raises for anything a guest can send."""
    name, blank, rest = request.partition(b" ")
    name = name.removesuffix(b"\0")
    try:
        if name in machine.refused:
            raise RefusedError(machine.refused[name])
        handler = COMMANDS.get(name)
        if handler is not None:
            return b"1 " + handler(machine, rest)
        for prefix, prefix_handler in PREFIXES:
            if name.startswith(prefix) and len(name) > len(prefix):
                return b"1 " + prefix_handler(machine, name + blank + rest)
        raise RefusedError(UNKNOWN)
    except RefusedError as refused:
        return b"0 " + refused.text


def text(argument: bytes) -> bytes:
    """An argument without the NUL that most guests count into the length (specification 5.0)."""
    return argument.removesuffix(b"\0")


def number(argument: bytes, limit: int = 0xFFFFFFFF) -> int:
    """A decimal argument; :raises RefusedError: it is none, or over the limit."""
    if not argument.isdigit() or len(argument) > DIGITS or int(argument) > limit:
        raise RefusedError(BAD_ARGUMENT)
    return int(argument)


def info_get(machine: Machine, rest: bytes) -> bytes:
    key = text(rest).rstrip(b" ")
    if not key or b" " in key:
        raise RefusedError(ONE_ARGUMENT)
    value = machine.guestinfo.get(key)
    if value is None:
        raise RefusedError(NO_VALUE)
    return value


def info_set(machine: Machine, rest: bytes) -> bytes:
    # the value is everything after a single blank: it may be empty, begin with blanks, hold NULs
    key, blank, value = text(rest).partition(b" ")
    if not key or not blank:
        raise RefusedError(TWO_ARGUMENTS)
    if not key.startswith(GUESTINFO) or key == GUESTINFO:
        raise RefusedError(DENIED)
    try:
        machine.set_guestinfo(key, value)
    except GuestInfoError as error:
        raise RefusedError(str(error).encode()) from None
    return b""


def log(machine: Machine, rest: bytes) -> bytes:
    machine.write_log(b"Guest: " + text(rest).rstrip(b"\n"))
    return b""


def machine_id_get(machine: Machine, rest: bytes) -> bytes:
    if machine.machine_id is None:
        raise RefusedError(b"Command not found")
    return machine.machine_id


def set_version(machine: Machine, rest: bytes) -> bytes:
    machine.tools_version = number(text(rest), 0x7FFFFFFF)
    return b""


def set_version_type(machine: Machine, rest: bytes) -> bytes:
    version, _, kind = text(rest).partition(b" ")
    checked = number(version, 0x7FFFFFFF), number(kind)
    machine.tools_version, machine.tools_type = checked
    return b""


def state_change_status(machine: Machine, rest: bytes) -> bytes:
    ok, _, state = text(rest).partition(b" ")
    checked = number(state), bool(number(ok, 1))
    machine.state_changes.append(checked)
    return b""


def health(machine: Machine, rest: bytes) -> bytes:
    machine.health = text(rest)[:64]
    return b""


def features(machine: Machine, rest: bytes) -> bytes:
    found: dict[int, int] = {}
    for item in text(rest).split():
        feature, equals, value = item.partition(b"=")
        if not equals:
            raise RefusedError(BAD_ARGUMENT)
        found[number(feature, 1023)] = number(value)
    machine.features.update(found)
    return b""


def tools_capability(machine: Machine, request: bytes) -> bytes:
    # "tools.capability.NAME VALUE", and "tools.capability.NAME " for those without a value
    name, _, value = text(request).partition(b" ")
    if not machine.set_capability(name.removeprefix(b"tools.capability."), value):
        raise RefusedError(b"Too many keys")
    return b""


def unified_loop(machine: Machine, rest: bytes) -> bytes:
    machine.app = text(rest)[:64]
    return b""


def set_guest_info(machine: Machine, rest: bytes) -> bytes:
    # "SetGuestInfo  TYPE VALUE": the second blank ends an empty field of old
    if not rest.startswith(b" "):
        raise RefusedError(BAD_ARGUMENT)
    kind, blank, value = rest[1:].partition(b" ")
    if not blank or not kind.isdigit() or len(kind) > 2 or int(kind) not in INFO_CLASSES:
        raise RefusedError(BAD_ARGUMENT)
    if int(kind) in TEXT_CLASSES and b"\0" in value[:-1]:
        raise RefusedError(BAD_ARGUMENT)
    machine.info[int(kind)] = value
    return b""


def set_guest_disk_info(machine: Machine, rest: bytes) -> bytes:
    value = text(rest)
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise RefusedError(BAD_ARGUMENT)
    machine.disk_info = value
    return b""


COMMANDS: dict[bytes, Handler] = {
    b"SetGuestDiskInfo": set_guest_disk_info,
    b"SetGuestInfo": set_guest_info,
    b"info-get": info_get,
    b"info-set": info_set,
    b"log": log,
    b"machine.id.get": machine_id_get,
    b"tools.capability.features": features,
    b"tools.os.statechange.status": state_change_status,
    b"tools.set.version": set_version,
    b"tools.set.versiontype": set_version_type,
    b"update.tools.health": health,
    b"vmx.capability.unified_loop": unified_loop,
}
"""Commands by name: the handler gets everything after the first blank."""

PREFIXES: tuple[tuple[bytes, Handler], ...] = ((b"tools.capability.", tools_capability),)
"""Families of commands: the handler gets the whole request."""
