"""Whether a sandbox is in use: what an idle timeout goes by.

Flows in: the beginning and end of execs and connections, writes to stdin. Flows out: the moment when it has been idle for so
long. As Modal documents it (Sandbox guide, read November 2026), output and the main process itself do not count.
"""

from __future__ import annotations

import asyncio

from modalflow.emulator.clock import Clock


class Activity:
    """Of one sandbox. Counts uses under way and remembers the last one's end."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._uses = 0
        self._last = clock.monotonic()
        self._unused = asyncio.Event()
        self._unused.set()

    def touch(self) -> None:
        """It was used this moment."""
        self._last = self._clock.monotonic()

    def enter(self) -> None:
        """A use begins; ``leave`` ends it."""
        self._uses += 1
        self._unused.clear()

    def leave(self) -> None:
        """A use has ended."""
        self._uses -= 1
        self.touch()
        if not self._uses:
            self._unused.set()

    async def idle(self, seconds: float) -> None:
        """Return when it has not been used for ``seconds`` of the emulator's time."""
        while True:
            await self._unused.wait()
            due = self._last + seconds
            if self._clock.monotonic() >= due:
                return
            await self._clock.sleep_until(due)
