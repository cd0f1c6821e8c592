"""Who looks on at the launches of this scheduler: its metrics, its log, and, where ``[traces]`` is on, its traces.

In: Airflow's configuration. Out: one ``Observer`` for ``launch.backend``. Next: ``metrics``, ``launch_log``, ``spans``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from modalflow.executor.launch_log import LaunchLog
from modalflow.executor.metrics import Metrics
from modalflow.launch.observe import Ended, Gauges, Observer, Track
from modalflow.launch.transitions import State

if TYPE_CHECKING:
    from airflow.configuration import AirflowConfigParser


class Observers:
    """All of several, one after the other."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def accepted(self, track: Track, trace: Mapping[str, str]) -> None:
        """See ``Observer``."""
        for observer in self._observers:
            observer.accepted(track, trace)

    def phase_over(self, track: Track, phase: State, seconds: float) -> None:
        """See ``Observer``."""
        for observer in self._observers:
            observer.phase_over(track, phase, seconds)

    def started(self, track: Track, seconds: float) -> None:
        """See ``Observer``."""
        for observer in self._observers:
            observer.started(track, seconds)

    def ended(self, track: Track, ended: Ended) -> None:
        """See ``Observer``."""
        for observer in self._observers:
            observer.ended(track, ended)

    def looked(self, gauges: Gauges) -> None:
        """See ``Observer``."""
        for observer in self._observers:
            observer.looked(gauges)

    def closed(self) -> None:
        """See ``Observer``."""
        for observer in self._observers:
            observer.closed()


def build_observer(conf: AirflowConfigParser) -> Observer:
    """Return what this Airflow wants to know. ``BaseExecutor`` has chosen the metrics system by then (3.3.2)."""
    import structlog  # noqa: PLC0415 - only the scheduler needs it
    from airflow.observability import stats  # noqa: PLC0415

    observers: list[Observer] = [
        Metrics(stats, with_names=conf.getboolean("metrics", "legacy_names_on", fallback=True)),
        LaunchLog(structlog.get_logger("modalflow.launches", logger_name="modalflow.launches")),
    ]
    if conf.getboolean("traces", "otel_on", fallback=False):
        from opentelemetry import trace  # noqa: PLC0415

        from modalflow.executor.spans import Spans  # noqa: PLC0415

        observers.append(Spans(trace.get_tracer("modalflow")))
    return Observers(observers)
