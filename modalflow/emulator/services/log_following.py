"""Following output line by line: each look costs what is new, however much was written before.

Flows in: the two streams of a sandbox, again and again. Flows out: the lines that were completed since the last look, and what
is left of an unfinished one when its stream has ended. ``logs`` asks.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field

from modalflow.emulator.machines.output import LogLine, Output, Stream


@dataclass(slots=True)
class _Place:
    """Where one stream was left: ``offset`` in bytes, and the text of a line that has no end yet."""

    offset: int = 0
    begun: str = ""
    time_ns: int = 0
    over: bool = False
    decoder: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))


class Follower:
    """One who follows any number of sandboxes, by any key. Only lines after ``since_ns`` (of the epoch) are told."""

    def __init__(self, fds: tuple[int, ...], since_ns: int) -> None:
        self._fds = fds
        self._since_ns = since_ns
        self._places: dict[tuple[str, int], _Place] = {}

    def fresh(self, key: str, output: Output) -> list[LogLine]:
        """Return the lines that came since the last look, in the order of their times."""
        found: list[LogLine] = []
        for fd in self._fds:
            place = self._places.setdefault((key, fd), _Place())
            if not place.over:
                found += _read(fd, output.streams[fd], place)
        return sorted((line for line in found if line.time_ns > self._since_ns), key=lambda line: line.time_ns)


def _read(fd: int, stream: Stream, place: _Place) -> list[LogLine]:
    lines: list[LogLine] = []
    ended = stream.ended  # before reading: what is written meanwhile is for the next look
    for chunk in stream.available(place.offset) if stream.size > place.offset else ():
        place.offset = chunk.offset + len(chunk.data)
        place.time_ns = chunk.time_ns
        *complete, place.begun = (place.begun + place.decoder.decode(chunk.data)).split("\n")
        lines += [LogLine(fd, line + "\n", chunk.time_ns) for line in complete]
    if ended:
        place.over = True
        if cut := place.begun + place.decoder.decode(b"", final=True):
            lines.append(LogLine(fd, cut, place.time_ns + 1))
    return lines
