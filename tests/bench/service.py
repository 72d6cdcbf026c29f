"""A guest's service that does nothing but answer: polls TCLO without a pause, until it is killed.

service.py NAME: what it calls itself.
"""

from __future__ import annotations

import sys

from vmtools import gates
from vmtools.backdoor import carry_out
from vmtools.constants import Protocol
from vmtools.message import Channel

LIMIT = 65536


def main() -> None:
    gate, channel = gates.choose(), Channel(Protocol.TCLO)
    carry_out(gate, channel.opening())
    answer = b""
    while True:
        carry_out(gate, channel.sending(answer))
        request = carry_out(gate, channel.receiving(LIMIT))
        answer = b"" if request is None else b"OK ATR " + sys.argv[1].encode() if request == b"reset" else b"OK "


if __name__ == "__main__":
    main()
