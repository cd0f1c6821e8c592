"""What the executor has to say about a task, written where the task's log is read.

Flows in: sentences from ``driver``. Flows out: JSON lines in Airflow's structlog shape, to the scheduler's host (``journal``) at
once and to ``<log path>.modalflow.log`` on the log Volume soon after.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from modalflow.launch.gateway import Gateway, GatewayError
from modalflow.launch.messages import Level
from modalflow.launch.outcomes import redact

SUFFIX = ".modalflow.log"
"""Beside the task's own file, so that two writers never share one; Airflow's reader globs ``<log path>*``."""

Journal = Callable[[str, str], None]
"""Takes the task's log path (without ``SUFFIX``) and one JSON line without a newline."""

log = logging.getLogger(__name__)


def log_line(level: Level, text: str, at: datetime) -> str:
    """One JSON line as Airflow 3's log reader takes it (keys of structlog)."""
    stamp = at.astimezone(UTC).isoformat()
    return json.dumps({"timestamp": stamp, "event": redact(text), "level": level, "logger": "modalflow"})


class TaskLog:
    """The executor's lines for one task. Appends to the Volume one after another: each is a read, a change and a write."""

    __slots__ = ("_flush", "_gateway", "_journal", "_lines", "_path", "_volume")

    def __init__(self, path: str, volume: str | None, journal: Journal, gateway: Callable[[], Gateway]) -> None:
        """Write for the task log ``path``; ``volume`` is the log Volume's name, ``None`` for none."""
        self._path = path
        self._volume = volume
        self._journal = journal
        self._gateway = gateway
        self._lines: list[str] = []
        self._flush: asyncio.Task[None] | None = None

    def write(self, level: Level, text: str) -> asyncio.Task[None] | None:
        """Add a line. Returns the task that brings it to the Volume, if one was started."""
        line = log_line(level, text, datetime.now(UTC))
        try:
            self._journal(self._path, line)
        except Exception:
            log.exception("modalflow: cannot write the log of %s on this host", self._path)
        if self._volume is None:
            return None
        self._lines.append(line)
        if self._flush is not None and not self._flush.done():
            return None
        self._flush = asyncio.create_task(self._to_volume(self._volume), name=f"modalflow-log-{self._path}")
        return self._flush

    async def _to_volume(self, volume: str) -> None:
        while self._lines:
            text = "".join(f"{line}\n" for line in self._lines)
            self._lines.clear()
            try:
                await self._gateway().append_log(volume, self._path + SUFFIX, text)
            except GatewayError as error:
                # The same lines are on this host; the archive lacks them.
                log.warning("modalflow: cannot write %s%s to Volume %s: %s", self._path, SUFFIX, volume, error)
            except Exception:
                log.exception("modalflow: cannot write %s%s to Volume %s", self._path, SUFFIX, volume)
