"""Taking over the tasks of a scheduler that is gone.

In: a task instance that Airflow offers, under row locks and with few columns loaded. Out: an ``AdoptRequest``; the loop then
lists what runs on Modal once and decides. No RPC here. A task handed back instead would lose ``next_method``: a resumed
deferrable task would start over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from modalflow.executor.workloads import head_of, trace_of
from modalflow.launch.events import AdoptRequest, LaunchRequest
from modalflow.launch.identity import parse_external_id

if TYPE_CHECKING:
    from modalflow.executor.launching import Launching

log = logging.getLogger(__name__)

QUERY_SIZE = 500
"""Ids per query; SQLite takes 999 parameters at most in old builds."""


def adopt_request(ti: Any, key: Hashable, launching: Launching) -> AdoptRequest | None:
    """Return what the loop needs to take ``ti`` over; ``None`` if it carries no launch id of ours."""
    external = parse_external_id(ti.external_executor_id)
    if external is None:
        return None
    relaunch = _relaunch(ti, external.launch_id, key, launching) if ti.state == "queued" else None
    return AdoptRequest(
        launch_id=external.launch_id,
        key=key,
        label=f"{ti.dag_id}.{ti.task_id} {ti.run_id}",
        sandbox_id=external.sandbox_id,
        log_path=_log_path(ti),
        relaunch=relaunch,
        queue_limit=None if relaunch is None else _queue_limit(ti, launching.queued_timeout),
        trace=trace_of(ti),
    )


def load_columns(tis: Sequence[Any]) -> None:
    """Load what ``adopt_request`` reads of all of them in one query.

    Airflow offers them with seven columns; each further attribute would be a query of its own, under row locks.
    """
    from airflow.models.taskinstance import TaskInstance  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415
    from sqlalchemy.orm import object_session, undefer  # noqa: PLC0415

    session = object_session(tis[0]) if tis else None
    if session is None:
        return
    with session.no_autoflush:
        for start in range(0, len(tis), QUERY_SIZE):
            ids = [ti.id for ti in tis[start : start + QUERY_SIZE]]
            query = select(TaskInstance).where(TaskInstance.id.in_(ids)).options(undefer("*"))
            session.scalars(query.execution_options(populate_existing=True)).unique().all()


def _relaunch(ti: Any, launch_id: str, key: Hashable, launching: Launching) -> Callable[[], LaunchRequest] | None:
    """The launch that may never have been made, built now: its rows can be read in the caller's session only.

    The loop's thread calls it later, without a database. The token is minted there. A task whose row can no longer be
    made into a workload is adopted without: the loop reports its end, and Airflow retries it by its own rules.
    """
    from airflow.executors.workloads import ExecuteTask  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    try:
        workload = ExecuteTask.make(ti)
    except DBAPIError:  # the caller's transaction is broken
        raise
    except Exception:
        log.exception("modalflow: the workload of %s could not be built again", ti)
        return None
    head = head_of(workload)

    def relaunch() -> LaunchRequest:
        return launching.request(launch_id, key, workload, head)

    return relaunch


def _queue_limit(ti: Any, queued_timeout: float | None) -> float | None:
    """Seconds that are left of Airflow's limit, which goes on from when the earlier scheduler queued the task (3.3.2)."""
    if queued_timeout is None or ti.queued_dttm is None:
        return queued_timeout
    waited: float = (datetime.now(UTC) - ti.queued_dttm).total_seconds()
    return queued_timeout - waited


def _log_path(ti: Any) -> str | None:
    from airflow.utils.helpers import log_filename_template_renderer  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    try:
        path: str = log_filename_template_renderer()(ti=ti)
    except DBAPIError:  # the caller's transaction is broken
        raise
    except Exception:
        log.exception("modalflow: [logging] log_filename_template does not render for %s", ti)
        return None
    return path
