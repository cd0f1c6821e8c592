"""What the scheduler sees of ModalExecutor: workloads in, events out, nothing raised."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from airflow.executors import workloads
from airflow.utils.state import TaskInstanceState

from modalflow.executor import ModalExecutor
from modalflow.executor.modal_executor import STOP_TIMEOUT
from modalflow.launch.events import LaunchEnded, LaunchNotice, LaunchStarted
from tests.executor.recording import RecordingBackend, audit_of, events_of, execute_task, launch_id_of, queue


def test_a_task_is_launched_under_the_id_that_the_scheduler_committed(executor: ModalExecutor, backend: RecordingBackend) -> None:
    workload = execute_task()
    queue(executor, workload)
    [request] = backend.submitted
    assert request.launch_id == launch_id_of(workload)
    assert request.key == workload.key
    assert request.label == "models.train manual try 1"
    assert request.log_path == "dag_id=models/run_id=manual/task_id=train/attempt=1.log"
    assert executor.running == {workload.key}
    assert not executor.queued_tasks
    assert events_of(executor) == {}
    plan = request.translate().plan
    assert plan is not None
    assert (plan.tags["deployment"], plan.tags["launch"]) == ("airflow", request.launch_id)
    assert plan.tags["task_instance"] == str(workload.ti.id), "Airflow's key of it, by which a sweep finds it"


def test_mapped_tasks_are_named_by_their_index(executor: ModalExecutor, backend: RecordingBackend) -> None:
    queue(executor, execute_task(map_index=3))
    assert backend.submitted[0].label == "models.train [3] manual try 1"


def test_the_token_is_minted_when_the_loop_asks_for_it(executor: ModalExecutor, backend: RecordingBackend) -> None:
    workload = execute_task()
    queue(executor, workload)
    [request] = backend.submitted
    assert json.loads(request.mint_workload())["token"] == ""  # no generator here: the one of queueing is not used
    assert "the-token" not in repr(request)


def test_a_real_generator_makes_a_token_for_this_task(backend: RecordingBackend, executor: ModalExecutor) -> None:
    import jwt

    assert executor._launching is not None
    object.__setattr__(executor._launching, "jwt_generator", executor.jwt_generator)
    workload = execute_task()
    queue(executor, workload)
    token = json.loads(backend.submitted[0].mint_workload())["token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["sub"], claims["scope"]) == (str(workload.ti.id), "workload")


@pytest.mark.parametrize("assigned", [None, "sb-123", "not-a-uuid", "3f2b0c0e-9f8e-4f0e-9d38-0e1c3f6f2a11/sb-1"])
def test_an_id_that_cannot_be_trusted_is_replaced_and_committed_before_the_launch(
    executor: ModalExecutor, backend: RecordingBackend, assigned: str | None
) -> None:
    workload = execute_task(external_executor_id=assigned)
    queue(executor, workload)
    assert backend.submitted == []
    state, minted = events_of(executor)["train"]
    assert state == "queued"
    assert str(uuid.UUID(minted)) == minted
    assert executor.running == {workload.key}

    executor.heartbeat()
    assert [request.launch_id for request in backend.submitted] == [minted]
    executor.heartbeat()
    assert len(backend.submitted) == 1


def test_an_id_that_was_launched_before_is_not_launched_again(executor: ModalExecutor, backend: RecordingBackend) -> None:
    workload = execute_task()
    queue(executor, workload)
    backend.events = [LaunchEnded(launch_id=launch_id_of(workload), key=workload.key, success=True, reason="")]
    executor.heartbeat()
    assert events_of(executor) == {"train": ("success", None)}
    queue(executor, workload)
    assert events_of(executor)["train"][0] == "queued"
    executor.heartbeat()
    assert backend.submitted[1].launch_id != launch_id_of(workload)


def test_a_launch_whose_id_is_not_committed_can_be_revoked(executor: ModalExecutor, backend: RecordingBackend) -> None:
    workload = execute_task(external_executor_id=None)
    queue(executor, workload)
    events_of(executor)
    executor.revoke_task(ti=workload.ti)  # type: ignore[arg-type]
    executor.heartbeat()
    assert backend.submitted == []


def test_a_started_launch_sets_the_sandbox_id(executor: ModalExecutor, backend: RecordingBackend) -> None:
    workload = execute_task()
    queue(executor, workload)
    launch_id = launch_id_of(workload)
    backend.events = [LaunchStarted(launch_id=launch_id, key=workload.key, sandbox_id="sb-1")]
    executor.heartbeat()
    assert events_of(executor) == {"train": ("running", f"{launch_id}/sb-1")}
    assert executor.running == {workload.key}


def test_a_launch_that_starts_and_ends_in_one_heartbeat_reports_its_end(
    executor: ModalExecutor, backend: RecordingBackend
) -> None:
    workload = execute_task()
    queue(executor, workload)
    launch_id = launch_id_of(workload)
    backend.events = [
        LaunchStarted(launch_id=launch_id, key=workload.key, sandbox_id="sb-1"),
        LaunchEnded(launch_id=launch_id, key=workload.key, success=True, reason=""),
    ]
    executor.heartbeat()
    assert events_of(executor) == {"train": ("success", None)}
    assert not executor.running


def test_a_failed_launch_says_why_in_the_event_and_in_the_task_s_events(
    executor: ModalExecutor, backend: RecordingBackend
) -> None:
    workload = execute_task()
    queue(executor, workload)
    reason = "no A10G was free within 480 s"
    backend.events = [LaunchEnded(launch_id=launch_id_of(workload), key=workload.key, success=False, reason=reason)]
    executor.heartbeat()
    assert events_of(executor) == {"train": ("failed", reason)}
    assert audit_of(executor) == [("train", "modal launch failed", reason)]
    assert backend.revoked == []


def test_a_notice_is_one_of_the_task_s_events(executor: ModalExecutor, backend: RecordingBackend) -> None:
    workload = execute_task()
    queue(executor, workload)
    backend.events = [
        LaunchNotice(launch_id=launch_id_of(workload), key=workload.key, event="waiting for GPU", message="A10G since 12:00")
    ]
    executor.heartbeat()
    assert audit_of(executor) == [("train", "waiting for GPU", "A10G since 12:00")]
    assert events_of(executor) == {}


def test_the_end_of_a_superseded_launch_does_not_fail_the_resumed_task(
    executor: ModalExecutor, backend: RecordingBackend
) -> None:
    deferred, resumed = execute_task(), execute_task()
    assert deferred.key == resumed.key
    queue(executor, deferred)
    queue(executor, resumed)
    backend.events = [LaunchEnded(launch_id=launch_id_of(deferred), key=deferred.key, success=True, reason="")]
    executor.heartbeat()
    assert events_of(executor) == {}
    assert executor.running == {resumed.key}
    backend.events = [LaunchEnded(launch_id=launch_id_of(resumed), key=resumed.key, success=True, reason="")]
    executor.heartbeat()
    assert events_of(executor) == {"train": ("success", None)}
    assert not executor.running


def test_a_late_start_does_not_overwrite_the_id_of_the_resumed_task_that_waits_for_a_slot(
    executor: ModalExecutor, backend: RecordingBackend
) -> None:
    executor.parallelism = 1
    before, resumed = execute_task(), execute_task()
    queue(executor, before)
    executor.queue_workload(resumed, session=None)  # type: ignore[arg-type]
    backend.events = [LaunchStarted(launch_id=launch_id_of(before), key=before.ti.key, sandbox_id="sb-1")]
    executor.heartbeat()
    assert events_of(executor) == {}
    backend.events = [LaunchEnded(launch_id=launch_id_of(before), key=before.ti.key, success=True, reason="")]
    executor.heartbeat()
    executor.heartbeat()
    backend.events = [LaunchStarted(launch_id=launch_id_of(resumed), key=resumed.ti.key, sandbox_id="sb-2")]
    executor.get_event_buffer()
    executor.heartbeat()
    assert events_of(executor) == {"train": ("running", f"{launch_id_of(resumed)}/sb-2")}


def test_a_superseded_launch_may_outlive_the_one_that_counts(executor: ModalExecutor, backend: RecordingBackend) -> None:
    deferred, resumed = execute_task(), execute_task()
    queue(executor, deferred)
    queue(executor, resumed)
    backend.events = [LaunchEnded(launch_id=launch_id_of(resumed), key=resumed.key, success=False, reason="exit code 1")]
    executor.heartbeat()
    assert events_of(executor) == {"train": ("failed", "exit code 1")}
    assert not executor.running
    backend.events = [LaunchEnded(launch_id=launch_id_of(deferred), key=deferred.key, success=True, reason="")]
    executor.heartbeat()
    assert events_of(executor) == {}


def test_the_end_of_an_earlier_try_cannot_hide_the_event_of_the_next(executor: ModalExecutor, backend: RecordingBackend) -> None:
    # Airflow keeps one event per task instance, whatever its try: a late one of try 1 would replace that of try 2.
    first, second = execute_task(try_number=1), execute_task(try_number=2)
    queue(executor, first)
    queue(executor, second)
    backend.events = [
        LaunchStarted(launch_id=launch_id_of(second), key=second.key, sandbox_id="sb-2"),
        LaunchStarted(launch_id=launch_id_of(first), key=first.key, sandbox_id="sb-1"),
        LaunchEnded(launch_id=launch_id_of(first), key=first.key, success=True, reason=""),
    ]
    executor.heartbeat()
    assert events_of(executor) == {"train": ("running", f"{launch_id_of(second)}/sb-2")}
    assert executor.running == {second.key}


def test_a_missing_heartbeat_ends_the_sandbox(executor: ModalExecutor, backend: RecordingBackend) -> None:
    workload = execute_task()
    queue(executor, workload)
    executor.change_state(workload.key, TaskInstanceState.FAILED, remove_running=True)
    assert backend.revoked == [(launch_id_of(workload), "Airflow set the task to failed while its sandbox was running")]
    backend.events = [LaunchEnded(launch_id=launch_id_of(workload), key=workload.key, success=False, reason="terminated")]
    executor.heartbeat()
    assert events_of(executor) == {"train": ("failed", None)}


def test_revoke_ends_the_sandbox_without_an_event(executor: ModalExecutor, backend: RecordingBackend) -> None:
    workload = execute_task()
    queue(executor, workload)
    executor.revoke_task(ti=workload.ti)  # type: ignore[arg-type]
    assert backend.revoked == [
        (launch_id_of(workload), "Airflow took the task back: it was queued longer than [scheduler] task_queued_timeout")
    ]
    assert not executor.running
    backend.events = [LaunchEnded(launch_id=launch_id_of(workload), key=workload.key, success=False, reason="terminated")]
    executor.heartbeat()
    assert events_of(executor) == {}
    assert audit_of(executor) == []


def test_revoke_of_a_task_that_waits_for_a_slot_forgets_it(executor: ModalExecutor, backend: RecordingBackend) -> None:
    workload = execute_task()
    executor.queue_workload(workload, session=None)  # type: ignore[arg-type]
    executor.revoke_task(ti=workload.ti)  # type: ignore[arg-type]
    executor.heartbeat()
    assert (backend.submitted, backend.revoked, executor.slots_occupied) == ([], [], 0)


def test_parallelism_is_respected(executor: ModalExecutor, backend: RecordingBackend) -> None:
    queue(executor, *(execute_task(task_id=f"t{i}", priority_weight=i) for i in range(10)))
    assert len(backend.submitted) == 8
    assert executor.slots_available == -2
    assert backend.submitted[0].label == "models.t9 manual try 1"


def test_callbacks_and_connection_tests_run_with_the_defaults(executor: ModalExecutor, backend: RecordingBackend) -> None:
    callback_id, test_id = uuid.uuid4(), uuid.uuid4()
    callback = workloads.ExecuteCallback.model_validate(
        {
            "token": "secret",
            "dag_rel_path": "models.py",
            "bundle_info": {"name": "dags-folder"},
            "log_path": f"executor_callbacks/models/manual/{callback_id}",
            "callback": {"id": callback_id, "fetch_method": "import_path", "data": {"path": "alerts.page"}},
        }
    )
    connection_test = workloads.TestConnection(connection_test_id=test_id, connection_id="warehouse", timeout=30, token="secret")
    queue(executor, callback, connection_test)
    assert [(request.launch_id, request.label, request.log_path) for request in backend.submitted] == [
        (str(callback_id), "callback page", f"executor_callbacks/models/manual/{callback_id}"),
        (str(test_id), "connection-test warehouse", None),
    ]
    plan = backend.submitted[0].translate().plan
    assert plan is not None
    assert plan.tags == {"deployment": "airflow", "launch": str(callback_id), "callback_id": str(callback_id)}
    assert json.loads(backend.submitted[1].mint_workload())["type"] == "TestConnection"

    backend.events = [
        LaunchStarted(launch_id=str(callback_id), key=callback.key, sandbox_id="sb-1"),
        LaunchEnded(launch_id=str(test_id), key=connection_test.key, success=True, reason=""),
    ]
    executor.heartbeat()
    found = {str(key): (str(state), info) for key, (state, info) in executor.get_event_buffer().items()}
    assert found == {str(callback.key): ("running", f"{callback_id}/sb-1"), str(connection_test.key): ("success", None)}


def test_a_connection_test_that_takes_too_long_is_ended(executor: ModalExecutor, backend: RecordingBackend) -> None:
    test_id = uuid.uuid4()
    connection_test = workloads.TestConnection(connection_test_id=test_id, connection_id="warehouse", timeout=30, token="secret")
    queue(executor, connection_test)
    executor.fail_connection_test(connection_test.key)
    assert backend.revoked == [(str(test_id), "Airflow gave up the connection test")]
    assert not executor.running


class TestNothingRaises:
    """Airflow calls these outside any ``try``: what raised would end the scheduler."""

    def test_a_broken_launch_fails_its_task_only(
        self, executor: ModalExecutor, backend: RecordingBackend, caplog: pytest.LogCaptureFixture
    ) -> None:
        backend.breaks = True
        workload = execute_task()
        queue(executor, workload)
        reason = "modalflow could not launch this: RuntimeError; the scheduler's log has the traceback"
        assert events_of(executor) == {"train": ("failed", reason)}
        assert not executor.running
        backend.breaks = False
        queue(executor, execute_task(task_id="other"))
        assert [request.label for request in backend.submitted] == ["models.other manual try 1"]

    def test_a_workload_of_a_later_airflow_is_refused(self, executor: ModalExecutor) -> None:
        workload = execute_task()
        object.__setattr__(workload, "type", "ExecuteDream")
        queue(executor, workload)
        assert events_of(executor)["train"][0] == "failed"

    def test_queueing_something_unknown_is_logged(self, executor: ModalExecutor) -> None:
        executor.queue_workload(object(), session=None)  # type: ignore[arg-type]
        assert executor.slots_occupied == 0

    def test_an_executor_that_was_not_started_refuses(self) -> None:
        executor = ModalExecutor()
        queue(executor, execute_task())
        assert events_of(executor) == {
            "train": ("failed", "modalflow is not running: the executor was not started or has been stopped")
        }

    def test_one_bad_event_does_not_cost_the_next(self, executor: ModalExecutor, backend: RecordingBackend) -> None:
        workload = execute_task()
        queue(executor, workload)
        bad: Any = object()
        backend.events = [bad, LaunchEnded(launch_id=launch_id_of(workload), key=workload.key, success=True, reason="")]
        executor.heartbeat()
        assert events_of(executor) == {"train": ("success", None)}

    def test_revoking_and_changing_what_is_unknown(self, executor: ModalExecutor, backend: RecordingBackend) -> None:
        workload = execute_task()
        executor.revoke_task(ti=workload.ti)  # type: ignore[arg-type]
        executor.revoke_task(ti=None)  # type: ignore[arg-type]
        executor.change_state(workload.key, TaskInstanceState.FAILED)
        assert backend.revoked == []

    def test_adopting_something_broken_hands_it_back(self, executor: ModalExecutor, backend: RecordingBackend) -> None:
        broken: Any = object()
        assert list(executor.try_adopt_task_instances([broken])) == [broken]
        backend.breaks = True
        assert list(executor.try_adopt_task_instances([broken])) == [broken]
        assert list(ModalExecutor().try_adopt_task_instances([broken])) == [broken]
        assert not executor.running


def test_a_config_that_translation_breaks_on_is_an_error_of_that_task(executor: ModalExecutor, backend: RecordingBackend) -> None:
    queue(executor, execute_task(executor_config={"break": "here"}))
    translation = backend.submitted[0].translate()
    assert translation.plan is None
    assert translation.subject == "executor_config of models.train (models.py)"
    assert str(translation.errors[0]) == (
        "executor_config: modalflow could not translate it: KeyError: 'here'; "
        "this is a defect of modalflow; the scheduler's log has the traceback"
    )


def test_a_marked_config_is_refused_with_one_sentence(executor: ModalExecutor, backend: RecordingBackend) -> None:
    queue(executor, execute_task(executor_config={"modal": {"invalid_executor_config": "'gpu=A10G'"}}))
    translation = backend.submitted[0].translate()
    assert translation.subject == "executor_config of models.train (models.py)"
    assert str(translation.errors[0]) == (
        'executor_config: expected a dict, got \'gpu=A10G\'; write a dict, e.g. executor_config={"modal": {"gpu": "A10G"}}'
    )


def test_ending_stops_the_loop_and_leaves_sandboxes_alone(executor: ModalExecutor, backend: RecordingBackend) -> None:
    queue(executor, execute_task())
    executor.end()
    executor.end()
    executor.terminate()
    assert (backend.stopped, backend.revoked) == ([STOP_TIMEOUT], [])


def test_a_signal_dumps_the_launches(
    executor: ModalExecutor, backend: RecordingBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    workload = execute_task()
    queue(executor, workload)
    executor.queue_workload(execute_task(task_id="waiting"), session=None)  # type: ignore[arg-type]
    executor.debug_dump()
    written = capsys.readouterr().out
    assert f"modalflow: launches\n{launch_id_of(workload)}" in written
    assert "the-token-of-queueing" not in written


def test_what_airflow_reads_from_the_class() -> None:
    flags = {
        name: getattr(ModalExecutor, name)
        for name in (
            "is_local",
            "is_production",
            "pre_assigns_external_executor_id",
            "supports_callbacks",
            "supports_connection_test",
            "supports_multi_team",
            "serve_logs",
        )
    }
    assert flags == {
        "is_local": True,
        "is_production": True,
        "pre_assigns_external_executor_id": True,
        "supports_callbacks": True,
        "supports_connection_test": True,
        "supports_multi_team": True,
        "serve_logs": False,
    }
