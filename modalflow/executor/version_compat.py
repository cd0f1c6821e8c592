"""Which Airflow this is for, and where 3.3 and 3.4 differ for an executor: keys, and the queues of waiting workloads.

Airflow 3.4 puts the queues into ``executor_queues[WorkloadType.…]`` and can key tasks by ``TaskInstanceUuid`` (read from
cncf-kubernetes 10.25.0, which already branches on both, 2026-07). ``modal_executor`` asks here and nowhere else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from modalflow.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Hashable

    from airflow.executors.base_executor import BaseExecutor


OLDEST = (3, 3)
"""The first Airflow that writes an id of its own together with QUEUED (``pre_assigns_external_executor_id``)."""


def check_airflow_version(version: str) -> None:
    """Refuse an Airflow that this cannot be safe with. Raises ``SettingsError`` naming both versions and the reason."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None or (int(numbers[1]), int(numbers[2])) >= OLDEST:
        return
    raise SettingsError(
        f"ModalExecutor needs Airflow 3.3 or later, and this is Airflow {version}. Before 3.3 Airflow does not commit a launch "
        "id together with the QUEUED state, so a scheduler that restarts could not tell which sandboxes run its tasks, and tasks "
        "would be lost or run twice. Upgrade apache-airflow to 3.3 or later, or name another executor in [core] executor"
    )


def workload_key(executor: BaseExecutor, workload: Any) -> Hashable:
    """Key under which ``executor`` queues and reports ``workload``."""
    if hasattr(workload, "ti"):
        return task_key(executor, workload.ti)
    return cast("Hashable", workload.key)


def task_key(executor: BaseExecutor, ti: Any) -> Hashable:
    """Key of a task instance (model or DTO): Airflow 3.4's if the executor opted in to it, else the classic tuple."""
    if getattr(executor, "supports_task_instance_uuid", False):
        return cast("Hashable", cast("Any", executor).get_task_key(ti))
    return cast("Hashable", ti.key)


def task_of(key: Hashable) -> Hashable:
    """What stays the same over the tries of one task instance; the key itself for anything that has no tries."""
    return getattr(key, "primary", key)


def remove_queued(executor: BaseExecutor, key: Hashable) -> None:
    """Take ``key`` out of whichever queue of waiting workloads it is in."""
    for queue in _queues(executor):
        queue.pop(key, None)


def is_queued(executor: BaseExecutor, key: Hashable) -> bool:
    """Whether a workload of ``key`` waits for a slot."""
    return any(key in queue for queue in _queues(executor))


def by_priority(queued: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Pairs of key and task workload, highest ``priority_weight`` first, in the order given among equals."""
    return sorted(queued, key=lambda pair: -pair[1].ti.priority_weight)


def _queues(executor: BaseExecutor) -> list[Any]:
    queues: Any = getattr(executor, "executor_queues", None)
    if queues is not None:
        return list(queues.values())
    return [executor.queued_tasks, executor.queued_callbacks, executor.queued_connection_tests]
