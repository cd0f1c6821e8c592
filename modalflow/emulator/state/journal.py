"""Which parts of a large record changed since they were last written, so that a change costs what it changed.

Flows in: the keys that a Volume or a Dict touches. Flows out: those keys, to ``persistence``, once it has asked for them;
an emulator that keeps nothing notes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable


class Journal:
    """Keys of parts that were made, changed or removed."""

    def __init__(self) -> None:
        self._keys: set[str] | None = None

    def note(self, keys: Iterable[str]) -> None:
        """Remember them, if anybody will ask."""
        if self._keys is not None:
            self._keys.update(keys)

    @property
    def keys(self) -> frozenset[str] | None:
        """What was touched; ``None``: nothing was written yet, so everything counts."""
        return None if self._keys is None else frozenset(self._keys)

    def written(self) -> None:
        """All is written: begin anew."""
        self._keys = set()
