"""Runs commands in turn, as often as told, and reports each run's processor and wall time.

Standard input: ``{"rounds": N, "commands": {NAME: {"argv": [...], "env": {...}, "status": EXPECTED}}}``.
Standard output: ``{NAME: [[cpu, wall], ...]}`` in seconds.  A program of its own, so that it can run under a simulated
host with all its children.
"""

from __future__ import annotations

import json
import os
import sys
import time


def once(argv: list[str], env: dict[str, str], status: int) -> tuple[float, float]:
    """Processor time (user and system) and wall time of one run.

    :raises RuntimeError: it ended otherwise than expected: what would be measured is something else.
    """
    silence = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    start = time.perf_counter()
    child = os.posix_spawn(argv[0], argv, env, file_actions=silence)
    _, ended, usage = os.wait4(child, 0)
    wall = time.perf_counter() - start
    if os.waitstatus_to_exitcode(ended) != status:
        raise RuntimeError(f"{argv} ended with status {os.waitstatus_to_exitcode(ended)}, not {status}")
    return usage.ru_utime + usage.ru_stime, wall


def main() -> None:
    job = json.load(sys.stdin)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in job["commands"]}
    for turn in range(job["rounds"] + 1):
        for name, command in job["commands"].items():
            spent = once(command["argv"], {**os.environ, **command["env"]}, command["status"])
            if turn:  # the first warms caches
                found[name].append(spent)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
