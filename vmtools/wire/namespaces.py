"""The namespace database: ``namespace-get-values`` and ``namespace-set-keys`` (specification 5.11).

``COMMAND NAMESPACE NUL`` and then texts that each end in a NUL, the last one too.  The privileged forms of the commands
(``namespace-priv-…``) look alike.  Values are bytes without a NUL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmtools.wire import WireError
from vmtools.wire.bounded import at_most, number

if TYPE_CHECKING:
    from collections.abc import Iterable

GET = b"namespace-get-values"
SET = b"namespace-set-keys"
PRIVILEGED_GET = b"namespace-priv-get-values"
PRIVILEGED_SET = b"namespace-priv-set-keys"

MAX_ITEMS = 1 << 12
"""Keys, operations or values in one message: our own limit."""

_ALWAYS, _IF_EQUAL = b"0", b"1"
_FIELDS = 4


@dataclass(frozen=True, slots=True)
class GetValues:
    """Asks for the values of ``keys``."""

    namespace: bytes
    keys: tuple[bytes, ...]
    privileged: bool = False


@dataclass(frozen=True, slots=True)
class SetKey:
    """Sets ``key``, or deletes it where ``value`` is empty.

    ``expected``: set it only if this is its value now; None: in any case.
    """

    key: bytes
    value: bytes
    expected: bytes | None = None


@dataclass(frozen=True, slots=True)
class SetKeys:
    """Performs ``operations``."""

    namespace: bytes
    operations: tuple[SetKey, ...]
    privileged: bool = False


def encode_request(request: GetValues | SetKeys) -> bytes:
    """The request; :raises WireError: a text has a NUL, a name is empty, there is too much or nothing to do."""
    if not request.namespace:
        raise WireError("a namespace has a name")
    if isinstance(request, GetValues):
        command = PRIVILEGED_GET if request.privileged else GET
        _some(request.keys)
        return command + b" " + _join([request.namespace, *_names(request.keys)])
    command = PRIVILEGED_SET if request.privileged else SET
    parts = [request.namespace, b"%d" % _some(request.operations)]
    _names([operation.key for operation in request.operations])
    for operation in request.operations:
        kind = _ALWAYS if operation.expected is None else _IF_EQUAL
        parts += [kind, operation.key, operation.value, operation.expected or b""]
    return command + b" " + _join(parts)


def decode_request(request: bytes) -> GetValues | SetKeys:
    """The request; :raises WireError: it is none, or not whole."""
    command, blank, rest = request.partition(b" ")
    if not blank or command not in (GET, SET, PRIVILEGED_GET, PRIVILEGED_SET):
        raise WireError("no namespace command")
    namespace, *texts = _split(rest)
    if not namespace:
        raise WireError("a namespace has a name")
    privileged = command in (PRIVILEGED_GET, PRIVILEGED_SET)
    if command in (GET, PRIVILEGED_GET):
        _some(texts)
        return GetValues(namespace, tuple(_names(texts)), privileged)
    if not texts or len(texts) - 1 != _FIELDS * number(texts[0], "the number of operations", MAX_ITEMS):
        raise WireError("not as many operations as announced")
    operations = [_operation(*texts[at : at + _FIELDS]) for at in range(1, len(texts), _FIELDS)]
    _some(operations)
    _names([operation.key for operation in operations])
    return SetKeys(namespace, tuple(operations), privileged)


def encode_values(values: Iterable[bytes]) -> bytes:
    """The reply to :class:`GetValues`: the values in the order of the keys, empty for one that is not set."""
    return _join(values)


def decode_values(reply: bytes) -> tuple[bytes, ...]:
    """The values; :raises WireError: the last has no NUL, or there are too many."""
    return tuple(_split(reply)) if reply else ()


def _operation(kind: bytes, key: bytes, value: bytes, expected: bytes) -> SetKey:
    if kind not in (_ALWAYS, _IF_EQUAL):
        raise WireError(f"an operation of kind {kind!r}")
    return SetKey(key, value, expected if kind == _IF_EQUAL else None)


def _join(texts: Iterable[bytes]) -> bytes:
    parts = list(texts)
    at_most(len(parts), "texts", _FIELDS * MAX_ITEMS + 2)
    if any(b"\0" in text for text in parts):
        raise WireError("a text has a NUL in it")
    return b"".join([text + b"\0" for text in parts])


def _split(data: bytes) -> list[bytes]:
    if not data.endswith(b"\0"):
        raise WireError("no NUL at the end")
    at_most(data.count(b"\0"), "texts", _FIELDS * MAX_ITEMS + 2)
    return data[:-1].split(b"\0")


def _some(values: tuple[object, ...] | list[SetKey] | list[bytes]) -> int:
    if not 0 < len(values) <= MAX_ITEMS:
        raise WireError(f"{len(values)} keys; 1 to {MAX_ITEMS} are allowed")
    return len(values)


def _names(keys: Iterable[bytes]) -> list[bytes]:
    names = list(keys)
    if not all(names):
        raise WireError("an empty key")
    return names
