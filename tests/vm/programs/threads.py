"""Knocks in the main thread, in threads older than its grant and in younger ones, all at once; prints what each heard.

A thread that failed has the error's text in its place.
"""

import json
import threading

from vmtools.backdoor import Backdoor
from vmtools.gates import choose

OLDER, YOUNGER, KNOCKS = 4, 2, 200


def main() -> None:
    door = Backdoor(choose("port"))
    heard: dict[str, int | str] = {}
    go = threading.Event()

    def knock() -> None:
        go.wait()
        try:
            versions = {door.version().version for _ in range(KNOCKS)}
            (heard[threading.current_thread().name],) = versions
        except Exception as error:
            heard[threading.current_thread().name] = f"{type(error).__name__}: {error}"

    threads = [threading.Thread(target=knock, name=f"older {number}") for number in range(OLDER)]
    for thread in threads:
        thread.start()
    door.version()
    younger = [threading.Thread(target=knock, name=f"younger {number}") for number in range(YOUNGER)]
    for thread in younger:
        thread.start()
    go.set()
    knock()
    for thread in threads + younger:
        thread.join()
    print(json.dumps(heard))


main()
