"""Takes the privilege as root, then becomes nobody; prints who can knock from then on, and how others fail."""

import json
import os
import threading

from vmtools import errors
from vmtools.backdoor import Backdoor
from vmtools.gates import choose

NOBODY = 65534


def main() -> None:
    gate = choose("port")
    door = Backdoor(gate)
    heard: dict[str, int | str] = {}
    go = threading.Event()

    def knock(name: str) -> None:
        go.wait()
        try:
            heard[name] = door.version().version
        except errors.VMToolsError as error:
            heard[name] = type(error).__name__

    threads = [threading.Thread(target=knock, args=["older thread"])]
    threads[0].start()
    door.version()
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    threads.append(threading.Thread(target=knock, args=["younger thread"]))
    threads[1].start()
    go.set()
    for thread in threads:
        thread.join()
    knock("same thread")
    child = os.fork()
    if not child:
        knock("child")
        gate.release()  # the child's own copy of the grant
        os._exit(heard["child"] == 6)
    heard["child"] = 6 if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1 else "failed"
    knock("parent of a child that released")
    gate.release()
    knock("after release")
    print(json.dumps(heard))


main()
