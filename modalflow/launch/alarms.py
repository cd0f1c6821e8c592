"""Times at which somebody is to look at a launch again. Pure: a heap of them, times are arguments (seconds of one clock).

``backend`` sets them and asks what is due; one whose launch is gone or has moved on is harmless.
"""

from __future__ import annotations

import heapq
from enum import Enum, auto


class Alarm(Enum):
    """What is to be looked at."""

    IN_LINE = auto()
    """The launch has stood in line for ``TOLD_AFTER``."""
    QUEUED_LONG = auto()
    """Airflow soon takes it back."""


TOLD_AFTER = 10.0
"""Seconds in line after which a launch says what it waits for: a burst that Modal's usual rates let through in that time needs no
word."""
WARNED_AT = 0.8
"""Part of Airflow's limit for queued tasks after which its end is announced."""


class Alarms:
    """Alarms by time."""

    __slots__ = ("_heap", "_order")

    def __init__(self) -> None:
        """None is set."""
        self._heap: list[tuple[float, int, str, Alarm]] = []
        self._order = 0

    def set(self, at: float, launch_id: str, alarm: Alarm) -> None:
        """Have ``alarm`` due at the time ``at``."""
        self._order += 1
        heapq.heappush(self._heap, (at, self._order, launch_id, alarm))

    def due(self, now: float) -> list[tuple[str, Alarm]]:
        """Take out those whose time has come, oldest first."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            _, _, launch_id, alarm = heapq.heappop(self._heap)
            found.append((launch_id, alarm))
        return found

    def next(self, now: float) -> float | None:
        """Seconds until the next is due; ``None`` without any."""
        return max(0.0, self._heap[0][0] - now) if self._heap else None
