"""What is refused at the door: creations that come too fast, sandboxes past the number allowed, what nobody may wait for.

Flows in: creations, the emulator's time. Flows out: nothing, or a refusal with what Modal says. ``services.sandbox_create`` asks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from modalflow.emulator.clock import Clock
from modalflow.emulator.state.capacity import Demand, Inventory
from modalflow.emulator.state.conditions import Weather

RATE_EXCEEDED = "Sandbox creation rate limit exceeded"
"""Modal's words, as users quote them (read November 2026)."""


class NoRoomError(Exception):
    """A creation that is refused now. ``retry_after``: seconds until it is to be tried again, if that is to be said."""

    def __init__(self, text: str, retry_after: float | None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


@dataclass(slots=True)
class _Bucket:
    """Creations that may come now, refilled at the rate."""

    tokens: float
    filled_at: float

    def take(self, now: float, rate: float, size: float) -> bool:
        self.tokens = min(size, self.tokens + (now - self.filled_at) * rate)
        self.filled_at = now
        # A hair less than one will do: the time since the last fill is a difference of floats.
        if self.tokens < 1 - 1e-6:
            return False
        self.tokens -= 1
        return True


@dataclass(kw_only=True, slots=True)
class Admission:
    """The door of one workspace."""

    weather: Weather
    clock: Clock
    _buckets: dict[bool, _Bucket] = field(default_factory=dict)

    def admit(self, demand: Demand, inventory: Inventory, *, v2: bool) -> None:
        """``NoRoomError`` if a sandbox may not be created now."""
        now = self.weather.now
        rate = now.create_rate_v2 if v2 else now.create_rate_v1
        if rate is not None and not self._take(v2, rate, now.create_burst):
            raise NoRoomError(RATE_EXCEEDED, now.retry_after)
        if now.max_sandboxes is not None and inventory.members >= now.max_sandboxes:
            raise NoRoomError(f"Sandbox limit reached: {now.max_sandboxes} may run at once in this workspace", now.retry_after)
        gpu = demand.gpu.type if demand.gpu else None
        if now.patience(gpu) == 0 and not inventory.has_room(demand):
            raise NoRoomError("Insufficient capacity to create sandbox.", now.retry_after)

    def _take(self, v2: bool, rate: float, burst: int | None) -> bool:  # noqa: FBT001 -- which of the two kinds
        size = float(burst) if burst is not None else max(1.0, rate)
        bucket = self._buckets.setdefault(v2, _Bucket(size, self.clock.monotonic()))
        return bucket.take(self.clock.monotonic(), rate, size)
