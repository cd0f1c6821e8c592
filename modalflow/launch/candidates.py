"""Which GPU to try next, and for how long: one budget of seconds shared by the candidates.

A Modal Sandbox takes one GPU string, and its create blocks until it is scheduled (up to 21 minutes, modal 1.6.4), so a
fallback list is ours: each candidate gets an equal share of what remains of the budget, round after round. Which of those that
were not tried in this round comes next is asked of ``pools``; while a launch stands in line there, its budget does not run.
Flows in: a plan's candidates and ``gpu_wait``. Flows out: ``Try``, which ``lifecycle`` turns into a bounded create.
"""

from __future__ import annotations

from collections.abc import Iterable
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

    __slots__ = ("_asked_at", "_budget", "_current", "_deadline", "_gpus", "_left", "_rounds", "_started")

    def __init__(self, gpus: tuple[str, ...], budget: float) -> None:
        """Take the GPU strings in order of preference and the seconds they may wait together."""
        self._gpus = gpus
        self._budget = budget
        self._left = list(gpus)
        self._rounds = 0
        self._started: float | None = None
        self._asked_at: float | None = None
        self._current: str | None = None
        self._deadline = 0.0

    @property
    def names(self) -> str:
        """All candidates, for a sentence."""
        return ", ".join(self._gpus)

    @property
    def rounds(self) -> int:
        """How often all candidates were tried already."""
        return self._rounds

    def waited(self, now: float) -> float:
        """Seconds since the first try, without those in line."""
        return 0.0 if self._started is None else (now if self._asked_at is None else self._asked_at) - self._started

    def choices(self, now: float) -> tuple[str, ...]:
        """Those that were not tried in this round, best first; none when the budget is used up. Each is tried at least once.

        The budget stands still until ``take``.
        """
        if self._rounds and self._budget - self.waited(now) < SHORTEST_TRY:
            return ()
        if self._asked_at is None:
            self._asked_at = now
        return tuple(self._left)

    def take(self, gpu: str, now: float) -> Try:
        """Try one of the ``choices`` now."""
        waited = self.waited(now)
        self._started, self._asked_at = now - waited, None
        bound = max((self._budget - waited) / len(self._left), SHORTEST_TRY)
        self._left.remove(gpu)
        if not self._left:
            self._left = list(self._gpus)
            self._rounds += 1
        self._current, self._deadline = gpu, now + bound
        return Try(gpu=gpu, bound=bound)

    def again(self, now: float) -> Try | None:
        """The current candidate for what is left of its share (its create failed for another reason), if anything is."""
        if self._current is None or self._deadline - now < SHORTEST_TRY:
            return None
        return Try(gpu=self._current, bound=self._deadline - now)

    def put_back(self) -> None:
        """Take the current candidate for one that was not tried: Modal would not hear of it."""
        if self._current is None:
            return
        if self._rounds and self._left == list(self._gpus):
            self._rounds -= 1
            self._left = []
        self._left.insert(0, self._current)
        self._current = None

    def drop(self, gpus: Iterable[str]) -> bool:
        """Leave candidates out from now on: they can never be had. Whether any is left."""
        out = set(gpus)
        self._gpus = tuple(gpu for gpu in self._gpus if gpu not in out)
        self._left = [gpu for gpu in self._left if gpu not in out]
        if not self._left:
            self._left = list(self._gpus)
            self._rounds += 1
        return bool(self._gpus)
