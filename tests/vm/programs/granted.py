"""Runs the command in its arguments with the backdoor's ports granted: a grant passes through execve."""

import os
import sys

from vmtools import _gate
from vmtools.constants import PORT, PORTS

_gate.ioperm(PORT, PORTS, True)
os.execvp(sys.argv[1], sys.argv[1:])
