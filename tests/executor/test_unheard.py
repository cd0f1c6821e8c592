"""A failure that Airflow's database does not know of is told again; what it took, or what is somebody else's, is not."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest
from airflow.models.taskinstancekey import TaskInstanceKey
from airflow.utils.state import TaskInstanceState

from modalflow.executor import ModalExecutor
from modalflow.executor.unheard import QUESTIONS, Told, Unheard, still_held
from modalflow.launch.events import LaunchEnded
from tests.airflow_rows import new_run
from tests.executor.recording import RecordingBackend
from tests.executor.test_in_scheduler import abandoned, found, scheduler, session, stored_dag  # noqa: F401 - fixtures

pytestmark = pytest.mark.usefixtures("airflow_database")


@pytest.fixture
def unheard(executor: ModalExecutor) -> Unheard:
    assert executor._launching is not None
    unheard = Unheard(still_held)
    executor._launching = replace(executor._launching, unheard=unheard)
    return unheard


@pytest.fixture
def running(scheduler: Any, session: Any, stored_dag: str, executor: ModalExecutor, backend: RecordingBackend) -> Any:  # noqa: F811
    """A task that runs in a sandbox of this scheduler's, which fails; Airflow was told, and the event came to nothing."""
    run = new_run(session, stored_dag)
    launch_id = str(uuid.uuid4())
    ti = abandoned(session, run, "report", state=TaskInstanceState.RUNNING, external_id=f"{launch_id}/sb-1")
    ti_id = ti.id
    scheduler.adopt_or_reset_orphaned_tasks(session=session)
    session.commit()
    [request] = [request for request in backend.adopted if request.launch_id == launch_id]
    return ti_id, launch_id, request.key


def lose(executor: ModalExecutor, backend: RecordingBackend, launch_id: str, key: Any) -> None:
    """Have the launch fail, and Airflow drop the event as it does where another scheduler holds the row."""
    backend.events = [LaunchEnded(launch_id=launch_id, key=key, success=False, reason="the sandbox was terminated")]
    executor.heartbeat()
    assert executor.get_event_buffer() == {key: ("failed", "the sandbox was terminated")}


def test_it_is_told_again_and_taken(
    running: Any,
    unheard: Unheard,
    scheduler: Any,  # noqa: F811
    session: Any,  # noqa: F811
    executor: ModalExecutor,
    backend: RecordingBackend,
) -> None:
    ti_id, launch_id, key = running
    lose(executor, backend, launch_id, key)
    executor.heartbeat()
    assert executor.event_buffer == {}
    unheard.look()
    executor.heartbeat()
    assert executor.event_buffer[key] == ("failed", "the sandbox was terminated")
    assert key not in executor.running
    scheduler._process_executor_events(executor, session)
    session.commit()
    assert found(session, ti_id).state in {TaskInstanceState.FAILED, TaskInstanceState.UP_FOR_RETRY}
    unheard.look()
    assert unheard.take() == []
    assert unheard._followed == {}


@pytest.mark.parametrize(
    "change",
    [
        {"external_executor_id": f"{uuid.uuid4()}/sb-2"},
        {"state": TaskInstanceState.DEFERRED},
        {"state": TaskInstanceState.SUCCESS},
        {"try_number": 2},
    ],
    ids=["a newer launch runs it", "deferred", "ended", "a later try"],
)
def test_what_is_no_longer_this_launchs_is_left_alone(
    running: Any,
    unheard: Unheard,
    session: Any,  # noqa: F811
    executor: ModalExecutor,
    backend: RecordingBackend,
    change: dict[str, Any],
) -> None:
    ti_id, launch_id, key = running
    lose(executor, backend, launch_id, key)
    row = found(session, ti_id)
    for name, value in change.items():
        setattr(row, name, value)
    session.commit()
    unheard.look()
    assert unheard.take() == []
    assert unheard._followed == {}


def test_one_that_came_back_to_this_process_is_old_news(
    running: Any, unheard: Unheard, executor: ModalExecutor, backend: RecordingBackend
) -> None:
    _, launch_id, key = running
    lose(executor, backend, launch_id, key)
    unheard.look()
    executor._table.add(str(uuid.uuid4()), key=key, task=key.primary)
    executor.heartbeat()
    assert executor.event_buffer == {}


KEY = TaskInstanceKey("dag", "task", "run", 1, -1)


def test_it_is_not_asked_for_ever() -> None:
    asked: list[list[TaskInstanceKey]] = []

    def ask(keys: Any) -> dict[TaskInstanceKey, str]:
        asked.append(list(keys))
        return {KEY: "a"}

    unheard = Unheard(ask)
    unheard.told("a", KEY, "it failed")
    for _ in range(QUESTIONS + 2):
        unheard.look()
    assert asked == [[KEY]] * QUESTIONS
    assert unheard.take() == [Told(launch_id="a", key=KEY, reason="it failed", asked=number + 1) for number in range(QUESTIONS)]


def test_a_question_that_is_not_answered_is_asked_again() -> None:
    answers: list[Any] = [OSError("away"), {KEY: "a"}]

    def ask(keys: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    unheard = Unheard(ask)
    unheard.told("a", KEY, "it failed")
    with pytest.raises(OSError, match="away"):
        unheard.look()
    unheard.look()
    assert [one.launch_id for one in unheard.take()] == ["a"]


def test_callbacks_have_no_row_to_ask_for() -> None:
    unheard = Unheard(dict.fromkeys)  # type: ignore[arg-type]
    unheard.told("a", "callback", "it failed")
    assert not unheard._new
