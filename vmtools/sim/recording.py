"""Transcripts in memory: what passed between a host and its guests, for the program that plays the host.

A :class:`Recorder` keeps the lines that a :class:`~vmtools.sim.transcript.Transcript` writes; a :class:`Recording` is a
stretch of them, and reads them only when somebody asks.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from vmtools.sim import transcript
from vmtools.sim.decode import quoted

if TYPE_CHECKING:
    import os

    from vmtools.sim.transcript import Exchange, Lines, Record

KEEP = 20_000
"""Exits that are kept, the latest: about 14 MB.  A file gets all."""


class Recording:
    """Exits in their order, in the form of a transcript's lines."""

    def __init__(self, header: str, lines: tuple[str, ...], *, missing: int = 0) -> None:
        self._header = header
        self._lines = lines
        self.missing = missing
        """How many exits of the beginning were not kept."""

    def __len__(self) -> int:
        return len(self._lines)

    def __repr__(self) -> str:
        return f"<Recording of {len(self)} exits>"

    def __str__(self) -> str:
        """One line an exit, for people."""
        return self.text()

    @property
    def records(self) -> list[Record]:
        """The exits: registers before and after, who, which faults were put there."""
        return list(transcript.read([self._header, *self._lines]))

    @property
    def exchanges(self) -> list[Exchange]:
        """Whole messages and their answers."""
        return transcript.exchanges(self.records)

    @property
    def requests(self) -> list[bytes]:
        """What the guests asked by RPCI, byte by byte: most guests count a NUL at the end in."""
        return [exchange.request for exchange in self.exchanges if exchange.protocol == "RPCI"]

    def text(self, limit: int | None = None) -> str:
        """One line an exit; with ``limit``, of the last so many."""
        lines = list(transcript.show(self.records))  # all, since an exit's meaning depends on those before
        return "\n".join(lines if limit is None else lines[-limit:] if limit else [])

    def messages(self, limit: int | None = None) -> str:
        """One line a message, and one for its answer; with ``limit``, of the last so many exchanges."""
        exchanges = self.exchanges
        return "\n".join(
            f"{exchange.protocol} {quoted(exchange.request)}\n"
            f"  -> {'no answer was read' if exchange.reply is None else quoted(exchange.reply)}"
            for exchange in (exchanges if limit is None else exchanges[len(exchanges) - limit :])
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a transcript that ``vmtools sim show`` reads."""
        Path(path).write_text("".join([self._header, *self._lines]), encoding="utf-8")


class Recorder:
    """Takes a transcript's lines: keeps the latest, and hands all on to ``file`` if there is one."""

    def __init__(self, file: Lines | None = None, keep: int = KEEP) -> None:
        self._file = file
        self._header = ""
        self._lines: deque[str] = deque(maxlen=keep)
        self.count = 0
        """Exits so far."""

    def write(self, text: str) -> None:
        """One whole line; the first is the header."""
        if self._header:
            self._lines.append(text)
            self.count += 1
        else:
            self._header = text
        if self._file is not None:
            self._file.write(text)

    def flush(self) -> None:
        """Pass it on."""
        if self._file is not None:
            self._file.flush()

    def detach(self) -> None:
        """Hand nothing on any more: the file is about to be closed."""
        self._file = None

    def recording(self, since: int = 0) -> Recording:
        """What was kept after the first ``since`` exits."""
        first = self.count - len(self._lines)
        lines = tuple(islice(self._lines, max(0, since - first), None))
        return Recording(self._header, lines, missing=max(0, first - since))
