"""Launches as spans in the trace that Airflow gave the task, with the real OpenTelemetry SDK."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from modalflow.executor.spans import Spans
from modalflow.launch import messages as m
from modalflow.launch.gateway import EndKind, SandboxEnd
from modalflow.launch.transitions import State
from modalflow.translation.result import Translation
from tests.launch.onlooker import Watched
from tests.launch.plans import GPU, LAUNCH

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


class Traced:
    """A tracer and what it exported."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.spans = Spans(self.provider.get_tracer("test"))

    def by_name(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture
def traced() -> Iterator[Traced]:
    traced = Traced()
    yield traced
    traced.provider.shutdown()


def start(traced: Traced, trace: dict[str, str]) -> Watched:
    watched = Watched(traced.spans, trace=trace)
    watched.step(m.Taken())
    watched.step(m.Translated(translation=Translation(plan=GPU)))
    watched.step(m.Prepared(), after=2.0)
    watched.step(m.SlotGranted(gpu="A10G"))
    watched.step(m.Created(sandbox_id="sb-1"), after=11.0)
    watched.step(m.HandedOver())
    return watched


def test_the_launch_is_in_the_task_s_trace_and_its_phases_in_the_launch(traced: Traced) -> None:
    watched = start(traced, SAMPLED)
    watched.step(m.SandboxEnded(end=SandboxEnd(kind=EndKind.TIMEOUT, exit_code=124)), after=60.0)
    if watched.at(State.EXPLAINING):
        watched.step(m.TailRead(text=""))
    spans = traced.by_name()
    assert set(spans) == {"modal.launch", "modal.preparing", "modal.launching", "modal.sandbox"}
    assert all(span.context is not None and f"{span.context.trace_id:032x}" == TRACE for span in spans.values())
    for name in ("modal.launch", "modal.sandbox"):
        parent = spans[name].parent
        assert parent is not None
        assert f"{parent.span_id:016x}" == PARENT
    launch, creation, sandbox = spans["modal.launch"], spans["modal.launching"], spans["modal.sandbox"]
    assert creation.parent is not None
    assert launch.context is not None
    assert creation.parent.span_id == launch.context.span_id
    assert creation.start_time is not None
    assert creation.end_time is not None
    assert (creation.end_time - creation.start_time) // 1_000_000 == 11_000
    assert dict(sandbox.attributes or {}) | {"modal.usd": 0} == {
        "modal.launch_id": LAUNCH,
        "modal.sandbox_id": "sb-1",
        "modal.gpu": "A10G",
        "modal.outcome": "timeout",
        "modal.usd": 0,
    }
    assert sandbox.status.status_code is StatusCode.ERROR
    assert sandbox.status.description
    assert sandbox.status.description.startswith("the sandbox reached its timeout")


@pytest.mark.parametrize("trace", [{}, {"traceparent": f"00-{TRACE}-{PARENT}-00"}, {"traceparent": "nonsense"}])
def test_a_task_that_is_not_traced_has_no_spans(traced: Traced, trace: dict[str, str]) -> None:
    watched = start(traced, trace)
    watched.step(m.SandboxEnded(end=SandboxEnd(kind=EndKind.SUCCESS, exit_code=0)))
    assert traced.by_name() == {}


def test_what_is_open_when_the_scheduler_stops_is_sent(traced: Traced) -> None:
    watched = start(traced, SAMPLED)
    watched.sights.stop()
    sandbox = traced.by_name()["modal.sandbox"]
    assert (sandbox.attributes or {})["modal.outcome"] == "left to the next scheduler"
    watched.step(m.SandboxEnded(end=SandboxEnd(kind=EndKind.SUCCESS, exit_code=0)))
    assert [span.name for span in traced.exporter.get_finished_spans()].count("modal.sandbox") == 1
