"""cloud-init, unmodified, with ``vmware-rpctool`` on its PATH: the original, then ours, under the simulated host.

Its data source starts the command as it does at boot; ``ds-identify``, the shell script that runs before it, is sourced
and its checks are called.  Needs Debian's package ``cloud-init`` (its files only; no service of it runs).
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from vmtools.sim.backdoor import Backdoor
from vmtools.sim.run import run

from .side_by_side import Side, Word, machine

PYTHON = "/usr/bin/python3"
DS_IDENTIFY = Path("/usr/lib/cloud-init/ds-identify")

DRIVER = """
import json, sys
import cloudinit.sources.DataSourceVMware as source
job = json.load(sys.stdin)
rpctool = source.which("vmware-rpctool")
# cloud-init 23 and later also want to know how the tool is called
how = (rpctool, source.exec_vmware_rpctool) if hasattr(source, "exec_vmware_rpctool") else (rpctool,)
source.guestinfo_redact_keys(job.get("redacted", []), *how)
for key, value in job.get("set", []):
    assert source.guestinfo_set_value(key, value, *how)
json.dump({
    "rpctool": rpctool,
    "raw": {key: source.guestinfo_get_value(key, *how) for key in job.get("raw", [])},
    "decoded": {key: source.guestinfo(key, *how) for key in job.get("decoded", [])},
}, sys.stdout)
"""

YAML = "#cloud-config\nhostname: wéb\n"
VALUES = {
    b"plain": YAML.encode(),
    b"metadata": base64.b64encode(YAML.encode()),
    b"metadata.encoding": b"base64",
    b"userdata": base64.b64encode(gzip.compress(YAML.encode(), mtime=0)),
    b"userdata.encoding": b"gz+b64",
    b"redacted": b"---",
    b"blank": b" ",
    b"lines": b"a: 1\n\n",
    b"ovfEnv": b'<?xml version="1.0" encoding="UTF-8"?>\n<Environment/>\n',
}


@pytest.fixture(scope="module", autouse=True)
def _has_cloud_init() -> None:
    probe = [PYTHON, "-c", "import cloudinit.sources.DataSourceVMware"]
    if not Path(PYTHON).exists() or subprocess.run(probe, capture_output=True, check=False, cwd="/").returncode:
        pytest.skip(f"{PYTHON} has no cloudinit: apt-get install --no-install-recommends cloud-init")
    if not DS_IDENTIFY.exists():
        pytest.skip(f"cloud-init brings no {DS_IDENTIFY}")


@pytest.fixture(params=["theirs", "ours"])
def side(request: pytest.FixtureRequest) -> Side:
    """The original first: what it gives cloud-init is what ours has to give."""
    found: Side = request.getfixturevalue(request.param)
    return found


def under_host(side: Side, argv: list[Word], values: dict[bytes, bytes], text: str = "") -> tuple[int, str, Any]:
    """Run a program that finds the side's commands; its status, its output, the machine."""
    host = machine(guestinfo=values)
    environment = {
        **os.environ,
        "LC_ALL": "C.UTF-8",
        **side.environment,
        "PATH": f"{side.folder}:/usr/sbin:/usr/bin:/sbin:/bin",
        "DI_MAIN": "noop",
        "DI_LOG": "stderr",
    }
    with tempfile.TemporaryFile("w+") as stdin, tempfile.TemporaryFile("w+") as stdout:
        stdin.write(text)
        stdin.seek(0)
        status = run(argv, Backdoor(host), env=environment, cwd="/", stdin=stdin, stdout=stdout)
        stdout.seek(0)
        return status, stdout.read(), host


def data_source(side: Side, values: dict[bytes, bytes], **job: Any) -> tuple[dict[str, Any], dict[bytes, bytes]]:
    """What the data source reads, and the variables afterwards."""
    status, output, host = under_host(side, [PYTHON, "-c", DRIVER], values, json.dumps(job))
    assert status == 0
    result = json.loads(output)
    assert result["rpctool"] == str(side.folder / "vmware-rpctool")
    return result, host.guestinfo


def test_values(side: Side) -> None:
    keys = ["plain", "redacted", "blank", "lines", "missing"]
    result, _ = data_source(side, VALUES, raw=keys, decoded=["metadata", "userdata", "plain", "redacted", "missing"])
    # cloud-init drops the command's line end, and with it the blanks at the value's end
    assert result["raw"] == {
        "plain": YAML.rstrip(),
        "redacted": None,
        "blank": None,
        "lines": "a: 1",
        "missing": None,
    }
    assert result["decoded"] == {
        "metadata": YAML,
        "userdata": YAML,
        "plain": YAML.rstrip(),
        "redacted": None,
        "missing": None,
    }


def test_writes(side: Side) -> None:
    written = [["local-ipv4", "192.0.2.1"], ["two", "a\n b "], ["cleared", ""]]
    result, values = data_source(side, VALUES, redacted=["metadata"], set=written, raw=["two"], decoded=["metadata"])
    assert result["decoded"] == {"metadata": None}
    assert result["raw"] == {"two": "a\n b"}
    assert {key: values[b"guestinfo." + key] for key in (b"metadata", b"metadata.encoding", b"two", b"cleared")} == {
        b"metadata": b"---",
        b"metadata.encoding": b" ",
        b"two": b"a\n b ",
        b"cleared": b" ",
    }


DS_FOUND, DS_NOT_FOUND = 0, 1

CHECKS = [
    ("dscheck_VMware", VALUES, DS_FOUND),
    ("dscheck_VMware", {b"vendordata": b"x"}, DS_FOUND),
    ("dscheck_VMware", {}, DS_NOT_FOUND),
    ("dscheck_VMware", {b"metadata": b"---", b"userdata": b" "}, DS_NOT_FOUND),
    ("ovf_vmware_transport_guestinfo", VALUES, DS_FOUND),
    ("ovf_vmware_transport_guestinfo", {}, DS_NOT_FOUND),
    ("ovf_vmware_transport_guestinfo", {b"ovfEnv": b"none"}, DS_NOT_FOUND),
    ("vmware_has_rpctool", {}, DS_FOUND),
]


@pytest.mark.parametrize(("check", "values", "found"), CHECKS)
def test_ds_identify(side: Side, check: str, values: dict[bytes, bytes], found: int) -> None:
    script = f". {DS_IDENTIFY}; DI_VIRT=vmware; {check}"
    status, _, _ = under_host(side, ["/bin/sh", "-c", script], values)
    assert status == found


def test_ds_identify_reads_the_value(side: Side) -> None:
    script = f". {DS_IDENTIFY}; vmware_rpctool_guestinfo plain; vmware_rpctool_guestinfo redacted; echo end"
    assert under_host(side, ["/bin/sh", "-c", script], VALUES)[:2] == (0, YAML + "end\n")
