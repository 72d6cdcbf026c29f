"""The guest on the simulated host, through the real channel; and ``docs/guestinfo.md``, whose examples run there."""

from __future__ import annotations

import ast
import base64
import gzip
import re
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

import vmtools
from vmtools import errors
from vmtools.sim.inprocess import host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmtools.gates import Gate
    from vmtools.guest import Guest
    from vmtools.sim.machine import Machine

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guestinfo.md"
OVFENV = b"""<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" id="web">
<PlatformSection><Kind>VMware ESXi</Kind></PlatformSection>
<PropertySection><Property key="hostname" value="web-1"/></PropertySection></Environment>"""


@pytest.fixture(params=[True, False], ids=["high-bandwidth", "low-bandwidth"])
def simulated(request: pytest.FixtureRequest) -> Iterator[tuple[Machine, Guest]]:
    machine, gate = host({b"hello": b"world", b"nul": b"x\0"}, high_bandwidth=request.param)
    with vmtools.connect(cast("Gate", gate)) as guest:
        yield machine, guest


def test_simulated_host(simulated: tuple[Machine, Guest]) -> None:
    machine, guest = simulated
    guestinfo = guest.guestinfo
    assert guestinfo["hello"] == guest.info_get("guestinfo.hello") == b"world"
    assert (guestinfo["nul"], guestinfo.text["nul"]) == (b"x\0", "x")
    assert "none" not in guestinfo
    with pytest.raises(KeyError):
        guestinfo["none"]
    guestinfo["k"] = " two  blanks\n"
    guestinfo.text["ü"] = "Grüße"
    assert machine.guestinfo[b"guestinfo.k"] == b" two  blanks\n"
    assert machine.guestinfo["guestinfo.ü".encode()] == "Grüße".encode()
    with pytest.raises(errors.HostRefused):
        guest.machine_id()
    machine.machine_id = b"id-7"
    assert guest.machine_id() == b"id-7"
    guest.log("hello from the guest")
    assert any(b"hello from the guest" in bytes(line) for line in machine.log)
    with pytest.raises(errors.HostRefused, match="Unknown command"):
        guest.call(b"no.such.command")


def test_connect_hands_its_limits_on() -> None:
    _, gate = host({b"ten": b"0123456789"})
    with vmtools.connect(cast("Gate", gate), reply_limit=12, timeout=60) as guest:
        assert guest.info_get("ten") == b"0123456789"
    with vmtools.connect(cast("Gate", gate), reply_limit=11) as guest, pytest.raises(errors.ReplyTooLarge):
        guest.info_get("ten")
    with vmtools.connect(cast("Gate", gate), timeout=-1) as guest, pytest.raises(errors.ChannelLost):
        guest.info_get("ten")
    with pytest.raises(errors.GateUnavailable):
        vmtools.connect("no-such-gate")


def test_simulated_host_encodings_and_clearing(simulated: tuple[Machine, Guest]) -> None:
    machine, guest = simulated
    machine.set_guestinfo(b"guestinfo.userdata", base64.b64encode(gzip.compress(b"#cloud-config\n")))
    machine.set_guestinfo(b"guestinfo.userdata.encoding", b"gzip+base64")
    assert guest.guestinfo.text.decoded("userdata") == "#cloud-config\n"
    guest.guestinfo.clear("userdata", "dashes")
    assert guest.guestinfo.decoded("userdata", None) is None
    assert machine.guestinfo[b"guestinfo.userdata"] == b"---"
    machine.set_guestinfo(b"guestinfo.ovfEnv", OVFENV)
    assert guest.guestinfo.ovfenv().platform == {"Kind": "VMware ESXi"}


def test_simulated_host_sizes(simulated: tuple[Machine, Guest]) -> None:
    machine, guest = simulated
    most = 65536 - len(b"info-set guestinfo.big ")
    guest.guestinfo["big"] = b"v" * most
    assert guest.guestinfo["big"] == b"v" * most
    with pytest.raises(errors.RequestTooLarge, match="takes no message of 65537 bytes"):
        guest.guestinfo["big"] = b"w" * (most + 1)
    assert guest.guestinfo["big"] == b"v" * most
    machine.guestinfo[b"guestinfo.huge"] = bytes((1 << 20) + 1)
    with pytest.raises(errors.ReplyTooLarge):
        guest.guestinfo["huge"]
    assert guest.guestinfo["hello"] == b"world"


def test_the_examples(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    machine, gate = host({b"hello": b"world", b"ovfEnv": OVFENV})
    real = vmtools.connect
    monkeypatch.setattr(vmtools, "connect", lambda: real(cast("Gate", gate)))
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {}
    promised = []
    for block in blocks:
        lines = block.splitlines()
        for statement in ast.parse(block).body:
            last = lines[(statement.end_lineno or 0) - 1]
            if not isinstance(statement, ast.Expr):
                exec(compile(ast.Module([statement], []), "guestinfo.md", "exec"), names)  # noqa: S102 (our own page)
                continue
            value = eval(compile(ast.Expression(statement.value), "guestinfo.md", "eval"), names)  # noqa: S307
            comment = last.partition("#")[2] if "cloud-config" not in last else last.rpartition("  # ")[2]
            try:
                promise = ast.literal_eval(comment.partition(";")[0].strip())
            except (SyntaxError, ValueError):
                continue
            assert value == promise, last
            promised.append(promise)
    assert len(blocks) == 5
    assert len(promised) >= 8
    assert capsys.readouterr().out == "b'world'\nworld\n"
    assert machine.guestinfo[b"guestinfo.password"] == b" "
    assert machine.guestinfo[b"guestinfo.userdata"] == b"---"
    assert machine.guestinfo[b"guestinfo.ignition.config.data.encoding"] == b"base64"
