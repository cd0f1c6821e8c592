"""Which sandboxes Airflow still wants, by the launch ids in its database.

In: launch ids from the tags of running sandboxes. Out: a ``Claim`` for each that this database knows. A sandbox is ours only if
its deployment tag and its launch id are both ours: one whose launch id is not here belongs to nobody we may speak for. Launch ids
are never used twice, so one that is over stays over. ``provider.command_cleanup`` and ``launch.sweep`` decide by it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from modalflow.launch.identity import is_launch_id, parse_external_id
from modalflow.launch.sweep import Claim

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

T = TypeVar("T")

WANTED = frozenset({"queued", "running", "restarting", "scheduled", "pending"})
"""States of a task, callback or connection test whose launch is under way (Airflow 3.3.2). A task that is only scheduled has no
launch yet: its id is of the one before."""
OF_TASKS = frozenset({"queued", "running", "restarting"})
TAIL = timedelta(minutes=2)
"""After its end a task's sandbox still writes its log. Before that, callbacks and listeners run in it for up to ``[core]
task_success_overtime``, after which Airflow's supervisor ends them (3.3.2)."""
QUERY_SIZE = 50
"""Launch ids per query."""
KEYS_PER_QUERY = 500
"""Primary keys per query; SQLite takes 999 parameters at most in old builds."""


def claims_on(session: Session, launch_ids: Iterable[str], now: datetime) -> dict[str, Claim]:
    """Look launches up; those that this database does not know are left out. Reads only.

    ``external_executor_id`` has no index, so each ``QUERY_SIZE`` ids are one pass over the task instances: not for a scheduler.
    """
    ids = sorted({one for one in launch_ids if is_launch_id(one)})
    found: dict[str, Claim] = {}
    for some in _parts(ids, QUERY_SIZE):
        history, tasks = _of_history(session, _carries(_tih(), some)), _of_tasks(session, _carries(_ti(), some), now)
        # The instance itself comes last: it knows better than its history.
        found |= {**dict(history), **dict(_others(session, some)), **dict(tasks)}
    return found


def claims_by_instance(session: Session, launches: Mapping[str, str], now: datetime) -> dict[str, Claim]:
    """As ``claims_on``, by primary keys: cheap enough for a scheduler.

    ``launches`` is launch id to the id of its task instance, empty for a callback or connection test, whose id is the launch id.
    A launch is known only if that instance, or its history, carries that very launch id: an instance that was queued again since
    (deferred, rescheduled) no longer tells of the launch before, which is left out.
    """
    ids = {launch_id: instance for launch_id, instance in launches.items() if is_launch_id(launch_id)}
    found: dict[str, Claim] = {}
    for some in _parts(sorted({uuid.UUID(one) for one in ids.values() if is_launch_id(one)}), KEYS_PER_QUERY):
        found |= _of_history(session, _tih().task_instance_id.in_(some))
        found |= _of_tasks(session, _ti().id.in_(some), now)
    for launch_ids in _parts(sorted(launch_id for launch_id, instance in ids.items() if not instance), KEYS_PER_QUERY):
        found |= _others(session, launch_ids)
    return {launch_id: claim for launch_id, claim in found.items() if launch_id in ids}


def ask_database(launches: Mapping[str, str]) -> Mapping[str, Claim]:
    """Ask Airflow's database, in a session of this thread's own. Blocks; raises what the database raises."""
    from airflow.utils.session import create_session  # noqa: PLC0415

    with create_session(scoped=False) as session:
        return claims_by_instance(session, launches, datetime.now(UTC))


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


def _of_tasks(session: Session, where: Any, now: datetime) -> dict[str, Claim]:
    from sqlalchemy import select  # noqa: PLC0415

    ti, tail = _ti(), _tail()
    found: dict[str, Claim] = {}
    for text, state, end_date in session.execute(select(ti.external_executor_id, ti.state, ti.end_date).where(where)):
        external = parse_external_id(text)
        if external is None:
            continue
        if str(state) in OF_TASKS:
            claim = Claim(over=False, why=f"the task is {state}")
        elif end_date is not None and now - end_date < tail:
            claim = Claim(over=False, why=f"the task is {state} since a moment; its log may be on its way")
        else:
            claim = Claim(over=True, why=f"the task is {state or 'not under way'}")
        found[external.launch_id] = claim
    return found


def _of_history(session: Session, where: Any) -> dict[str, Claim]:
    from sqlalchemy import select  # noqa: PLC0415

    tih = _tih()
    rows = session.execute(select(tih.external_executor_id, tih.try_number).where(where))
    return {
        external.launch_id: Claim(over=True, why=f"try {try_number} of the task is over")
        for text, try_number in rows
        if (external := parse_external_id(text)) is not None
    }


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
