"""``vmware-checkvm-py``: is this a virtual machine on a VMware host, and which product is it?

Output and exit codes: specification of the protocol, "vmware-checkvm", and what Debian's was seen to print.
"""

from __future__ import annotations

import os
import sys

from .. import errors
from ..backdoor import Backdoor
from ..gates import choose
from .common import OK, REFUSED, complain, guarded, not_a_vm, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ORIGINAL = "vmware-checkvm"

_PRODUCTS = {2: "ESX Server", 4: "Workstation"}

_HELP = """\
Usage:
  {name} [OPTION?]

Help Options:
  -h, --help       Show help options

Application Options:
  -p, --prod       print VMware hypervisor product.
"""
_GATE_HELP = """\
  --gate=GATE      the way to the host: auto, port, vmcall, vmmcall, sim:SOCKET
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; ``argv`` begins with the name that it was called by."""
    argv = sys.argv if argv is None else argv
    return guarded(lambda: check(argv))


def check(argv: Sequence[str]) -> int:
    """Make sure of the host before looking at any option, as the original does."""
    name = os.path.basename(argv[0])
    options = list(argv[1:])
    gate = None
    if name != ORIGINAL:
        for option in [option for option in options if option.startswith("--gate=")]:
            options.remove(option)
            gate = option.partition("=")[2]
    try:
        version = Backdoor(choose(gate)).version()
    except errors.GateError as error:
        not_a_vm(name)
        if name != ORIGINAL:
            complain(name, f"{error}. {error.help}")
        return REFUSED
    try:
        product = _wants_product(options)
    except _Help:
        write((_HELP.format(name=name) + ("\n" if name == ORIGINAL else _GATE_HELP + "\n")).encode())
        return OK
    except _Unknown as unknown:
        complain(name, f"Unknown option {unknown}")
        return REFUSED
    if product:
        write(f"{_PRODUCTS.get(version.product, 'Unknown')}\n".encode())
    else:
        write(f"VMware software version {version.version} (good)\n".encode())
    return OK


class _Help(Exception):
    """The help text is wanted."""


class _Unknown(Exception):
    """An option that there is not."""


def _wants_product(options: Sequence[str]) -> bool:
    """Read options as GLib does for the original: the first that ends it does, letters may stand together.

    :raises _Help, _Unknown: that is the first thing found.
    """
    product = False
    for option in options:
        if option == "--":
            break
        if option in ("--help", "--help-all"):
            raise _Help
        if option.startswith("--"):
            if option.partition("=")[0] != "--prod":
                raise _Unknown(option)
            product = True
        elif option.startswith("-"):
            for letter in option[1:]:
                if letter in "h?":
                    raise _Help
                if letter != "p":
                    raise _Unknown(option)
                product = True
    return product
