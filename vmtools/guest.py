"""The guest's side of the conversation, for programs: :func:`connect` and what it returns."""

from __future__ import annotations

from .guestinfo import GuestInfo, info_get, info_set
from .rpci import REPLY_LIMIT, TIMEOUT, Rpci
from .values import without_nul

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from .gates import Gate
    from .guestinfo import Caller

__all__ = ["Guest", "connect"]


class Guest:
    """This virtual machine, as its host lets it speak.

    A context manager; one channel stays open from the first call to :meth:`close`.  As thread-safe as the
    :class:`~vmtools.rpci.Rpci` that it gets.  Every call raises what the way to the host raises
    (:mod:`vmtools.errors`): GateError where there is none, ChannelError where it broke, HostRefused with the host's
    words where it said no.
    """

    __slots__ = ("_rpci", "guestinfo")

    guestinfo: GuestInfo
    """The variables that host and guest share, as a mapping."""

    def __init__(self, rpci: Caller) -> None:
        self._rpci = rpci
        self.guestinfo = GuestInfo(rpci)

    def __repr__(self) -> str:
        return f"<vmtools.Guest by {self._rpci!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the channel back to the host.  Closing twice is no error."""
        self._rpci.close()

    def call(self, request: bytes, *, repeat: bool | None = None, timeout: float | None = None) -> bytes:
        """Send any RPCI command, exactly these bytes, and return what the host answers after its "1 ".

        ``repeat`` and ``timeout`` (seconds): see :meth:`vmtools.rpci.Rpci.call`.
        """
        return self._rpci.call(request, repeat=repeat, timeout=timeout)

    def info_get(self, key: str) -> bytes:
        """``guestinfo.KEY`` as the host sent it; NoSuchValue where it is not set."""
        return info_get(self._rpci, key)

    def info_set(self, key: str, value: bytes | bytearray | memoryview | str, *, repeat: bool | None = None) -> None:
        """Set ``guestinfo.KEY``; a str goes as UTF-8.

        ``repeat=True``: set it again if the channel was lost on the way and the first may have arrived.
        """
        info_set(self._rpci, key, value, repeat=repeat)

    def log(self, text: str | bytes) -> None:
        """Write into the virtual machine's log on the host (``vmware.log``).

        Hosts cut long texts; open-vm-tools sends 2 KiB at most.  ValueError for a NUL, where the text would end.
        """
        line = text.encode("utf-8", "backslashreplace") if isinstance(text, str) else bytes(text)
        if b"\0" in line:
            raise ValueError("a log text can't hold a NUL")
        self._rpci.call(b"log " + line)

    def machine_id(self) -> bytes:
        """The machine's id as its owner configured it (``machine.id``), without a NUL that a host counts in.

        HostRefused where the host has none.
        """
        return without_nul(self._rpci.call(b"machine.id.get"))


def connect(gate: Gate | str | None = None, *, reply_limit: int = REPLY_LIMIT, timeout: float = TIMEOUT) -> Guest:
    """A :class:`Guest`, by ``gate``: one that exists, or what :func:`vmtools.gates.choose` takes (None: it chooses).

    ``reply_limit``: bytes of the largest answer to accept.  ``timeout``: seconds for one call.  The host is not asked
    before the first call, so that is where it turns out that there is none; a gate that can't exist is GateUnavailable.
    """
    return Guest(Rpci(gate, reply_limit=reply_limit, timeout=timeout))
