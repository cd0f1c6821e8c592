"""The emulator's time: it runs with the system's, stands still if told so, and jumps ahead when a test wants it to.

Flows in: ``advance``, ``freeze`` and ``resume``, from any thread. Flows out: the time of day for stamps, and timers for
whatever a sandbox waits for: sandbox, exec and idle timeouts, scheduling delays, rate limits, lifetimes of what is stored.
``core.clock`` is the one that all share.

What a *client* waits for stays on the system's time, or nothing would return from a clock that stands still: long polls
(``SandboxWait``, logs, exec waits), injected latency; so do the stamps of output lines and of files. So do the tokens of the
command router: the client renews one by its own clock (it looks at ``exp``), and takes an earlier refusal for final (modal
1.6.4).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import threading
import time
from collections.abc import Callable
from typing import Any

_WAKING_SECONDS = 10.0


class Timer:
    """One call that is due at a moment of the emulator's time. It belongs to the loop that made it."""

    __slots__ = ("_callback", "_clock", "_handle", "_loop", "when")

    def __init__(self, clock: Clock, when: float, callback: Callable[[], object]) -> None:
        self._clock = clock
        self.when = when
        self._callback: Callable[[], object] | None = callback
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that the callback runs in."""
        return self._loop

    def cancel(self) -> None:
        """Call nothing, unless it was called already. From the timer's own loop."""
        self._callback = None
        self._clock.forget(self)
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def look(self) -> None:
        """Call if it is time, else look again when it might be. From the timer's own loop."""
        callback = self._callback
        if callback is None:
            return
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        rest = self.when - self._clock.monotonic()
        if rest <= 0:
            self.cancel()
            callback()
        elif self._clock.runs:
            self._handle = self._loop.call_later(rest, self.look)


class Clock:
    """``time`` for stamps, ``monotonic`` for durations (both in seconds), and timers that follow them."""

    def __init__(self, *, frozen: bool = False) -> None:
        self._lock = threading.Lock()
        self._ahead = 0.0
        self._stopped: tuple[float, float] | None = None
        self._timers: set[Timer] = set()
        if frozen:
            self._stopped = (time.time(), time.monotonic())

    # -- reading

    @property
    def runs(self) -> bool:
        """Whether it moves by itself."""
        return self._stopped is None

    def time(self) -> float:
        """Return seconds since 1970."""
        stopped = self._stopped
        return (time.time() if stopped is None else stopped[0]) + self._ahead

    def monotonic(self) -> float:
        """Return seconds since some moment; never less than before."""
        stopped = self._stopped
        return (time.monotonic() if stopped is None else stopped[1]) + self._ahead

    # -- waiting

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Have ``callback`` called in this loop when ``monotonic`` reaches ``when``. Nothing is called before this returns."""
        timer = Timer(self, when, callback)
        with self._lock:
            self._timers.add(timer)
        if when <= self.monotonic():
            timer.loop.call_soon(timer.look)
        else:
            timer.look()
        return timer

    async def sleep_until(self, when: float) -> None:
        """Return when ``monotonic`` has reached ``when``."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_at(when, lambda: _set(woken))
        try:
            await woken
        finally:
            timer.cancel()

    async def sleep(self, seconds: float) -> None:
        """Return after that much of the emulator's time; at once for 0 or less."""
        if seconds > 0:
            await self.sleep_until(self.monotonic() + seconds)

    async def done_by(self, future: asyncio.Future[Any], when: float | None) -> bool:
        """Wait for ``future``, at most until ``monotonic`` reaches ``when`` (``None``: for ever); whether it is done.

        The future is neither cancelled nor is its result taken.
        """
        if future.done():
            return True
        alarm: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        timer = None if when is None else self.call_at(when, lambda: _set(alarm))
        try:
            await asyncio.wait({future, alarm}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            alarm.cancel()
            if timer is not None:
                timer.cancel()
        return future.done()

    # -- driving; from any thread

    def advance(self, seconds: float) -> None:
        """Go ahead by ``seconds``. What is due by then has been called when this returns to another thread than the emulator's.

        ``ValueError`` for a step back.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"advance: expected seconds of at least 0, got {seconds}; time does not go back")
        with self._lock:
            self._ahead += seconds
        self._wake()

    def freeze(self) -> None:
        """Stand still from now on; only ``advance`` moves it."""
        with self._lock:
            if self._stopped is None:
                self._stopped = (time.time(), time.monotonic())
        self._wake()

    def resume(self) -> None:
        """Run on from where it stands."""
        with self._lock:
            if self._stopped is not None:
                # From now on it is behind the system's by as much as it stood.
                self._ahead += self._stopped[1] - time.monotonic()
                self._stopped = None
        self._wake()

    def forget(self, timer: Timer) -> None:
        """Drop a timer that is over."""
        with self._lock:
            self._timers.discard(timer)

    def _wake(self) -> None:
        with self._lock:
            timers = sorted(self._timers, key=lambda timer: timer.when)
        running = running_loop()
        for loop in {timer.loop for timer in timers}:
            due = [timer for timer in timers if timer.loop is loop]
            if loop.is_closed():
                for timer in due:
                    self.forget(timer)
                continue
            seen: concurrent.futures.Future[None] = concurrent.futures.Future()
            loop.call_soon_threadsafe(_look_at, due, seen)
            if loop is not running:
                seen.result(_WAKING_SECONDS)


def _look_at(timers: list[Timer], seen: concurrent.futures.Future[None]) -> None:
    try:
        for timer in timers:
            timer.look()
    finally:
        seen.set_result(None)


def _set(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_result(None)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs in this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
