"""The OVF environment: what is read, and what is refused."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmtools.errors import BadValue
from vmtools.ovfenv import OvfEnvironment, parse

VSPHERE = b"""<?xml version="1.0" encoding="UTF-8"?>
<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1"
             xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
             xmlns:oe="http://schemas.dmtf.org/ovf/environment/1"
             xmlns:ve="http://www.vmware.com/schema/ovfenv"
             oe:id="web"
             ve:vCenterId="vm-81">
   <PlatformSection>
      <Kind>VMware ESXi</Kind>
      <Version>8.0.3</Version>
      <Vendor>VMware, Inc.</Vendor>
      <Locale>en</Locale>
   </PlatformSection>
   <PropertySection>
      <Property oe:key="hostname" oe:value="web-1"/>
      <Property oe:key="password" oe:value="a&lt;b&#10;&quot;c"/>
      <Property oe:key="guestinfo.ignition.config.data" oe:value=""/>
      <Property oe:key="hostname" oe:value="web-2"/>
   </PropertySection>
   <ve:EthernetAdapterSection>
      <ve:Adapter ve:mac="00:50:56:00:00:01" ve:network="VM Network" ve:unitNumber="7"/>
   </ve:EthernetAdapterSection>
   <Entity oe:id="db">
      <PlatformSection><Kind>another machine</Kind></PlatformSection>
      <PropertySection><Property oe:key="hostname" oe:value="db-1"/></PropertySection>
   </Entity>
