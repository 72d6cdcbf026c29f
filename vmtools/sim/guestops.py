"""Guest operations from the host's side: a VIX or HGFS request to send by TCLO, and its answer read.

Pure functions: who has a way to the guest's service (the control socket, a script) sends what is made here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vmtools.sim.machine import bytes_of, text_of
from vmtools.wire import WireError, guestinfo, hgfs, vix, vixops, vixprops, vixtext

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NAME = "vmtools-sim"
"""What our requests are called."""

PROPERTIES = (vixops.Op.GET_TOOLS_STATE,)
"""Operations that are answered by a property list in base64."""

BINARY = (vixops.Op.HGFS_SEND_PACKET, vixops.Op.GET_GUEST_NETWORKING_CONFIG)
"""Operations that are answered in binary."""

MAX_ENTRIES = 10_000

FIRST_API, LAST_API = 4540, 4568
"""Properties that are true where an operation is disabled (specification 6.8.6)."""


class OperationError(Exception):
    """The operation can't be asked for, or its answer can't be read; ``str()`` says why."""


def operation(name: str) -> vixops.Op:
    """The operation of a name such as ``get-tools-state``, or of a number; :raises OperationError: there is none."""
    try:
        return vixops.Op(int(name)) if name.isdigit() else vixops.Op[name.upper().replace("-", "_")]
    except (KeyError, ValueError):
        known = ", ".join(op.name.lower().replace("_", "-") for op in vixops.Op if op in vixops.BODIES)
        raise OperationError(f"no operation {name}; there are: {known}") from None


def vix_message(op: vixops.Op, fields: Mapping[str, str], user: str | None = None, password: str = "") -> bytes:
    """The TCLO message that asks for ``op``; numbers among ``fields`` are decimal or 0x….

    :raises OperationError: a field is not the operation's, or does not fit.
    """
    try:
        credential = b"" if user is None else vixtext.encode_credential(vixtext.NamePassword(user, password))
        kind = vixtext.CredentialType.NONE if user is None else vixtext.CredentialType.NAME_PASSWORD
        flags = vix.CommonFlag.REQUEST | vix.CommonFlag.FORWARD_TO_GUEST
        flags |= vix.CommonFlag.RETURNS_BINARY if op in BINARY else vix.CommonFlag.RETURNS_STRING
        body = vixops.encode_body(op, _values(op, fields))
        return vix.encode_relayed(NAME, vix.Request(op, body, credential, kind, flags, cookie=1))
    except WireError as error:
        raise OperationError(str(error)) from None


def _values(op: vixops.Op, fields: Mapping[str, str]) -> dict[str, vixops.Value]:
    layout = vixops.BODIES.get(op, vixops.Layout())
    numbers = {item.partition(":")[0] for item in layout.fixed.split() if not item.endswith(":n")}
    if op == vixops.Op.LIST_DIRECTORY:  # its layout depends on its options, and says nothing of itself
        numbers = {"options", "offset"}
    marks = {item.rstrip("?*=#"): item[-1] for item in layout.parts.split()}
    values: dict[str, vixops.Value] = {}
    for name, text in fields.items():
        try:
            if name in numbers:
                values[name] = int(text, 0)
            elif marks.get(name) == "=":
                values[name] = bytes_of(text)
            elif marks.get(name) == "#":
                values[name] = tuple([int(word, 0) for word in text.split(",")])
            else:
                values[name] = text
        except ValueError:
            raise OperationError(f"{name}={text}: a number is expected") from None
    return values


def vix_answer(op: vixops.Op, answer: bytes) -> dict[str, Any]:
    """The guest's answer as JSON can have it: ``error`` and ``errno``, ``error_name``, ``result``.

    :raises OperationError: it is no answer to a VIX request.
    """
    text = _ok(answer)
    try:
        found = vix.decode_answer(text, binary=op in BINARY)
        code = found.error & 0xFFFF
        result: Any = text_of(found.result)
        if code == vix.Code.OK and op in PROPERTIES:
            result = {_property(item.id): guestinfo.plain(item.value) for item in vixprops.decode_text(found.result)}
        elif found.binary:
            result = found.result.hex()
    except WireError as error:
        raise OperationError(f"the guest's answer can't be read: {error}: {answer[:200]!r}") from None
    return {"error": code, "error_name": _code(code), "errno": found.additional, "result": result}


def _property(number: int) -> str:
    name = vixprops.NAMES.get(number, f"property {number}")
    return f"{name} disabled" if FIRST_API <= number <= LAST_API else name


def _code(code: int) -> str:
    try:
        return vix.Code(code).name.lower().replace("_", " ")
    except ValueError:
        return f"error {code}"


def _ok(answer: bytes) -> bytes:
    if not answer.startswith(b"OK "):
        raise OperationError(f"the guest's service answered {answer[:200].decode('utf-8', 'backslashreplace')}")
    return answer[3:]


# -- HGFS --------------------------------------------------------------------------------------------------------------


def hgfs_list(exchange: Callable[[bytes], bytes], path: str = "") -> list[hgfs.Entry]:
    """What the guest's HGFS server lists of a folder; of its root, the shares.

    :param exchange: sends a TCLO message and gives the whole answer.
    :raises OperationError: it refused, or answered nonsense.
    """
    entries: list[hgfs.Entry] = []
    try:
        handle = hgfs.search_opened(hgfs_call(exchange, hgfs.search_open(path)))
        while len(entries) < MAX_ENTRIES:
            entry = hgfs.decode_entry(hgfs_call(exchange, hgfs.search_read(handle, len(entries))).body)
            if entry is None:
                break
            entries.append(entry)
        hgfs_call(exchange, hgfs.search_close(handle))
    except WireError as error:
        raise OperationError(f"the guest's HGFS reply can't be read: {error}") from None
    return entries


def hgfs_call(exchange: Callable[[bytes], bytes], request: hgfs.Request) -> hgfs.Reply:
    """One request of version 1 to 3; :raises OperationError: refused, or no reply."""
    try:
        reply = hgfs.decode_reply(_ok(exchange(hgfs.COMMAND + hgfs.encode_request(request))))
    except WireError as error:
        raise OperationError(f"the guest's HGFS reply can't be read: {error}") from None
    if not isinstance(reply, hgfs.Reply) or reply.id != request.id:
        raise OperationError("the guest's HGFS reply belongs to another request")
    if reply.status != hgfs.Status.OK:
        try:
            why = hgfs.Status(reply.status).name.lower().replace("_", " ")
        except ValueError:
            why = f"status {reply.status}"
        raise OperationError(f"the guest's HGFS server refused: {why}")
    return reply
