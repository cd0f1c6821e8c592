"""Which sandboxes Airflow still wants, by the launch ids in its database.

In: launch ids and task instance ids from the tags of running sandboxes of our deployment. Out: a ``Claim`` for each that this
database knows, by its launch id or as an earlier launch of an instance that it has (``earlier_launches``); nobody else's sandbox
is spoken for. Launch ids are never used twice, so one that is over stays over. ``provider.command_cleanup`` and ``launch.sweep``
decide by it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from modalflow.executor.earlier_launches import Held, claim_on_earlier
from modalflow.launch.identity import is_launch_id, parse_external_id
from modalflow.launch.sweep import Claim

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

T = TypeVar("T")

WANTED = frozenset({"queued", "running", "restarting", "scheduled", "pending"})
"""States of a task, callback or connection test whose launch is under way (Airflow 3.3.2). A task that is only scheduled has no
launch yet: its id is of the one before."""
OF_TASKS = frozenset({"queued", "running", "restarting"})
FAILED = frozenset({"failed", "up_for_retry"})
"""States of a try that failed. In the history a try that was cleared while it ran is 'failed' too (3.3.2)."""
TAIL = timedelta(minutes=2)
"""After its end a task's sandbox still writes its log. Before that, callbacks and listeners run in it for up to ``[core]
task_success_overtime``, after which Airflow's supervisor ends them (3.3.2), whatever becomes of the task instance meanwhile."""
QUERY_SIZE = 50
"""Launch ids per query."""
KEYS_PER_QUERY = 500
"""Primary keys per query; SQLite takes 999 parameters at most in old builds."""


def claims_on(
    session: Session, launches: Mapping[str, str], now: datetime, made: Mapping[str, datetime] | None = None
) -> dict[str, Claim]:
    """As ``claims_by_instance``, and by the launch id alone where a sandbox has no instance. Reads only.

    ``external_executor_id`` has no index, so each ``QUERY_SIZE`` ids are one pass over the task instances: not for a scheduler.
    """
    ids = sorted({one for one in launches if is_launch_id(one)})
    found = claims_by_instance(session, launches, now, made)
    for some in _parts(ids, QUERY_SIZE):
        history, tasks = _of_history(session, _carries(_tih(), some), now), _of_tasks(session, _carries(_ti(), some), now)
        # The instance itself comes last: it knows better than its history.
        found |= {**_by_launch(history), **_others(session, some), **_by_launch(tasks)}
    return found


def claims_by_instance(
    session: Session, launches: Mapping[str, str], now: datetime, made: Mapping[str, datetime] | None = None
) -> dict[str, Claim]:
    """Look launches up by primary keys, cheap enough for a scheduler; those that this database does not know are left out.

    ``launches`` is launch id to the id of its task instance, empty for a callback or connection test, whose id is the launch id.
    ``made`` is when the newest sandbox of a launch was created, where that is known. A launch is known if its instance, or that
    one's history, carries its id, or if it is an earlier one of that instance (deferred, rescheduled or taken back since).
    """
    ids = {launch_id: instance for launch_id, instance in launches.items() if is_launch_id(launch_id)}
    instances: dict[str, Held] = {}
    for some in _parts(sorted({uuid.UUID(one) for one in ids.values() if is_launch_id(one)}), KEYS_PER_QUERY):
        rows = [*_of_history(session, _tih().task_instance_id.in_(some), now), *_of_tasks(session, _ti().id.in_(some), now)]
        instances |= {held.instance: held for held in rows}
    found = _by_launch(instances.values())
    for launch_id, instance in ids.items():
        if launch_id not in found and (held := instances.get(instance)) is not None:
            claim = claim_on_earlier(held, (made or {}).get(launch_id), now, _tail())
            if claim is not None:
                found[launch_id] = claim
    for launch_ids in _parts(sorted(launch_id for launch_id, instance in ids.items() if not instance), KEYS_PER_QUERY):
        found |= _others(session, launch_ids)
    return {launch_id: claim for launch_id, claim in found.items() if launch_id in ids}


