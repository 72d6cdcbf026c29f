"""Executes the gate's instructions one by one, with and without a grant, and prints as JSON what each did.

A fault is ``[signal, si_code]``, null if there was none; registers are those of the frame afterwards.
"""

import json
import threading
from collections.abc import Callable
from typing import Any

from vmtools import _gate
from vmtools.constants import CPUID_SIGNATURE_LEAF, HB_MESSAGE, MAGIC, PORT, PORT_HIGH, PORTS, RDPMC_HOST_TSC, Command

SENTINELS = {"bx": 0x11111111, "si": 0x22222222, "di": 0x33333333, "bp": 0x44444444}


def attempt(instruction: Callable[..., int], frame: _gate.Frame, *buffer: bytes | bytearray) -> dict[str, Any]:
    fault = instruction(frame, *buffer)
    registers = {name: getattr(frame, name) for name in ("ax", "bx", "cx", "dx", "si", "di", "bp")}
    return {"fault": [fault & 0xFF, fault >> 8] if fault else None, **registers}


def call(command: int) -> _gate.Frame:
    return _gate.Frame(ax=MAGIC, cx=command, dx=PORT, **SENTINELS)


def knock() -> dict[str, Any]:
    return attempt(_gate.low, call(Command.GETVERSION))


def in_thread(results: dict[str, Any], name: str, start: threading.Event) -> threading.Thread:
    def knock_when_told() -> None:
        start.wait()
        results[name] = knock()

    thread = threading.Thread(target=knock_when_told)
    thread.start()
    return thread


def signature() -> str:
    frame = _gate.Frame(ax=CPUID_SIGNATURE_LEAF)
    _gate.cpuid(frame)
    return b"".join(register.to_bytes(4, "little") for register in (frame.bx, frame.cx, frame.dx)).decode("latin-1")


def main() -> None:
    go = threading.Event()
    facts: dict[str, Any] = {"signature": signature(), "ungranted": knock()}
    for instruction in (_gate.vmcall, _gate.vmmcall):
        facts[instruction.__name__] = attempt(instruction, call(Command.GETVERSION))
    facts["rdpmc"] = attempt(_gate.rdpmc, _gate.Frame(cx=RDPMC_HOST_TSC))
    threads = [in_thread(facts, "earlier thread", go)]
    try:
        for count in range(1, PORTS + 1):
            _gate.ioperm(PORT, count, True)
            facts[f"{count} ports"] = knock()
    except OSError as error:
        facts["ioperm"] = error.errno
    else:
        facts["unknown command"] = attempt(_gate.low, call(Command.GETTIME))
        high = {"ax": MAGIC, "bx": HB_MESSAGE, "cx": 8, "dx": PORT_HIGH}
        facts["high out"] = attempt(_gate.high_out, _gate.Frame(**high), bytes(8))
        facts["high in"] = attempt(_gate.high_in, _gate.Frame(**high), buffer := bytearray(8))
        facts["bytes in"] = buffer.hex()
        threads.append(in_thread(facts, "later thread", go))
    go.set()
    for thread in threads:
        thread.join()
    if "4 ports" in facts:
        _gate.ioperm(PORT, PORTS, False)
        facts["revoked"] = knock()
    print(json.dumps(facts))


main()
