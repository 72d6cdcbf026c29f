"""guestinfo values and OVF environments from a hostile host: what they hold, or a BadValue; never over the limit."""

from __future__ import annotations

import base64
import gzip
import zlib

from tests.fuzz.source import Source, says_why
from vmtools.errors import BadValue
from vmtools.ovfenv import OvfEnvironment, parse
from vmtools.values import decode, stripped, without_nul

LIMIT = 1 << 16
ENCODINGS = (b"base64", b"b64", b"gzip+base64", b"gz+b64", b"", b"BASE64", b"x")
NAMESPACE = b'xmlns="http://schemas.dmtf.org/ovf/environment/1" xmlns:oe="http://schemas.dmtf.org/ovf/environment/1"'
PIECES = (
    b"<Environment " + NAMESPACE + b' oe:id="vm">', b"</Environment>", b"<PropertySection>", b"</PropertySection>",
    b'<Property oe:key="k" oe:value="v"/>', b"<Property/>", b"<PlatformSection>", b"</PlatformSection>", b"<Kind>",
    b"<!-- -->", b"</Kind>", b"<?pi?>", b"<!DOCTYPE x [<!ENTITY a 'aaaa'>]>", b"&a;", b"&#0;", b"&lt;",
    b"<![CDATA[x]]>",
    b'<?xml version="1.0" encoding="utf-16"?>', b'<?xml version="1.0" encoding="cp037"?>', b"\xef\xbb\xbf", b"\xff\xfe",
    b'<?xml version="1.0" encoding="punycode"?>', b'<?xml version="1.0" encoding="idna"?>', b"<x>" * 50, b"\0",
)  # fmt: skip


def _value(source: Source) -> None:
    encoding = source.choice(ENCODINGS)
    shape = source.below(5)
    data = source.rest()
    if shape == 1:
        data = base64.b64encode(data)
    elif shape == 2:
        data = base64.b64encode(gzip.compress(data * 100, mtime=0))
    elif shape == 3:
        data = base64.b64encode(b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + zlib.compress(data)[2:])
    elif shape == 4:
        data = base64.b64encode(b"\x1f\x8b" + data)
    assert without_nul(data + b"\0") == data
    assert len(stripped(data)) <= len(data)
    try:
        assert len(decode(stripped(data), encoding, limit=LIMIT)) <= LIMIT
    except BadValue as error:
        says_why(error)
        return


def _document(source: Source) -> None:
    document = b""
    while not source.empty:
        document += source.text() if source.below(4) == 3 else source.choice(PIECES)
    try:
        found = parse(document, limit=LIMIT)
    except BadValue as error:
        says_why(error)
        return
    assert isinstance(found, OvfEnvironment)
    kept = [found.id, *found.properties, *found.properties.values(), *found.platform, *found.platform.values()]
    # 4: UTF-8 for one character of a document in a single-byte encoding; nothing can be expanded
    assert sum(len(text.encode("utf-8", "surrogatepass")) for text in kept) <= 4 * len(document)


def one(data: bytes) -> None:
    source = Source(data)
    (_document if source.flag() else _value)(source)
