"""RPCI, host half: a request's bytes in, the reply's bytes out.

A reply is ``1 `` and the value, or ``0 `` and the reason (:mod:`vmtools.sim.refusal`).  ``Command not found`` is the
specification's guess for a machine with no id.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from vmtools.sim import guestlib, namespaces
from vmtools.sim.machine import GUESTINFO, INFO_CLASSES, TEXT_CLASSES, GuestInfoError
from vmtools.sim.options import SYNC_TIME
from vmtools.sim.refusal import (
    BAD_ARGUMENT,
    DENIED,
    NO_VALUE,
    ONE_ARGUMENT,
    TWO_ARGUMENTS,
    UNKNOWN,
    RefusedError,
    number,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from vmtools.sim.machine import Machine

    Handler = Callable[[Machine, bytes], bytes]


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
    machine.changed_state(*checked)
    return b""


def set_option(machine: Machine, rest: bytes) -> bytes:
    """``vmx.set_option synctime OLD NEW``: the guest's user turns the synchronization of time on or off."""
    name, _, values = text(rest).partition(b" ")
    old, _, new = values.partition(b" ")
    if name != SYNC_TIME.encode() or old not in (b"0", b"1") or new not in (b"0", b"1"):
        raise RefusedError(BAD_ARGUMENT)
    machine.options.set(SYNC_TIME, new.decode())
    return b""


def guest_log(machine: Machine, rest: bytes) -> bytes:
    machine.write_log(b"Guest: " + text(rest).rstrip(b"\n"))
    return b""


def noted(name: str) -> Handler:
    """A handler that keeps what the guest reports, and answers that all is well."""

    def handler(machine: Machine, rest: bytes) -> bytes:
        machine.note(name, text(rest))
        return b""

    return handler


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
    machine.info.pop(int(kind), None)  # the latest stands last
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
    b"guest.log.text": guest_log,
    b"guestlib.info.get": guestlib.info_get,
    b"guestlib.ioctl": guestlib.ioctl,
    b"guestlib.stat.get": guestlib.stat_get,
    b"log": guest_log,
    **{name: namespaces.handler(name) for name in namespaces.COMMANDS},
    b"machine.id.get": machine_id_get,
    b"tools.capability.features": features,
    b"tools.os.statechange.status": state_change_status,
    b"tools.set.version": set_version,
    b"tools.set.versiontype": set_version_type,
    b"update.tools.health": health,
    b"vmx.capability.unified_loop": unified_loop,
    b"vmx.set_option": set_option,
    **{
        name.encode(): noted(name)
        for name in ("Run_Program_Done", "deployPkg.update.state", "tools.vmsupport.status", "vmbackup.eventSet")
    },
}
"""Commands by name: the handler gets everything after the first blank."""

PREFIXES: tuple[tuple[bytes, Handler], ...] = ((b"tools.capability.", tools_capability),)
"""Families of commands: the handler gets the whole request."""
