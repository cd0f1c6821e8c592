"""Whether Airflow knows a task as not begun, asked when Modal lost its sandbox: only Airflow can tell.

The sandbox's supervisor reports RUNNING to the execution API before any code of the user's is read (3.3.2:
``task_instances.start`` comes before the child is told what to run). So a row that is still QUEUED under this launch's id has not
begun, and can be launched again without using up a retry of the user's. Called by ``launch.recall`` in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from modalflow.executor.workloads import head_of
from modalflow.launch.identity import parse_external_id

if TYPE_CHECKING:
    from modalflow.executor.launching import Launching
    from modalflow.launch.events import LaunchRequest


def recalled(launch_id: str, key: Hashable, launching: Launching) -> LaunchRequest | None:
    """Return the launch of ``key`` anew if its task has not begun; ``None`` if it has, is gone, or is no task.

    Blocks for a query of Airflow's database, and raises what that raises.
    """
    from airflow.executors.workloads import ExecuteTask  # noqa: PLC0415 - only when Modal lost a sandbox
    from airflow.models.taskinstance import TaskInstance  # noqa: PLC0415
    from airflow.models.taskinstancekey import TaskInstanceKey  # noqa: PLC0415
    from airflow.utils.session import create_session  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    if not isinstance(key, TaskInstanceKey):
        return None
    with create_session(scoped=False) as session:
        ti = session.scalar(
            select(TaskInstance).where(
                TaskInstance.dag_id == key.dag_id,
                TaskInstance.task_id == key.task_id,
                TaskInstance.run_id == key.run_id,
                TaskInstance.map_index == key.map_index,
            )
        )
        if ti is None or ti.state != "queued" or ti.try_number != key.try_number:
            return None
        external = parse_external_id(ti.external_executor_id)
        if external is None or external.launch_id != launch_id:
            return None
        workload = ExecuteTask.make(ti)
    return launching.request(launch_id, key, workload, head_of(workload))
