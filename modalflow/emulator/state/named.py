"""Objects that are found by a name in an environment, or live unnamed as long as their client says so: Dicts and Queues.

Flows in: what a service makes, and the time (seconds since the epoch). Flows out: lookups, pages of a list, and the end of
unnamed ones that nobody has asked after. ``dicts`` and ``queues`` hold what is in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

EPHEMERAL_SECONDS = 900.0
"""An unnamed object ends this long after its last heartbeat. modal 1.6.4 sends one each 300 s; Modal's own bound is not
published."""


@dataclass(kw_only=True, slots=True)
class NamedObject:
    """What every such object has. ``name`` is empty for an ephemeral one; times are seconds since the epoch."""

    object_id: str
    name: str
    environment: str
    created_at: float
    heard_at: float


T = TypeVar("T", bound=NamedObject)


class Objects(Generic[T]):
    """The objects of one kind in one workspace, in the order they were made."""

    def __init__(self) -> None:
        self._by_id: dict[str, T] = {}

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._by_id.values()))

    @property
    def by_id(self) -> Mapping[str, T]:
        """All of them by id, not to be changed."""
        return self._by_id

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, one: T) -> T:
        """Keep a new object; ephemeral ones that ended meanwhile are dropped."""
        for old in self:
            if not old.name and one.heard_at - old.heard_at > EPHEMERAL_SECONDS:
                self.remove(old.object_id)
        self._by_id[one.object_id] = one
        return one

    def put_back(self, one: T) -> None:
        """Keep one that was read back."""
        self._by_id[one.object_id] = one

    def get(self, object_id: str, now: float) -> T | None:
        """Return the object of that id, unless it has ended."""
        found = self._by_id.get(object_id)
        if found is not None and not found.name and now - found.heard_at > EPHEMERAL_SECONDS:
            self.remove(object_id)
            return None
        return found

    def named(self, environment: str, name: str) -> T | None:
        """Return the object of that name."""
        return next((one for one in self._by_id.values() if one.name == name and one.environment == environment), None)

    def remove(self, object_id: str) -> None:
        """Forget it. No error if it is gone."""
        self._by_id.pop(object_id, None)

    def page(self, environment: str, *, before: float, limit: int) -> list[T]:
        """Return at most ``limit`` named ones that were made before that time, the newest first."""
        found = (
            one
            for one in reversed(self._by_id.values())
            if one.name and one.environment == environment and (not before or one.created_at < before)
        )
        return [one for _, one in zip(range(limit), found, strict=False)]
