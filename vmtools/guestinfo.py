"""The guestinfo variables: text that host and guest can both read and set, by name.

The host keeps ``guestinfo.NAME`` in the virtual machine's settings.  The guest has two commands for it, ``info-get``
and ``info-set``; it can neither list names nor delete one, so :class:`GuestInfo` is a mapping without iteration, and
:meth:`GuestInfo.clear` is how a secret goes away.
"""

from __future__ import annotations

from .errors import NoSuchValue
from .values import DEFAULT_LIMIT, REDACTED, decode, stripped, without_nul

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, NoReturn, Protocol, TypeVar, overload

    from .ovfenv import OvfEnvironment

    T = TypeVar("T")

    class Caller(Protocol):
        """What carries a request: :class:`vmtools.rpci.Rpci`, or a test's double."""

        def call(self, request: bytes, *, repeat: bool | None = None, timeout: float | None = None) -> bytes: ...

        def close(self) -> None: ...


__all__ = ["GuestInfo", "GuestInfoText", "info_get", "info_set", "payload", "variable"]

PREFIX = "guestinfo."
BLANK = b" "

TOMBSTONES = {
    # style: what goes over the value, what over its encoding, and whether also over an encoding that isn't there.
    "space": (BLANK, BLANK, False),
    "dashes": (REDACTED, BLANK, True),  # cloud-init's guestinfo_redact_keys()
    "ignition": (b"e30K", b"base64", True),  # base64 of "{}", an empty Ignition config
}

_MISSING: object = object()


def variable(key: str) -> str:
    """The full name of ``key``: with "guestinfo." before it unless it is there, in whatever case.

    Raises TypeError unless it is a str, ValueError where it is empty or has blanks or control characters: the host
    takes the word up to the next blank for the name, so such a key would name another variable.
    """
    if not isinstance(key, str):
        raise TypeError(f"a guestinfo key is a str, not {type(key).__name__}")
    name = key[len(PREFIX) :] if key[: len(PREFIX)].lower() == PREFIX else key
    if not name:
        raise ValueError("a guestinfo key needs a name")
    if " " in name or not name.isprintable():
        raise ValueError(f"a guestinfo key has neither blanks nor control characters: {key!r}")
    return PREFIX + name


def payload(value: bytes | bytearray | memoryview | str) -> bytes:
    """The bytes of ``value``, a str as UTF-8.

    Raises TypeError for another type, ValueError for a NUL in it: the message would carry the NUL, but hosts take one
    off the end (open-vm-tools' daemon counts one in), and keep the value as text in a settings file.
    """
    if isinstance(value, str):
        data = value.encode("utf-8")
    elif isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
    else:
        raise TypeError(f"a guestinfo value is bytes or str, not {type(value).__name__}")
    if b"\0" in data:
        raise ValueError("a guestinfo value can't hold a NUL: set it in base64, and 'base64' in KEY.encoding")
    return data


def info_get(rpci: Caller, key: str) -> bytes:
    """The value as the host sent it; raises :class:`~vmtools.errors.NoSuchValue` where it is not set."""
    return rpci.call(f"info-get {variable(key)}".encode())


def info_set(
    rpci: Caller, key: str, value: bytes | bytearray | memoryview | str, *, repeat: bool | None = None
) -> None:
    """Set ``key``.

    How long a value may be is for the host to say: VMware's takes 64 KiB a message, name and all; more is
    :class:`~vmtools.errors.RequestTooLarge`.
    """
    rpci.call(b"info-set %b %b" % (variable(key).encode(), payload(value)), repeat=repeat)


class _Unlisted:
    """What a mapping can do and these can't, said in a sentence."""

    __slots__ = ()

    def __delitem__(self, key: str) -> NoReturn:
        raise TypeError("a guestinfo variable can't be deleted; clear() writes over it")

    def __iter__(self) -> NoReturn:
        raise TypeError("guestinfo can't be listed: the host has no command for it; ask for a key by name")


