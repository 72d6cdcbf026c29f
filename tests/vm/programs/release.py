"""Takes the privilege and gives it back; prints for each moment whether the bare instruction faults in this thread."""

import json
import threading

from vmtools import _gate
from vmtools.backdoor import Backdoor
from vmtools.constants import MAGIC, PORT, Command
from vmtools.gates import choose


def faults() -> bool:
    return _gate.low(_gate.Frame(ax=MAGIC, cx=Command.GETVERSION, dx=PORT)) != 0


def main() -> None:
    gate = choose("port")
    door = Backdoor(gate)
    moments = {"before": faults()}
    with gate.privilege():
        moments["taken, not used"] = faults()
        door.version()
        moments["used"] = faults()
    moments["released"] = faults()
    try:
        with gate.privilege():
            door.version()
            raise LookupError
    except LookupError:
        moments["released by an exception"] = faults()

    def elsewhere() -> None:
        with gate.privilege():
            door.version()
        moments["released in a thread"] = faults()

    thread = threading.Thread(target=elsewhere)  # started without a grant to inherit
    thread.start()
    thread.join()
    door.version()
    moments["used again"] = faults()
    print(json.dumps(moments))


main()
