"""The log Volume is committed while the task runs: ``sync`` of its mount, every few seconds in which something was logged.

Part of the sandbox's program, see ``bootstrap``. What a sandbox writes to a Volume is visible outside only after a commit. Modal
commits when the sandbox ends; until then, on a Volume of version 2, the command ``sync <mount>`` does
(modal.com/docs/guide/volumes, read November 2026). Flows in: how often, and the log file. Flows out: ``sync`` processes, one at a
time and never waited for while the task runs, because all this happens within Airflow's supervisor.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

SYNC_EVERY = "MODALFLOW_LOG_SYNC"
LAST_SYNC = 10.0
"""Seconds that the last commit may hold up the sandbox's end; Modal commits once more after it."""


class Syncing:
    """Commits the Volume that holds the log, at most every ``MODALFLOW_LOG_SYNC`` seconds; never without that variable."""

    def __init__(self, say: Callable[[str, str], None], clock: Callable[[], float] = time.monotonic) -> None:
        """``say`` writes to the task's log; nothing is committed before ``take``."""
        self._every = 0.0
        self._say = say
        self._clock = clock
        self._begun = clock()
        self._size = 0
        self._process: Any = None
        self._complained = False
        self.mount = ""
        """What to commit; empty while the log is on no Volume."""

    def take(self, environ: Any) -> None:
        """Take the variable out of ``environ``: it is not the task's."""
        self._every = float(environ.pop(SYNC_EVERY, "") or 0)

    def look(self, log_path: str | None) -> None:
        """Start a commit if it is time and the log has grown, and see how the last one ended. Never raises or waits."""
        if not self._is_on(log_path) or self._is_busy() or self._clock() - self._begun < self._every:
            return
        size = _size_of(log_path)
        if size != self._size:
            self._begun, self._size = self._clock(), size
            self._start()

    def finish(self, log_path: str | None) -> None:
        """Commit what there is and wait for that, at most ``LAST_SYNC`` seconds. Never raises."""
        if not self._is_on(log_path):
            return
        import subprocess  # not before: a user of the pod's choice may not be able to read Python's own modules

        end = self._clock() + LAST_SYNC
        try:
            if self._process is not None:
                self._process.wait(LAST_SYNC)  # it may have begun before the last lines
                self._is_busy()
            if self._every and (size := _size_of(log_path)) != self._size:
                self._size = size
                self._start()
                if self._process is not None:
                    self._process.wait(max(0.0, end - self._clock()))
                    self._is_busy()
        except subprocess.TimeoutExpired:
            self._every = 0.0  # the end must not wait for it again

    def _is_on(self, log_path: str | None) -> bool:
        return bool(self._every and self.mount and log_path and log_path.startswith(self.mount + "/"))

    def _is_busy(self) -> bool:
        if self._process is None:
            return False
        code = self._process.poll()
        if code is None:
            return True
        self._process = None
        if code:
            self._size = 0  # it is tried again
            self._complain(f"`sync {self.mount}` ended with exit code {code}")
        return False

    def _start(self) -> None:
        import subprocess

        nowhere = subprocess.DEVNULL
        try:
            self._process = subprocess.Popen(["sync", self.mount], stdin=nowhere, stdout=nowhere, stderr=nowhere)  # noqa: S603, S607
        except OSError as error:
            self._every = 0.0
            self._complain(f"`sync` cannot be run: {error.strerror}")

    def _complain(self, why: str) -> None:
        if not self._complained:
            self._complained = True
            self._say("info", f"the log may be on its Volume only after the sandbox's end ({why})")


def _size_of(path: str | None) -> int:
    try:
        return os.stat(path or "").st_size
    except OSError:
        return 0