class GuestInfo(_Unlisted):
    """The variables as a mapping of names to bytes: ``guestinfo["a"]`` is ``guestinfo.a``.

    Values come as the host sent them: a NUL at the end may be the writer's own, so only :attr:`text` and
    :meth:`decoded`, which know that they read text, take one off.  Each access asks the host; nothing is cached.
    """

    __slots__ = ("_rpci",)

    def __init__(self, rpci: Caller) -> None:
        self._rpci = rpci

    def __repr__(self) -> str:
        return "<vmtools.GuestInfo>"

    def __getitem__(self, key: str) -> bytes:
        """Raises KeyError where the host has no such value; other refusals as they are."""
        try:
            return info_get(self._rpci, key)
        except NoSuchValue as error:
            raise KeyError(key) from error

    def __setitem__(self, key: str, value: bytes | bytearray | memoryview | str) -> None:
        info_set(self._rpci, key, value)

    def __contains__(self, key: str) -> bool:
        try:
            info_get(self._rpci, key)
        except NoSuchValue:
            return False
        return True

    if TYPE_CHECKING:

        @overload
        def get(self, key: str) -> bytes | None: ...
        @overload
        def get(self, key: str, default: T) -> bytes | T: ...

    def get(self, key: str, default: object = None) -> object:
        """The value, or ``default`` where it is not set."""
        try:
            return info_get(self._rpci, key)
        except NoSuchValue:
            return default

    @property
    def text(self) -> GuestInfoText:
        """The same variables as str."""
        return GuestInfoText(self)

    if TYPE_CHECKING:

        @overload
        def decoded(self, key: str, *, limit: int = ...) -> bytes: ...
        @overload
        def decoded(self, key: str, default: T, *, limit: int = ...) -> bytes | T: ...

    def decoded(self, key: str, default: object = _MISSING, *, limit: int = DEFAULT_LIMIT) -> object:
        """The value of ``key``, unpacked as ``KEY.encoding`` says by cloud-init's rules (:mod:`vmtools.values`).

        Not set, blank and "---" all mean that there is no value: ``default``, or KeyError without one.  Raises
        :class:`~vmtools.errors.BadValue` for what can't be unpacked, or has more than ``limit`` bytes then.
        """
        name = variable(key)
        value = stripped(self.get(name, b""))
        if value:
            encoding = stripped(self.get(name + ".encoding", b""))
            return decode(value, encoding, limit=limit, name=name)
        if default is _MISSING:
            raise KeyError(key)
        return default

    def clear(self, key: str, style: Literal["space", "dashes", "ignition"] = "space") -> None:
        """Write over ``key``, a secret that has been used: there is no deleting it.

        ``space``: a blank, and one into ``KEY.encoding`` if that is set.  ``dashes``: "---" and a blank, as cloud-init
        redacts.  ``ignition``: an empty Ignition config in base64.  The value goes first, whatever happens then.
        """
        if style not in TOMBSTONES:
            raise ValueError(f"style is one of {', '.join(TOMBSTONES)}, not {style!r}")
        name = variable(key)
        value, encoding, always = TOMBSTONES[style]
        # Written twice is the same as written once, so a lost channel may repeat it.
        info_set(self._rpci, name, value, repeat=True)
        if always or name + ".encoding" in self:
            info_set(self._rpci, name + ".encoding", encoding, repeat=True)

    def ovfenv(self) -> OvfEnvironment:
        """The OVF environment, parsed safely (:mod:`vmtools.ovfenv`).

        Raises KeyError where there is none, or it has been cleared, and :class:`~vmtools.errors.BadValue` where it is
        none.  VMware's host takes both spellings for one variable; another may know only one of them.
        """
        from .ovfenv import parse

        for key in ("ovfEnv", "ovfenv"):
            document = stripped(self.get(key, b""))
            if document:
                return parse(document)
        raise KeyError("ovfEnv")


class GuestInfoText(_Unlisted):
    """The variables as a mapping of names to str: UTF-8, without a NUL at the end.

    Raises what :class:`GuestInfo` raises, and UnicodeDecodeError for a value that is not UTF-8.
    """

    __slots__ = ("_guestinfo",)

    def __init__(self, guestinfo: GuestInfo) -> None:
        self._guestinfo = guestinfo

    def __repr__(self) -> str:
        return "<vmtools.GuestInfo as text>"

    def __getitem__(self, key: str) -> str:
        return without_nul(self._guestinfo[key]).decode("utf-8")

    def __setitem__(self, key: str, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError(f"a guestinfo text is a str, not {type(value).__name__}")
        self._guestinfo[key] = value

    def __contains__(self, key: str) -> bool:
        return key in self._guestinfo

    if TYPE_CHECKING:

        @overload
        def get(self, key: str) -> str | None: ...
        @overload
        def get(self, key: str, default: T) -> str | T: ...

    def get(self, key: str, default: object = None) -> object:
        """The value, or ``default`` where it is not set."""
        value = self._guestinfo.get(key)
        return default if value is None else without_nul(value).decode("utf-8")

    if TYPE_CHECKING:

        @overload
        def decoded(self, key: str, *, limit: int = ...) -> str: ...
        @overload
        def decoded(self, key: str, default: T, *, limit: int = ...) -> str | T: ...

    def decoded(self, key: str, default: object = _MISSING, *, limit: int = DEFAULT_LIMIT) -> object:
        """:meth:`GuestInfo.decoded`, as str."""
        try:
            data = self._guestinfo.decoded(key, limit=limit)
        except KeyError:
            if default is _MISSING:
                raise
            return default
        return data.decode("utf-8")
