"""``airflow modal logs``: the log of a task, as its page shows it, in a terminal; live with ``--follow``.

In: which task, Airflow's database and logging configuration. Out: its lines on stdout. Airflow's own reader is used
(``TaskLogReader``, 3.3.2), so that what ran before the task, its archive on the log Volume and a running sandbox's output come
merged.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from airflow.utils.cli import suppress_logs_and_warning

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

EVERY = 2.0
"""Seconds between two reads of a log that is followed; each is a look at the log Volume and at the sandbox."""


HEADER, HEADER_ENDS = "::group::Log message source details", "::endgroup::"
"""Between these Airflow lists where a log came from (3.3.0 and 3.3.2)."""


class NoTask(Exception):
    """There is no such task instance; the text says what to write."""


@suppress_logs_and_warning
def logs(args: Any) -> None:
    """Run the command; exit code 1 with one sentence if there is no such task instance."""
    write = sys.stdout.write
    try:
        for line in lines_of(args, sleep=time.sleep):
            write(line + "\n")
            sys.stdout.flush()
    except NoTask as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def lines_of(args: Any, *, sleep: Callable[[float], None]) -> Iterator[str]:
    """Yield the lines that there are; with ``args.follow``, go on until the try has ended. Raises ``NoTask``.

    Each look reads from the beginning and leaves out what was told: Airflow 3.3.0's own way of going on (``log_pos``) ends in a
    ``TypeError`` (its ``file_task_handler`` does not take its own ``islice`` for a stream; 3.3.2's does).
    """
    from airflow.utils.log.file_task_handler import StructuredLogMessage  # noqa: PLC0415
    from airflow.utils.log.log_reader import TaskLogReader  # noqa: PLC0415 - Airflow is imported where it is needed
    from airflow.utils.session import create_session  # noqa: PLC0415

    reader = TaskLogReader()
    write = StructuredLogMessage.model_dump_json if args.json else line_of
    first, told = True, 0
    from_the_start: Any = {}
    while True:
        with create_session() as session:
            ti = instance_of(session, args.dag, args.task, run_id=args.run_id, map_index=args.map_index)
            chosen = args.try_number or ti.try_number
            stream, metadata = reader.read_log_chunks(ti, chosen, from_the_start)
            header, lines = _parted(iter(stream))
            for message in header if first else ():
                yield write(message)
            for message in islice(lines, told, None):
                told += 1
                yield write(message)
            first = False
        if not args.follow or metadata.get("end_of_log", False):
            return
        sleep(EVERY)


def _parted(messages: Iterator[Any]) -> tuple[list[Any], Iterator[Any]]:
    """Return the header of a log, which lists where it came from and changes while the task runs, and its lines."""
    header = list(islice(messages, 1))
    if not header or header[0].event != HEADER:
        return [], chain(header, messages)
    for message in messages:
        header.append(message)
        if message.event == HEADER_ENDS:
            break
    return header, messages


def instance_of(session: Session, dag_id: str, task_id: str, *, run_id: str | None, map_index: int | None) -> Any:
    """Return the task instance: of that run, else the one that was queued last. Raises ``NoTask``."""
    from airflow.models.taskinstance import TaskInstance as TI  # noqa: N817, PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    query = select(TI).where(TI.dag_id == dag_id, TI.task_id == task_id, TI.queued_dttm.is_not(None))
    if run_id is not None:
        query = query.where(TI.run_id == run_id)
    if map_index is not None:
        query = query.where(TI.map_index == map_index)
    found = session.scalars(query.order_by(TI.queued_dttm.desc()).limit(1)).unique().first()
    if found is None:
        of = f" of run {run_id}" if run_id is not None else ""
        index = f" with map index {map_index}" if map_index is not None else ""
        raise NoTask(
            f"no instance of {dag_id}.{task_id}{of}{index} was ever queued: `airflow dags list-runs {dag_id}` has the runs"
        )
    return found


def line_of(message: Any) -> str:
    """One message as people read it: ``12:00:01 INFO  epoch 3``; what has no time stands as it is."""
    level = str((message.model_extra or {}).get("level", "")).upper()
    stamp = f"{message.timestamp:%H:%M:%S} " if message.timestamp is not None else ""
    detail = (message.model_extra or {}).get("error_detail")
    told = "".join(f"\n  {one.get('exc_type')}: {one.get('exc_value')}" for one in detail) if isinstance(detail, list) else ""
    return f"{stamp}{level:<7} {message.event}{told}" if level else f"{stamp}{message.event}{told}"
