"""The gate's instructions release the GIL: a host may take its time over one."""

from __future__ import annotations

import sys
from pathlib import Path

from vmtools.testing import SimulatedHost

PROGRAM = """
import threading, time
from vmtools import _gate

frame, beats = _gate.Frame(ax=0x564D5868, cx=10, dx=0x5658), 0

def work():
    global beats
    while True:
        beats += 1
        time.sleep(0.001)

threading.Thread(target=work, daemon=True).start()
time.sleep(0.05)
for hold in (False, True):
    start, before = time.monotonic(), beats
    assert _gate.low(frame, hold) == 0
    print(time.monotonic() - start > 0.4, beats - before > 20)
    frame.ax, frame.cx, frame.dx = 0x564D5868, 10, 0x5658
"""


def test_other_threads_run_while_the_host_is_busy(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with SimulatedHost(faults=["slow@1+:0.5"], disguise=False) as host:
        result = host.run(sys.executable, "-P", program, timeout=60)
    # With `hold`, which is for a thread's first instruction, they don't.
    assert (result.returncode, result.stdout) == (0, "True True\nTrue False\n"), result.stderr
