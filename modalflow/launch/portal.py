"""An asyncio loop in a thread of its own, and the way into it. Knows nothing of launches.

(Airflow brings anyio only through others, so its BlockingPortal is not ours to rely on; its thread also keeps a process alive at
exit, which a scheduler must never suffer.) The thread is a daemon, and is started by ``start``, not before: Airflow constructs
executors in processes that fork.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

log = logging.getLogger(__name__)

LATER = 0.002
"""Seconds that calls of ``post_later`` wait on the loop: little beside a sandbox's start, enough for the caller to be done."""


class LoopThread:
    """Runs one main coroutine on its own loop; ``post`` brings calls to it from any thread, in order and without blocking."""

    def __init__(self, name: str) -> None:
        """Keep the thread's name; nothing is started."""
        self._name = name
        self._calls: deque[Callable[[], None]] = deque()
        self._wake_pending = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether the thread was started and has not ended."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def ident(self) -> int:
        """The thread's identifier; 0 before the start."""
        return (self._thread.ident if self._thread else None) or 0

    def stack(self) -> str:
        """Where the thread is right now, innermost call last; empty if it does not run. Reads source files."""
        frame = sys._current_frames().get(self.ident)
        return "".join(traceback.format_stack(frame)) if frame is not None else ""

    def start(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start the thread and run ``main`` in it; calls posted before are run first. A second start does nothing."""
        if self._thread is not None:
            return
        self._thread = threading.Thread(target=self._run, args=(main,), name=self._name, daemon=True)
        self._thread.start()

    def post(self, call: Callable[[], None]) -> None:
        """Have ``call`` run on the loop. O(1), never blocks, never raises; after the end of the loop the call is dropped."""
        self._calls.append(call)
        self._wake()

    def post_later(self, calls: Iterable[Callable[[], None]]) -> None:
        """As ``post``, for many at once that may wait: the loop begins with them after ``LATER``.

        Threads take turns at the interpreter: a loop that begins at once takes it from the caller in the midst of its work, for
        up to a switch interval (5 ms).
        """
        self._calls.extend(calls)
        self._wake(LATER)

    def join(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the thread to end; whether it did."""
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _wake(self, later: float = 0.0) -> None:
        # Order matters: the call is appended before this flag is read, and `_drain` clears the flag before it reads the calls.
        # So a call is either seen by the drain that is pending, or schedules its own.
        loop = self._loop
        if loop is None or self._wake_pending:
            return
        self._wake_pending = True
        try:
            loop.call_soon_threadsafe(self._drain if not later else partial(loop.call_later, later, self._drain))
        except RuntimeError:  # the loop was closed in between
            log.debug("a call came after the end of %s", self._name)

    def _drain(self) -> None:
        self._wake_pending = False
        while self._calls:
            call = self._calls.popleft()
            try:
                call()
            except Exception:
                log.exception("modalflow: a call into %s failed", self._name)

    def _run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            asyncio.run(self._main(main))
        except Exception:
            log.exception("modalflow: %s ended by an error", self._name)

    async def _main(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._drain)
        try:
            await main()
        finally:
            self._loop = None
