"""What is in a Dict: keys and values as the bytes that the client made of them, never looked into.

Flows in: keys, values and the time. Flows out: values, sizes, entries. An entry that nobody reads or writes for seven days ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from modalflow.emulator.state.journal import Journal
from modalflow.emulator.state.named import NamedObject

ENTRY_SECONDS = 7 * 24 * 3600.0
"""An entry ends this long after it was last read or written (docstring of ``modal.Dict``, 1.6.4)."""
MOST_COUNTED = 100_000
"""``Dict.len`` counts no further (its docstring, 1.6.4)."""


@dataclass(kw_only=True, slots=True)
class DictEntry:
    """One value, and when it was last used."""

    value: bytes
    used_at: float


@dataclass(kw_only=True, slots=True)
class ModalDict(NamedObject):
    """A Dict with its entries."""

    entries: dict[bytes, DictEntry] = field(default_factory=dict)
    journal: Journal = field(default_factory=Journal)
    """The keys whose entries changed (``part_key``)."""

    def get(self, key: bytes, now: float) -> bytes | None:
        """Return the value of ``key``, which counts as used."""
        entry = self._live(key, now)
        if entry is None:
            return None
        entry.used_at = now
        self._note(key)
        return entry.value

    def pop(self, key: bytes, now: float) -> bytes | None:
        """Remove ``key`` and return its value."""
        entry = self._live(key, now)
        if entry is None:
            return None
        self._remove(key)
        return entry.value

    def update(self, updates: Mapping[bytes, bytes], now: float, *, if_not_exists: bool) -> bool:
        """Set entries, with ``if_not_exists`` only those whose key is free. Return whether any was set."""
        chosen = {key: value for key, value in updates.items() if not (if_not_exists and self._live(key, now))}
        for key, value in chosen.items():
            self.entries[key] = DictEntry(value=value, used_at=now)
            self._note(key)
        return bool(chosen)

    def items(self, now: float) -> list[tuple[bytes, bytes]]:
        """Return all entries as they are now, oldest first; all count as used."""
        self._sweep(now)
        for entry in self.entries.values():
            entry.used_at = now
        self.journal.note(map(part_key, self.entries))
        return [(key, entry.value) for key, entry in self.entries.items()]

    def count(self, now: float) -> int:
        """Return the number of entries, at most ``MOST_COUNTED``."""
        self._sweep(now)
        return min(len(self.entries), MOST_COUNTED)

    def _live(self, key: bytes, now: float) -> DictEntry | None:
        entry = self.entries.get(key)
        if entry is not None and now - entry.used_at > ENTRY_SECONDS:
            self._remove(key)
            return None
        return entry

    def _sweep(self, now: float) -> None:
        for key in [key for key, entry in self.entries.items() if now - entry.used_at > ENTRY_SECONDS]:
            self._remove(key)

    def clear(self) -> None:
        """Remove all entries."""
        self.journal.note(map(part_key, self.entries))
        self.entries.clear()

    def _remove(self, key: bytes) -> None:
        del self.entries[key]
        self._note(key)

    def _note(self, key: bytes) -> None:
        self.journal.note((part_key(key),))


def part_key(key: bytes) -> str:
    """Return the text that stands for a key where its entry is kept."""
    return f"k{key.hex()}"
