"""Launches in the scheduler's log, as structured lines: an event, and fields that a log system can search for.

An ``Observer`` of ``launch.observe``. Two lines a launch, by the logger ``modalflow.launches`` (``[logging] namespace_levels =
modalflow.launches=warning`` leaves only failures). With ``[logging] json_logs``, or any logging that keeps structlog's fields,
each field is a key; otherwise it is written ``key=value``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from modalflow.launch.observe import REVOKED, SUCCESS, Ended, Gauges, Track
from modalflow.launch.transitions import State

SHORTEST = 0.001
"""Seconds from which a phase is a field of its own."""
LATE = 2.0
"""Seconds of delay of the loop that are worth a warning."""


class StructuredLog(Protocol):
    """What of a structlog logger is used."""

    def info(self, event: str, **fields: Any) -> Any:
        """Write a line."""

    def warning(self, event: str, **fields: Any) -> Any:
        """Write a line."""


class LaunchLog:
    """Writes to ``log``."""

    def __init__(self, log: StructuredLog) -> None:
        self._log = log

    def accepted(self, track: Track, trace: Mapping[str, str]) -> None:
        """Nothing: Airflow's own line says that the task was sent here."""

    def phase_over(self, track: Track, phase: State, seconds: float) -> None:
        """Nothing: all phases are in the line of the start."""

    def started(self, track: Track, seconds: float) -> None:
        """One line with every phase."""
        phases = {f"{phase.replace(' ', '_')}_s": round(spent, 3) for phase, spent in track.phases.items() if spent >= SHORTEST}
        self._log.info("modal sandbox has its task", **_fields(track), start_s=round(seconds, 3), **phases)

    def ended(self, track: Track, ended: Ended) -> None:
        """One line; a warning if it failed."""
        fields = {**_fields(track), "outcome": ended.outcome, "run_s": round(ended.ran, 3), "usd": ended.micro_usd / 1e6}
        if ended.outcome in (SUCCESS, REVOKED):
            self._log.info("modal launch ended", **fields)
        else:
            self._log.warning("modal launch failed", **fields, reason=ended.reason)

    def looked(self, gauges: Gauges) -> None:
        """A line only if the loop was late."""
        if gauges.loop_lag >= LATE:
            self._log.warning(
                "modal launch loop is late", loop_lag_s=round(gauges.loop_lag, 3), launches=sum(gauges.states.values())
            )

    def closed(self) -> None:
        """Nothing."""


def _fields(track: Track) -> dict[str, Any]:
    fields = {"task": track.label, "launch_id": track.launch_id, "sandbox_id": track.sandbox_id, "gpu": track.gpu}
    return {name: value for name, value in fields.items() if value}
