"""What ``vmtools doctor`` finds out: whether this machine has a VMware host to talk to, how, and else why not."""

from __future__ import annotations

import os

from . import _gate, errors, gates
from ._version import __version__
from .backdoor import Backdoor
from .constants import FEATURE_VMCALL, FEATURE_VMMCALL
from .detect import look
from .rpci import Rpci

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Report: TypeAlias = dict[str, Any]

_PROBE = b"info-get guestinfo.vmtools.doctor"
"""A request that changes nothing; "No value found" is as good an answer as any."""


def examine(spec: str | None = None) -> Report:
    """Look, choose, knock, open, ask; stop where it ends.

    :param spec: as for :func:`vmtools.gates.choose`.

    Returns a dictionary of plain values (it is what ``--json`` prints)::

        vmtools       the version of this package
        architecture  of the instructions
        cpuid         hypervisor (bit), signature, name, max_leaf, vmcall, vmmcall
        dmi           the readable fields
        privilege     uid, rawio (CAP_SYS_RAWIO), lockdown, seccomp (mode)
        gate          asked (the spec), name or None
        host          version, product, product_name, or None
        messages      does GuestRPC work
        high_bandwidth  does the host offer it, or None where unknown
        tried         one [step, outcome] per thing that was tried, in order
        error         kind, message, help, or None
        ok            do RPCs work
    """
    evidence = look()
    tried: list[tuple[str, str]] = []
    report: Report = {
        "vmtools": __version__,
        "architecture": _gate.ARCHITECTURE,
        "cpuid": {
            "hypervisor": evidence.hypervisor,
            "signature": evidence.signature.rstrip(b"\0").decode("ascii", "backslashreplace"),
            "name": evidence.name,
            "max_leaf": evidence.max_leaf,
            "vmcall": bool(evidence.features & FEATURE_VMCALL),
            "vmmcall": bool(evidence.features & FEATURE_VMMCALL),
        },
        "dmi": evidence.dmi,
        "privilege": gates.privilege_status(),
        "gate": {"asked": spec or os.environ.get(gates.ENVIRONMENT) or "auto", "name": None},
        "host": None,
        "messages": False,
        "high_bandwidth": None,
        "tried": tried,
        "error": None,
        "ok": False,
    }
    step = "choose a gate"
    try:
        gate = gates.choose(spec)
        report["gate"]["name"] = gate.name
        tried.append((step, gate.name))
        with gate.privilege():
            step = "GETVERSION, the knock"
            version = Backdoor(gate).version()
            report["host"] = {
                "version": version.version,
                "product": version.product,
                "product_name": version.product_name,
            }
            tried.append((step, f"version {version.version}, {version.product_name}"))
            step = f"RPCI: {_PROBE.decode()}"
            with Rpci(gate) as rpci:
                tried.append((step, _ask(rpci)))
                report["high_bandwidth"] = rpci.high_bandwidth
        report["messages"] = report["ok"] = True
    except errors.VMToolsError as error:
        tried.append((step, str(error)))
        report["error"] = {"kind": type(error).__name__, "message": str(error), "help": error.help}
    return report


def _ask(rpci: Rpci) -> str:
    try:
        return f"answered: {rpci.call(_PROBE)!r}"
    except errors.HostRefused as refusal:
        return f"answered: {refusal}"


def describe(report: Report) -> str:
    """The report for people, one line a finding."""

    def yes(value: bool | None) -> str:
        return "unknown" if value is None else "yes" if value else "no"

    cpuid, privilege, host = report["cpuid"], report["privilege"], report["host"]
    leaf = f", highest leaf 0x{cpuid['max_leaf']:x}" if cpuid["max_leaf"] else ""
    offers = [name.upper() for name in ("vmcall", "vmmcall") if cpuid[name]]
    rows = [
        ("vmtools", f"{report['vmtools']} ({report['architecture']})"),
        ("hypervisor", f"{cpuid['name']}{leaf}" if cpuid["name"] else "none"),
        ("hypercalls offered", ", ".join(offers) or "none"),
        ("DMI", ", ".join(f"{field} {text!r}" for field, text in report["dmi"].items() if text) or "not readable"),
        (
            "privilege",
            (
                f"uid {privilege['uid']}, CAP_SYS_RAWIO {yes(privilege['rawio'])}, "
                f"lockdown {privilege['lockdown'] or 'unknown'}, seccomp mode {privilege['seccomp']}"
            ),
        ),
        ("gate", f"{report['gate']['name'] or 'none'} (asked for: {report['gate']['asked']})"),
        ("host", f"version {host['version']}, {host['product_name']}" if host else "none"),
        ("messages (GuestRPC)", yes(report["messages"])),
        ("high bandwidth", yes(report["high_bandwidth"])),
    ]
    width = max(len(name) for name, _ in rows) + 2
    lines = [f"{name + ':':{width}}{value}" for name, value in rows]
    lines += ["tried:", *[f"  {step}: {outcome}" for step, outcome in report["tried"]]]
    if report["error"]:
        lines += [f"problem: {report['error']['message']}", f"what to do: {report['error']['help']}"]
    else:
        lines.append("RPCs to the host work.")
    return "\n".join(lines)
