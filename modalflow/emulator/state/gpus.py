"""GPU types that Modal knows, and the stock of an emulated workspace: who runs, who waits.

Flows in: the GPU of a sandbox's request, and the ends of sandboxes. Flows out: which sandboxes may start now. Pure state, no
processes and no wire; ``sandboxes`` acts on what it answers.
"""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_COUNT: Mapping[str, int] = {
    "T4": 8,
    "L4": 8,
    "A10": 4,
    "L40S": 8,
    "A100-40GB": 8,
    "A100-80GB": 8,
    "RTX-PRO-6000": 8,
    "H100": 8,
    "H200": 8,
    "B200": 8,
    "B300": 8,
}
"""Devices that one container can have, by canonical type (Modal's guide on GPUs, read November 2026)."""

_ALIASES: Mapping[str, str] = {"A10G": "A10", "A100": "A100-40GB", "H100!": "H100", "B200+": "B200"}


class UnknownGpuError(ValueError):
    """A GPU type or count that Modal refuses; the text says which and what is known."""


def canonical(name: str) -> str:
    """Return the inventory entry of a GPU type as a client spells it (any case); ``UnknownGpuError`` if there is none."""
    upper = name.upper()
    upper = _ALIASES.get(upper, upper)
    if upper in MAX_COUNT:
        return upper
    known = [*MAX_COUNT, *_ALIASES]
    near = difflib.get_close_matches(upper, known, 1, 0.6)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(MAX_COUNT)}"
    raise UnknownGpuError(f"Unknown GPU type {name!r}; {hint}")


@dataclass(frozen=True, slots=True)
class GpuRequest:
    """``count`` devices of one canonical type; ``label`` is how the client spelled it."""

    type: str
    count: int
    label: str


def checked_request(name: str, count: int) -> GpuRequest:
    """Return the request, or raise ``UnknownGpuError`` for an unknown type or a count outside 1..max."""
    found = canonical(name)
    if not 1 <= count <= MAX_COUNT[found]:
        raise UnknownGpuError(f"GPU count {count} for {name!r} is out of range; expected 1 to {MAX_COUNT[found]}")
    return GpuRequest(found, count, name)


@dataclass(slots=True)
class GpuInventory:
    """Devices by canonical type, first come first served within a type.

    ``stock`` of ``None`` means unlimited. A type that is not in stock waits for ever, as on Modal, where the client gives up.
    """

    stock: Mapping[str, int] | None = None
    _free: dict[str, int] = field(init=False)
    _held: dict[str, GpuRequest] = field(default_factory=dict)
    _queues: dict[str, deque[tuple[str, GpuRequest]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._free = dict(self.stock or {})

    def acquire(self, holder: str, request: GpuRequest) -> bool:
        """Give ``holder`` its devices now (``True``), or queue it (``False``)."""
        if self.stock is None:
            return True
        queue = self._queues.setdefault(request.type, deque())
        if not queue and self._free.get(request.type, 0) >= request.count:
            self._take(holder, request)
            return True
        queue.append((holder, request))
        return False

    def release(self, holder: str) -> list[str]:
        """Forget ``holder``, running or queued; return who may start now, in order."""
        held = self._held.pop(holder, None)
        if held is not None:
            self._free[held.type] += held.count
        started: list[str] = []
        for type_, queue in self._queues.items():
            for entry in [entry for entry in queue if entry[0] == holder]:
                queue.remove(entry)
            while queue and self._free.get(type_, 0) >= queue[0][1].count:
                waiting, request = queue.popleft()
                self._take(waiting, request)
                started.append(waiting)
        return started

    def _take(self, holder: str, request: GpuRequest) -> None:
        self._free[request.type] -= request.count
        self._held[holder] = request

    def queued(self) -> list[str]:
        """Who waits, by type and then in order of arrival."""
        return [holder for queue in self._queues.values() for holder, _ in queue]
