"""The packets between a guest and a simulated host on the UNIX socket of ``vmtools sim serve``.

A packet is ``u32 length`` (little endian, of what follows), ``u8 kind``, body.  A guest says HELLO, is answered HELLO,
then sends an EXIT for each instruction and gets an ANSWER; a control client sends CONTROL and gets a REPORT.  Pure
functions, no I/O; both sides check everything that they get, and what is wrong raises :class:`WireError`.
"""

from __future__ import annotations

import struct

from . import WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "ANSWER",
    "ANSWERED",
    "ANSWER_SIZE",
    "CONTROL",
    "EXIT",
    "FAULT",
    "HELLO",
    "MAX_LENGTH",
    "MAX_PAYLOAD",
    "PORT_IN",
    "PORT_LOW",
    "PORT_OUT",
    "RDPMC",
    "REGISTERS",
    "REPORT",
    "VERSION",
    "VMCALL",
    "VMMCALL",
    "WireError",
    "body",
    "check_hello",
    "decode_answer",
    "decode_exit",
    "decode_json",
    "encode_answer",
    "encode_exit",
    "encode_json",
    "hello",
    "length",
    "packet",
    "split",
]

HELLO = 1
EXIT = 2
ANSWER = 3
CONTROL = 4
REPORT = 5

VERSION = 1
REGISTERS = 7
MAX_PAYLOAD = 1 << 20
MAX_LENGTH = MAX_PAYLOAD + 4096
"""The largest value of the length field that is believed."""

PORT_LOW = 0
"""``IN EAX,DX``; this and the next ones are the instructions of an EXIT."""
PORT_OUT = 1
"""``REP OUTSB``"""
PORT_IN = 2
"""``REP INSB``"""
VMCALL = 3
VMMCALL = 4
RDPMC = 5

FAULT = 0
ANSWERED = 1

_HOSTS_HELLO = b'{"version":%d}' % VERSION

_LENGTH = struct.Struct("<I")
_KIND = struct.Struct("<IB")
_EXIT = struct.Struct("<IBBBHI7Q")
_EXIT_BODY = struct.Struct("<BBHI7Q")
_ANSWER = struct.Struct("<IBB3x7Q")
_ANSWER_BODY = struct.Struct("<B3s7Q")


ANSWER_SIZE = 4 + 1 + _ANSWER_BODY.size
"""Bytes of an ANSWER packet without payload."""


def packet(kind: int, body: bytes) -> bytes:
    """A whole packet; :raises WireError: the body is too long to be sent."""
    if len(body) + 1 > MAX_LENGTH:
        raise WireError(f"a packet of {len(body)} bytes is over the limit of {MAX_LENGTH}")
    return _KIND.pack(len(body) + 1, kind) + body


def length(header: bytes | bytearray | memoryview) -> int:
    """How many bytes follow the four of ``header``, the kind included; :raises WireError: none, or too many."""
    if len(header) != _LENGTH.size:
        raise WireError(f"a header has 4 bytes, not {len(header)}")
    (size,) = _LENGTH.unpack(header)
    if not 1 <= size <= MAX_LENGTH:
        raise WireError(f"a packet announces {size} bytes; 1 to {MAX_LENGTH} are allowed")
    return int(size)


def body(packet: bytes, kind: int) -> bytes:
    """The body of one whole packet; :raises WireError: it is of another kind, or not whole, or more than one."""
    size = length(packet[: _LENGTH.size])
    if len(packet) != _LENGTH.size + size:
        raise WireError(f"a packet of {len(packet)} bytes announces {size}")
    if packet[_LENGTH.size] != kind:
        raise WireError(f"a packet of kind {packet[_LENGTH.size]} where {kind} was due")
    return packet[_LENGTH.size + 1 :]


