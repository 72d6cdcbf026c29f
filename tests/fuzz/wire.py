"""Any bytes for each decoder of ``vmtools.wire``: a value or a WireError, and a value survives the way back.

An input is a codec's name, a line end, and the bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.unit.test_wire_codecs import decodes_or_refuses
from tests.unit.wire_codecs import CODECS
from vmtools.wire import WireError, simlink

if TYPE_CHECKING:
    from collections.abc import Callable


def _split(data: bytes) -> None:
    buffer = bytearray(data)
    while simlink.split(buffer) is not None:
        assert len(buffer) < len(data)


SIMLINK: dict[bytes, Callable[[bytes], Any]] = {
    b"split": _split,
    b"body": lambda data: simlink.body(data, simlink.ANSWER),
    b"exit": simlink.decode_exit,
    b"answer": simlink.decode_answer,
    b"json": simlink.decode_json,
    b"hello": simlink.check_hello,
}
BY_NAME = {codec.name.encode(): codec for codec in CODECS}


def one(data: bytes) -> None:
    name, _, body = data.partition(b"\n")
    if name in BY_NAME:
        decodes_or_refuses(BY_NAME[name], body)
    elif name in SIMLINK:
        try:
            SIMLINK[name](body)
        except WireError:
            return
