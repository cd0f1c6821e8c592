"""What is in a Queue: partitions of items, first in first out, as the bytes that the client made of them.

Flows in: items and the time. Flows out: items, in order, or ``QueueFullError``. Waiting for items is ``machines.arrivals``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from modalflow.emulator.state.journal import Journal
from modalflow.emulator.state.named import NamedObject

# The limits are those of the docstring of modal.Queue, 1.6.4.
MAX_PARTITIONS = 100_000
MAX_ITEMS = 5_000
MAX_ITEM_BYTES = 1024 * 1024
MAX_PARTITION_BYTES = 64 * 1024 * 1024
DEFAULT_TTL_SECONDS = 24 * 3600


class QueueFullError(Exception):
    """There is no room; the client waits or tells its user."""


class QueueItemError(ValueError):
    """An item, or a partition's name or lifetime, that no Queue takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueItem:
    """One item. ``number`` grows by one with each item of the Queue, whatever its partition."""

    number: int
    value: bytes


@dataclass(kw_only=True, slots=True)
class Partition:
    """The items of one partition, which end together at ``expires_at``."""

    expires_at: float
    items: deque[QueueItem] = field(default_factory=deque)
    size: int = 0
    """Bytes of all items."""

    def append(self, item: QueueItem) -> None:
        """Add at the end."""
        self.items.append(item)
        self.size += len(item.value)

    def pop(self) -> QueueItem:
        """Remove the first."""
        item = self.items.popleft()
        self.size -= len(item.value)
        return item

    def push(self, item: QueueItem) -> None:
        """Add at the front."""
        self.items.appendleft(item)
        self.size += len(item.value)


@dataclass(kw_only=True, slots=True)
class ModalQueue(NamedObject):
    """A Queue with its partitions; the one called ``b""`` is the default."""

    partitions: dict[bytes, Partition] = field(default_factory=dict)
    last_number: int = 0
    journal: Journal = field(default_factory=Journal)
    """The partitions and items that changed (``part_key``)."""

    def put(self, key: bytes, values: Sequence[bytes], now: float, *, ttl: int) -> None:
        """Add all values to the end of a partition, or none: ``QueueFullError``, ``QueueItemError``.

        ``ttl``: seconds after which the partition is cleared unless something is put again, 0 for the default of a day.
        """
        _check(key, values, ttl)
        partition = self._partition(key, now)
        held = partition.items if partition else ()
        if len(held) + len(values) > MAX_ITEMS:
            raise QueueFullError(f"Queue is full: a partition holds at most {MAX_ITEMS} items, this one has {len(held)}")
        if (partition.size if partition else 0) + sum(map(len, values)) > MAX_PARTITION_BYTES:
            raise QueueFullError(f"Queue is full: a partition holds at most {MAX_PARTITION_BYTES} bytes")
        if partition is None:
            if len(self.partitions) >= MAX_PARTITIONS:
                raise QueueFullError(f"Queue is full: it holds at most {MAX_PARTITIONS} partitions")
            partition = self.partitions[key] = Partition(expires_at=now)
        fresh = [QueueItem(number=self.last_number + place, value=value) for place, value in enumerate(values, 1)]
        self.last_number += len(fresh)
        for item in fresh:
            partition.append(item)
        self._note(key, fresh)
        partition.expires_at = now + (ttl or DEFAULT_TTL_SECONDS)

    def take(self, key: bytes, count: int, now: float) -> list[QueueItem]:
        """Remove and return up to ``count`` items."""
        partition = self._partition(key, now)
        if partition is None:
            return []
        taken = [partition.pop() for _ in range(min(count, len(partition.items)))]
        if not partition.items:
            del self.partitions[key]
        self._note(key, taken)
        return taken

    def put_back(self, key: bytes, items: Sequence[QueueItem], now: float) -> None:
        """Return items that could not be delivered to where they were."""
        partition = self.partitions.setdefault(key, Partition(expires_at=now + DEFAULT_TTL_SECONDS))
        for item in reversed(items):
            partition.push(item)
        self._note(key, items)

    def after(self, key: bytes, number: int, now: float, *, limit: int) -> list[QueueItem]:
        """Return up to ``limit`` items that came after the one of that number, without removing them."""
        partition = self._partition(key, now)
        if partition is None:
            return []
        return list(islice((item for item in partition.items if item.number > number), limit))

    def count(self, key: bytes | None, now: float) -> int:
        """Return the number of items of one partition, or of all."""
        if key is not None:
            partition = self._partition(key, now)
            return len(partition.items) if partition else 0
        return sum(len(self.partitions[key].items) for key in self.live(now))

    def clear(self, key: bytes | None) -> None:
        """Drop the items of one partition, or of all."""
        for one in list(self.partitions) if key is None else [key]:
            self._drop(one)

    def live(self, now: float) -> list[bytes]:
        """Return the names of the partitions that hold anything."""
        return [key for key in list(self.partitions) if self._partition(key, now) is not None]

    def _partition(self, key: bytes, now: float) -> Partition | None:
        found = self.partitions.get(key)
        if found is not None and now >= found.expires_at:
            self._drop(key)
            return None
        return found

    def _drop(self, key: bytes) -> None:
        dropped = self.partitions.pop(key, None)
        if dropped is not None:
            self._note(key, dropped.items)

    def _note(self, key: bytes, items: Iterable[QueueItem]) -> None:
        self.journal.note((part_key(key), *(part_key(key, item) for item in items)))


def part_key(key: bytes, item: QueueItem | None = None) -> str:
    """Return the text that stands for a partition, or an item of it, where it is kept; it sorts as they do."""
    return f"{key.hex()}/" + ("" if item is None else f"{item.number:016}")


def _check(key: bytes, values: Sequence[bytes], ttl: int) -> None:
    check_partition(key)
    for value in values:
        if len(value) > MAX_ITEM_BYTES:
            raise QueueItemError(f"Queue item of {len(value)} bytes: an item may have at most {MAX_ITEM_BYTES}")
    if ttl < 0:
        raise QueueItemError(f"partition_ttl: expected seconds of at least 1, got {ttl}")


def check_partition(key: bytes) -> None:
    """Raise ``QueueItemError`` unless a partition may be called so."""
    if len(key) > 64:  # noqa: PLR2004 -- bytes, from the docstring of modal.Queue
        raise QueueItemError(f"Queue partition key: expected at most 64 bytes, got {len(key)}")
