"""Deadline callbacks of a scheduler that is gone: found in Airflow's database, for this scheduler to take over.

Airflow 3.3.2 hands a callback to one scheduler's executor, keeps no word of which, and takes its end from that executor's events
only: nobody queues it again or adopts it, and after a restart it would be QUEUED or RUNNING for ever. A connection test needs
none of this: it reports to the execution API itself, and Airflow fails one that does not begin or end in time.

In: rows of callbacks and of scheduler jobs, read in a daemon thread of this module's own, at the start and every ``EVERY``
seconds. Out: ``AdoptRequest``, taken by ``modal_executor`` at a heartbeat. The callback's own id is its launch id, so what runs
is found and watched; what was never made is launched. Two schedulers may watch one callback: both report the same end.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from modalflow.executor.workloads import head_of
from modalflow.launch.events import AdoptRequest

if TYPE_CHECKING:
    from airflow.executors.base_executor import BaseExecutor
    from airflow.executors.executor_utils import ExecutorName
    from sqlalchemy.orm import Session

    from modalflow.executor.launching import Launching

log = logging.getLogger(__name__)

EVERY = 300.0
"""Seconds between two looks."""
QUIET = timedelta(seconds=240)
"""A scheduler that has not ended in order and whose last heartbeat is less than this ago may live, whatever its job's state says:
a queued callback without a sandbox may stand in its line."""

Reaches = Callable[[str | None], bool]
"""Whether a callback that names this executor, or none, is ours to run."""


class CallbacksLeft:
    """What was found and not yet taken. ``take`` is for the scheduler's thread, ``look`` for any other."""

    def __init__(self, launching: Callable[[], Launching], job_id: object, reaches: Reaches) -> None:
        """Find for the scheduler job ``job_id``; nothing is started. ``launching`` is called when something was found."""
        self._launching = launching
        self._job_id = job_id
        self._reaches = reaches
        self._found: deque[AdoptRequest] = deque()
        self._ended = threading.Event()

    def start(self) -> None:
        """Look at once, and then again and again, in a daemon thread."""
        threading.Thread(target=self._run, name="modalflow-callbacks", daemon=True).start()

    def stop(self) -> None:
        """Look no more. Does not wait."""
        self._ended.set()

    def take(self) -> list[AdoptRequest]:
        """Take what was found since the last call. No I/O, never raises."""
        taken = []
        while self._found:
            taken.append(self._found.popleft())
        return taken

    def look(self) -> None:
        """Read the database once. Raises what that raises."""
        from airflow.utils.session import create_session  # noqa: PLC0415 - in a thread of its own, after the start

        with create_session(scoped=False) as session:
            alone = not _others_may_live(session, self._job_id, datetime.now(UTC))
            for callback in _under_way(session, with_queued=alone):
                if self._reaches(callback.get_executor_name()):
                    self._found.append(self._request(session, callback, can_relaunch=alone and callback.state == "queued"))

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self.look()
            except Exception:
                log.exception("modalflow: cannot look for callbacks that are left; the next look is in %g s", EVERY)
            self._ended.wait(EVERY)

    def _request(self, session: Session, callback: Any, *, can_relaunch: bool) -> AdoptRequest:
        from airflow.models.callback import CallbackKey  # noqa: PLC0415

        launch_id = str(callback.id)
        key = CallbackKey(id=launch_id)
        workload = _workload(session, callback)
        if workload is None:  # there is nothing to launch it with
            return AdoptRequest(
                launch_id=launch_id, key=key, label=f"callback {launch_id}", sandbox_id=None, log_path=None, relaunch=None
            )
        head = head_of(workload)
        relaunch = partial(self._launching().request, launch_id, key, workload, head) if can_relaunch else None
        return AdoptRequest(
            launch_id=launch_id, key=key, label=head.label, sandbox_id=None, log_path=head.log_path, relaunch=relaunch
        )


def _workload(session: Session, callback: Any) -> Any:
    """Return what runs the callback; ``None`` if its run was deleted, or its rows can no longer be made into a workload.

    One callback that cannot be built keeps nobody from the others. Raises what the database raises.
    """
    from airflow.executors.workloads import ExecuteCallback  # noqa: PLC0415
    from airflow.models.dagrun import DagRun  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    try:
        run_id = callback.data.get("dag_run_id")
        run = session.get(DagRun, run_id) if run_id is not None else None
        return None if run is None else ExecuteCallback.make(callback=callback, dag_run=run)
    except DBAPIError:
        raise
    except Exception:
        log.exception("modalflow: the workload of callback %s could not be built again", callback.id)
        return None


def _under_way(session: Session, *, with_queued: bool) -> list[Any]:
    """Callbacks for executors that began, as far as Airflow knows, or have yet to."""
    from airflow.models.callback import ExecutorCallback  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    states = ("queued", "running") if with_queued else ("running",)
    query = select(ExecutorCallback).where(ExecutorCallback.state.in_(states)).order_by(ExecutorCallback.created_at)
    return list(session.scalars(query))


def _others_may_live(session: Session, job_id: object, now: datetime) -> bool:
    from airflow.jobs.job import Job  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    others = select(Job.id).where(
        Job.job_type == "SchedulerJob", Job.id != job_id, Job.end_date.is_(None), Job.latest_heartbeat > now - QUIET
    )
    return session.scalars(others.limit(1)).first() is not None


def callbacks_for(executor: BaseExecutor, default: ExecutorName, launching: Callable[[], Launching]) -> CallbacksLeft | None:
    """Return what finds callbacks for ``executor``; ``None`` where it could find none, and so asks no database."""
    own = executor.name
    if own is None or own.team_name is not None:
        return None
    return CallbacksLeft(launching, executor.job_id, reaches(own, default))


def reaches(own: ExecutorName | None, default: ExecutorName) -> Reaches:
    """Which callbacks Airflow routes to the executor called ``own`` (3.3.2, ``_try_to_load_executor``).

    Those of a team are left out: whose a callback without a name is depends on its DAG's bundle.
    """

    def reaches_us(name: str | None) -> bool:
        if own is None or own.team_name is not None:
            return False
        if name is None:
            return (own.module_path, own.team_name) == (default.module_path, default.team_name)
        return name in (own.alias, own.module_path, own.module_path.rpartition(".")[2])

    return reaches_us
