"""ModalExecutor: what Airflow's scheduler calls, made of things that take no time.

Workloads flow in by ``queue_workload`` and leave, as launch requests, for the loop in ``launch.backend``; its events flow
back by ``sync``. Everything here runs on the scheduler's thread, does no I/O after ``start`` and lets nothing raise into
the scheduler, whose loop would end: Airflow calls ``heartbeat`` outside any ``try`` (3.3.2).
Translation and tokens are closures that the loop's thread calls. Next: ``launch_table``, ``launching``, ``adoption``.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, TypeVar, cast

from airflow.executors.base_executor import BaseExecutor
from airflow.utils.state import TaskInstanceState
from sqlalchemy.exc import DBAPIError

from modalflow.executor.launch_table import LaunchTable
from modalflow.executor.version_compat import by_priority, is_queued, remove_queued, task_key, task_of, workload_key
from modalflow.executor.workloads import head_of
from modalflow.launch.events import LaunchEnded, LaunchRequest, LaunchStarted
from modalflow.launch.identity import ExternalId, is_launch_id

if TYPE_CHECKING:
    from airflow.executors.workloads import ExecutorWorkload
    from airflow.executors.workloads.types import WorkloadKey, WorkloadState
    from airflow.models import Log
    from airflow.models.connection_test import ConnectionTestKey
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy.orm import Session

    from modalflow.executor.launching import Launching
    from modalflow.launch.events import AdoptRequest, LaunchEvent

P = ParamSpec("P")
R = TypeVar("R")

STOP_TIMEOUT = 10.0
"""Seconds that ``end`` waits for the loop's thread. Running sandboxes are left alone: the next scheduler adopts them."""


