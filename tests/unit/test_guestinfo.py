"""The guestinfo mapping, its tombstones, and the guest that has it, against a host that is a dict."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.dict_host import Host
from vmtools import errors
from vmtools.errors import BadValue
from vmtools.guest import Guest
from vmtools.guestinfo import GuestInfo, payload, variable
from vmtools.values import without_nul


@pytest.fixture
def host() -> Host:
    return Host(a=b"1", nul=b"x\0", utf8="Grüße\n".encode(), latin1=b"Gr\xfc\xdfe")


@pytest.fixture
def guestinfo(host: Host) -> GuestInfo:
    return Guest(host).guestinfo


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("a", "guestinfo.a"),
        ("guestinfo.a", "guestinfo.a"),
        ("GuestInfo.a", "guestinfo.a"),
        ("guestinfo.guestinfo.a", "guestinfo.guestinfo.a"),
        ("guestinfo", "guestinfo.guestinfo"),
        ("ignition.config.data", "guestinfo.ignition.config.data"),
        ("ü", "guestinfo.ü"),
        ("a/b=c", "guestinfo.a/b=c"),
    ],
)
def test_prefix_is_added_unless_it_is_there(key: str, name: str) -> None:
    assert variable(key) == name


@pytest.mark.parametrize(
    "key", ["", "guestinfo.", "GUESTINFO.", " ", "a b", "a ", " a", "a\0", "a\n", "a\tb", "\x7f", "a\u2028", "a\u3000b"]
)
def test_bad_keys_are_refused_before_the_host_hears_of_them(key: str, host: Host) -> None:
    guest = Guest(host)
    guestinfo = guest.guestinfo
    for act in (
        lambda: guestinfo[key],
        lambda: guestinfo.get(key),
        lambda: key in guestinfo,
        lambda: guestinfo.__setitem__(key, b"v"),
        lambda: guestinfo.decoded(key),
        lambda: guestinfo.clear(key),
        lambda: guestinfo.text[key],
        lambda: guest.info_get(key),
        lambda: guest.info_set(key, b"v"),
    ):
        with pytest.raises(ValueError, match="guestinfo key"):
            act()
    assert host.calls == []


@pytest.mark.parametrize("key", [b"a", 7, None, ("a",)])
def test_a_key_is_a_str(key: object, guestinfo: GuestInfo) -> None:
    with pytest.raises(TypeError, match="a guestinfo key is a str"):
        guestinfo[key]  # type: ignore[index]
    with pytest.raises(TypeError, match="a guestinfo key is a str"):
        _ = key in guestinfo  # type: ignore[operator]


@settings(deadline=None)
@given(st.text(min_size=1))
def test_a_key_that_passes_is_one_word_of_the_request(key: str) -> None:
    try:
        name = variable(key)
    except ValueError:
        return
    assert name.startswith("guestinfo.")
    assert f"info-get {name}".encode().split() == [b"info-get", name.encode()]


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (b"v", b"v"),
        ("v", b"v"),
        ("Grüße", "Grüße".encode()),
        (b"", b""),
        (b" ", b" "),
        (b" two  words\n", b" two  words\n"),
        (b"\xff\x01", b"\xff\x01"),
        (bytearray(b"v"), b"v"),
        (memoryview(b"v"), b"v"),
    ],
)
def test_set_sends_the_value_after_a_single_blank(
    value: bytes | bytearray | memoryview | str, sent: bytes, host: Host, guestinfo: GuestInfo
) -> None:
    guestinfo["k"] = value
    assert host.calls == [(b"info-set guestinfo.k " + sent, None)]
    assert guestinfo["k"] == sent


@pytest.mark.parametrize("value", [7, None, 1.5, ["v"], {"a": 1}])
def test_a_value_is_bytes_or_str(value: object, host: Host, guestinfo: GuestInfo) -> None:
    with pytest.raises(TypeError, match="a guestinfo value is bytes or str"):
        guestinfo["k"] = value  # type: ignore[assignment]
    with pytest.raises(TypeError, match="a guestinfo text is a str"):
        guestinfo.text["k"] = value  # type: ignore[assignment]
    assert host.calls == []


@pytest.mark.parametrize("value", [b"\0", b"v\0", "v\0w", b"\0v"])
def test_a_nul_would_end_the_value_so_it_is_refused(value: bytes | str, host: Host, guestinfo: GuestInfo) -> None:
    with pytest.raises(ValueError, match=r"NUL.*base64"):
        guestinfo["k"] = value
    assert host.calls == []


def test_a_str_that_is_no_unicode_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="surrogates not allowed"):
        payload("\udc80")


def test_reading(guestinfo: GuestInfo) -> None:
    assert guestinfo["a"] == b"1"
    assert guestinfo["guestinfo.a"] == b"1"
    assert guestinfo.get("a") == b"1"
    assert guestinfo.get("b") is None
    assert guestinfo.get("b", b"0") == b"0"
    assert "a" in guestinfo
    assert "b" not in guestinfo


def test_a_missing_key_is_a_key_error_that_knows_the_hosts_words(guestinfo: GuestInfo) -> None:
    with pytest.raises(KeyError, match="'b'") as caught:
        guestinfo["b"]
    assert isinstance(caught.value.__cause__, errors.NoSuchValue)
    with pytest.raises(KeyError):
        guestinfo.text["b"]


def test_what_may_be_repeated_is_for_rpci_and_the_caller_to_say(host: Host) -> None:
    guest = Guest(host)
    guest.info_get("a")
    guest.guestinfo.get("a")
    guest.info_set("a", b"2")
    guest.info_set("a", b"2", repeat=True)
    guest.log("x")
    guest.machine_id()
    assert [repeat for _, repeat in host.calls] == [None, None, None, True, None, None]


@pytest.mark.parametrize(
    "error",
    [errors.PermissionDenied(b"Permission denied"), errors.HostRefused(b"Value too long"), errors.NoDevice("-")],
)
def test_other_errors_are_not_mistaken_for_a_missing_key(error: errors.VMToolsError) -> None:
    guestinfo = Guest(Host(lambda request: error)).guestinfo
    for act in (
        lambda: guestinfo["a"],
        lambda: guestinfo.get("a"),
        lambda: "a" in guestinfo,
        lambda: guestinfo.decoded("a", None),
        guestinfo.ovfenv,
        lambda: guestinfo.__setitem__("a", b""),
        lambda: guestinfo.clear("a"),
    ):
        with pytest.raises(type(error)) as caught:
            act()
        assert caught.value is error


def test_what_the_host_cannot_do_is_a_type_error_in_a_sentence(guestinfo: GuestInfo) -> None:
    for view in (guestinfo, guestinfo.text):
        with pytest.raises(TypeError, match="can't be listed"):
            list(view)
        with pytest.raises(TypeError, match="can't be deleted"):
            del view["a"]
        with pytest.raises(TypeError):
            len(view)  # type: ignore[arg-type]
        assert bool(view) is True


# --- text ------------------------------------------------------------------------------------------------------------


def test_bytes_are_the_hosts_and_text_has_no_counted_nul(guestinfo: GuestInfo) -> None:
    assert guestinfo["nul"] == b"x\0"
    assert guestinfo.text["nul"] == "x"
    assert guestinfo.text.get("nul") == "x"
    assert without_nul(b"x\0\0") == b"x\0"


def test_text_is_utf8(guestinfo: GuestInfo) -> None:
    assert guestinfo.text["utf8"] == "Grüße\n"
    assert guestinfo.text.get("none") is None
    assert guestinfo.text.get("none", "-") == "-"
    assert "utf8" in guestinfo.text
    with pytest.raises(UnicodeDecodeError):
        guestinfo.text["latin1"]
    guestinfo.text["k"] = "für"
    assert guestinfo["k"] == b"f\xc3\xbcr"
    with pytest.raises(TypeError, match="a guestinfo text is a str, not bytes"):
        guestinfo.text["k"] = b"x"  # type: ignore[assignment]


# --- clearing --------------------------------------------------------------------------------------------------------

SECRET, ENCODING = b"guestinfo.k", b"guestinfo.k.encoding"


@pytest.mark.parametrize(
    ("style", "encoded", "value", "encoding"),
    [
        ("space", False, b" ", None),
        ("space", True, b" ", b" "),
        ("dashes", False, b"---", b" "),
        ("dashes", True, b"---", b" "),
        ("ignition", False, b"e30K", b"base64"),
        ("ignition", True, b"e30K", b"base64"),
    ],
)
def test_clear(style: str, encoded: bool, value: bytes, encoding: bytes | None) -> None:
    host = Host(k=b"secret", **({"k__encoding": b"gz+b64"} if encoded else {}))
    GuestInfo(host).clear("k", style)  # type: ignore[arg-type]
    assert host.values.get(SECRET) == value
    assert host.values.get(ENCODING) == encoding
    assert host.calls[0] == (b"info-set guestinfo.k " + value, True)  # first of all


def test_clear_is_by_space_and_what_is_cleared_is_gone() -> None:
    for style in ("space", "dashes"):
        guestinfo = GuestInfo(Host(k=b"c2VjcmV0", k__encoding=b"b64"))
        assert guestinfo.decoded("k") == b"secret"
        guestinfo.clear("k", style)
        assert guestinfo.decoded("k", None) is None
    guestinfo = GuestInfo(host := Host(k=b"secret"))
    guestinfo.clear("k")
    assert host.values == {SECRET: b" "}
    guestinfo.clear("k", "ignition")
    assert guestinfo.decoded("k") == b"{}\n"


def test_an_unknown_style_clears_nothing() -> None:
    host = Host(k=b"secret")
    with pytest.raises(ValueError, match="space, dashes, ignition"):
        GuestInfo(host).clear("k", "shred")  # type: ignore[arg-type]
    assert host.calls == []


def test_the_value_is_gone_even_where_the_encoding_is_refused() -> None:
    denied = errors.PermissionDenied(b"Permission denied")
    host = Host(lambda request: denied if b".encoding" in request else None, k=b"secret")
    for style in ("space", "dashes", "ignition"):
        host.values[SECRET] = b"secret"
        with pytest.raises(errors.PermissionDenied):
            GuestInfo(host).clear("k", style)
        assert host.values[SECRET] != b"secret"


# --- ovfEnv ----------------------------------------------------------------------------------------------------------

OVFENV = b'<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1"/>'


@pytest.mark.parametrize("key", ["ovfEnv", "ovfenv"])
@pytest.mark.parametrize("trailer", [b"", b"\n", b"\0"])
def test_ovfenv_by_either_name(key: str, trailer: bytes) -> None:
    assert GuestInfo(Host(**{key: OVFENV + trailer})).ovfenv().properties == {}


@pytest.mark.parametrize("values", [{}, {"ovfEnv": b" "}, {"ovfenv": b"---"}, {"ovfEnv": b"", "ovfenv": b"\0"}])
def test_no_ovfenv_is_a_key_error(values: dict[str, bytes]) -> None:
    with pytest.raises(KeyError, match="ovfEnv"):
        GuestInfo(Host(**values)).ovfenv()


def test_an_ovfenv_that_was_cleared_under_one_name_is_read_under_the_other() -> None:
    assert GuestInfo(Host(ovfEnv=b" ", ovfenv=OVFENV)).ovfenv().id == ""


def test_what_is_no_ovfenv_is_a_bad_value() -> None:
    with pytest.raises(BadValue):
        GuestInfo(Host(ovfEnv=b"hello")).ovfenv()


# --- the guest -------------------------------------------------------------------------------------------------------


def test_guest_sends_the_commands_byte_by_byte(host: Host) -> None:
    guest = Guest(host)
    assert guest.info_get("a") == b"1"
    with pytest.raises(errors.NoSuchValue):
        guest.info_get("b")
    guest.info_set("c", "3")
    guest.log("Grüße \udc80")
    guest.log(b"raw \xff")
    assert guest.machine_id() == b"id-7"
    assert guest.call(b"any thing\0", timeout=2.5) == b""
    assert host.timeout == 2.5
    assert host.requests == [
        b"info-get guestinfo.a",
        b"info-get guestinfo.b",
        b"info-set guestinfo.c 3",
        "log Grüße \\udc80".encode(),
        b"log raw \xff",
        b"machine.id.get",
        b"any thing\0",
    ]


@pytest.mark.parametrize("text", ["a\0b", b"a\0"])
def test_a_log_text_has_no_nul(text: str | bytes, host: Host) -> None:
    with pytest.raises(ValueError, match="NUL"):
        Guest(host).log(text)
    assert host.calls == []


def test_guest_closes_its_channel_whatever_happens(host: Host) -> None:
    guest = Guest(host)
    with pytest.raises(errors.HostRefused), guest:
        guest.info_get("none")
    assert host.closed == 1


def test_reprs_tell_no_values(host: Host, guestinfo: GuestInfo) -> None:
    assert repr(Guest(host)) == f"<vmtools.Guest by {host!r}>"
    assert repr(guestinfo) == "<vmtools.GuestInfo>"
    assert repr(guestinfo.text) == "<vmtools.GuestInfo as text>"
