"""ModalExecutor beside LocalExecutor under Airflow's own scheduler code: which id a task carries, however it names us."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from airflow.jobs.job import JobState
from airflow.utils.state import TaskInstanceState

from modalflow.executor import ModalExecutor
from modalflow.executor.routing import answer_to_class_name, judge
from modalflow.launch.events import LaunchEnded, LaunchStarted
from tests.airflow_rows import database_session, new_run, store_dag
from tests.executor.recording import RecordingBackend
from tests.executor.test_in_scheduler import found

DAG_FILE = """
from airflow.sdk import DAG, task

with DAG("beside", schedule=None):
    @task(executor="ModalExecutor")
    def by_class(): ...

    @task(executor="modalflow.executor.ModalExecutor")
    def by_path(): ...

    @task
    def elsewhere(): ...

    by_class(), by_path(), elsewhere()
"""


@pytest.fixture(scope="module")
def stored_dag(airflow_database: None) -> str:
    return store_dag("beside", DAG_FILE)


@pytest.fixture
def session(stored_dag: str) -> Iterator[Any]:
    with database_session() as session:
        yield session


def name(module_path: str, alias: str | None) -> Any:
    from airflow.executors.executor_utils import ExecutorName

    return ExecutorName(module_path=module_path, alias=alias)


def beside_local(session: Any, executor: ModalExecutor, alias: str | None) -> Any:
    """A scheduler with LocalExecutor first and ours, called ``alias``, second; what ``start`` finds out about ids is set."""
    from airflow.executors.local_executor import LocalExecutor
    from airflow.jobs.job import Job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner

    local = LocalExecutor()  # type: ignore[no-untyped-call]
    local.name = name("airflow.executors.local_executor.LocalExecutor", "LocalExecutor")
    executor.name = name("modalflow.executor.ModalExecutor", alias)
    answer_to_class_name(executor)
    new = judge(executor.name, [local.name, executor.name], lambda one: one is executor.name)
    assert executor._launching is not None
    executor._launching = replace(executor._launching, ids_are_new=new)
    job = Job(job_type="SchedulerJob", state=JobState.RUNNING)  # type: ignore[no-untyped-call]
    session.add(job)
    session.commit()
    executor.job_id = job.id
    return SchedulerJobRunner(job=job, executors=[local, executor])


def queue_as_airflow_does(scheduler: Any, session: Any, *tis: Any) -> None:
    for ti in tis:
        ti.state, ti.try_number = TaskInstanceState.SCHEDULED, 1
    session.commit()
    assert scheduler._critical_section_enqueue_task_instances(session=session) == len(tis)
    session.commit()


def beat(scheduler: Any, session: Any, executor: ModalExecutor) -> None:
    """One turn of the scheduler's loop: heartbeat, then its events."""
    executor.heartbeat()
    scheduler._process_executor_events(executor=executor, session=session)
    session.commit()


def test_a_task_that_names_the_class_gets_its_id_from_airflow(
    session: Any, stored_dag: str, executor: ModalExecutor, backend: RecordingBackend
) -> None:
    scheduler = beside_local(session, executor, alias=None)
    run = new_run(session, stored_dag)
    tis = [run.get_task_instance(task, session=session) for task in ("by_class", "by_path", "elsewhere")]
    ids = {ti.task_id: ti.id for ti in tis}
    queue_as_airflow_does(scheduler, session, *tis)
    executor.heartbeat()
    launched = {request.key.task_id: request.launch_id for request in backend.submitted}  # type: ignore[attr-defined]
    assert sorted(launched) == ["by_class", "by_path"]
    assert launched == {task: found(session, ids[task]).external_executor_id for task in launched}
    assert found(session, ids["elsewhere"]).external_executor_id is None
    assert executor.event_buffer == {}


@pytest.mark.parametrize("alias", [None, "gpu"], ids=["no alias", "an alias of its own"])
@pytest.mark.parametrize("started", [True, False], ids=["its sandbox is known", "its sandbox is not yet known"])
def test_a_deferring_task_never_launches_under_the_id_that_it_left(
    session: Any,
    stored_dag: str,
    executor: ModalExecutor,
    backend: RecordingBackend,
    alias: str | None,
    started: bool,
) -> None:
    scheduler = beside_local(session, executor, alias)
    ti = new_run(session, stored_dag).get_task_instance("by_class", session=session)
    ti_id = ti.id
    queue_as_airflow_does(scheduler, session, ti)
    beat(scheduler, session, executor)
    executor.heartbeat()
    [before] = backend.submitted
    assert found(session, ti_id).external_executor_id == before.launch_id, "committed before the launch"
    if started:
        backend.events = [LaunchStarted(launch_id=before.launch_id, key=before.key, sandbox_id="sb-1")]
        beat(scheduler, session, executor)
    row = found(session, ti_id)
    left = row.external_executor_id
    row.state, row.next_method = TaskInstanceState.DEFERRED, "resume"
    session.commit()
    backend.events = [LaunchEnded(launch_id=before.launch_id, key=before.key, success=True, reason="")]
    beat(scheduler, session, executor)

    # The scheduler restarts: nothing of what this process has used is remembered.
    again, backend_again = ModalExecutor(parallelism=8), RecordingBackend()
    assert executor._launching is not None
    again._launching = replace(executor._launching, backend=backend_again)
    scheduler = beside_local(session, again, alias)
    queue_as_airflow_does(scheduler, session, found(session, ti_id))
    row = found(session, ti_id)
    assert (row.external_executor_id == left) is (alias is not None), "Airflow matches aliases and paths, not class names"
    beat(scheduler, session, again)
    again.heartbeat()
    [after] = backend_again.submitted
    row = found(session, ti_id)
    assert after.launch_id not in {before.launch_id, left}
    assert str(uuid.UUID(after.launch_id)) == after.launch_id
    assert (row.state, row.next_method, row.external_executor_id) == ("queued", "resume", after.launch_id)
