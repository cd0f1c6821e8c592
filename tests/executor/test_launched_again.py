"""A task whose sandbox ends before it begins, with the real executor, Airflow's database, the real client and the emulator."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from airflow.utils.state import TaskInstanceState

from modalflow.executor import ModalExecutor
from tests.airflow_rows import new_run
from tests.executor.test_in_scheduler import abandoned, found, session, stored_dag
from tests.executor.test_on_emulator import CLOSED, beat_until

__all__ = ["session", "stored_dag"]

pytestmark = pytest.mark.emulated


def test_it_is_launched_again_under_the_next_name_and_uses_up_no_retry(
    modal_emulator: Any, session: Any, stored_dag: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from airflow.executors.workloads import ExecuteTask

    for name, value in {
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": CLOSED,  # the worker cannot begin: exit code 68
        "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "1",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(tmp_path / "logs"),
        "AIRFLOW__MODAL_EXECUTOR__LAUNCH_RETRIES": "1",
    }.items():
        monkeypatch.setenv(name, value)
    launch_id = str(uuid.uuid4())
    ti = abandoned(session, new_run(session, stored_dag), "report", state=TaskInstanceState.QUEUED, external_id=launch_id)
    ti_id = ti.id
    executor = ModalExecutor()
    executor.start()
    try:
        executor.queue_workload(ExecuteTask.make(ti), session=session)
        events = beat_until(executor, lambda events: ("report", "failed") in events)
    finally:
        executor.end()
    assert [call.definition.name for call in modal_emulator.calls("SandboxCreateV2")] == [launch_id, f"{launch_id}.2"]
    assert "; 1 earlier sandbox of this launch ended before the task began" in events["report", "failed"]
    assert found(session, ti_id).try_number == 1
