"""Which sandboxes Airflow still wants, by the launch ids in its database.

In: launch ids from the tags of running sandboxes. Out: a ``Claim`` for each that this database knows. A sandbox is ours only if
its deployment tag and its launch id are both ours: one whose launch id is not here belongs to nobody we may speak for. Launch ids
are never used twice, so one that is over stays over. ``provider.command_cleanup`` decides by it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from modalflow.launch.identity import is_launch_id, parse_external_id

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

WANTED = frozenset({"queued", "running", "restarting", "scheduled", "pending"})
"""States of a task, callback or connection test whose launch is under way (Airflow 3.3.2). A task that is only scheduled has no
launch yet: its id is of the one before."""
OF_TASKS = frozenset({"queued", "running", "restarting"})
TAIL = timedelta(minutes=2)
"""After its end a task's sandbox still writes its log."""
QUERY_SIZE = 50
"""Launch ids per query."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """What Airflow says of a launch. ``over``: its sandbox may be ended; ``why`` is half a sentence."""

    over: bool
    why: str


def claims_on(session: Session, launch_ids: Iterable[str], now: datetime) -> dict[str, Claim]:
    """Look launches up; those that this database does not know are left out. Reads only.

    ``external_executor_id`` has no index, so each ``QUERY_SIZE`` ids are one pass over the task instances: not for a scheduler.
    """
    ids = sorted({one for one in launch_ids if is_launch_id(one)})
    found: dict[str, Claim] = {}
    for start in range(0, len(ids), QUERY_SIZE):
        some = ids[start : start + QUERY_SIZE]
        # The instance itself comes last: it knows better than its history.
        found |= {**dict(_history(session, some)), **dict(_others(session, some)), **dict(_tasks(session, some, now))}
    return found


def _carries(column: Any, launch_ids: Sequence[str]) -> Any:
    from sqlalchemy import or_  # noqa: PLC0415 - with the database only

    return or_(column.in_(launch_ids), *(column.like(f"{launch_id}/%") for launch_id in launch_ids))


def _tasks(session: Session, launch_ids: Sequence[str], now: datetime) -> Iterator[tuple[str, Claim]]:
    from airflow.models.taskinstance import TaskInstance as TI  # noqa: N817, PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    query = select(TI.external_executor_id, TI.state, TI.end_date).where(_carries(TI.external_executor_id, launch_ids))
    for text, state, end_date in session.execute(query):
        external = parse_external_id(text)
        if external is None:
            continue
        if str(state) in OF_TASKS:
            yield external.launch_id, Claim(over=False, why=f"the task is {state}")
        elif end_date is not None and now - end_date < TAIL:
            yield external.launch_id, Claim(over=False, why=f"the task is {state} since a moment; its log may be on its way")
        else:
            yield external.launch_id, Claim(over=True, why=f"the task is {state or 'not under way'}")


def _history(session: Session, launch_ids: Sequence[str]) -> Iterator[tuple[str, Claim]]:
    from airflow.models.taskinstancehistory import TaskInstanceHistory as TIH  # noqa: N817, PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    query = select(TIH.external_executor_id, TIH.try_number).where(_carries(TIH.external_executor_id, launch_ids))
    for text, try_number in session.execute(query):
        if (external := parse_external_id(text)) is not None:
            yield external.launch_id, Claim(over=True, why=f"try {try_number} of the task is over")


def _others(session: Session, launch_ids: Sequence[str]) -> Iterator[tuple[str, Claim]]:
    """Callbacks and connection tests: their own id is the launch id."""
    from airflow.models.callback import Callback  # noqa: PLC0415
    from airflow.models.connection_test import ConnectionTestRequest  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    ids = [uuid.UUID(launch_id) for launch_id in launch_ids]
    kinds: Mapping[str, Any] = {"callback": Callback, "connection test": ConnectionTestRequest}
    for name, model in kinds.items():
        for one, state in session.execute(select(model.id, model.state).where(model.id.in_(ids))):
            yield str(one), Claim(over=str(state) not in WANTED, why=f"the {name} is {state}")
