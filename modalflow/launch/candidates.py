"""Which GPU to try next, and for how long: one budget of seconds shared by the candidates.

A Modal Sandbox takes one GPU string, and its create blocks until it is scheduled (up to 21 minutes, modal 1.6.4), so a
fallback list is ours: each candidate gets an equal share of what remains of the budget, round after round.
Flows in: a plan's candidates and ``gpu_wait``. Flows out: ``Try``, which ``lifecycle`` turns into a bounded create.
"""

from __future__ import annotations

from dataclasses import dataclass

SHORTEST_TRY = 1.0
"""Seconds that a try gets at least: less than one poll of the client (0.5 s) plus its RPCs would be refused unseen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Try:
    """The candidate of the next attempt and the seconds that its create may take."""

    gpu: str
    bound: float


class Candidates:
    """The candidates of one launch in turn. Times are seconds of one monotonic clock, given by the caller."""

    __slots__ = ("_budget", "_current", "_deadline", "_gpus", "_started", "_tries")

    def __init__(self, gpus: tuple[str, ...], budget: float) -> None:
        """Take the GPU strings in order of preference and the seconds they may wait together."""
        self._gpus = gpus
        self._budget = budget
        self._started: float | None = None
        self._tries = 0
        self._current: str | None = None
        self._deadline = 0.0

    @property
    def names(self) -> str:
        """All candidates, for a sentence."""
        return ", ".join(self._gpus)

    @property
    def rounds(self) -> int:
        """How often all candidates were tried already."""
        return self._tries // len(self._gpus)

    def waited(self, now: float) -> float:
        """Seconds since the first try."""
        return 0.0 if self._started is None else now - self._started

    def next(self, now: float) -> Try | None:
        """Return the next try, or ``None`` when the budget is used up. Each candidate is tried at least once."""
        if self._started is None:
            self._started = now
        remaining = self._budget - (now - self._started)
        rounds, place = divmod(self._tries, len(self._gpus))
        if rounds and remaining < SHORTEST_TRY:
            return None
        self._tries += 1
        bound = max(remaining / (len(self._gpus) - place), SHORTEST_TRY)
        self._current, self._deadline = self._gpus[place], now + bound
        return Try(gpu=self._gpus[place], bound=bound)

    def again(self, now: float) -> Try | None:
        """Return the current candidate for what is left of its share (a create that failed for another reason), else the next."""
        if self._current is None or self._deadline - now < SHORTEST_TRY:
            return self.next(now)
        return Try(gpu=self._current, bound=self._deadline - now)
