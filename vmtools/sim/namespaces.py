"""The namespace database: keys and values that guest and management share, by namespace (specification 5.11).

The privileged forms of the commands need a privileged channel: on VMware one over vsock from a low port, which only
root can have.  A backdoor channel is none, so they are refused unless :attr:`Namespaces.privileged` says otherwise; a
namespace belongs to one form, the first that writes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmtools.sim.refusal import BAD_ARGUMENT, DENIED, RefusedError
from vmtools.wire import WireError
from vmtools.wire.namespaces import (
    GET,
    PRIVILEGED_GET,
    PRIVILEGED_SET,
    SET,
    GetValues,
    SetKeys,
    decode_request,
    encode_values,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from vmtools.sim.machine import Machine

MAX_BYTES = 1 << 20
"""Bytes of all names, keys and values together: our own limit, guestinfo's."""

MAX_VALUE = 16384
"""Bytes of a value: what vmware-namespace-cmd sends at most."""

MAX_KEY = 256
NOT_EQUAL = b"Value is not the expected one"
TOO_MUCH = b"Value too long"
ENTRY = 64
"""Bytes that each key costs beside its text, so that many empty ones are not free."""


class Namespaces:
    """The database of one machine; ``privileged``: whether a backdoor channel may use the privileged commands."""

    def __init__(self, *, privileged: bool = False) -> None:
        self.privileged = privileged
        self.stores: dict[bytes, dict[bytes, bytes]] = {}
        self._owners: dict[bytes, bool] = {}
        self._size = 0

    def get(self, namespace: bytes, key: bytes) -> bytes | None:
        """A value; None where there is none."""
        return self.stores.get(namespace, {}).get(key)

    def set(self, namespace: bytes, key: bytes, value: bytes, *, privileged: bool = False) -> None:
        """Set a key, or delete it by an empty value; :raises RefusedError: over a limit.

        ``privileged``: for which form of the commands the namespace is, if this is its first key.
        """
        if len(value) > MAX_VALUE or len(key) > MAX_KEY or len(namespace) > MAX_KEY:
            raise RefusedError(TOO_MUCH)
        store = self.stores.get(namespace, {})
        grown = _cost(namespace, key, value) - _cost(namespace, key, store.get(key, b""))
        if self._size + grown > MAX_BYTES:
            raise RefusedError(TOO_MUCH)
        self._size += grown
        if value:
            self._owners.setdefault(namespace, privileged)
            self.stores.setdefault(namespace, store)[key] = value
            return
        store.pop(key, None)
        if not store and namespace in self.stores:
            del self.stores[namespace], self._owners[namespace]

    def serve(self, request: GetValues | SetKeys) -> bytes:
        """What a guest's request is answered; :raises RefusedError: it may not, or a comparison failed.

        Of several operations all are done or, where one fails, none.
        """
        name, privileged = request.namespace, request.privileged
        if privileged and not self.privileged:
            raise RefusedError(DENIED)
        if self._owners.get(name, privileged) and not privileged:
            raise RefusedError(DENIED)
        if isinstance(request, GetValues):
            return encode_values([self.get(name, key) or b"" for key in request.keys])
        before: list[tuple[bytes, bytes]] = []
        try:
            for operation in request.operations:
                now = self.get(name, operation.key) or b""
                if operation.expected not in (None, now):
                    raise RefusedError(NOT_EQUAL)
                self.set(name, operation.key, operation.value, privileged=privileged)
                before.append((operation.key, now))
        except RefusedError:
            for key, value in reversed(before):
                self.set(name, key, value, privileged=privileged)
            raise
        return b""


def _cost(namespace: bytes, key: bytes, value: bytes) -> int:
    return len(namespace) + len(key) + len(value) + ENTRY if value else 0


COMMANDS = (GET, SET, PRIVILEGED_GET, PRIVILEGED_SET)


def handler(command: bytes) -> Callable[[Machine, bytes], bytes]:
    """What serves ``command`` (:data:`COMMANDS`)."""

    def serve(machine: Machine, rest: bytes) -> bytes:
        try:
            request = decode_request(command + b" " + rest)
        except WireError:
            raise RefusedError(BAD_ARGUMENT) from None
        return machine.namespaces.serve(request)

    return serve
