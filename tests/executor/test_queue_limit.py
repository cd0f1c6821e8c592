"""When Airflow takes a queued task back, as the loop is told it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from modalflow.executor import ModalExecutor
from modalflow.executor.adoption import _queue_limit
from modalflow.executor.workloads import head_of
from tests.executor.recording import execute_task, launch_id_of


def test_a_task_is_taken_back_after_airflows_limit_and_what_is_no_task_never(executor: ModalExecutor) -> None:
    assert executor._launching is not None
    launching = replace(executor._launching, queued_timeout=900.0)
    workload = execute_task()
    head = head_of(workload)
    assert launching.request(launch_id_of(workload), "key", workload, head).queue_limit == 900.0
    no_task = replace(head, is_task=False)
    assert launching.request(launch_id_of(workload), "key", workload, no_task).queue_limit is None


def test_of_an_adopted_task_the_time_that_it_was_queued_before_counts() -> None:
    queued = SimpleNamespace(queued_dttm=datetime.now(UTC) - timedelta(seconds=400))
    assert _queue_limit(queued, 600.0) == pytest.approx(200.0, abs=60.0)
    assert _queue_limit(queued, None) is None
    assert _queue_limit(SimpleNamespace(queued_dttm=None), 600.0) == 600.0
