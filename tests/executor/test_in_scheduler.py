"""ModalExecutor under Airflow's own scheduler code, on a real database: queueing, events, adoption."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.jobs.job import JobState
from airflow.utils.state import TaskInstanceState
from sqlalchemy import event, select

from modalflow.executor import ModalExecutor
from modalflow.launch.events import LaunchEnded, LaunchStarted
from tests.airflow_rows import database_session, new_run, store_dag
from tests.executor.recording import RecordingBackend

DAG_FILE = """
from airflow.sdk import DAG, task

with DAG("adopting", schedule=None):
    @task(executor_config={"modal": {"gpu": "A10G"}})
    def train(): ...

    @task
    def report(): ...

    train(), report()
"""


@pytest.fixture(scope="module")
def stored_dag(airflow_database: None) -> str:
    return store_dag("adopting", DAG_FILE)


@pytest.fixture
def session(stored_dag: str) -> Iterator[Any]:
    with database_session() as session:
        yield session


@pytest.fixture
def scheduler(executor: ModalExecutor, session: Any) -> Any:
    """A scheduler job runner that has not been run: its parts are called one by one."""
    from airflow.executors.executor_utils import ExecutorName
    from airflow.jobs.job import Job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner

    executor.name = ExecutorName("modalflow.executor.ModalExecutor")
    job = Job(job_type="SchedulerJob", state=JobState.RUNNING)  # type: ignore[no-untyped-call]
    session.add(job)
    session.commit()
    runner = SchedulerJobRunner(job=job, executors=[executor])
    executor.job_id = job.id
    return runner


def abandoned(session: Any, run: Any, task_id: str, *, state: TaskInstanceState, external_id: str | None) -> Any:
    """A task instance of a scheduler that is gone."""
    from airflow.jobs.job import Job

    gone = Job(job_type="SchedulerJob", state=JobState.FAILED)  # type: ignore[no-untyped-call]
    session.add(gone)
    session.flush()
    ti = run.get_task_instance(task_id, session=session)
    ti.state, ti.try_number, ti.external_executor_id, ti.queued_by_job_id = state, 1, external_id, gone.id
    session.commit()
    return ti


def found(session: Any, ti_id: uuid.UUID) -> Any:
    from airflow.models.taskinstance import TaskInstance

    session.expire_all()
    return session.get(TaskInstance, ti_id)


def test_the_launch_id_is_the_one_that_airflow_commits_with_queued(
    scheduler: Any, session: Any, stored_dag: str, executor: ModalExecutor, backend: RecordingBackend
) -> None:
    run = new_run(session, stored_dag)
    ti = run.get_task_instance("train", session=session)
    ti.state, ti.try_number = TaskInstanceState.SCHEDULED, 1
    session.commit()
    assert scheduler._critical_section_enqueue_task_instances(session=session) == 1
    session.commit()
    executor.heartbeat()
    [request] = backend.submitted
    row = found(session, ti.id)
    assert (row.state, row.external_executor_id) == ("queued", request.launch_id)

    key = request.key
    backend.events = [LaunchStarted(launch_id=request.launch_id, key=key, sandbox_id="sb-7")]
    executor.heartbeat()
    scheduler._process_executor_events(executor=executor, session=session)
    session.commit()
    assert found(session, ti.id).external_executor_id == f"{request.launch_id}/sb-7"

    reason = "the sandbox was evicted by Modal"
    backend.events = [LaunchEnded(launch_id=request.launch_id, key=key, success=False, reason=reason)]
    executor.heartbeat()
    scheduler._process_executor_events(executor=executor, session=session)
    scheduler._process_task_event_logs(executor._task_event_logs, session)
    session.commit()
    row = found(session, ti.id)
    assert row.state == "failed"
    from airflow.models import Log

    told = {log.event: log.extra for log in session.scalars(select(Log).where(Log.run_id == run.run_id))}
    assert told["modal launch failed"] == reason
    assert told["state mismatch"].endswith(f"Extra info: {reason}")


def test_tasks_of_a_lost_scheduler_are_adopted_by_their_launch_id(
    scheduler: Any, session: Any, stored_dag: str, executor: ModalExecutor, backend: RecordingBackend
) -> None:
    launch_ids = [str(uuid.uuid4()), str(uuid.uuid4())]
    run = new_run(session, stored_dag)
    queued = abandoned(session, run, "train", state=TaskInstanceState.QUEUED, external_id=launch_ids[0])
    running = abandoned(session, run, "report", state=TaskInstanceState.RUNNING, external_id=f"{launch_ids[1]}/sb-9")
    ids = (queued.id, running.id)

    assert scheduler.adopt_or_reset_orphaned_tasks(session=session) == 0
    session.commit()
    by_launch = {request.launch_id: request for request in backend.adopted}
    assert sorted(by_launch) == sorted(launch_ids)
    waiting, living = by_launch[launch_ids[0]], by_launch[launch_ids[1]]
    assert (waiting.sandbox_id, living.sandbox_id, living.relaunch) == (None, "sb-9", None)
    assert living.log_path == f"dag_id=adopting/run_id={run.run_id}/task_id=report/attempt=1.log"
    assert executor.running == {waiting.key, living.key}
    assert [found(session, ti_id).queued_by_job_id for ti_id in ids] == [scheduler.job.id, scheduler.job.id]
    session.close()

    # The loop's thread calls this later, without a session.
    assert waiting.relaunch is not None
    request = waiting.relaunch()
    assert (request.launch_id, request.label) == (launch_ids[0], f"adopting.train {run.run_id} try 1")
    workload = json.loads(request.mint_workload())
    assert (workload["ti"]["id"], workload["bundle_info"]["name"]) == (str(ids[0]), "dags-folder")
    assert request.translate().plan is not None

    backend.events = [LaunchEnded(launch_id=launch_ids[1], key=living.key, success=True, reason="")]
    executor.heartbeat()
    assert executor.running == {waiting.key}


def test_tasks_without_a_launch_id_of_ours_are_handed_back(
    scheduler: Any, session: Any, stored_dag: str, executor: ModalExecutor, backend: RecordingBackend
) -> None:
    run = new_run(session, stored_dag)
    abandoned(session, run, "train", state=TaskInstanceState.QUEUED, external_id=None)
    abandoned(session, run, "report", state=TaskInstanceState.RUNNING, external_id="a-pod-of-kubernetes")
    assert scheduler.adopt_or_reset_orphaned_tasks(session=session) == 2
    assert backend.adopted == []
    assert not executor.running


def test_adoption_asks_the_database_once_however_many_tasks(
    session: Any, stored_dag: str, executor: ModalExecutor, backend: RecordingBackend
) -> None:
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy.orm import lazyload, load_only

    ids = []
    for _ in range(5):
        run = new_run(session, stored_dag)
        for task_id in ("train", "report"):
            ti = abandoned(session, run, task_id, state=TaskInstanceState.RUNNING, external_id=str(uuid.uuid4()))
            ids.append(ti.id)
    session.expunge_all()
    columns = (
        TaskInstance.id,
        TaskInstance.dag_id,
        TaskInstance.task_id,
        TaskInstance.run_id,
        TaskInstance.map_index,
        TaskInstance.state,
        TaskInstance.external_executor_id,
    )
    query = select(TaskInstance).options(lazyload(TaskInstance.dag_run), load_only(*columns))
    tis = list(session.scalars(query.where(TaskInstance.id.in_(ids))))
    statements: list[str] = []
    engine = session.get_bind()

    def count(conn: Any, cursor: Any, statement: str, *rest: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", count)
    try:
        assert list(executor.try_adopt_task_instances(tis)) == []
        assert list(executor.try_adopt_task_instances(tis)) == [], "Airflow repeats the call after a lost transaction"
    finally:
        event.remove(engine, "before_cursor_execute", count)
    assert (len(backend.adopted), backend.adoptions) == (10, 1), "Modal is asked once, too"
    assert len(statements) == 2


def test_a_database_that_breaks_off_during_adoption_is_left_to_airflow_which_asks_again(
    scheduler: Any,
    session: Any,
    stored_dag: str,
    executor: ModalExecutor,
    backend: RecordingBackend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from modalflow.executor import adoption

    run = new_run(session, stored_dag)
    launch_id = str(uuid.uuid4())
    ti_id = abandoned(session, run, "train", state=TaskInstanceState.RUNNING, external_id=launch_id).id
    dialect = session.get_bind().dialect
    load_columns, execute, is_disconnect = adoption.load_columns, dialect.do_execute, dialect.is_disconnect

    def break_off(*_: Any) -> None:
        monkeypatch.setattr(dialect, "do_execute", execute)
        raise sqlite3.OperationalError("server closed the connection unexpectedly")

    def load_once_without_a_connection(tis: Any) -> None:
        monkeypatch.setattr(adoption, "load_columns", load_columns)
        monkeypatch.setattr(dialect, "do_execute", break_off)
        monkeypatch.setattr(dialect, "is_disconnect", lambda error, *_: "closed" in str(error) or is_disconnect(error, *_))
        load_columns(tis)

    monkeypatch.setattr(adoption, "load_columns", load_once_without_a_connection)
    scheduler.adopt_or_reset_orphaned_tasks(session=session)
    session.commit()
    assert [request.launch_id for request in backend.adopted].count(launch_id) == 1
    assert found(session, ti_id).queued_by_job_id == scheduler.job.id


@pytest.fixture
def queued(session: Any, stored_dag: str) -> Any:
    """A task instance that was queued and handed to a sandbox."""
    run = new_run(session, stored_dag)
    launch_id = str(uuid.uuid4())
    return abandoned(session, run, "train", state=TaskInstanceState.QUEUED, external_id=f"{launch_id}/sb-1")


def test_a_task_that_has_not_begun_can_be_launched_again(executor: ModalExecutor, queued: Any) -> None:
    from modalflow.executor.recall import recalled

    assert executor._launching is not None
    launch_id = queued.external_executor_id.partition("/")[0]
    request = recalled(launch_id, queued.key, executor._launching)
    assert request is not None
    assert (request.launch_id, request.key) == (launch_id, queued.key)
    assert request.label == f"adopting.train {queued.run_id} try 1"
    assert json.loads(request.mint_workload())["ti"]["id"] == str(queued.id)


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({"state": TaskInstanceState.RUNNING}, "it has begun"),
        ({"state": TaskInstanceState.SUCCESS}, "it has ended"),
        ({"external_executor_id": str(uuid.uuid4())}, "it was queued anew, by another launch"),
        ({"external_executor_id": None}, "it was cleared"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_that_has_begun_or_is_another_launchs_cannot(
    executor: ModalExecutor, session: Any, queued: Any, changes: dict[str, Any], because: str
) -> None:
    from modalflow.executor.recall import recalled

    assert executor._launching is not None
    launch_id, key = queued.external_executor_id.partition("/")[0], queued.key
    for name, value in changes.items():
        setattr(queued, name, value)
    session.commit()
    assert recalled(launch_id, key, executor._launching) is None, because
    assert recalled(launch_id, key._replace(try_number=2), executor._launching) is None
    assert recalled(launch_id, "a callback's key", executor._launching) is None
