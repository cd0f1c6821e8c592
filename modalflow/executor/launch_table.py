"""Which launch belongs to which of Airflow's keys, and which of several launches of one task counts.

A deferred task is queued again with the same key while the sandbox it left may still be ending; a retry comes with a new
key for the same task. Only the newest launch of a task may report: the end of an older one would fail the task that
resumed (apache/airflow issues 71580 and 72716). Pure: ``modal_executor`` puts launches in and asks; no I/O, no Airflow.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

REMEMBERED = 100_000
"""Launch ids remembered after their end, to recognise an id that Airflow hands out twice (about 20 MB when full)."""


@dataclass(frozen=True, slots=True)
class _Live:
    key: Hashable
    task: Hashable


@dataclass(frozen=True, kw_only=True, slots=True)
class EndedLaunch:
    """A launch that left the table. ``counts`` is false if a newer launch of the same task has taken its place."""

    key: Hashable
    counts: bool


class LaunchTable:
    """Owner of the maps between launch ids and keys; nobody else touches them."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._live: dict[str, _Live] = {}
        self._newest: dict[Hashable, str] = {}
        self._launches: Counter[Hashable] = Counter()
        self._used: OrderedDict[str, None] = OrderedDict()
        self._remembered = remembered

    def __contains__(self, launch_id: str) -> bool:
        return launch_id in self._live

    def __iter__(self) -> Iterator[str]:
        return iter(self._live)

    def __len__(self) -> int:
        return len(self._live)

    def add(self, launch_id: str, *, key: Hashable, task: Hashable) -> None:
        """Enter a launch as the newest of ``task``; one that was the newest before no longer counts."""
        if launch_id not in self._live:
            self._launches[key] += 1
        self._live[launch_id] = _Live(key, task)
        self._newest[task] = launch_id
        self._used[launch_id] = None
        if len(self._used) > self._remembered:
            self._used.popitem(last=False)

    def was_used(self, launch_id: str) -> bool:
        """Whether this process has launched under that id before."""
        return launch_id in self._used

    def counts(self, launch_id: str) -> bool:
        """Whether the launch lives and is the newest of its task."""
        live = self._live.get(launch_id)
        return live is not None and self._newest.get(live.task) == launch_id

    def newest(self, *, key: Hashable, task: Hashable) -> str | None:
        """Id of the living launch that counts for ``key``, if there is one."""
        launch_id = self._newest.get(task)
        return launch_id if launch_id is not None and self._live[launch_id].key == key else None

    def holds(self, key: Hashable) -> bool:
        """Whether any launch of ``key`` lives, counting or not."""
        return key in self._launches

    def remove(self, launch_id: str) -> EndedLaunch | None:
        """Take a launch out; ``None`` if it is not here (revoked, or never ours)."""
        live = self._live.pop(launch_id, None)
        if live is None:
            return None
        self._launches[live.key] -= 1
        if not self._launches[live.key]:
            del self._launches[live.key]
        counts = self._newest.get(live.task) == launch_id
        if counts:
            del self._newest[live.task]
        return EndedLaunch(key=live.key, counts=counts)
