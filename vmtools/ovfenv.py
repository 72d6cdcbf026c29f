"""The OVF environment: what vSphere tells a deployed appliance, an XML document in ``guestinfo.ovfEnv``.

DMTF DSP0243, "OVF environment" (schema ``http://schemas.dmtf.org/ovf/environment/1``).  Read with the standard
library's expat and made safe by refusal: a DOCTYPE, and with it every entity declaration and every external entity,
ends the parse before it can do anything, so there is nothing to expand and nothing to fetch.
"""

from __future__ import annotations

from .errors import BadValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["DEFAULT_LIMIT", "OvfEnvironment", "parse"]

DEFAULT_LIMIT = 1 << 20
"""Bytes of XML: what a host sends at most."""

NAMESPACE = "http://schemas.dmtf.org/ovf/environment/1"

ENVIRONMENT = ("Environment",)
PLATFORM = ("Environment", "PlatformSection")
PROPERTIES = ("Environment", "PropertySection")
DEEPEST = 3
"""Elements below this depth hold nothing for us; a vApp's other machines (``Entity``) repeat our sections there."""


class OvfEnvironment:
    """What the document says of this machine.

    ``id``: the machine's id in the OVF package, ``""`` if not given.  ``properties``: key to value, all text; of a key
    that comes twice the last counts.  ``platform``: the texts of the platform section by element name: ``Kind``,
    ``Version``, ``Vendor``, ``Locale``.
    """

    __slots__ = ("id", "platform", "properties")

    def __init__(self, id: str, properties: dict[str, str], platform: dict[str, str]) -> None:
        self.id = id
        self.properties = properties
        self.platform = platform

    def __repr__(self) -> str:
        # Names only: values are passwords as often as not, and a repr ends in logs.
        return f"<OvfEnvironment id={self.id!r} platform={self.platform!r} properties={sorted(self.properties)!r}>"


def parse(document: bytes, *, limit: int = DEFAULT_LIMIT) -> OvfEnvironment:
    """Parse ``document``; sections that are missing are empty, what we don't know is skipped.

    Raises :class:`~vmtools.errors.BadValue`: over ``limit`` bytes, not well-formed XML, a DOCTYPE, another root element
    than ``Environment``, or a property without a key.
    """
    from xml.parsers.expat import ExpatError, ParserCreate

    if len(document) > limit:
        raise BadValue(f"the OVF environment has {len(document)} bytes; the limit is {limit}")
    reader = _Reader()
    parser = ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(document, True)
    except BadValue:
        raise
    except (ExpatError, LookupError, ValueError) as error:  # the latter two: an encoding that Python lacks or can't use
        raise BadValue(f"the OVF environment is not well-formed XML: {error}") from None
    return OvfEnvironment(reader.id, reader.properties, reader.platform)


def _refuse_doctype(*_declaration: object) -> NoReturn:
    raise BadValue("the OVF environment has a DOCTYPE", help="No host writes one: somebody else wrote this document.")


class _Reader:
    """Expat's handlers: they know the path to where they are, down to :data:`DEEPEST`."""

    def __init__(self) -> None:
        self.id = ""
        self.properties: dict[str, str] = {}
        self.platform: dict[str, str] = {}
        self._path: tuple[str, ...] = ()
        self._below = 0
        self._words: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._path) == DEEPEST:
            self._below += 1
            return
        parent = self._path
        # As Ignition and cloud-init do: elements by their local name, whatever the namespace.
        self._path = (*parent, name.rpartition(" ")[2])
        self._words = []
        if not parent:
            if self._path != ENVIRONMENT:
                raise BadValue("the document is no OVF environment: its root element is not Environment")
            self.id = _attribute(attributes, "id") or ""
        elif parent == PROPERTIES and self._path[-1] == "Property":
            key = _attribute(attributes, "key")
            if key is None:
                raise BadValue("the OVF environment has a property without a key")
            self.properties[key] = _attribute(attributes, "value") or ""

    def text(self, words: str) -> None:
        if self._path[:-1] == PLATFORM and not self._below:
            self._words.append(words)

    def end(self, _name: str) -> None:
        if self._below:
            self._below -= 1
            return
        if self._path[:-1] == PLATFORM:
            self.platform[self._path[-1]] = "".join(self._words).strip()
        self._path = self._path[:-1]


def _attribute(attributes: dict[str, str], name: str) -> str | None:
    """An attribute in OVF's namespace (``oe:key``), or without any."""
    return attributes.get(f"{NAMESPACE} {name}", attributes.get(name))
