"""Airflow 3.3 as installed, and 3.4 as cncf-kubernetes 10.25.0 describes it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from modalflow.executor import ModalExecutor
from modalflow.executor.version_compat import (
    by_priority,
    check_airflow_version,
    is_queued,
    remove_queued,
    task_key,
    task_of,
    workload_key,
)
from modalflow.settings import SettingsError
from tests.executor.recording import execute_task


def test_keys_of_3_3() -> None:
    executor, workload = ModalExecutor(), execute_task()
    assert workload_key(executor, workload) == workload.ti.key
    assert task_of(workload.ti.key) == ("models", "train", "manual", -1)
    assert task_of(execute_task(try_number=2).ti.key) == task_of(workload.ti.key)
    assert task_of("a callback's key") == "a callback's key"


def test_queues_of_3_3() -> None:
    executor, workload = ModalExecutor(), execute_task()
    executor.queue_workload(workload, session=None)  # type: ignore[arg-type]
    remove_queued(executor, workload.key)
    remove_queued(executor, workload.key)
    assert not executor.queued_tasks


def test_keys_and_queues_of_3_4() -> None:
    ti = SimpleNamespace(id="the-uuid", key="the-tuple")
    waiting = {"ExecuteTask": {"the-uuid": "workload"}, "ExecuteCallback": {"other": "workload"}}
    executor: Any = SimpleNamespace(supports_task_instance_uuid=True, get_task_key=lambda ti: ti.id, executor_queues=waiting)
    assert task_key(executor, ti) == "the-uuid"
    assert workload_key(executor, SimpleNamespace(ti=ti, key="the-tuple")) == "the-uuid"
    executor.supports_task_instance_uuid = False
    assert task_key(executor, ti) == "the-tuple", "without opting in, keys stay as they are"
    assert is_queued(executor, "the-uuid")
    remove_queued(executor, "the-uuid")
    assert not is_queued(executor, "the-uuid")
    assert waiting == {"ExecuteTask": {}, "ExecuteCallback": {"other": "workload"}}


def test_the_highest_priority_goes_first_in_the_order_of_queueing() -> None:
    queued = [(weight, SimpleNamespace(ti=SimpleNamespace(priority_weight=weight // 10))) for weight in (10, 31, 20, 30)]
    assert [key for key, _ in by_priority(queued)] == [31, 30, 20, 10]


@pytest.mark.parametrize("version", ["3.3.0", "3.3.2", "3.4.0.dev0", "4.0.0"])
def test_airflow_3_3_and_later(version: str) -> None:
    check_airflow_version(version)


@pytest.mark.parametrize("version", ["3.2.2", "3.1.8", "2.11.2"])
def test_an_older_airflow_is_refused_with_the_reason(version: str) -> None:
    with pytest.raises(SettingsError) as raised:
        check_airflow_version(version)
    assert str(raised.value) == (
        f"ModalExecutor needs Airflow 3.3 or later, and this is Airflow {version}. Before 3.3 Airflow does not commit a launch "
        "id together with the QUEUED state, so a scheduler that restarts could not tell which sandboxes run its tasks, and tasks "
        "would be lost or run twice. Upgrade apache-airflow to 3.3 or later, or name another executor in [core] executor"
    )


def test_the_scheduler_does_not_start_on_an_older_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow.__version__", "3.2.2")
    with pytest.raises(SettingsError, match=r"^ModalExecutor needs Airflow 3\.3 or later, and this is Airflow 3\.2\.2\."):
        ModalExecutor().start()
