"""``decoded()`` beside cloud-init's own VMware data source: the same values, the same meaning.

cloud-init's functions run unmodified in Debian's Python, and read from a ``vmware-rpctool`` that is a shell script over
a folder of values.  It prints what the real one prints: the value up to its first NUL and a line end; or "No value
found" on standard error, and exit status 1.

Needs Debian's package ``cloud-init`` (its files only; no service of it runs).
"""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from vmtools import errors
from vmtools.errors import BadValue
from vmtools.guestinfo import GuestInfo
from vmtools.ovfenv import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

PYTHON = "/usr/bin/python3"

RPCTOOL = """#!/bin/sh
# info-get guestinfo.KEY
read_value() { cat "$1" && echo; }
case "$1" in
"info-get "*) read_value "FOLDER/${1#info-get }" 2>/dev/null || { echo "No value found" >&2; exit 1; } ;;
"info-set "*) rest="${1#info-set }"; printf %s "${rest#* }" >"FOLDER/${rest%% *}" ;;
esac
"""

DRIVER = """
import json, logging, sys
import cloudinit.sources.DataSourceVMware as source
import cloudinit.sources.DataSourceOVF as ovf
logging.disable(logging.CRITICAL)
rpctool, job = sys.argv[1], json.load(sys.stdin)
# cloud-init 23 and later also want to know how the tool is called
how = (rpctool, source.exec_vmware_rpctool) if hasattr(source, "exec_vmware_rpctool") else (rpctool,)
def outcome(function, *arguments):
    try:
        return {"is": function(*arguments)}
    except Exception as error:
        return {"error": type(error).__name__}
json.dump({
    "decoded": {key: outcome(source.guestinfo, key, *how) for key in job.get("decoded", ())},
    "properties": [outcome(ovf.get_properties, document) for document in job.get("properties", ())],
    "redacted": [outcome(source.guestinfo_redact_keys, [key], *how) for key in job.get("redacted", ())],
    "cleared": [outcome(source.guestinfo_set_value, key, "", *how) for key in job.get("cleared", ())],
}, sys.stdout)
"""


