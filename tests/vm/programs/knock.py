"""Knocks over the gate named by the first argument and prints as JSON what came of it.

With a second argument ``open`` it also opens a message channel, as every RPC does.
"""

import json
import sys

from vmtools import backdoor, errors, gates, message
from vmtools.constants import Protocol


def main(spec: str, *then: str) -> dict[str, object]:
    try:
        door = backdoor.Backdoor(gates.choose(spec))
        version = door.version()
        if "open" in then:
            backdoor.carry_out(door.gate, message.Channel(Protocol.RPCI).opening())
    except errors.VMToolsError as error:
        return {"error": type(error).__name__, "text": str(error), "help": error.help}
    return {"gate": door.gate.name, "version": version.version, "product": version.product_name}


print(json.dumps(main(*sys.argv[1:])))
