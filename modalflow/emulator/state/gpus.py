"""GPU types that Modal knows.

Flows in: the GPU of a sandbox's request, as a client spells it. Flows out: its canonical type and count, or why Modal refuses
it. How many there are is ``capacity``'s.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

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