def split(buffer: bytearray) -> tuple[int, bytes] | None:
    """Take the first whole packet out of ``buffer``: kind and body; None while it is incomplete.

    :raises WireError: the length is not believable.
    """
    if len(buffer) < _LENGTH.size:
        return None
    size = length(buffer[: _LENGTH.size])
    if len(buffer) < _LENGTH.size + size:
        return None
    kind = buffer[_LENGTH.size]
    body = bytes(buffer[_LENGTH.size + 1 : _LENGTH.size + size])
    del buffer[: _LENGTH.size + size]
    return kind, body


def encode_exit(instruction: int, tid: int, regs: list[int], payload: bytes = b"") -> bytes:
    """An EXIT packet: the registers before, and the data of the guest→host string form."""
    if len(payload) > MAX_PAYLOAD:
        raise WireError(f"a payload of {len(payload)} bytes is over the limit of {MAX_PAYLOAD}")
    size = 1 + _EXIT_BODY.size + len(payload)
    return _EXIT.pack(size, EXIT, instruction, 0, 0, tid, *regs) + payload


def decode_exit(body: bytes) -> tuple[int, int, list[int], bytes]:
    """Instruction, thread id, registers, payload; :raises WireError: malformed."""
    if not 0 <= len(body) - _EXIT_BODY.size <= MAX_PAYLOAD:
        raise WireError(f"an EXIT has {len(body)} bytes")
    instruction, flags, zero, tid, *regs = _EXIT_BODY.unpack_from(body)
    if flags or zero:
        raise WireError("an EXIT has bits set that this version does not know")
    return instruction, tid, regs, body[_EXIT_BODY.size :]


def encode_answer(outcome: int, regs: list[int], payload: bytes = b"") -> bytes:
    """An ANSWER packet: the registers after, and the data of the host→guest string form."""
    if len(payload) > MAX_PAYLOAD:
        raise WireError(f"a payload of {len(payload)} bytes is over the limit of {MAX_PAYLOAD}")
    return _ANSWER.pack(1 + _ANSWER_BODY.size + len(payload), ANSWER, outcome, *regs) + payload


def decode_answer(body: bytes, limit: int = MAX_PAYLOAD) -> tuple[int, list[int], bytes]:
    """Outcome, registers, payload; :raises WireError: malformed, or a payload over ``limit``, what was asked for."""
    if not 0 <= len(body) - _ANSWER_BODY.size <= limit:
        raise WireError(f"an ANSWER has {len(body)} bytes; {limit} bytes of payload were asked for")
    outcome, zero, *regs = _ANSWER_BODY.unpack_from(body)
    if outcome not in (FAULT, ANSWERED) or zero != b"\0\0\0":
        raise WireError("an ANSWER has bits set that this version does not know")
    return outcome, regs, body[_ANSWER_BODY.size :]


def encode_json(kind: int, value: dict[str, Any]) -> bytes:
    """A HELLO, CONTROL or REPORT packet."""
    import json

    return packet(kind, json.dumps(value, separators=(",", ":")).encode())


def decode_json(body: bytes) -> dict[str, Any]:
    """The object of a HELLO, CONTROL or REPORT; :raises WireError: it is none."""
    import json

    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WireError(f"no JSON: {error}") from None
    if not isinstance(value, dict):
        raise WireError("a JSON object is expected")
    return value


def hello(role: str, pid: int, tid: int, program: str) -> bytes:
    """The packet that begins a connection; ``role`` is ``guest`` or ``control``."""
    plain = "".join([char for char in program if " " <= char <= "~" and char not in '"\\'])
    # Written out, and the usual answer compared, since importing json costs a guest more than all of its exits.
    text = f'{{"role":"{role}","pid":{pid},"tid":{tid},"program":"{plain}","version":{VERSION}}}'
    return packet(HELLO, text.encode("ascii"))


def check_hello(body: bytes) -> None:
    """The host's HELLO; :raises WireError: it speaks another version, or is no host."""
    if body == _HOSTS_HELLO:
        return
    version = decode_json(body).get("version")
    if version != VERSION:
        raise WireError(f"the host speaks version {version!r} of this protocol, not {VERSION}")
