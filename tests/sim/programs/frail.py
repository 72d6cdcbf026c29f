"""A guest that asks for ``guestinfo.k`` and, where the host fails it, ends in the way that its argument names.

It speaks the message channel by itself, so that what it does wrong is what this file says and nothing else.
"""

import os
import signal
import sys
import time

from vmtools._gate import Frame, low

REQUEST = b"info-get guestinfo.k"
RPCI = 0xC9435052
OPEN, SENDSIZE, SENDPAYLOAD, RECVSIZE, RECVPAYLOAD, RECVSTATUS, CLOSE = range(7)


class Failed(Exception):
    """The host did not say SUCCESS."""


class Channel:
    number = high = low = 0

    def call(self, kind: int, bx: int = 0) -> Frame:
        frame = Frame(
            ax=0x564D5868, bx=bx, cx=kind << 16 | 30, dx=self.number << 16 | 0x5658, si=self.high, di=self.low
        )
        if low(frame) or not frame.cx >> 16 & 1:
            raise Failed(kind)
        return frame

    def ask(self) -> bytes:
        frame = self.call(OPEN, RPCI)
        self.number, self.high, self.low = frame.dx >> 16 & 0xFFFF, frame.si & 0xFFFFFFFF, frame.di & 0xFFFFFFFF
        self.call(SENDSIZE, len(REQUEST))
        for at in range(0, len(REQUEST), 4):
            self.call(SENDPAYLOAD, int.from_bytes(REQUEST[at : at + 4], "little"))
        size = self.call(RECVSIZE).bx
        if not 2 <= size <= 100:
            raise Failed("size")
        data = b"".join((self.call(RECVPAYLOAD, 1).bx & 0xFFFFFFFF).to_bytes(4, "little") for _ in range(0, size, 4))
        self.call(RECVSTATUS, 1)
        return data[:size]


def main(manner: str) -> int:
    channel = Channel()
    try:
        reply = channel.ask()
    except Failed as failed:
        return fail(manner, channel, failed)
    if manner != "leaks always":
        close(channel)
    print(reply.decode("latin-1"))
    return 0


def close(channel: Channel) -> None:
    try:
        channel.call(CLOSE)
    except Failed:
        pass


def fail(manner: str, channel: Channel, failed: Failed) -> int:
    if manner == "tries again":
        close(channel)
        return main(manner)
    if manner == "leaks":
        print("no answer", file=sys.stderr)
        return 1
    close(channel)
    if manner == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif manner == "shell crashes":
        os._exit(128 + signal.SIGSEGV)
    elif manner == "raises":
        raise failed
    elif manner == "hangs":
        time.sleep(60)
    elif manner == "tries for ever":
        while True:
            close(channel)
    elif manner == "guesses":
        print("1 guess")
        return 0
    elif manner == "says NULL":
        print("NULL", file=sys.stderr)
    elif manner == "explains":
        print("the host does not answer", file=sys.stderr)
    return 1


sys.exit(main(*sys.argv[1:]))
