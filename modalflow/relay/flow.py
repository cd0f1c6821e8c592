"""How much a caller may ask for: a bucket of requests for each, filled at a steady rate. Pure.

In: who asks, and when. Out: how long it has to wait, or that it is too much. One bucket costs about 200 bytes; the least used go.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    level: float
    at: float


class Buckets:
    """Buckets by caller."""

    def __init__(self, *, rate: float, burst: float, kept: int = 4096) -> None:
        """``rate`` requests a second, ``burst`` at once, for each of the ``kept`` callers that asked last."""
        self._rate = rate
        self._burst = burst
        self._kept = kept
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, caller: str, now: float, *, patience: float) -> float | None:
        """Count a request; return the seconds it has to wait, or ``None`` (not counted) if that is more than ``patience``."""
        bucket = self._buckets.pop(caller, None) or _Bucket(self._burst, now)
        self._buckets[caller] = bucket
        if len(self._buckets) > self._kept:
            self._buckets.popitem(last=False)
        bucket.level = min(self._burst, bucket.level + max(0.0, now - bucket.at) * self._rate)
        bucket.at = max(bucket.at, now)
        wait = max(0.0, (1.0 - bucket.level) / self._rate)
        if wait > patience:
            return None
        bucket.level -= 1.0
        return wait
