"""``vmtools sim run`` with the tests' stand-in for a host: host.py PROGRAM ARG…"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3]))

from tests.sim.standin import StandIn
from vmtools.sim.run import run_command

if __name__ == "__main__":
    sys.exit(run_command(sys.argv[1:], StandIn()))
