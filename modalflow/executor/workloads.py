"""Airflow's three workloads as modalflow sees them: what to run them with, and how to write them down late.

In: ``ExecuteTask``, ``ExecuteCallback``, ``TestConnection``. Out: ``WorkloadHead`` for the launch request, read on the
scheduler's thread; on the loop's, ``WorkloadFacts`` for ``worker_environment``, and the JSON that goes into the sandbox, with a
token minted when it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modalflow.translation.hooks.types import TaskFacts
from modalflow.translation.tags import INSTANCE_TAG

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.tokens import JWTGenerator


CALLBACK_PRIORITY = 2**31
"""Callbacks finish what already ran, so they go first, as in Airflow's own order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkloadHead:
    """What a heartbeat needs of a workload, and no more: it waits for this.

    ``assigned_id`` is what Airflow proposes as launch id, whatever it looks like. ``log_path`` is relative to the log root,
    ``None`` for a workload without a log. ``trace`` is the W3C trace context that Airflow gave it.
    """

    label: str
    assigned_id: str | None
    priority: int
    log_path: str | None
    is_task: bool = False
    trace: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkloadFacts:
    """What differs from workload to workload, for its sandbox.

    ``tags`` name it; ``task`` is what hooks are told. ``config_of`` says whose its ``executor_config`` is: ``etl.train
    (etl.py)``, the file as its bundle has it; ``bundle`` the name of that. ``log_path`` as in ``WorkloadHead``.
    """

    executor_config: object
    queue: str
    log_path: str | None
    tags: Mapping[str, str] = field(default_factory=dict)
    task: TaskFacts | None = None
    config_of: str = ""
    bundle: str | None = None


def head_of(workload: Any) -> WorkloadHead:
    """Read what a heartbeat needs, in microseconds. A workload type of a later Airflow raises ``TypeError`` naming it."""
    if workload.type == "ExecuteTask":
        return _head_of_task(workload)
    if workload.type == "ExecuteCallback":
        callback_id = str(workload.callback.id)
        label = f"callback {workload.display_name}"
        return WorkloadHead(label=label, assigned_id=callback_id, priority=CALLBACK_PRIORITY, log_path=workload.log_path)
    if workload.type == "TestConnection":
        test_id = str(workload.connection_test_id)
        return WorkloadHead(label=workload.display_name, assigned_id=test_id, priority=CALLBACK_PRIORITY, log_path=None)
    raise TypeError(f"modalflow does not know the workload type {workload.type!r}")


def _head_of_task(workload: Any) -> WorkloadHead:
    ti = workload.ti
    mapped = f" [{ti.map_index}]" if ti.map_index >= 0 else ""
    return WorkloadHead(
        label=f"{ti.dag_id}.{ti.task_id}{mapped} {ti.run_id} try {ti.try_number}",
        assigned_id=ti.external_executor_id,
        priority=ti.priority_weight,
        log_path=workload.log_path,
        is_task=True,
        trace=trace_of(ti),
    )


def facts_of(workload: Any) -> WorkloadFacts:
    """Read the rest. No I/O; a workload type of a later Airflow raises ``TypeError`` naming it."""
    if workload.type == "ExecuteTask":
        return _task(workload)
    if workload.type == "ExecuteCallback":
        return _callback(workload)
    if workload.type == "TestConnection":
        return _connection_test(workload)
    raise TypeError(f"modalflow does not know the workload type {workload.type!r}")


def _task(workload: Any) -> WorkloadFacts:
    ti = workload.ti
    return WorkloadFacts(
        config_of=f"{ti.dag_id}.{ti.task_id} ({workload.dag_rel_path})",
        executor_config=ti.executor_config,
        queue=ti.queue,
        log_path=workload.log_path,
        tags={
            "dag_id": ti.dag_id,
            "task_id": ti.task_id,
            "run_id": ti.run_id,
            "try_number": str(ti.try_number),
            "map_index": str(ti.map_index),
            INSTANCE_TAG: str(ti.id),
        },
        bundle=_bundle(workload),
        task=TaskFacts(
            dag_id=ti.dag_id,
            task_id=ti.task_id,
            run_id=ti.run_id,
            map_index=ti.map_index,
            try_number=ti.try_number,
            queue=ti.queue,
        ),
    )


def _bundle(workload: Any) -> str | None:
    return None if workload.bundle_info is None else str(workload.bundle_info.name)


def trace_of(ti: Any) -> Mapping[str, str]:
    """Return the trace context of a task instance; empty if it has none, or one that is not text."""
    carrier = ti.context_carrier
    return {key: value for key, value in carrier.items() if isinstance(value, str)} if isinstance(carrier, Mapping) else {}


def _callback(workload: Any) -> WorkloadFacts:
    tags = {"callback_id": str(workload.callback.id)}
    return WorkloadFacts(executor_config=None, queue="default", log_path=workload.log_path, tags=tags, bundle=_bundle(workload))


def _connection_test(workload: Any) -> WorkloadFacts:
    tags = {"connection_test_id": str(workload.connection_test_id)}
    return WorkloadFacts(executor_config=None, queue=workload.queue or "default", log_path=None, tags=tags)


def workload_json(workload: Any, generator: JWTGenerator | None) -> str:
    """Return the workload as JSON with a fresh token, made out to the id of the task instance, callback or connection test.

    The token that Airflow put in at queueing lives ``[scheduler] task_queued_timeout`` seconds from then; a GPU queue can
    be longer, so it is replaced by one minted now. The result is a secret: it goes into a sandbox and nowhere else.
    """
    token = workload.generate_token(_subject(workload), generator)
    text: str = workload.model_copy(update={"token": token}).model_dump_json()
    return text


def _subject(workload: Any) -> str:
    if workload.type == "ExecuteTask":
        return str(workload.ti.id)
    return str(workload.callback.id if workload.type == "ExecuteCallback" else workload.connection_test_id)
