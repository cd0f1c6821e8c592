"""The whole executor on the emulator, with the unmodified Modal client: from Airflow's configuration to Airflow's events."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modalflow.executor import ModalExecutor
from tests.executor.recording import audit_of, execute_task, launch_id_of

pytestmark = pytest.mark.emulated

CLOSED = "http://127.0.0.1:9/execution/"
"""Nobody listens on port 9, so that a worker ends at once."""


@pytest.fixture
def started(modal_emulator: Any, airflow_database: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", CLOSED)
    monkeypatch.setenv("AIRFLOW__WORKERS__EXECUTION_API_RETRIES", "1")
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path / "logs"))
    executor = ModalExecutor()
    executor.start()
    yield executor
    executor.end()


def beat_until(executor: ModalExecutor, found: Callable[[dict[Any, Any]], bool], *, seconds: float = 60.0) -> dict[Any, Any]:
    """Heartbeat, collecting events by task id, until ``found`` says so."""
    events: dict[Any, Any] = {}
    end = time.monotonic() + seconds
    while not found(events):
        assert time.monotonic() < end, events
        executor.heartbeat()
        events.update({(key.task_id, str(state)): info for key, (state, info) in executor.get_event_buffer().items()})  # type: ignore[union-attr]
        time.sleep(0.02)
    return events


def test_a_gpu_task_reaches_modal_as_written_and_its_end_comes_back(
    started: ModalExecutor, modal_emulator: Any, tmp_path: Path
) -> None:
    workload = execute_task(executor_config={"modal": {"gpu": "A10G"}})
    launch_id = launch_id_of(workload)
    started.queue_workload(workload, session=None)  # type: ignore[arg-type]
    events = beat_until(started, lambda events: ("train", "failed") in events)

    [create] = modal_emulator.calls("SandboxCreate")
    definition = create.definition
    assert (definition.resources.gpu_config.gpu_type, definition.resources.gpu_config.count) == ("A10G", 1)
    assert definition.name == launch_id
    assert "the-token-of-queueing" not in str(create)

    reason = events["train", "failed"]
    assert reason.startswith("the sandbox could not reach Airflow's execution API (exit code 68)")
    assert audit_of(started)[-1] == ("train", "modal launch failed", reason)
    assert not started.running
    journal = tmp_path / "logs" / f"{workload.log_path}.modalflow.log"
    assert "the sandbox could not reach Airflow's execution API" in journal.read_text()


def test_a_task_runs_in_the_account_that_it_names_and_another_by_the_deployments_connection(
    modal_emulator: Any, airflow_database: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", CLOSED)
    monkeypatch.setenv("AIRFLOW__WORKERS__EXECUTION_API_RETRIES", "1")
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path / "logs"))
    monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__MODAL_CONN_IDS", "modal_ml")
    for variable in ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"):
        monkeypatch.delenv(variable)
    for workspace, conn_id in (("main", "MODAL"), ("ml", "MODAL_ML")):
        modal_emulator.accept_token(f"ak-{workspace}", f"as-{workspace}", workspace=workspace)
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id}", f"modal://ak-{workspace}:as-{workspace}@")
    executor = ModalExecutor()
    executor.start()
    try:
        for task, config in (("train", {"modal": {"gpu": "A10G", "conn_id": "modal_ml"}}), ("load", {"modal": {"gpu": "A10G"}})):
            executor.queue_workload(execute_task(task_id=task, executor_config=config), session=None)  # type: ignore[arg-type]
        beat_until(executor, lambda events: {("train", "failed"), ("load", "failed")} <= events.keys())
    finally:
        executor.end()
    found = {workspace: modal_emulator.sandbox_records(workspace) for workspace in ("main", "ml")}
    assert {workspace: [record.tags["task_id"] for record in records] for workspace, records in found.items()} == {
        "main": ["load"],
        "ml": ["train"],
    }


def test_an_option_that_makes_a_task_wrong_is_told_in_its_log(
    modal_emulator: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", CLOSED)
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path / "logs"))
    monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__QUEUE_TEMPLATES", '{"default": "no-such-template"}')
    executor = ModalExecutor()
    executor.start()
    try:
        workload = execute_task()
        executor.queue_workload(workload, session=None)  # type: ignore[arg-type]
        events = beat_until(executor, lambda events: ("train", "failed") in events)
    finally:
        executor.end()
    assert "no-such-template" in events["train", "failed"]
    assert modal_emulator.calls("SandboxCreate") == []
    assert "no-such-template" in (tmp_path / "logs" / f"{workload.log_path}.modalflow.log").read_text()


def test_a_configuration_error_ends_the_start_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    from modalflow.settings import SettingsError

    monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__GPU_WAIT", "601")
    before = threading.active_count()
    with pytest.raises(SettingsError, match=r"gpu_wait = 601 is more than \[scheduler\] task_queued_timeout = 600"):
        ModalExecutor().start()
    assert threading.active_count() == before
