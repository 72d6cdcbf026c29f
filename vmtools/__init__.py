"""VMware's guest tools in Python.

::

    import vmtools

    with vmtools.connect() as guest:
        print(guest.guestinfo.text["hostname"])

Names are looked up when they are first used (PEP 562), so that the import itself costs nothing: cloud-init starts
``vmware-rpctool`` about ten times a boot.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._version import __version__ as __version__
    from .errors import BadValue as BadValue
    from .errors import ChannelError as ChannelError
    from .errors import ChannelLost as ChannelLost
    from .errors import CheckpointStorm as CheckpointStorm
    from .errors import GateError as GateError
    from .errors import GateFaulted as GateFaulted
    from .errors import GateUnavailable as GateUnavailable
    from .errors import HostRefused as HostRefused
    from .errors import LockedDown as LockedDown
    from .errors import MalformedReply as MalformedReply
    from .errors import NoDevice as NoDevice
    from .errors import NoMessageChannel as NoMessageChannel
    from .errors import NoPrivilege as NoPrivilege
    from .errors import NoRawIO as NoRawIO
    from .errors import NoSuchValue as NoSuchValue
    from .errors import NotVirtualMachine as NotVirtualMachine
    from .errors import OtherHypervisor as OtherHypervisor
    from .errors import PermissionDenied as PermissionDenied
    from .errors import ProtocolViolation as ProtocolViolation
    from .errors import ReplyTooLarge as ReplyTooLarge
    from .errors import RequestTooLarge as RequestTooLarge
    from .errors import SeccompDenied as SeccompDenied
    from .errors import VMToolsError as VMToolsError
    from .guest import Guest as Guest
    from .guest import connect as connect
    from .guestinfo import GuestInfo as GuestInfo
    from .guestinfo import GuestInfoText as GuestInfoText
    from .ovfenv import OvfEnvironment as OvfEnvironment
    from .rpci import Rpci as Rpci

__all__ = [
    "BadValue",
    "ChannelError",
    "ChannelLost",
    "CheckpointStorm",
    "GateError",
    "GateFaulted",
    "GateUnavailable",
    "Guest",
    "GuestInfo",
    "GuestInfoText",
    "HostRefused",
    "LockedDown",
    "MalformedReply",
    "NoDevice",
    "NoMessageChannel",
    "NoPrivilege",
    "NoRawIO",
    "NoSuchValue",
    "NotVirtualMachine",
    "OtherHypervisor",
    "OvfEnvironment",
    "PermissionDenied",
    "ProtocolViolation",
    "ReplyTooLarge",
    "RequestTooLarge",
    "Rpci",
    "SeccompDenied",
    "VMToolsError",
    "__version__",
    "connect",
]

_HOMES = {
    "Guest": "guest",
    "GuestInfo": "guestinfo",
    "GuestInfoText": "guestinfo",
    "OvfEnvironment": "ovfenv",
    "Rpci": "rpci",
    "__version__": "_version",
    "connect": "guest",
}
"""Where a public name lives, if not in ``errors``."""


if not TYPE_CHECKING:  # or a type checker would take any name for one of ours

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module("." + _HOMES.get(name, "errors"), __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
