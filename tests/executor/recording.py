"""A loop that records instead of launching, and workloads as Airflow's scheduler makes them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from airflow.executors.workloads import ExecuteTask

from modalflow.executor import ModalExecutor
from modalflow.launch.events import AdoptRequest, LaunchEvent, LaunchRequest
from modalflow.translation.inputs import TaskContext
from modalflow.translation.plan import ImagePlan, SandboxPlan
from modalflow.translation.result import Translation

DAG_VERSION = uuid.UUID(int=7)


@dataclass
class RecordingBackend:
    """Stands for ``launch.backend.LaunchBackend``: keeps what it is given, hands out what a test puts into ``events``."""

    submitted: list[LaunchRequest] = field(default_factory=list)
    adopted: list[AdoptRequest] = field(default_factory=list)
    revoked: list[tuple[str, str]] = field(default_factory=list)
    events: list[LaunchEvent] = field(default_factory=list)
    stopped: list[float] = field(default_factory=list)
    started: int = 0
    adoptions: int = 0
    breaks: bool = False

    def start(self) -> None:
        self.started += 1

    def submit(self, *requests: LaunchRequest) -> None:
        if self.breaks:
            raise RuntimeError("the queue is broken")
        self.submitted.extend(requests)

    def adopt(self, requests: list[AdoptRequest]) -> None:
        if self.breaks:
            raise RuntimeError("the queue is broken")
        self.adoptions += 1 if requests else 0
        self.adopted.extend(requests)

    def revoke(self, launch_id: str, reason: str) -> None:
        self.revoked.append((launch_id, reason))

    def drain(self) -> list[LaunchEvent]:
        if self.breaks:
            raise RuntimeError("the queue is broken")
        events, self.events = self.events, []
        return events

    def describe(self) -> str:
        return "\n".join(["modalflow: launches", *(request.launch_id for request in self.submitted)])

    def stop(self, timeout: float) -> None:
        self.stopped.append(timeout)


def plan_of(executor_config: object, context: TaskContext) -> Translation:
    """Stands for ``translate``: any dict is fine, ``{"break": …}`` is a defect."""
    if isinstance(executor_config, dict) and "break" in executor_config:
        raise KeyError(executor_config["break"])
    return Translation(plan=SandboxPlan(image=ImagePlan(reference=None), env=context.env, tags=context.tags))


def execute_task(
    *,
    task_id: str = "train",
    try_number: int = 1,
    map_index: int = -1,
    external_executor_id: str | None = "",
    executor_config: Any = None,
    priority_weight: int = 1,
) -> ExecuteTask:
    """A workload of a task; ``external_executor_id=""`` takes a fresh UUID, as the scheduler does."""
    ti = {
        "id": uuid.uuid4(),
        "dag_version_id": DAG_VERSION,
        "dag_id": "models",
        "task_id": task_id,
        "run_id": "manual",
        "try_number": try_number,
        "map_index": map_index,
        "queue": "default",
        "pool_slots": 1,
        "priority_weight": priority_weight,
        "external_executor_id": str(uuid.uuid4()) if external_executor_id == "" else external_executor_id,
        "executor_config": executor_config,
    }
    return ExecuteTask.model_validate(
        {
            "token": "the-token-of-queueing",
            "dag_rel_path": "models.py",
            "bundle_info": {"name": "dags-folder"},
            "log_path": f"dag_id=models/run_id=manual/task_id={task_id}/attempt={try_number}.log",
            "ti": ti,
        }
    )


def launch_id_of(workload: ExecuteTask) -> str:
    assert workload.ti.external_executor_id is not None
    return workload.ti.external_executor_id


def queue(executor: ModalExecutor, *workloads: Any) -> None:
    """Queue as the scheduler does: within its transaction, then one heartbeat."""
    for workload in workloads:
        executor.queue_workload(workload, session=None)  # type: ignore[arg-type]
    executor.heartbeat()


def events_of(executor: ModalExecutor) -> dict[str, tuple[str, Any]]:
    """Take the events as the scheduler does, by task id."""
    return {key.task_id: (str(state), info) for key, (state, info) in executor.get_event_buffer().items()}  # type: ignore[union-attr]


def audit_of(executor: ModalExecutor) -> list[tuple[str, str, str]]:
    """What the task's event page would show: task id, event, text."""
    return [(log.task_id or "", log.event, log.extra or "") for log in executor._task_event_logs]
