"""How long to wait before asking Modal again. Pure; the random number is an argument.

Exponential with jitter, so that launches which failed together do not come back together.
"""

from __future__ import annotations

FIRST = 0.5
"""Seconds before the first repetition (before jitter)."""
LONGEST = 30.0
"""Seconds that no pause exceeds, unless Modal asked for more."""


def pause_before(repetition: int, *, jitter: float, retry_after: float | None = None) -> float:
    """Seconds to wait before the ``repetition``-th try again (from 1); ``jitter`` is a random number in [0, 1).

    Between half and all of the exponential step; never less than ``retry_after``, the wait that Modal asked for.
    """
    step: float = min(FIRST * 2.0 ** min(repetition - 1, 16), LONGEST)
    return max(step * (0.5 + jitter / 2), retry_after or 0.0)
