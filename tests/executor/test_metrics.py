"""Launches in Airflow's own metrics system, with each kind of backend it has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from airflow._shared.observability.metrics.base_stats_logger import NoStatsLogger
from airflow.observability import stats

from modalflow.executor.metrics import METRICS, Metrics
from modalflow.launch import messages as m
from modalflow.launch.gateway import EndKind, SandboxEnd
from modalflow.launch.observe import Gauges
from modalflow.launch.price_tags import micro_usd_hours
from modalflow.launch.transitions import State
from modalflow.provider.metrics_page import render
from modalflow.translation.result import Translation
from tests.launch.onlooker import Watched
from tests.launch.plans import GPU

PAGE = Path(__file__).parents[2] / "docs/reference/metrics.md"


@dataclass
class Sent(NoStatsLogger):
    """Keeps what Airflow's ``stats`` passes on: name, value, tags."""

    all: list[tuple[str, float, dict[str, str]]] = field(default_factory=list)

    def incr(self, stat: str, count: int = 1, rate: float = 1, *, tags: Any = None) -> None:  # type: ignore[override]
        self.all.append((stat, count, tags or {}))

    def gauge(self, stat: str, value: float, rate: float = 1, delta: bool = False, *, tags: Any = None) -> None:  # type: ignore[override]
        self.all.append((stat, value, tags or {}))

    def timing(self, stat: str, dt: Any, *, tags: Any = None) -> None:  # type: ignore[override]
        self.all.append((stat, dt, tags or {}))


@pytest.fixture
def sent() -> Iterator[Sent]:
    kept = Sent()
    stats.initialize(factory=lambda: kept, export_legacy_names=True)
    yield kept
    stats.initialize(factory=NoStatsLogger, export_legacy_names=True)


def whole_launch(metrics: Metrics, end: SandboxEnd) -> None:
    watched = Watched(metrics)
    watched.step(m.Taken(), after=0.5)
    watched.step(m.Translated(translation=Translation(plan=GPU)))
    watched.step(m.Prepared(), after=2.0)
    watched.step(m.SlotGranted(gpu="A10G"))
    watched.step(m.Created(sandbox_id="sb-1"), after=11.0)
    watched.step(m.HandedOver(), after=0.25)
    watched.step(m.SandboxEnded(end=end), after=3600.0)
    if watched.at(State.EXPLAINING):
        watched.step(m.TailRead(text=""))


def test_a_launch_that_succeeds(sent: Sent) -> None:
    whole_launch(Metrics(stats, with_names=False), SandboxEnd(kind=EndKind.SUCCESS, exit_code=0))
    assert sent.all[:1] == [("modal_executor.launches", 1, {"adopted": "false"})]
    assert ("modal_executor.launch.phase", 11_000.0, {"phase": "launching", "gpu": "A10"}) in sent.all
    assert sent.all[-5:] == [
        ("modal_executor.launch.start", 13_750.0, {"gpu": "A10"}),
        ("modal_executor.queue_wait", 11_000.0, {"gpu": "A10"}),
        ("modal_executor.launches.ended", 1, {"outcome": "success", "gpu": "A10"}),
        ("modal_executor.run", 3_600_000.0, {"outcome": "success", "gpu": "A10"}),
        ("modal_executor.cost_micro_usd", micro_usd_hours(GPU)["A10G"], {"gpu": "A10"}),
    ]


def test_a_failure_is_counted_by_class_and_by_name_for_systems_without_tags(sent: Sent) -> None:
    whole_launch(Metrics(stats, with_names=True), SandboxEnd(kind=EndKind.OUT_OF_MEMORY, exit_code=137))
    failures = [one for one in sent.all if one[0].startswith("modal_executor.failures")]
    assert failures == [
        ("modal_executor.failures", 1, {"class": "out-of-memory", "gpu": "A10"}),
        ("modal_executor.failures.out-of-memory", 1, {"gpu": "A10"}),
    ]


def test_a_gauge_of_a_gpu_that_nobody_has_any_more_goes_to_zero(sent: Sent) -> None:
    metrics = Metrics(stats, with_names=False)
    metrics.looked(Gauges(states={State.RUNNING: 2}, gpus_waiting={}, gpus_running={"H100": 8}, micro_usd_hour=3, loop_lag=0.25))
    metrics.closed()
    gpus = [(name, value, tags) for name, value, tags in sent.all if "gpus" in name]
    assert gpus == [
        ("modal_executor.gpus.running", 8, {"gpu": "H100"}),
        ("modal_executor.gpus.running", 0, {"gpu": "H100"}),
    ]
    assert ("modal_executor.in_flight", 2, {"state": "running"}) in sent.all
    assert ("modal_executor.in_flight", 0, {"state": "running"}) in sent.all
    assert ("modal_executor.loop_lag", 250.0, {}) in sent.all


def test_what_is_sent_is_what_the_table_says(sent: Sent) -> None:
    metrics = Metrics(stats, with_names=False)
    whole_launch(metrics, SandboxEnd(kind=EndKind.OUT_OF_MEMORY, exit_code=137))
    metrics.looked(
        Gauges(states={State.RUNNING: 1}, gpus_waiting={"L4": 1}, gpus_running={"H100": 8}, micro_usd_hour=3, loop_lag=0.0)
    )
    assert {(name, tuple(sorted(tags))) for name, _, tags in sent.all} == {
        (metric.name, tuple(sorted(metric.tags))) for metric in METRICS
    }


def test_opentelemetry_takes_all_of_it() -> None:
    from airflow._shared.observability.metrics.otel_logger import SafeOtelLogger
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    logger = SafeOtelLogger(provider)
    stats.initialize(factory=lambda: logger, export_legacy_names=True)  # type: ignore[arg-type,return-value]
    try:
        metrics = Metrics(stats, with_names=True)
        whole_launch(metrics, SandboxEnd(kind=EndKind.OUT_OF_MEMORY, exit_code=137))
        metrics.looked(
            Gauges(states={State.RUNNING: 1}, gpus_waiting={"L4": 1}, gpus_running={"H100": 8}, micro_usd_hour=3, loop_lag=0.0)
        )
        data = reader.get_metrics_data()
    finally:
        stats.initialize(factory=NoStatsLogger, export_legacy_names=True)
        provider.shutdown()
    assert data is not None
    names = {metric.name for resource in data.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics}
    assert {f"airflow.{metric.name}" for metric in METRICS} <= names


def test_the_page_is_the_table() -> None:
    """Renew it by ``python -m modalflow.provider.metrics_page > docs/reference/metrics.md``."""
    assert PAGE.read_text(encoding="utf-8") == render()
