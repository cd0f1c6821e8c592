"""The log of one image build: written while it goes on, read live and later, in one order.

Flows in: our own lines, and the output of the steps' processes. Flows out: ``LogLine`` values by number.
"""

from __future__ import annotations

import asyncio
import codecs
import time
from collections import deque
from collections.abc import Sequence
from itertools import islice

from modalflow.emulator.machines.output import STDERR, STDOUT, LogLine, Output, Stream

RETAINED = 2 * 1024 * 1024
"""Characters kept of one log; the oldest go first."""


class BuildLog:
    """Entries numbered from 0."""

    def __init__(self) -> None:
        self._entries: deque[LogLine] = deque()
        self._first = 0
        self._kept = 0
        self._changed = asyncio.Event()
        self.ended = False

    @property
    def size(self) -> int:
        """Number of entries so far."""
        return self._first + len(self._entries)

    def say(self, text: str, fd: int = STDOUT) -> None:
        """Add text."""
        self._entries.append(LogLine(fd, text, time.time_ns()))
        self._kept += len(text)
        while self._kept > RETAINED and len(self._entries) > 1:
            self._kept -= len(self._entries.popleft().text)
            self._first += 1
        self._wake()

    def end(self) -> None:
        """No more will come."""
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def since(self, number: int) -> Sequence[LogLine]:
        """Return what is kept from entry ``number`` on."""
        return list(islice(self._entries, max(0, number - self._first), None))

    async def wait_beyond(self, number: int) -> None:
        """Return when there is an entry of that number, or the log has ended."""
        while self.size <= number and not self.ended:
            await self._changed.wait()

    async def follow(self, output: Output) -> None:
        """Take in what a process writes, until both its streams have ended."""
        await asyncio.gather(*(self._follow(output.streams[fd], fd) for fd in (STDOUT, STDERR)))

    async def _follow(self, stream: Stream, fd: int) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        async for chunk in stream.read(0):
            if text := decoder.decode(chunk.data):
                self.say(text, fd)

    def tail(self, lines: int, since: int = 0) -> str:
        """Return the last lines of the entries from ``since`` on."""
        return "\n".join("".join(entry.text for entry in self.since(since)).splitlines()[-lines:])
