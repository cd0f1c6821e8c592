"""Airflow's three workloads as modalflow sees them: what to run them with, and how to write them down late.

In: ``ExecuteTask``, ``ExecuteCallback``, ``TestConnection``. Out: ``WorkloadFacts`` for ``worker_environment`` and the
launch request, and the JSON that goes into the sandbox, with a token minted when it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modalflow.translation.hooks.types import TaskFacts
from modalflow.translation.tags import INSTANCE_TAG

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.tokens import JWTGenerator


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkloadFacts:
    """What differs from workload to workload.

    ``subject`` is the id that its token is made out to. ``assigned_id`` is what Airflow proposes as launch id, whatever
    it looks like. ``log_path`` is relative to the log root, ``None`` for a workload without a log. ``tags`` name it;
    ``task`` is what hooks are told.
    ``trace`` is the W3C trace context that Airflow gave it. ``config_of`` says whose its ``executor_config`` is: ``etl.train
    (etl.py)``, the file as its bundle has it.
    """

    label: str
    subject: str
    assigned_id: str | None
    executor_config: object
    queue: str
    priority: int
    log_path: str | None
    tags: Mapping[str, str] = field(default_factory=dict)
    task: TaskFacts | None = None
    config_of: str = ""
    trace: Mapping[str, str] = field(default_factory=dict)


def facts_of(workload: Any) -> WorkloadFacts:
    """Read one workload. No I/O; a workload type of a later Airflow raises ``TypeError`` naming it."""
    if workload.type == "ExecuteTask":
        return _task(workload)
    if workload.type == "ExecuteCallback":
        return _callback(workload)
    if workload.type == "TestConnection":
        return _connection_test(workload)
    raise TypeError(f"modalflow does not know the workload type {workload.type!r}")


def _task(workload: Any) -> WorkloadFacts:
    ti = workload.ti
    mapped = f" [{ti.map_index}]" if ti.map_index >= 0 else ""
    return WorkloadFacts(
        label=f"{ti.dag_id}.{ti.task_id}{mapped} {ti.run_id} try {ti.try_number}",
        config_of=f"{ti.dag_id}.{ti.task_id} ({workload.dag_rel_path})",
        subject=str(ti.id),
        assigned_id=ti.external_executor_id,
        executor_config=ti.executor_config,
        queue=ti.queue,
        priority=ti.priority_weight,
        log_path=workload.log_path,
        tags={
            "dag_id": ti.dag_id,
            "task_id": ti.task_id,
            "run_id": ti.run_id,
            "try_number": str(ti.try_number),
            "map_index": str(ti.map_index),
            INSTANCE_TAG: str(ti.id),
        },
        trace=trace_of(ti),
        task=TaskFacts(
            dag_id=ti.dag_id,
            task_id=ti.task_id,
            run_id=ti.run_id,
            map_index=ti.map_index,
            try_number=ti.try_number,
            queue=ti.queue,
        ),
    )


def trace_of(ti: Any) -> Mapping[str, str]:
    """Return the trace context of a task instance; empty if it has none, or one that is not text."""
    carrier = ti.context_carrier
    return {key: value for key, value in carrier.items() if isinstance(value, str)} if isinstance(carrier, Mapping) else {}


CALLBACK_PRIORITY = 2**31
"""Callbacks finish what already ran, so they go first, as in Airflow's own order."""


def _callback(workload: Any) -> WorkloadFacts:
    callback_id = str(workload.callback.id)
    return WorkloadFacts(
        label=f"callback {workload.display_name}",
        subject=callback_id,
        assigned_id=callback_id,
        executor_config=None,
        queue="default",
        priority=CALLBACK_PRIORITY,
        log_path=workload.log_path,
        tags={"callback_id": callback_id},
    )


def _connection_test(workload: Any) -> WorkloadFacts:
    test_id = str(workload.connection_test_id)
    return WorkloadFacts(
        label=workload.display_name,
        subject=test_id,
        assigned_id=test_id,
        executor_config=None,
        queue=workload.queue or "default",
        priority=CALLBACK_PRIORITY,
        log_path=None,
        tags={"connection_test_id": test_id},
    )


def workload_json(workload: Any, subject: str, generator: JWTGenerator | None) -> str:
    """Return the workload as JSON with a fresh token.

    The token that Airflow put in at queueing lives ``[scheduler] task_queued_timeout`` seconds from then; a GPU queue can
    be longer, so it is replaced by one minted now. The result is a secret: it goes into a sandbox and nowhere else.
    """
    token = workload.generate_token(subject, generator)
    text: str = workload.model_copy(update={"token": token}).model_dump_json()
    return text
