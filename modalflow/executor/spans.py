"""Launches as OpenTelemetry spans, in the trace that Airflow gave the task (``[traces] otel_on``).

An ``Observer`` of ``launch.observe``. A task's trace has Airflow's own spans (``task_run.…`` by the API server, ``worker.…`` by
the sandbox, 3.3.2); these come beside the worker's: ``modal.launch`` from the hand-over by the scheduler until the sandbox had
the task, with one child for each phase, then ``modal.sandbox`` until its end. Spans go to the provider that Airflow configured
in this process, whose exporter has a thread of its own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.trace import Span, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from modalflow.launch.observe import REVOKED, SUCCESS, Ended, Gauges, Track
from modalflow.launch.transitions import State

SHORTEST = 0.001
"""Seconds from which a phase gets a span: translation and the like are over within the microsecond."""


class Spans:
    """Makes spans with ``tracer``; holds the open one of each launch, and its task's context."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._open: dict[str, tuple[Span, Context]] = {}

    def accepted(self, track: Track, trace: Mapping[str, str]) -> None:
        """Open ``modal.launch``. A task that carries no trace context, or one that is not sampled, has no spans."""
        context = TraceContextTextMapPropagator().extract(trace)
        if not otel.get_current_span(context).get_span_context().trace_flags.sampled:
            return
        span = self._tracer.start_span("modal.launch", context=context)
        span.set_attributes({"modal.launch_id": track.launch_id, "modal.adopted": track.adopted})
        self._open[track.launch_id] = span, context

    def phase_over(self, track: Track, phase: State, seconds: float) -> None:
        """Write down a phase, after the fact."""
        opened = self._open.get(track.launch_id)
        if opened is None or seconds < SHORTEST:
            return
        now = time.time_ns()
        context = otel.set_span_in_context(opened[0])
        span = self._tracer.start_span(f"modal.{phase}", context=context, start_time=now - int(seconds * 1e9))
        if track.gpu:
            span.set_attribute("modal.gpu", track.gpu)
        span.end(now)

    def started(self, track: Track, seconds: float) -> None:  # noqa: ARG002 - of the protocol
        """Close ``modal.launch`` and open ``modal.sandbox``."""
        opened = self._open.pop(track.launch_id, None)
        if opened is None:
            return
        launch, context = opened
        launch.set_status(StatusCode.OK)
        launch.end()
        span = self._tracer.start_span("modal.sandbox", context=context)
        span.set_attributes({"modal.launch_id": track.launch_id, **_attributes(track)})
        self._open[track.launch_id] = span, context

    def ended(self, track: Track, ended: Ended) -> None:
        """Close what is open, saying how it ended."""
        opened = self._open.pop(track.launch_id, None)
        if opened is None:
            return
        span = opened[0]
        span.set_attributes({"modal.outcome": ended.outcome, "modal.usd": ended.micro_usd / 1e6, **_attributes(track)})
        if ended.outcome == SUCCESS:
            span.set_status(StatusCode.OK)
        elif ended.outcome != REVOKED:
            span.set_status(StatusCode.ERROR, ended.reason)
        span.end()

    def looked(self, gauges: Gauges) -> None:
        """Nothing: gauges are metrics."""

    def closed(self) -> None:
        """Close what is open: a span that is not closed is never sent. The sandboxes go on, and so do their spans elsewhere."""
        while self._open:
            _, (span, _) = self._open.popitem()
            span.set_attribute("modal.outcome", "left to the next scheduler")
            span.end()


def _attributes(track: Track) -> dict[str, str]:
    known = {"modal.sandbox_id": track.sandbox_id, "modal.gpu": track.gpu}
    return {name: value for name, value in known.items() if value}
