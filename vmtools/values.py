"""What a guestinfo value means: which one says nothing, and what ``KEY.encoding`` makes of the rest.

Pure functions, no host.  The rules are those of cloud-init's VMware data source, read from its code (22.4 and the
main branch of 2026, which agree) and compared with it in ``tests/peers/test_cloudinit.py``, so that a value means here
what it means there.
"""

from __future__ import annotations

from .errors import BadValue

__all__ = ["DEFAULT_LIMIT", "REDACTED", "decode", "stripped", "without_nul"]

DEFAULT_LIMIT = 16 << 20
"""Bytes that a value may unpack to.  A host sends 1 MiB at most, which gzip can make a gigabyte of."""

REDACTED = b"---"
"""What cloud-init writes over a value that it has used (an empty YAML document)."""

GZIP_MAGIC = b"\x1f\x8b"


def without_nul(value: bytes) -> bytes:
    """``value`` without the one NUL that a writer or a host may have counted in.

    open-vm-tools' daemon ends its own ``info-set`` in a NUL, QEMU's vmport_rpc patch ends most replies in one; the text
    is what stands before it.
    """
    return value[:-1] if value.endswith(b"\0") else value


def stripped(value: bytes) -> bytes:
    """``value`` without a counted NUL and trailing white space; ``b""`` if it is blank or "---", which mean "no value".

    White space is Unicode's, as for :meth:`str.rstrip`; what is no UTF-8 stays as it is.
    """
    text = without_nul(value).decode("utf-8", "surrogateescape").rstrip()
    value = text.encode("utf-8", "surrogateescape")
    return b"" if value == REDACTED else value


def decode(value: bytes, encoding: bytes, *, limit: int = DEFAULT_LIMIT, name: str = "the value") -> bytes:
    """What ``value`` holds by its ``encoding``, both :func:`stripped` already.

    ``base64`` and ``b64`` are base64; ``gzip+base64`` and ``gz+b64`` are gzip in base64.  Any other word, in capitals
    too, means plain text.  Base64 may have line ends and foreign characters between its letters; what should be gzip
    and does not begin as gzip does is passed on as it is.

    Raises :class:`BadValue` for base64 or gzip that is broken, and for more than ``limit`` bytes.
    """
    if encoding in (b"base64", b"b64"):
        data = _from_base64(value, name)
    elif encoding in (b"gzip+base64", b"gz+b64"):
        data = _from_base64(value, name)
        if data.startswith(GZIP_MAGIC):
            data = _from_gzip(data, limit, name)
    else:
        data = value
    if len(data) > limit:
        raise BadValue(f"{name} holds more than {limit} bytes", help="Raise the limit if you expect that much.")
    return data


def _from_base64(value: bytes, name: str) -> bytes:
    from binascii import Error, a2b_base64

    if not value.isascii():  # a2b_base64() would skip these bytes, cloud-init refuses them
        raise BadValue(f"{name} is no base64: it is not ASCII")
    try:
        return a2b_base64(value)
    except Error as error:
        raise BadValue(f"{name} is no base64: {error}") from None


def _from_gzip(data: bytes, limit: int, name: str) -> bytes:
    """The unpacked ``data``, but at most ``limit`` + 1 bytes: the one too many tells the caller."""
    from gzip import GzipFile
    from io import BytesIO
    from zlib import error as ZlibError

    try:
        with GzipFile(fileobj=BytesIO(data)) as file:
            return file.read(limit + 1)
    except (EOFError, OSError, ZlibError) as error:
        raise BadValue(f"{name} is broken gzip: {error}") from None
