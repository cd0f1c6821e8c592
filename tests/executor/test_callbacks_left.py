"""Deadline callbacks of a scheduler that is gone, in a real database and under Airflow's own scheduler code."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from airflow.executors.executor_utils import ExecutorName
from airflow.executors.workloads import ExecuteCallback
from airflow.jobs.job import Job, JobState
from airflow.models.callback import CallbackKey, ExecutorCallback
from airflow.utils.state import CallbackState

from modalflow.executor import ModalExecutor
from modalflow.executor import callbacks_left as module
from modalflow.executor.callbacks_left import CallbacksLeft, callbacks_for, reaches
from modalflow.launch.events import LaunchEnded, LaunchStarted
from tests.airflow_rows import new_run
from tests.executor.recording import RecordingBackend
from tests.executor.test_in_scheduler import scheduler, session, stored_dag  # noqa: F401 - fixtures

OURS = ExecutorName("modalflow.executor.ModalExecutor", "ModalExecutor")
LOCAL = ExecutorName("airflow.executors.local_executor.LocalExecutor", "LocalExecutor")


class Alarm:
    """What a DAG's author writes: a synchronous callback."""

    path = "alarms.page"
    kwargs: ClassVar[dict[str, Any]] = {}
    executor: str | None = None

    def serialize(self) -> dict[str, Any]:
        return {"path": self.path, "kwargs": self.kwargs, "executor": self.executor}


@pytest.fixture
def left(scheduler: Any, executor: ModalExecutor, session: Any) -> CallbacksLeft:  # noqa: F811
    """Where callbacks are found, in a database that has none yet, nor another scheduler."""
    session.query(ExecutorCallback).delete()
    session.query(Job).filter(Job.id != executor.job_id).delete()
    session.commit()
    assert executor._launching is not None
    launching = executor._launching
    left = CallbacksLeft(lambda: launching, executor.job_id, reaches(OURS, OURS))
    executor._launching = replace(launching, callbacks_left=left)
    return left


def callback(session: Any, state: str, *, run: Any = None, executor: str | None = None) -> str:  # noqa: F811
    alarm = Alarm()
    alarm.executor = executor
    one = ExecutorCallback(alarm, fetch_method="import_path", dag_run_id=run.id if run else None)  # type: ignore[arg-type]
    one.state = CallbackState(state)
    session.add(one)
    session.commit()
    return str(one.id)


def other_scheduler(session: Any, *, heartbeat: datetime, end_date: datetime | None = None) -> None:  # noqa: F811
    job = Job(job_type="SchedulerJob", state=JobState.FAILED)  # type: ignore[no-untyped-call]
    job.latest_heartbeat, job.end_date = heartbeat, end_date
    session.add(job)
    session.commit()


def test_the_callbacks_of_a_scheduler_that_is_gone_are_taken_over_and_reported(
    left: CallbacksLeft,
    scheduler: Any,  # noqa: F811
    session: Any,  # noqa: F811
    stored_dag: str,  # noqa: F811
    executor: ModalExecutor,
    backend: RecordingBackend,
) -> None:
    run = new_run(session, stored_dag)
    other_scheduler(session, heartbeat=datetime.now(UTC) - timedelta(seconds=300))
    queued, running, ended = (callback(session, state, run=run) for state in ("queued", "running", "success"))
    left.look()
    executor.heartbeat()
    adopted = {request.launch_id: request for request in backend.adopted}
    assert set(adopted) == {queued, running}
    assert adopted[running].relaunch is None, "it has begun: once is all it runs"
    assert adopted[queued].log_path == f"executor_callbacks/{stored_dag}/{run.run_id}/{queued}"
    relaunch = adopted[queued].relaunch
    assert relaunch is not None
    plan = relaunch().translate().plan
    assert plan is not None
    assert plan.tags == {"deployment": "airflow", "launch": queued, "callback_id": queued}
    keys = {one: CallbackKey(id=one) for one in (queued, running)}
    assert set(keys.values()) <= executor.running
    backend.events = [
        LaunchStarted(launch_id=queued, key=keys[queued], sandbox_id="sb-1"),
        LaunchEnded(launch_id=running, key=keys[running], success=False, reason="it failed"),
    ]
    executor.heartbeat()
    scheduler._process_executor_events(executor, session)
    session.commit()
    told = {str(one.id): (str(one.state), one.output) for one in session.query(ExecutorCallback)}
    assert told == {queued: ("running", None), running: ("failed", "it failed"), ended: ("success", None)}
    left.look()
    executor.heartbeat()
    assert len(backend.adopted) == 2, "what this process has had is not taken over again"


