"""How many creates a second: a token bucket whose rate follows what Modal refuses.

Modal limits the creates of a workspace and answers RESOURCE_EXHAUSTED beyond (its sandbox guide, 2026-10, speaks of about 20 a
second; users report 5, and 40 after a raise). A refused create made nothing. Flows in: takes, refusals, acceptances, each with
its time. Flows out: whether a create may go, and when the next one may. Pure; ``pools`` holds one for each kind of sandbox.

The rate falls to half at a refusal and grows by a little with each create that is accepted (additive increase, multiplicative
decrease, as TCP does): several schedulers of one workspace share it without knowing of each other.
"""

from __future__ import annotations

DECREASE = 0.5
"""What a refusal leaves of the rate."""
CUT_INTERVAL = 1.0
"""Seconds in which further refusals count as the same one: those of creates that were under way together."""
GROWTH = 0.01
"""Part of the limit that an accepted create adds: from half of it back to all of it takes 50 creates."""
FLOOR = 0.2
"""Creates a second that always may go: at a quota that is full, one in five seconds asks whether it still is."""
FIRST_LIMIT = 20.0
"""Rate from which a first refusal is counted where no limit was set."""
UNLIMITED_FROM = 500.0
"""Rate at which a limit that only refusals made is dropped again."""
BURST = 1.0
"""Seconds of unused rate that may go at once."""


class AdaptiveRate:
    """Creates a second of one kind. Times are seconds of one monotonic clock, given by the caller."""

    __slots__ = ("_at", "_cut_at", "_limit", "_not_before", "_rate", "_tokens")

    def __init__(self, limit: float | None) -> None:
        """Start at ``limit`` creates a second, never to be exceeded; ``None`` for no limit but what refusals teach."""
        self._limit = limit
        self._rate = limit
        self._tokens = self._capacity
        self._at: float | None = None
        self._cut_at: float | None = None
        self._not_before = float("-inf")

    @property
    def rate(self) -> float | None:
        """Creates a second as of now; ``None`` for unlimited."""
        return self._rate

    @property
    def is_cut(self) -> bool:
        """Whether refusals hold the rate below its limit."""
        return self._rate is not None and self._rate != self._limit

    def wait(self, now: float) -> float:
        """Seconds until a create may go; 0 if one may now."""
        self._refill(now)
        missing = 0.0 if self._rate is None or self._tokens >= 1 else (1 - self._tokens) / self._rate
        return max(missing, self._not_before - now, 0.0)

    def take(self, now: float) -> None:
        """Count a create that goes now."""
        self._refill(now)
        if self._rate is not None:
            self._tokens -= 1

    def accepted(self) -> None:
        """Count a create that Modal carried out."""
        if self._rate is None or self._rate == self._limit:
            return
        if self._limit is not None:
            self._rate = min(self._limit, self._rate + GROWTH * self._limit)
            return
        self._rate *= 1 + GROWTH
        if self._rate >= UNLIMITED_FROM:
            self._rate = None

    def refused(self, now: float, retry_after: float | None) -> None:
        """Count a create that Modal refused for now; ``retry_after`` is the wait in seconds that it asked for."""
        self._refill(now)
        if self._cut_at is None or now - self._cut_at >= CUT_INTERVAL:
            self._cut_at = now
            floor = FLOOR if self._limit is None else min(FLOOR, self._limit)
            self._rate = max(floor, DECREASE * (FIRST_LIMIT if self._rate is None else self._rate))
        self._tokens = min(self._tokens, 0.0)
        self._not_before = max(self._not_before, now + (retry_after or 0.0))

    @property
    def _capacity(self) -> float:
        return 0.0 if self._rate is None else max(1.0, self._rate * BURST)

    def _refill(self, now: float) -> None:
        if self._at is not None and self._rate is not None and now > self._at:
            self._tokens = min(self._capacity, self._tokens + (now - self._at) * self._rate)
        self._at = now if self._at is None else max(self._at, now)
