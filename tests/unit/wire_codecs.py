"""Every pair of encoder and decoder in ``vmtools.wire``, as one table: for round trips and for hostile bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import strategies as st

from tests.unit import wire_models as models
from tests.unit.wire_models import PEER
from vmtools.wire import (
    datamap,
    disk,
    guestinfo,
    guestlib,
    hgfs,
    namespaces,
    nic,
    osdetail,
    stats,
    version,
    vix,
    vixops,
    vixprops,
    vixtext,
)
from vmtools.wire.guestinfo import InfoClass

if TYPE_CHECKING:
    from collections.abc import Callable


class Codec(NamedTuple):
    """``models``: what it can encode; ``samples``: real or worked bytes that it decodes."""

    name: str
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    models: st.SearchStrategy[Any]
    samples: tuple[bytes, ...] = ()


def payload(name: str) -> bytes:
    """Of a ``SetGuestInfo`` that open-vm-tools sent."""
    return guestinfo.decode(PEER[name])[1]


def _op(op: int) -> Codec:
    layout = vixops.BODIES[op]
    parts = {item.rstrip("?*=#"): item[-1] for item in layout.parts.split()}
    spoken = models.texts(30).map(lambda text: text.encode("utf-8", "replace").decode())
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "?": spoken,
        "*": st.none() | spoken,
        "=": st.binary(max_size=20),
        "#": st.lists(models.u64, max_size=4).map(tuple),
    }
    numbers = {"i": models.i32, "I": models.u32, "q": models.i64, "Q": models.u64, "B": models.u8}
    fields: dict[str, st.SearchStrategy[Any]] = {name: kinds.get(mark, spoken) for name, mark in parts.items()}
    for item in layout.fixed.split():
        name, _, kind = item.partition(":")
        if kind != "n":
            fields[name] = numbers[kind]
    return Codec(
        f"vix body {op}",
        lambda values: vixops.encode_body(op, values),
        lambda body: vixops.decode_body(op, body),
        st.fixed_dictionaries(fields),
    )


def _credential(kind: vixtext.CredentialType, model: st.SearchStrategy[vixtext.Credential]) -> Codec:
    return Codec(
        f"credential {kind.name}", vixtext.encode_credential, lambda area: vixtext.decode_credential(kind, area), model
    )


def _info(number: InfoClass, model: st.SearchStrategy[Any], *samples: str) -> Codec:
    return Codec(
        f"class {number.name}",
        lambda value: guestinfo.encode_payload(number, value),
        lambda data: guestinfo.decode_payload(number, data),
        model,
        tuple([payload(sample) for sample in samples]),
    )


_text = models.texts(60).map(lambda text: text + "x")
_stat_words = models.plain(20).map(lambda text: text.replace(" ", ""))
_versions = st.builds(version.Version, st.integers(0, 2000), st.integers(0, 31), st.integers(0, 31))

CODECS = (
    _info(InfoClass.DNS_NAME, _text, "dns-name"),
    _info(InfoClass.IP_ADDRESS, models.nic_lists_v1, "ip-address"),
    _info(InfoClass.DISK_FREE_SPACE, models.binary_disks, "disk-free-space"),
    _info(InfoClass.BUILD_NUMBER, _text, "build-number"),
    _info(InfoClass.OS_NAME_FULL, _text, "os-name-full"),
    _info(InfoClass.OS_NAME, _text, "os-name"),
    _info(InfoClass.UPTIME, st.builds(guestinfo.Uptime, models.u64), "uptime"),
    _info(InfoClass.MEMORY, models.statistics, "memory-first", "memory-second", "memory-third"),
    _info(
        InfoClass.IP_ADDRESS_V2,
        models.nic_infos | models.nic_lists,
        "ip-address-v2-of-version-3",
        "ip-address-v2-of-version-2",
    ),
    _info(InfoClass.IP_ADDRESS_V3, models.nic_infos, "ip-address-v3"),
    _info(InfoClass.OS_DETAILED, models.os_details, "os-detailed"),
    Codec("disk JSON", disk.encode_json, disk.decode_json, models.disks, (PEER["disks"][len(disk.COMMAND) :],)),
    Codec("NIC list V1", nic.encode_v1, nic.decode_v1, models.nic_lists_v1),
    Codec("statistics", stats.encode, stats.decode, models.statistics),
    Codec("OS details", osdetail.encode_details, osdetail.decode_details, models.details),
    Codec(
        "version",
        lambda model: version.encode(model).to_bytes(4, "little"),
        lambda data: version.decode(int.from_bytes(data[:4], "little")),
        _versions | st.none(),
        (version.UNMANAGED.to_bytes(4, "little"),),
    ),
    Codec("guestlib", guestlib.encode, guestlib.decode, models.guestlib_infos()),
    Codec("guestlib request", guestlib.encode_request, guestlib.decode_request, models.u32),
    Codec(
        "guestlib stat",
        lambda pair: guestlib.encode_stat_request(*pair),
        guestlib.decode_stat_request,
        st.tuples(_stat_words, models.texts(100)),
    ),
    Codec(
        "guestlib ioctl",
        lambda pair: guestlib.encode_atomic_update(*pair),
        guestlib.decode_atomic_update,
        st.tuples(models.texts(256), models.texts(256)),
    ),
    Codec("namespace request", namespaces.encode_request, namespaces.decode_request, models.namespace_requests),
    Codec("namespace values", namespaces.encode_values, namespaces.decode_values, models.tuples(models.words)),
    Codec("DataMap", datamap.encode, datamap.decode, models.datamap_fields),
    Codec("DataMap RPC", datamap.encode_rpc, lambda data: datamap.decode_rpc(data) or data, models.rpc_packets),
    Codec("VIX request", vix.encode_request, vix.decode_request, models.vix_requests()),
    Codec("VIX response", vix.encode_response, vix.decode_response, models.vix_responses),
    Codec(
        "VIX relayed",
        lambda pair: vix.encode_relayed(*pair),
        vix.decode_relayed,
        st.tuples(models.plain(50), models.vix_requests()),
    ),
    Codec(
        "VIX text answer",
        vix.encode_answer,
        vix.decode_answer,
        models.vix_answers.filter(lambda answer: not answer.binary),
        (PEER["vix-tools-state"].removeprefix(b"OK "),),
    ),
    Codec(
        "VIX binary answer",
        vix.encode_answer,
        lambda data: vix.decode_answer(data, binary=True),
        models.vix_answers.filter(lambda answer: answer.binary),
    ),
    Codec("VIX string", vixtext.encode_string, vixtext.decode_string, models.texts(60)),
    Codec(
        "VIX password",
        vixtext.obfuscate,
        vixtext.reveal,
        st.builds(vixtext.NamePassword, models.texts(30), models.texts(30)),
    ),
    _credential(
        vixtext.CredentialType.NAME_PASSWORD, st.builds(vixtext.NamePassword, models.texts(30), models.texts(30))
    ),
    _credential(vixtext.CredentialType.SAML_BEARER, st.builds(vixtext.SamlToken, models.texts(30), models.texts(30))),
    _credential(vixtext.CredentialType.TICKETED_SESSION, st.builds(vixtext.Ticket, models.texts(30))),
    Codec("VIX properties", vixprops.encode, vixprops.decode, models.properties),
    Codec("VIX properties as text", vixprops.encode_text, vixprops.decode_text, models.properties),
    Codec("HGFS request", hgfs.encode_request, hgfs.decode_request, models.hgfs_requests),
    Codec("HGFS reply", hgfs.encode_reply, hgfs.decode_reply, models.hgfs_replies, (PEER["hgfs-entry"][3:],)),
    Codec("HGFS entry", hgfs.encode_entry, hgfs.decode_entry, models.hgfs_entries, (PEER["hgfs-entry"][11:],)),
    *[_op(op) for op in vixops.BODIES if op != vixops.Op.LIST_DIRECTORY],
    Codec(
        "vix body with an optional field",
        lambda values: vixops.encode_body(vixops.Op.LIST_DIRECTORY, values),
        lambda body: vixops.decode_body(vixops.Op.LIST_DIRECTORY, body),
        st.fixed_dictionaries({"options": st.sampled_from([0, 2]), "path": st.text("abc")})
        | st.fixed_dictionaries({"options": st.sampled_from([1, 3]), "path": st.text("abc"), "offset": models.i64}),
    ),
)
