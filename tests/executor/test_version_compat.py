"""Airflow 3.3 as installed, and 3.4 as cncf-kubernetes 10.25.0 describes it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from modalflow.executor import ModalExecutor
from modalflow.executor.version_compat import remove_queued, task_key, task_of, workload_key
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
    remove_queued(executor, "the-uuid")
    assert waiting == {"ExecuteTask": {}, "ExecuteCallback": {"other": "workload"}}
