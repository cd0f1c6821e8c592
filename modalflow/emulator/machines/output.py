"""What one process wrote, kept for readers that come at any time, also after its end.

Flows in: chunks of bytes as the pipes deliver them. Flows out: reads by offset (live and later), log lines with times. Only the
most recent part is kept, as on Modal. ``processes`` writes it; ``services.logs`` and ``router`` read it.
"""

from __future__ import annotations

import asyncio
import bisect
import codecs
import time
from collections import deque
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass

STDOUT, STDERR = 1, 2
RETAINED_BYTES = 16 * 1024 * 1024
"""Kept per stream. Modal's own limit is not published; its client says "only the most recent portion is retained"."""
ENDED_BYTES = 256 * 1024 * 1024
"""Kept of all ended processes together: sandboxes, sidecars and execs."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """``data`` as it arrived, at ``offset`` bytes from the start of its stream, at ``time_ns`` since the epoch."""

    offset: int
    data: bytes
    time_ns: int


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line (with its line end, if it has one yet) of stdout (1) or stderr (2)."""

    fd: int
    text: str
    time_ns: int


class Stream:
    """One of the two outputs."""

    def __init__(self, *, muted: bool = False) -> None:
        self._muted = muted
        self._chunks: list[Chunk] = []
        self._waiters: set[asyncio.Future[None]] = set()
        self._kept = 0
        self.size = 0
        self.ended = False

    def write(self, data: bytes) -> None:
        """Add ``data`` (not empty) and wake the readers. Nothing is kept of a muted stream."""
        if self._muted:
            return
        self._chunks.append(Chunk(self.size, data, time.time_ns()))
        self.size += len(data)
        self._kept += len(data)
        while self._kept - len(self._chunks[0].data) > RETAINED_BYTES:
            self._kept -= len(self._chunks.pop(0).data)
        self._wake()

    def end(self) -> None:
        """No more data will come."""
        self.ended = True
        self._wake()

    @property
    def kept(self) -> int:
        """Bytes that can still be read."""
        return self._kept

    def drop(self) -> None:
        """Forget what is kept; readers see it as older than what is retained."""
        self._chunks.clear()
        self._kept = 0

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait_beyond(self, offset: int) -> None:
        """Return when there is data past ``offset``, or the stream has ended."""
        while self.size <= offset and not self.ended:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    def available(self, offset: int) -> list[Chunk]:
        """Return what is kept from ``offset`` on; the first chunk is cut to start there unless older data is gone."""
        index = max(0, bisect.bisect_right(self._chunks, offset, key=lambda chunk: chunk.offset) - 1)
        found = []
        for chunk in self._chunks[index:]:
            skip = max(0, offset - chunk.offset)
            if skip < len(chunk.data):
                found.append(Chunk(chunk.offset + skip, chunk.data[skip:], chunk.time_ns) if skip else chunk)
        return found

    async def read(self, offset: int) -> AsyncIterator[Chunk]:
        """Yield chunks from ``offset`` on until the stream ends."""
        while True:
            await self.wait_beyond(offset)
            chunks = self.available(offset)
            for chunk in chunks:
                yield chunk
                offset = chunk.offset + len(chunk.data)
            if not chunks and self.ended:
                return


class Output:
    """Both streams of one process."""

    def __init__(self, muted: Collection[int] = ()) -> None:
        self.streams = {fd: Stream(muted=fd in muted) for fd in (STDOUT, STDERR)}

    def end(self) -> None:
        """Both streams have ended."""
        for stream in self.streams.values():
            stream.end()

    @property
    def kept(self) -> int:
        """Bytes of both that can still be read."""
        return sum(stream.kept for stream in self.streams.values())

    def drop(self) -> None:
        """Forget both."""
        for stream in self.streams.values():
            stream.drop()

    def lines(self, fds: tuple[int, ...] = (STDOUT, STDERR)) -> list[LogLine]:
        """Everything kept, as text, in the order of arrival. Bytes that are no UTF-8 show as U+FFFD."""
        found = [line for fd in fds for line in _split(fd, self.streams[fd].available(0))]
        return sorted(found, key=lambda line: line.time_ns)


class EndedOutputs:
    """The outputs of all processes that have ended: so much is kept of them together, and the oldest goes first."""

    def __init__(self) -> None:
        self._outputs: deque[Output] = deque()
        self._kept = 0

    def forget(self, output: Output) -> None:
        """Nobody can ask for it any more. No effect on one that was never taken in."""
        if output in self._outputs:
            self._outputs.remove(output)
            self._kept -= output.kept

    def keep(self, output: Output) -> None:
        """Take in the output of a process that has just ended."""
        if not output.kept:
            return
        self._outputs.append(output)
        self._kept += output.kept
        while self._kept > ENDED_BYTES and len(self._outputs) > 1:
            oldest = self._outputs.popleft()
            self._kept -= oldest.kept
            oldest.drop()


def _split(fd: int, chunks: list[Chunk]) -> list[LogLine]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    lines: list[LogLine] = []
    begun = ""
    for number, chunk in enumerate(chunks):
        pieces = (begun + decoder.decode(chunk.data, final=number == len(chunks) - 1)).splitlines(keepends=True)
        begun = pieces.pop() if pieces and not pieces[-1].endswith("\n") else ""
        lines += [LogLine(fd, piece, chunk.time_ns) for piece in pieces]
    if begun:
        # One nanosecond after its neighbours, so that who follows by time does not take it for one already seen.
        lines.append(LogLine(fd, begun, chunks[-1].time_ns + 1))
    return lines
