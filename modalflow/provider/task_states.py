"""The tasks that are on their way to a sandbox or in one, as Airflow knows them, joined with what runs on Modal.

In: a session of Airflow's database, and Modal's listing. Out: ``TaskRow``s for ``airflow modal ps`` and ``top``. Reads only:
two queries, whatever the number of tasks. Who is named by neither side alone shows as such: a task whose sandbox Modal does not
list, and a sandbox that no task of Airflow's names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from modalflow.launch.gateway import SandboxStatus
from modalflow.launch.identity import parse_external_id
from modalflow.launch.price_tags import gpu_words, read_price_tags
from modalflow.provider.kept_sandboxes import Kept

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

ACTIVE = ("queued", "running", "restarting")
"""Airflow's states of a task that an executor has."""
FAILED = "modal launch failed"
"""Event of a launch that failed (``executor.modal_executor``)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AirflowTask:
    """One task instance that carries a launch id. ``said`` is the latest thing that modalflow told its owner."""

    dag_id: str
    task_id: str
    run_id: str
    map_index: int
    try_number: int
    state: str
    since: datetime | None
    launch_id: str
    sandbox_id: str | None
    said: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRow:
    """One line. ``seconds`` is how long it has been in ``state``; ``usd_hour`` is 0 where nothing runs or its price is not
    known."""

    sandbox: str
    dag_id: str
    task_id: str
    run_id: str
    try_number: str
    map_index: str
    launch: str
    state: str
    gpu: str
    seconds: float | None
    usd_hour: float
    said: str

    @property
    def usd(self) -> float:
        """What it cost so far, by list price."""
        return self.usd_hour * (self.seconds or 0.0) / 3600


def active_tasks(session: Session) -> list[AirflowTask]:
    """Return the tasks that carry a launch id of modalflow's."""
    from airflow.models.taskinstance import TaskInstance as TI  # noqa: N817, PLC0415 - Airflow is imported where it is needed
    from sqlalchemy import select  # noqa: PLC0415

    columns = (
        TI.dag_id, TI.task_id, TI.run_id, TI.map_index, TI.try_number, TI.state, TI.queued_dttm, TI.start_date,
        TI.external_executor_id,
    )  # fmt: skip
    rows = session.execute(select(*columns).where(TI.state.in_(ACTIVE), TI.external_executor_id.is_not(None))).all()
    waiting = [row for row in rows if row.state == "queued"]
    said = _last_said(session, waiting)
    tasks = []
    for row in rows:
        external = parse_external_id(row.external_executor_id)
        if external is not None:
            queued = row.state == "queued"
            tasks.append(
                AirflowTask(
                    dag_id=row.dag_id,
                    task_id=row.task_id,
                    run_id=row.run_id,
                    map_index=row.map_index,
                    try_number=row.try_number,
                    state=str(row.state),
                    since=row.queued_dttm if queued else row.start_date,
                    launch_id=external.launch_id,
                    sandbox_id=external.sandbox_id,
                    said=said.get((row.dag_id, row.task_id, row.run_id, row.map_index), "") if queued else "",
                )
            )
    return tasks


def _last_said(session: Session, waiting: Sequence[Any]) -> Mapping[tuple[str | None, str | None, str | None, int], str]:
    """The latest event of modalflow's of each task that waits, from its Events tab."""
    from airflow.models.log import Log  # noqa: PLC0415
    from sqlalchemy import or_, select  # noqa: PLC0415

    since = min((row.queued_dttm for row in waiting if row.queued_dttm is not None), default=None)
    if since is None:
        return {}
    query = (
        select(Log.dag_id, Log.task_id, Log.run_id, Log.map_index, Log.extra)
        .where(Log.dttm >= since, Log.run_id.in_({row.run_id for row in waiting}))
        .where(or_(Log.event.like("waiting%"), Log.event.like("modal%")))
        .order_by(Log.id)
    )
    return {
        (dag, task, run, -1 if index is None else index): extra or "" for dag, task, run, index, extra in session.execute(query)
    }


def recent_failures(session: Session, since: datetime) -> list[tuple[datetime, str, str]]:
    """Return when, which task, and why, newest first; at most ten."""
    from airflow.models.log import Log  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    query = (
        select(Log.dttm, Log.dag_id, Log.task_id, Log.extra)
        .where(Log.event == FAILED, Log.dttm >= since)
        .order_by(Log.id.desc())
        .limit(10)
    )
    return [(at or since, f"{dag}.{task}", extra or "") for at, dag, task, extra in session.execute(query)]


def joined(
    tasks: Iterable[AirflowTask], sandboxes: Iterable[SandboxStatus], now: datetime, kept: Sequence[Kept] = ()
) -> list[TaskRow]:
    """Join by launch id, in the order: running longest first, kept, waiting longest first, then what only Modal knows."""
    by_launch: dict[str, list[SandboxStatus]] = {}
    for status in sandboxes:
        by_launch.setdefault(status.tags.get("launch", ""), []).append(status)
    rows = [_task_row(task, by_launch.pop(task.launch_id, []), now) for task in tasks]
    by_sandbox = {one.status.sandbox_id: one for one in kept}
    rows += [_without_task(status, by_sandbox.get(status.sandbox_id), now) for found in by_launch.values() for status in found]
    order = {"running": 0, "kept": 1, "no sandbox": 2, "waiting": 3, "only on Modal": 4}
    return sorted(rows, key=lambda row: (order[row.state], -(row.seconds or 0.0), row.dag_id, row.task_id, row.sandbox))


def _task_row(task: AirflowTask, found: Sequence[SandboxStatus], now: datetime) -> TaskRow:
    status = next((one for one in found if one.sandbox_id == task.sandbox_id), found[-1] if found else None)
    runs = task.state != "queued"
    state = "waiting" if not runs else "running" if status is not None else "no sandbox"
    gpu, price = _priced(status)
    return TaskRow(
        sandbox=status.sandbox_id if status else task.sandbox_id or "",
        dag_id=task.dag_id,
        task_id=task.task_id,
        run_id=task.run_id,
        try_number=str(task.try_number),
        map_index=str(task.map_index) if task.map_index >= 0 else "",
        launch=task.launch_id,
        state=state,
        gpu=gpu,
        seconds=None if task.since is None else max(0.0, (now - task.since).total_seconds()),
        usd_hour=price if runs else 0.0,
        said=task.said,
    )


def _without_task(status: SandboxStatus, kept: Kept | None, now: datetime) -> TaskRow:
    gpu, price = _priced(status)
    tags = status.tags
    index = tags.get("map_index", "")
    return TaskRow(
        sandbox=status.sandbox_id,
        dag_id=tags.get("dag_id", ""),
        task_id=tags.get("task_id", ""),
        run_id=tags.get("run_id", ""),
        try_number=tags.get("try_number", ""),
        map_index="" if index == "-1" else index,
        launch=tags.get("launch", ""),
        state="only on Modal" if kept is None else "kept",
        gpu=gpu,
        seconds=None if kept is None else max(0.0, (now - kept.failed_at).total_seconds()),
        usd_hour=price,
        said="" if kept is None else f"its task failed; kept until {kept.until:%H:%M:%S} UTC",
    )


def _priced(status: SandboxStatus | None) -> tuple[str, float]:
    if status is None:
        return "", 0.0
    gpu, micro = read_price_tags(status.tags)
    return gpu_words(gpu) if gpu else "", micro / 1e6
