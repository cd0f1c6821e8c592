"""Structured lines of launches, and who observes in which Airflow."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import CapturingLogger

from modalflow.executor.launch_log import LaunchLog
from modalflow.executor.observers import build_observer
from modalflow.launch import messages as m
from modalflow.launch.gateway import InvalidRequest
from modalflow.launch.observe import Gauges
from modalflow.launch.transitions import State
from modalflow.translation.result import Translation
from tests.launch.onlooker import Watched
from tests.launch.plans import CPU, LAUNCH


def lines(logger: CapturingLogger) -> list[tuple[str, str, dict[str, Any]]]:
    return [(call.method_name, call.args[0], dict(call.kwargs)) for call in logger.calls]


def test_a_launch_in_two_lines() -> None:
    logger = CapturingLogger()
    watched = Watched(LaunchLog(logger))
    watched.step(m.Taken())
    watched.step(m.Translated(translation=Translation(plan=CPU)))
    watched.step(m.Prepared(), after=2.0)
    watched.step(m.SlotGranted())
    watched.step(m.Created(sandbox_id="sb-1"), after=0.5)
    watched.step(m.Revoked(reason="cleared"), after=10.0)
    watched.step(m.Terminated())
    about = {"task": "models.train manual try 1", "launch_id": LAUNCH, "sandbox_id": "sb-1"}
    start, end = lines(logger)
    assert start == (
        "info", "modal sandbox has its task", {**about, "start_s": 2.5, "preparing_s": 2.0, "launching_s": 0.5}
    )  # fmt: skip
    assert end[:2] == ("info", "modal launch ended")
    assert {key: value for key, value in end[2].items() if key != "usd"} == {**about, "outcome": "revoked", "run_s": 10.0}


def test_a_failure_is_a_warning_with_its_reason() -> None:
    logger = CapturingLogger()
    watched = Watched(LaunchLog(logger))
    watched.step(m.Taken())
    watched.step(m.Translated(translation=Translation(plan=CPU)))
    watched.step(m.PrepareFailed(error=InvalidRequest("no such image")))
    [(level, event, fields)] = lines(logger)
    assert (level, event, fields["outcome"]) == ("warning", "modal launch failed", "refused")
    assert fields["reason"] == "no such image; correct executor_config or the [modal_executor] options"


@pytest.mark.parametrize(("lag", "said"), [(0.2, []), (2.5, [("warning", "modal launch loop is late")])])
def test_a_late_loop_is_a_warning(lag: float, said: list[tuple[str, str]]) -> None:
    logger = CapturingLogger()
    LaunchLog(logger).looked(Gauges(states={State.RUNNING: 3}, gpus_waiting={}, gpus_running={}, micro_usd_hour=0, loop_lag=lag))
    assert [line[:2] for line in lines(logger)] == said


@pytest.mark.parametrize(("on", "kinds"), [("False", ["Metrics", "LaunchLog"]), ("True", ["Metrics", "LaunchLog", "Spans"])])
def test_traces_are_made_where_airflow_makes_them(monkeypatch: pytest.MonkeyPatch, on: str, kinds: list[str]) -> None:
    from airflow.configuration import conf

    monkeypatch.setenv("AIRFLOW__TRACES__OTEL_ON", on)
    observer: Any = build_observer(conf)
    assert [type(one).__name__ for one in observer._observers] == kinds