class CloudInit:
    """cloud-init with a host of its own, a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "values"
        self.folder.mkdir()
        self.rpctool = folder / "vmware-rpctool"
        self.rpctool.write_text(RPCTOOL.replace("FOLDER", str(self.folder)))
        self.rpctool.chmod(0o755)

    def store(self, key: str, value: bytes) -> None:
        # rpctool prints by "%s", so a NUL ends the value
        (self.folder / f"guestinfo.{key}").write_bytes(value.partition(b"\0")[0])

    def values(self) -> dict[bytes, bytes]:
        return {path.name.encode(): path.read_bytes() for path in self.folder.iterdir()}

    def run(self, **job: Any) -> dict[str, Any]:
        done = subprocess.run(
            [PYTHON, "-c", DRIVER, str(self.rpctool)],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        )
        result: dict[str, Any] = json.loads(done.stdout)
        return result


@pytest.fixture(scope="module", autouse=True)
def _has_cloud_init() -> None:
    probe = [PYTHON, "-c", "import cloudinit.sources.DataSourceVMware"]
    if not Path(PYTHON).exists() or subprocess.run(probe, capture_output=True, check=False, cwd="/").returncode:
        pytest.skip(f"{PYTHON} has no cloudinit: apt-get install --no-install-recommends cloud-init")


@pytest.fixture
def cloudinit(tmp_path: Path) -> CloudInit:
    return CloudInit(tmp_path)


class Store:
    """An Rpci over a dict of full keys."""

    def __init__(self, values: dict[bytes, bytes]) -> None:
        self.values = values

    def call(self, request: bytes, *, repeat: bool | None = None, timeout: float | None = None) -> bytes:
        verb, _, rest = request.partition(b" ")
        key, _, value = rest.partition(b" ")
        if verb == b"info-set":
            self.values[key] = value
            return b""
        if key not in self.values:
            raise errors.NoSuchValue(b"No value found")
        return self.values[key]

    def close(self) -> None:
        """Nothing is open."""


YAML = "#cloud-config\nhostname: wéb\nruncmd:\n  - echo '---'\n".encode()
PACKED = gzip.compress(YAML, mtime=0)


def b64(data: bytes) -> bytes:
    return base64.b64encode(data)


VALUES = {
    "empty": b"",
    "blank": b" ",
    "white": b" \t\r\n\x0b\x0c\x1c\x1d\x1e\x1f",
    "unicode-white": "\u00a0\u2003\u3000\x85".encode(),
    "redacted": b"---",
    "redacted-white": b"--- \n",
    "redacted-after-white": b" ---",
    "dashes": b"----",
    "yaml-document": b"---\n" + YAML,
    "plain": YAML,
    "plain-inner-white": b"  a  b \n c \n\n",
    "crlf": b"a\r\nb\r\n",
    "counted-nul": b"aGVsbG8=\0",
    "counted-nul-white": b"aGVsbG8= \0",
    "only-nul": b"\0",
    "base64": b64(YAML),
    "base64-lines": base64.encodebytes(YAML),
    "base64-crlf": base64.encodebytes(YAML).replace(b"\n", b"\r\n"),
    "base64-white": b" " + b64(YAML)[:8] + b" \t " + b64(YAML)[8:] + b" \n",
    "base64-of-empty-document": b64(b"---\n"),
    "base64-of-white": b64(b" \n"),
    "base64-of-binary": b64(bytes(range(256))),
    "base64-url-alphabet": base64.urlsafe_b64encode(b"\xfb\xff\xfe~~~"),
    "base64-no-padding": b"aGVsbG8",
    "base64-half-padding": b"aGVsbA=",
    "base64-too-much-padding": b"aGVsbG8===",
    "base64-padding-inside": b"aGk=aGVs",
    "base64-one-letter": b"a",
    "base64-foreign": b"aGVs*bG8!!=",
    "base64-only-foreign": b"!!!!",
    "base64-not-ascii": "aGVsbG8=ü".encode(),
    "words": b"hello world, no base64",
    "gzip": b64(PACKED),
    "gzip-lines": base64.encodebytes(PACKED),
    "gzip-of-empty": b64(gzip.compress(b"")),
    "gzip-of-binary": b64(gzip.compress(bytes(range(256)))),
    "gzip-of-white": b64(gzip.compress(b" text \n")),
    "gzip-members": b64(gzip.compress(b"one ") + gzip.compress(b"two")),
    "gzip-padded": b64(PACKED + bytes(7)),
    "gzip-garbage-behind": b64(PACKED + b"garbage"),
    "gzip-truncated": b64(PACKED[:-5]),
    "gzip-header-only": b64(PACKED[:10]),
    "gzip-magic-only": b64(PACKED[:2]),
    "gzip-first-byte": b64(PACKED[:1]),
    "gzip-bad-checksum": b64(PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:]),
    "gzip-bad-method": b64(PACKED[:2] + b"\x01" + PACKED[3:]),
    "zlib": b64(zlib.compress(YAML)),
    "gzip-twice": b64(gzip.compress(PACKED)),
}

ENCODINGS = {
    "absent": None,
    "empty": b"",
    "blank": b" ",
    "redacted": b"---",
    "none": b"none",
    "base64": b"base64",
    "b64": b"b64",
    "gzip+base64": b"gzip+base64",
    "gz+b64": b"gz+b64",
    "newline": b"base64\n",
    "counted-nul": b"gz+b64\0",
    "blank-before": b" base64",
    "capitals": b"BASE64",
    "mixed": b"Gzip+Base64",
    "crossed": b"gzip+b64",
    "gzip": b"gzip",
    "unknown": b"rot13",
    "not-utf8": b"b64\xff",
}

# Where ours differs, and on purpose: (what is stored, its encoding, cloud-init's outcome, ours).
DIFFERENCES: dict[str, tuple[bytes, bytes | None, object, object]] = {
    # rpctool prints up to a NUL; we keep what the host sent
    "inner NUL": (b"one\0two", None, "one", "one\0two"),
    # an error instead of U+FFFD in silence; the bytes view gives the bytes
    "plain, not UTF-8": (b"Gr\xfc\xdfe", None, "Gr\ufffd\ufffde", UnicodeDecodeError),
    # an error that says what is wrong with the data, not that some bytes are no UTF-8
    "truncated gzip": (b64(PACKED[:-5]), b"gz+b64", "UnicodeDecodeError", BadValue),
    "broken base64": (b"aGVsbG8", b"base64", "Error", BadValue),
    # bounded (here at its default of 16 MiB)
    "gzip bomb": (b64(gzip.compress(bytes(17 << 20))), b"gz+b64", bytes(17 << 20).decode(), BadValue),
}


def ours(values: dict[bytes, bytes], key: str) -> dict[str, object]:
    try:
        return {"is": GuestInfo(Store(values)).text.decoded(key, None)}
    except (BadValue, UnicodeDecodeError) as error:
        return {"error": type(error).__name__}


def cases() -> Iterator[tuple[str, bytes, bytes | None]]:
    for value_name, value in VALUES.items():
        for encoding_name, encoding in ENCODINGS.items():
            yield f"{value_name}.{encoding_name}", value, encoding


def test_each_value_in_each_encoding_means_what_it_means_to_cloud_init(cloudinit: CloudInit) -> None:
    store: dict[bytes, bytes] = {}
    for key, value, encoding in cases():
        for name, stored in ((key, value), (f"{key}.encoding", encoding)):
            if stored is not None:
                cloudinit.store(name, stored)
                store[b"guestinfo." + name.encode()] = stored
    keys = [key for key, _, _ in cases()]
    theirs = cloudinit.run(decoded=keys)["decoded"]
    assert len(theirs) == len(VALUES) * len(ENCODINGS)
    differ = {}
    for key in keys:
        mine, other = ours(store, key), theirs[key]
        # which error it is, is in DIFFERENCES; that it is one, is equal
        if mine != other and not ("error" in mine and "error" in other):
            differ[key] = (mine, other)
    assert differ == {}
    # and the table holds what it is there for
    outcomes = list(theirs.values())
    assert sum("error" in outcome for outcome in outcomes) > 50
    assert sum(outcome == {"is": None} for outcome in outcomes) > 50
    assert sum(outcome == {"is": YAML.decode()} for outcome in outcomes) > 15


@pytest.mark.parametrize("name", DIFFERENCES)
def test_where_we_differ(name: str, cloudinit: CloudInit) -> None:
    value, encoding, theirs, mine = DIFFERENCES[name]
    store = {b"guestinfo.k": value}
    cloudinit.store("k", value)
    if encoding is not None:
        store[b"guestinfo.k.encoding"] = encoding
        cloudinit.store("k.encoding", encoding)
    outcome = cloudinit.run(decoded=["k"])["decoded"]["k"]
    assert outcome in ({"is": theirs}, {"error": theirs})
    if isinstance(mine, type) and issubclass(mine, Exception):
        with pytest.raises(mine):
            GuestInfo(Store(store)).text.decoded("k")
    else:
        assert ours(store, "k") == {"is": mine}


def test_binary_that_cloud_init_cannot_take_is_ours_as_bytes() -> None:
    data = bytes(range(256))
    for value, encoding in ((b64(data), b"base64"), (b64(gzip.compress(data)), b"gz+b64")):
        assert GuestInfo(Store({b"guestinfo.k": value, b"guestinfo.k.encoding": encoding})).decoded("k") == data


@pytest.mark.parametrize("encoding", [None, b"gzip+base64"])
def test_clear_leaves_what_cloud_init_leaves(encoding: bytes | None, cloudinit: CloudInit) -> None:
    store: dict[bytes, bytes] = {}
    for key in ("userdata", "secret"):
        cloudinit.store(key, b"x")
        store[b"guestinfo." + key.encode()] = b"x"
        if encoding is not None:
            cloudinit.store(f"{key}.encoding", encoding)
            store[f"guestinfo.{key}.encoding".encode()] = encoding
    result = cloudinit.run(redacted=["userdata"], cleared=["secret"] + ["secret.encoding"] * (encoding is not None))
    assert all(outcome.keys() == {"is"} for outcome in result["redacted"] + result["cleared"])
    guestinfo = GuestInfo(Store(store))
    guestinfo.clear("userdata", "dashes")
    guestinfo.clear("secret", "space")
    assert store == cloudinit.values()
    assert cloudinit.run(decoded=["userdata", "secret"])["decoded"] == {
        "userdata": {"is": None},
        "secret": {"is": None},
    }


NAMESPACE = 'xmlns="http://schemas.dmtf.org/ovf/environment/1" xmlns:oe="http://schemas.dmtf.org/ovf/environment/1"'
OVFENVS = {
    "usual": '<Property oe:key="a" oe:value="1"/>\n<Property oe:key="b" oe:value="&lt;ü&#10;&amp;&quot;"/>',
    "twice": '<Property oe:key="a" oe:value="1"/><Property oe:key="a" oe:value="2"/>',
    "blanks": '<Property oe:key=" a " oe:value="  1\n 2 "/><Property oe:key="empty" oe:value=""/>',
    "others": '<Info>text</Info><Property oe:key="a" oe:value="1"><Label>x</Label></Property><!-- <Property/> -->',
}


def test_ovf_properties_are_those_that_cloud_init_reads(cloudinit: CloudInit) -> None:
    documents = [
        f"<?xml version='1.0' encoding='UTF-8'?>"
        f"<Environment {NAMESPACE}><PlatformSection><Kind>x</Kind></PlatformSection>"
        f"<PropertySection>{body}</PropertySection></Environment>"
        for body in OVFENVS.values()
    ]
    theirs = cloudinit.run(properties=documents)["properties"]
    assert theirs == [{"is": parse(document.encode()).properties} for document in documents]
    assert all(outcome["is"] for outcome in theirs)