@pytest.mark.parametrize(
    ("silent", "has_ended", "alone"),
    [(0, False, False), (200, False, False), (300, False, True), (0, True, True)],
    ids=["lives", "may live", "silent", "ended in order"],
)
def test_a_queued_callback_is_left_to_a_scheduler_that_may_live(
    left: CallbacksLeft,
    session: Any,  # noqa: F811
    stored_dag: str,  # noqa: F811
    silent: int,
    *,
    has_ended: bool,
    alone: bool,
) -> None:
    run = new_run(session, stored_dag)
    now = datetime.now(UTC)
    other_scheduler(session, heartbeat=now - timedelta(seconds=silent), end_date=now if has_ended else None)
    queued, running = (callback(session, state, run=run) for state in ("queued", "running"))
    left.look()
    assert [request.launch_id for request in left.take()] == ([queued, running] if alone else [running])


def test_one_whose_run_is_gone_is_watched_only(left: CallbacksLeft, session: Any) -> None:  # noqa: F811
    one = callback(session, "queued")
    left.look()
    [request] = left.take()
    assert (request.launch_id, request.label, request.relaunch, request.log_path) == (one, f"callback {one}", None, None)


def test_a_callback_of_our_own_that_waits_for_a_slot_is_not_taken_over(
    left: CallbacksLeft,
    scheduler: Any,  # noqa: F811
    session: Any,  # noqa: F811
    stored_dag: str,  # noqa: F811
    executor: ModalExecutor,
    backend: RecordingBackend,
) -> None:
    callback(session, "pending", run=new_run(session, stored_dag))
    scheduler._enqueue_executor_callbacks(session)
    session.commit()
    left.look()
    executor._take_callbacks()
    assert backend.adopted == []
    executor.heartbeat()
    left.look()
    executor.heartbeat()
    assert (len(backend.submitted), backend.adopted) == (1, [])


@pytest.mark.parametrize(
    ("own", "default", "ours"),
    [
        (OURS, OURS, {None, "ModalExecutor", "modalflow.executor.ModalExecutor"}),
        (OURS, LOCAL, {"ModalExecutor", "modalflow.executor.ModalExecutor"}),
        (ExecutorName(OURS.module_path, "modal"), LOCAL, {"modal", "ModalExecutor", "modalflow.executor.ModalExecutor"}),
        (ExecutorName(OURS.module_path, "modal", "team_a"), OURS, set()),
        (None, OURS, set()),
    ],
)
def test_whose_a_callback_is(own: ExecutorName | None, default: ExecutorName, ours: set[str | None]) -> None:
    names = [None, "ModalExecutor", "modal", "modalflow.executor.ModalExecutor", "LocalExecutor"]
    assert {name for name in names if reaches(own, default)(name)} == ours


@pytest.mark.parametrize(
    ("own", "asks"),
    [(OURS, True), (ExecutorName(OURS.module_path, "modal", "team_a"), False), (None, False)],
    ids=["ours", "a team's", "without a name"],
)
def test_an_executor_that_no_callback_is_routed_to_asks_no_database(
    executor: ModalExecutor, own: ExecutorName | None, *, asks: bool
) -> None:
    executor.name = own
    launching = executor._launching
    assert launching is not None
    assert (callbacks_for(executor, OURS, lambda: launching) is not None) == asks


def test_a_database_that_fails_is_asked_again(
    left: CallbacksLeft, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks: list[str] = []

    def look() -> None:
        looks.append("look")
        if len(looks) == 2:
            left.stop()
        raise RuntimeError("the database is away")

    monkeypatch.setattr(module, "EVERY", 0.0)
    monkeypatch.setattr(left, "look", look)
    left._run()
    assert looks == ["look", "look"]
    assert "modalflow: cannot look for callbacks that are left; the next look is in 0 s" in caplog.messages


def test_one_that_cannot_be_built_keeps_nobody_from_the_others(
    left: CallbacksLeft,
    session: Any,  # noqa: F811
    stored_dag: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = new_run(session, stored_dag)
    broken, sound = (callback(session, "queued", run=run) for _ in range(2))
    make = ExecuteCallback.make

    def made(*, callback: Any, dag_run: Any) -> ExecuteCallback:
        if str(callback.id) == broken:
            raise AttributeError("'NoneType' object has no attribute 'bundle_name'")
        return make(callback=callback, dag_run=dag_run)

    monkeypatch.setattr(ExecuteCallback, "make", made)
    left.look()
    assert {request.launch_id: request.relaunch is not None for request in left.take()} == {broken: False, sound: True}
    assert f"modalflow: the workload of callback {broken} could not be built again" in caplog.messages
