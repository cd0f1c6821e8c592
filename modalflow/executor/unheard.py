"""Failures that Airflow was told and may not have taken: its database is asked, and what still runs there is told again.

Airflow 3.3.2 takes an executor's event out of the buffer, then reads the rows with ``skip_locked``
(``SchedulerJobRunner.process_executor_events``). Where another scheduler holds a row at that instant the event is gone, and the
task would be RUNNING until Airflow misses its heartbeats (300 s). Two schedulers that hold each other for dead, and both watch a
sandbox that ends, do that to each other.

In: failed ends, from the scheduler's thread. Out: those to tell again, taken at a heartbeat. The questions are asked in a daemon
thread of this module's own, which sleeps while there is nothing to ask. A success needs none of this: the task reported it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow.models.taskinstancekey import TaskInstanceKey

from modalflow.executor.ownership import OF_TASKS
from modalflow.launch.identity import parse_external_id

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

log = logging.getLogger(__name__)

EVERY = 10.0
"""Seconds between two questions. Airflow takes events at its next loop, usually within a second."""
QUESTIONS = 6
"""After which Airflow's own heartbeat check is left to end the task."""

StillHeld = dict[TaskInstanceKey, str]
"""Tasks that are under way in Airflow, as this try, each with the id of the launch that runs it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """A failure that Airflow was told ``asked`` questions ago."""

    launch_id: str
    key: TaskInstanceKey
    reason: str
    asked: int = 0


class Unheard:
    """``told`` and ``take`` are for the scheduler's thread, ``look`` for any other."""

    def __init__(self, ask: Callable[[Iterable[TaskInstanceKey]], StillHeld]) -> None:
        """``ask`` reads the database, and may block; nothing is started."""
        self._ask = ask
        self._new: deque[Told] = deque()
        self._again: deque[Told] = deque()
        self._followed: Mapping[str, Told] = {}
        self._wake = threading.Event()
        self._ended = threading.Event()

    def start(self) -> None:
        """Follow up from now on, in a daemon thread."""
        threading.Thread(target=self._run, name="modalflow-unheard", daemon=True).start()

    def stop(self) -> None:
        """Ask no more. Does not wait."""
        self._ended.set()
        self._wake.set()

    def told(self, launch_id: str, key: Hashable, reason: str) -> None:
        """Note that Airflow was told of a failure. Callbacks and connection tests have no such row. O(1)."""
        if isinstance(key, TaskInstanceKey):
            self._new.append(Told(launch_id=launch_id, key=key, reason=reason))
            self._wake.set()

    def take(self) -> list[Told]:
        """Take what is to be told again. No I/O, never raises."""
        taken = []
        while self._again:
            taken.append(self._again.popleft())
        return taken

    def look(self) -> None:
        """Ask once for all that was told and not yet seen to be taken. Raises what the database raises."""
        while self._new:
            one = self._new.popleft()
            self._followed = {**self._followed, one.launch_id: one}
        self._followed = {launch_id: replace(one, asked=one.asked + 1) for launch_id, one in self._followed.items()}
        asking, self._followed = self._followed, {name: one for name, one in self._followed.items() if one.asked < QUESTIONS}
        if not asking:
            return
        held = self._ask([one.key for one in asking.values()])
        heard = {launch_id for launch_id, one in asking.items() if held.get(one.key) != launch_id}
        self._again.extend(one for launch_id, one in asking.items() if launch_id not in heard)
        self._followed = {launch_id: one for launch_id, one in self._followed.items() if launch_id not in heard}

    def _run(self) -> None:
        while not self._ended.is_set():
            if not self._followed and not self._new:
                self._wake.wait()
            self._wake.clear()
            if self._ended.wait(EVERY):
                return
            try:
                self.look()
            except Exception:
                log.exception("modalflow: cannot ask Airflow whether it took the failures that it was told")


def still_held(keys: Iterable[TaskInstanceKey]) -> StillHeld:
    """Ask Airflow's database, in a session of this thread's own, which of these tries it has under way, and by which launch."""
    from airflow.models.taskinstance import TaskInstance as TI  # noqa: N817, PLC0415 - with the database only, off the start
    from airflow.utils.session import create_session  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    wanted = {key.primary: key for key in keys}
    found: StillHeld = {}
    which = TI.filter_for_tis(wanted.values())
    if which is None:
        return found
    columns = (TI.dag_id, TI.task_id, TI.run_id, TI.map_index, TI.try_number, TI.state, TI.external_executor_id)
    with create_session(scoped=False) as session:
        for row in session.execute(select(*columns).where(which)):
            dag_id, task_id, run_id, map_index, try_number, state, external_id = row
            key, external = wanted.get((dag_id, task_id, run_id, map_index)), parse_external_id(external_id)
            if key is not None and key.try_number == try_number and str(state) in OF_TASKS and external is not None:
                found[key] = external.launch_id
    return found