def contained(
    method: Callable[Concatenate[ModalExecutor, P], R],
) -> Callable[Concatenate[ModalExecutor, P], R | None]:
    """Log what ``method`` raises instead of letting it end the scheduler; it then returns ``None``."""

    @functools.wraps(method)
    def call(self: ModalExecutor, /, *args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return method(self, *args, **kwargs)
        except Exception:
            self.log.exception("modalflow: %s failed; the scheduler goes on", method.__name__)
            return None

    return call


class ModalExecutor(BaseExecutor):
    """Runs each workload in a Modal sandbox of its own."""

    is_local: ClassVar[bool] = True  # type: ignore[misc] # `airflow standalone` puts LocalExecutor in the place of any other
    is_production: ClassVar[bool] = True  # type: ignore[misc]
    pre_assigns_external_executor_id: ClassVar[bool] = True
    supports_callbacks: ClassVar[bool] = True  # type: ignore[misc]
    supports_connection_test: ClassVar[bool] = True  # type: ignore[misc]
    supports_multi_team: ClassVar[bool] = True  # type: ignore[misc]
    serve_logs: ClassVar[bool] = False  # type: ignore[misc]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Nothing may start here: the API server builds an executor merely to ask it for a log.
        super().__init__(*args, **kwargs)
        self._table = LaunchTable()
        self._ready: dict[Hashable, LaunchRequest] = {}
        self._uncommitted: dict[Hashable, LaunchRequest] = {}
        self._said: list[Log] = []
        self._launching: Launching | None = None

    # -- start and end ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Read the configuration and start the loop. Raises ``SettingsError``, which ends the scheduler's start."""
        from modalflow.executor.launching import start_launching  # noqa: PLC0415 - only the scheduler needs it

        self._launching = start_launching(self)

    def end(self) -> None:
        """Stop the loop within ``STOP_TIMEOUT``; running sandboxes go on and are adopted by the next scheduler."""
        self._stop()

    def terminate(self) -> None:
        """As ``end``: what runs on Modal does not depend on this process."""
        self._stop()

    @contained
    def _stop(self) -> None:
        launching, self._launching = self._launching, None
        if launching is not None:
            if launching.callbacks_left is not None:
                launching.callbacks_left.stop()
            if launching.unheard is not None:
                launching.unheard.stop()
            launching.stop(STOP_TIMEOUT)

    # -- workloads in -------------------------------------------------------------------------------------------------

    @contained
    def queue_workload(self, workload: ExecutorWorkload, session: Session) -> None:
        """Keep the workload for the next heartbeat. Called before Airflow commits and under its row locks."""
        super().queue_workload(workload, session)

    def order_queued_tasks_by_priority(self) -> list[Any]:
        """Highest ``priority_weight`` first, which Airflow 3.3.0 has the wrong way round."""
        return by_priority(super().order_queued_tasks_by_priority())

    def _process_workloads(self, workload_items: Sequence[ExecutorWorkload]) -> None:
        for workload in workload_items:
            self._prepare(workload)

    @contained
    def _prepare(self, workload: ExecutorWorkload) -> None:
        key = workload_key(self, workload)
        remove_queued(self, key)
        self.running.add(cast("WorkloadKey", key))
        try:
            self._prepare_launch(key, workload)
        except Exception as error:
            self._fail_broken(key, error)

    def _prepare_launch(self, key: Hashable, workload: ExecutorWorkload) -> None:
        if self._launching is None:
            self._refuse(key, "modalflow is not running: the executor was not started or has been stopped")
            return
        head = head_of(workload)
        assigned = head.assigned_id if self._launching.ids_are_new or not head.is_task else None
        fresh = assigned is not None and is_launch_id(assigned) and not self._table.was_used(assigned)
        launch_id = assigned if fresh and assigned else str(uuid.uuid4())
        request = self._launching.request(launch_id, key, workload, head)
        self._table.add(launch_id, key=key, task=task_of(key))
        if fresh or not head.is_task:
            self._ready[key] = request
        else:
            # A launch that a restarted scheduler could not find by its id must not exist: have the id committed first.
            self._uncommitted[key] = request
            self.change_state(cast("WorkloadKey", key), TaskInstanceState.QUEUED, launch_id, remove_running=False)

    @contained
    def _submit_prepared(self) -> None:
        """Hand over what was prepared, and what waited for Airflow to commit its id.

        Airflow takes an event out of the buffer before it commits it, all between two heartbeats.
        """
        committed = [key for key in self._uncommitted if key not in self.event_buffer]
        ready, self._ready = self._ready, {}
        requests = [*ready.values(), *(self._uncommitted.pop(key) for key in committed)]
        if self._launching is None or not requests:
            return
        try:
            self._launching.backend.submit(*requests)
        except Exception as error:
            for request in requests:
                self._fail_broken(request.key, error)

    def _fail_broken(self, key: Hashable, error: Exception) -> None:
        self.log.error("modalflow: could not launch %s", key, exc_info=error)
        self._refuse(key, f"modalflow could not launch this: {type(error).__name__}; the scheduler's log has the traceback")

    # -- events out ---------------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Turn what happened since the last heartbeat into Airflow's events, then hand over new launches. No I/O.

        The hand-over comes last: the loop's thread, once woken, competes with this one for the interpreter.
        """
        self._take_events()
        self._tell_again()
        self._take_callbacks()
        self._submit_prepared()

    @contained
    def _take_events(self) -> None:
        if not self._task_event_logs:
            self._said.clear()
        if self._launching is not None:
            for event in self._launching.backend.drain():
                self._apply(event)

    @contained
    def _tell_again(self) -> None:
        """Tell Airflow anew of failures that it did not take. One whose task has come back to this process is old news."""
        unheard = self._launching.unheard if self._launching is not None else None
        for one in unheard.take() if unheard is not None else ():
            if not self._table.holds(one.key) and not is_queued(self, one.key):
                self.log.warning("modalflow: Airflow has not taken the failure of launch %s; it is told again", one.launch_id)
                self.fail(one.key, one.reason)

    @contained
    def _apply(self, event: LaunchEvent) -> None:
        if isinstance(event, LaunchStarted):
            self._started(event)
        elif isinstance(event, LaunchEnded):
            self._ended(event)
        elif self._table.counts(event.launch_id):
            self._say(event.key, event.event, event.message)

    def _started(self, event: LaunchStarted) -> None:
        # An event of a launch that no longer counts would overwrite the id of the one that does, or of one that waits for a slot.
        if self._table.counts(event.launch_id) and not is_queued(self, event.key):
            info = str(ExternalId(launch_id=event.launch_id, sandbox_id=event.sandbox_id))
            self.running_state(cast("WorkloadKey", event.key), info)
            self._say(event.key, "modal sandbox started", event.told)

    def _ended(self, event: LaunchEnded) -> None:
        ended = self._table.remove(event.launch_id)
        if ended is None:
            return
        key = cast("WorkloadKey", ended.key)
        if not ended.counts:
            self._release(key)
        elif event.success:
            self.success(key, event.reason or None)
        else:
            self._refuse(key, event.reason)
            if self._launching is not None and self._launching.unheard is not None:
                self._launching.unheard.told(event.launch_id, key, event.reason)

    def _release(self, key: WorkloadKey) -> None:
        """Free the slot of a key whose last launch is gone without counting (an earlier try that outlived its successor)."""
        if not self._table.holds(key):
            self.running.discard(key)

    def _refuse(self, key: Hashable, reason: str) -> None:
        """Fail one workload, saying why in Airflow's event and in the task's own events."""
        self.fail(cast("WorkloadKey", key), reason)
        self._say(key, "modal launch failed", reason)

    def _say(self, key: Hashable, event: str, message: str) -> None:
        self.log_task_event(event=event, extra=message, ti_key=cast("WorkloadKey", key))
        # Airflow 3.3.2 saves these rows from a generator whose rows nobody else holds: they are collected as garbage before
        # they are written, and the INSERT fails. Held here until the next heartbeat, they arrive.
        if self._task_event_logs:
            self._said.append(self._task_event_logs[-1])

    @contained
    def change_state(self, key: WorkloadKey, state: WorkloadState, info: Any = None, remove_running: bool = True) -> None:  # noqa: FBT001, FBT002 - Airflow's signature
        """Record a state; if the key leaves ``running`` while its sandbox lives, end that too.

        On a missing task heartbeat the scheduler calls this and nothing else (3.3.2), so nobody else ends the sandbox.
        """
        super().change_state(key, state, info, remove_running)
        if remove_running:
            self._revoke(key, f"Airflow set the task to {state} while its sandbox was running")

    def _revoke(self, key: Hashable, reason: str) -> None:
        self._ready.pop(key, None)
        self._uncommitted.pop(key, None)
        launch_id = self._table.newest(key=key, task=task_of(key))
        if launch_id is None:
            return
        self._table.remove(launch_id)
        if self._launching is not None:
            self._launching.backend.revoke(launch_id, reason)

    @contained
    def revoke_task(self, *, ti: TaskInstance) -> None:
        """Forget a task and end its sandbox, without an event: Airflow queues it again itself."""
        key = task_key(self, ti)
        remove_queued(self, key)
        self.running.discard(cast("WorkloadKey", key))
        self._revoke(key, "Airflow took the task back: it was queued longer than [scheduler] task_queued_timeout")

    @contained
    def fail_connection_test(self, key: ConnectionTestKey) -> None:
        """Forget a connection test that took too long, and end its sandbox."""
        super().fail_connection_test(key)
        self._revoke(key, "Airflow gave up the connection test")

    # -- other schedulers' tasks --------------------------------------------------------------------------------------

    def try_adopt_task_instances(self, tis: Sequence[TaskInstance]) -> Sequence[TaskInstance]:
        """Take over each task that carries a launch id of ours; return the others. No RPC: rows are locked meanwhile.

        Raises what the database raises (``DBAPIError``) and nothing else: Airflow rolls back and repeats the call (3.3.2), where
        to go on in the broken transaction would end the scheduler.
        """
        if self._launching is None:
            return tis
        self._load_columns(tis)
        requests = [(ti, self._adopt_request(ti, self._launching)) for ti in tis]
        adopted = [request for _, request in requests if request is not None]
        if not self._adopt(adopted, self._launching):
            return tis
        return [ti for ti, request in requests if request is None]

    def _load_columns(self, tis: Sequence[TaskInstance]) -> None:
        from modalflow.executor.adoption import load_columns  # noqa: PLC0415 - only after another scheduler's end

        try:
            load_columns(tis)
        except DBAPIError:
            raise
        except Exception:
            self.log.exception("modalflow: the columns of %d tasks could not be loaded at once", len(tis))

    def _adopt_request(self, ti: TaskInstance, launching: Launching) -> AdoptRequest | None:
        from modalflow.executor.adoption import adopt_request  # noqa: PLC0415 - only after another scheduler's end

        try:
            return adopt_request(ti, task_key(self, ti), launching)
        except DBAPIError:
            raise
        except Exception:
            self.log.exception("modalflow: %s cannot be adopted", ti)
            return None

    @contained
    def _adopt(self, requests: Sequence[AdoptRequest], launching: Launching) -> bool:
        # Airflow repeats the call when its transaction is lost: what is in the table has been adopted.
        launching.backend.adopt([request for request in requests if request.launch_id not in self._table])
        for request in requests:
            if request.launch_id not in self._table:
                self._table.add(request.launch_id, key=request.key, task=task_of(request.key))
            self.running.add(cast("WorkloadKey", request.key))
        return True

    @contained
    def _take_callbacks(self) -> None:
        """Take over callbacks of an earlier scheduler. One that this process ever launched is its own, and told of already."""
        launching = self._launching
        left = launching.callbacks_left.take() if launching is not None and launching.callbacks_left is not None else []
        new = [one for one in left if not self._table.was_used(one.launch_id) and not is_queued(self, one.key)]
        if launching is not None and new:
            self._adopt(new, launching)

    # -- looking in ---------------------------------------------------------------------------------------------------

    def get_task_log(self, ti: TaskInstance, try_number: int) -> tuple[list[str], list[str]]:
        """Messages and log of a running try; asked by the API server. Never raises."""
        from modalflow.executor.task_log import running_task_log  # noqa: PLC0415 - only the API server reads logs

        return running_task_log(ti, try_number)

    @contained
    def debug_dump(self) -> None:
        """Add the launches to what SIGUSR2 writes to the scheduler's log."""
        super().debug_dump()  # type: ignore[no-untyped-call]
        if self._launching is not None:
            self.log.info("%s", self._launching.describe())