def ask_database(launches: Mapping[str, str], made: Mapping[str, datetime]) -> Mapping[str, Claim]:
    """Ask Airflow's database, in a session of this thread's own. Blocks; raises what the database raises."""
    from airflow.utils.session import create_session  # noqa: PLC0415

    with create_session(scoped=False) as session:
        return claims_by_instance(session, launches, datetime.now(UTC), made)


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _tail() -> timedelta:
    from airflow.configuration import conf  # noqa: PLC0415 - with the database only

    return TAIL + timedelta(seconds=conf.getfloat("core", "task_success_overtime"))


def _ti() -> Any:
    from airflow.models.taskinstance import TaskInstance  # noqa: PLC0415 - with the database only

    return TaskInstance


def _tih() -> Any:
    from airflow.models.taskinstancehistory import TaskInstanceHistory  # noqa: PLC0415 - with the database only

    return TaskInstanceHistory


def _carries(model: Any, launch_ids: Sequence[str]) -> Any:
    from sqlalchemy import or_  # noqa: PLC0415 - with the database only

    column = model.external_executor_id
    return or_(column.in_(launch_ids), *(column.like(f"{launch_id}/%") for launch_id in launch_ids))


def _by_launch(rows: Iterable[Held]) -> dict[str, Claim]:
    """What rows say of the very launches whose ids they carry."""
    return {external.launch_id: held.claim for held in rows if (external := parse_external_id(held.external_id)) is not None}


def _of_tasks(session: Session, where: Any, now: datetime) -> list[Held]:
    from sqlalchemy import select  # noqa: PLC0415

    ti = _ti()
    rows = session.execute(
        select(ti.id, ti.external_executor_id, ti.state, ti.end_date, ti.updated_at, ti.queued_dttm).where(where)
    )
    return [_held(*row, now=now) for row in rows]


def _held(
    instance: uuid.UUID,
    external_id: str | None,
    state: object,
    end_date: datetime | None,
    updated_at: datetime | None,
    queued_at: datetime | None,
    *,
    now: datetime,
) -> Held:
    under_way = str(state) in OF_TASKS
    # A task that deferred has no end, or that of a part before.
    left = updated_at if end_date is None or str(state) == "deferred" else end_date
    if under_way:
        claim = Claim(over=False, why=f"the task is {state}")
    elif _lately(left, now):
        claim = Claim(over=False, why=f"the task is {state or 'not under way'} since a moment; its log may be on its way")
    else:
        claim = Claim(over=True, why=f"the task is {state or 'not under way'}")
    claim = replace(claim, failed_at=end_date if str(state) in FAILED else None)
    return Held(instance=str(instance), external_id=external_id, claim=claim, queued_at=queued_at, under_way=under_way)


def _of_history(session: Session, where: Any, now: datetime) -> list[Held]:
    from sqlalchemy import select  # noqa: PLC0415

    tih = _tih()
    columns = (tih.task_instance_id, tih.external_executor_id, tih.try_number, tih.state, tih.end_date, tih.queued_dttm)
    return [_past(*row, now=now) for row in session.execute(select(*columns).where(where))]


def _past(
    instance: uuid.UUID,
    external_id: str | None,
    try_number: int,
    state: object,
    end_date: datetime | None,
    queued_at: datetime | None,
    *,
    now: datetime,
) -> Held:
    why = f"try {try_number} of the task is over"
    claim = (
        Claim(over=False, why=f"{why} since a moment; its log may be on its way")
        if _lately(end_date, now)
        else Claim(over=True, why=why)
    )
    claim = replace(claim, failed_at=end_date if str(state) in FAILED else None)
    return Held(instance=str(instance), external_id=external_id, claim=claim, queued_at=queued_at)


def _lately(at: datetime | None, now: datetime) -> bool:
    """Whether what ended then may still have callbacks or its log to see to."""
    return at is not None and now - at < _tail()


def _others(session: Session, launch_ids: Sequence[str]) -> dict[str, Claim]:
    """Callbacks and connection tests: their own id is the launch id."""
    from airflow.models.callback import Callback  # noqa: PLC0415
    from airflow.models.connection_test import ConnectionTestRequest  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    ids = [uuid.UUID(launch_id) for launch_id in launch_ids]
    kinds: Mapping[str, Any] = {"callback": Callback, "connection test": ConnectionTestRequest}
    return {
        str(one): Claim(over=str(state) not in WANTED, why=f"the {name} is {state}")
        for name, model in kinds.items()
        for one, state in session.execute(select(model.id, model.state).where(model.id.in_(ids)))
    }