</Environment>
"""


def environment(body: str, attributes: str = "") -> bytes:
    namespace = "http://schemas.dmtf.org/ovf/environment/1"
    return f'<Environment xmlns="{namespace}" xmlns:oe="{namespace}" {attributes}>{body}</Environment>'.encode()


def test_a_document_as_vsphere_writes_it() -> None:
    env = parse(VSPHERE)
    assert env.id == "web"
    assert env.platform == {"Kind": "VMware ESXi", "Version": "8.0.3", "Vendor": "VMware, Inc.", "Locale": "en"}
    assert env.properties == {"hostname": "web-2", "password": 'a<b\n"c', "guestinfo.ignition.config.data": ""}


def test_repr_names_the_properties_and_hides_the_values() -> None:
    text = repr(OvfEnvironment("x", {"password": "Passw0rd"}, {"Kind": "ESXi"}))
    assert "password" in text
    assert "ESXi" in text
    assert "Passw0rd" not in text


@pytest.mark.parametrize("document", [b"<Environment/>", environment(""), environment("<PropertySection/>")])
def test_missing_sections_are_empty(document: bytes) -> None:
    env = parse(document)
    assert (env.id, env.properties, env.platform) == ("", {}, {})


def test_attributes_with_or_without_the_namespace_but_of_no_other() -> None:
    body = '<Property key="a" value="1" xmlns:x="urn:x" x:value="2"/><Property oe:key="b"/>'
    assert parse(environment(f"<PropertySection>{body}</PropertySection>")).properties == {"a": "1", "b": ""}


def test_what_stands_deeper_than_our_sections_is_not_ours() -> None:
    body = "<PlatformSection><Kind>a<b>x<c>y</c></b>d</Kind></PlatformSection><X><PropertySection/></X>"
    assert parse(environment(body)).platform == {"Kind": "ad"}
    nested = '<Property oe:key="a" oe:value="1"><Property oe:key="b" oe:value="2"/></Property>'
    assert parse(environment(f"<PropertySection>{nested}</PropertySection>")).properties == {"a": "1"}


def test_platform_texts_have_no_margins() -> None:
    body = "<PlatformSection><Kind>\n  VMware\n  ESXi\n</Kind><Locale/></PlatformSection>"
    assert parse(environment(body)).platform == {"Kind": "VMware\n  ESXi", "Locale": ""}


def test_other_encodings() -> None:
    body = "<Environment><PlatformSection><Kind>ü</Kind></PlatformSection></Environment>"
    text = f'<?xml version="1.0" encoding="iso-8859-1"?>{body}'
    assert parse(text.encode("latin-1")).platform == {"Kind": "ü"}
    assert parse(text.replace("iso-8859-1", "utf-16").encode("utf-16")).platform == {"Kind": "ü"}


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b"", "not well-formed"),
        (b"hello", "not well-formed"),
        (VSPHERE[:-20], "not well-formed"),
        (VSPHERE + b"garbage", "not well-formed"),
        (b" " + VSPHERE, "not well-formed"),
        (b"<a/>", "root element"),
        (b"<environment/>", "root element"),
        (b'<?xml version="1.0" encoding="klingon"?><Environment/>', "not well-formed"),
        (b'<?xml version="1.0" encoding="base64"?><Environment/>', "not well-formed"),
        (b'<?xml version="1.0" encoding="shift_jis"?><Environment/>', "not well-formed"),
        (b"<Environment>\xff</Environment>", "not well-formed"),
        (b"<Environment>\0</Environment>", "not well-formed"),
        (b"<Environment>&undefined;</Environment>", "not well-formed"),
        (b"<x:Environment/>", "not well-formed"),
        (environment('<PropertySection><Property oe:value="v"/></PropertySection>'), "without a key"),
    ],
)
def test_what_is_no_ovf_environment(document: bytes, why: str) -> None:
    with pytest.raises(BadValue, match=why):
        parse(document)


LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 20))


@pytest.mark.parametrize(
    "declaration",
    [
        "<!DOCTYPE Environment>",
        f'<!DOCTYPE Environment [<!ENTITY l0 "ha">{LAUGHS}]>',
        '<!DOCTYPE Environment [<!ENTITY l19 SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE Environment SYSTEM "http://192.0.2.1/evil.dtd">',
        '<!DOCTYPE Environment PUBLIC "-//X//Y" "http://192.0.2.1/evil.dtd">',
        '<!DOCTYPE Environment [<!ENTITY % p SYSTEM "http://192.0.2.1/p"> %p;]>',
        '<!DOCTYPE Environment [<!ATTLIST Environment id CDATA "default">]>',
        '<!DOCTYPE Environment [<!NOTATION n SYSTEM "n"><!ENTITY u SYSTEM "u" NDATA n>]>',
    ],
)
def test_a_doctype_is_refused_before_it_does_anything(declaration: str) -> None:
    body = "<PlatformSection><Kind>&l19;</Kind></PlatformSection>"
    begun = time.process_time()
    with pytest.raises(BadValue, match="DOCTYPE"):
        parse(f'<?xml version="1.0"?>{declaration}<Environment>{body}</Environment>'.encode())
    assert time.process_time() - begun < 1


def test_the_five_entities_of_xml_itself_work() -> None:
    kind = "<PlatformSection><Kind>&lt;&gt;&amp;&apos;&quot;&#65;</Kind></PlatformSection>"
    assert parse(environment(kind)).platform == {"Kind": "<>&'\"A"}


def test_size_is_bounded() -> None:
    assert parse(VSPHERE, limit=len(VSPHERE)).id == "web"
    with pytest.raises(BadValue, match=f"has {len(VSPHERE)} bytes; the limit is {len(VSPHERE) - 1}"):
        parse(VSPHERE, limit=len(VSPHERE) - 1)
    with pytest.raises(BadValue, match="1048576"):
        parse(bytes((1 << 20) + 1))


def test_a_megabyte_of_nesting_or_attributes_ends_soon() -> None:
    begun = time.process_time()
    depth = 140_000
    assert parse(environment("<a>" * depth + "</a>" * depth)).properties == {}
    attributes = " ".join(f'a{i}="{i}"' for i in range(60_000))
    assert parse(environment(f"<a {attributes}/>")).properties == {}
    assert time.process_time() - begun < 5


def test_errors_do_not_quote_the_document() -> None:
    with pytest.raises(BadValue) as caught:
        parse(VSPHERE.replace(b"</Environment>", b""))
    assert "web-1" not in str(caught.value)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_a_bad_value(document: bytes) -> None:
    try:
        parse(document)
    except BadValue:
        pass


XML_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"))


@settings(deadline=None)
@given(st.dictionaries(XML_TEXT, XML_TEXT))
def test_properties_round_trip(properties: dict[str, str]) -> None:
    from xml.sax.saxutils import quoteattr

    rows = "".join(f"<Property oe:key={quoteattr(k)} oe:value={quoteattr(v)}/>" for k, v in properties.items())
    assert parse(environment(f"<PropertySection>{rows}</PropertySection>")).properties == properties
