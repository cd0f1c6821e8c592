"""What a workspace meets in the data centre: how much is there, how long things take, what is refused, who is preempted.

Flows in: the configuration, and changes while the emulator runs. Flows out: ``Conditions``, read by ``capacity``, ``admission``
and ``machines.scheduling``. Every default is a data centre without bounds, in which nothing takes time.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from modalflow.emulator.spans import Span, span_problem
from modalflow.emulator.state.gpus import UnknownGpuError, canonical

CPU = "cpu"
ANY_GPU = "*"
MODAL_PREEMPTION_GRACE = 30.0
"""Seconds between the signal and the end. Modal documents a signal and a grace period, not how long that of a sandbox is."""


class ConditionsError(ValueError):
    """A condition that cannot be; the text names it, its value and what to write."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """All of them; each workspace meets them for itself. Seconds are of the emulator's clock.

    Stock: ``gpus`` by Modal's names (``None``: unlimited, ``{}``: none), ``cpus`` in cores and ``memory_mb`` in MiB, as sandboxes
    request them (0.125 cores and 128 MiB if they do not say). ``max_gpus``: devices of all types that may be held at once.
    What is not there is waited for; ``give_up`` says after how many seconds Modal ends the wait, by GPU type, ``*`` for any other
    GPU, ``cpu`` for sandboxes without one; 0 refuses the creation itself. ``unavailable``: regions and clouds in which nothing
    is to be had.

    Refusals: ``max_sandboxes`` that live at once, ``create_rate_v1`` and ``create_rate_v2`` creations a second, of which
    ``create_burst`` may come at once (``None``: those of one second); ``retry_after``: seconds after which a refused creation is
    to be tried again, sent as Modal's retry policy, which the client obeys; ``None`` sends none, so the creation fails.

    ``scheduling_delay``: seconds from having what it needs to the start, or two bounds. ``preempt_after``: seconds (or bounds)
    after its start that a preemptible sandbox is preempted, with ``preempt_probability``; it gets SIGINT and ``preempt_grace``
    seconds.
    ``seed``: of all draws.
    """

    gpus: Mapping[str, int] | None = None
    cpus: float | None = None
    memory_mb: int | None = None
    max_gpus: int | None = None
    max_sandboxes: int | None = None
    give_up: Mapping[str, float] = field(default_factory=dict)
    unavailable: frozenset[str] = frozenset()
    scheduling_delay: Span = 0.0
    create_rate_v1: float | None = None
    create_rate_v2: float | None = None
    create_burst: int | None = None
    retry_after: float | None = None
    preempt_after: Span | None = None
    preempt_probability: float = 1.0
    preempt_grace: float = MODAL_PREEMPTION_GRACE
    seed: int = 0

    def __post_init__(self) -> None:
        if self.gpus is not None:
            object.__setattr__(self, "gpus", _stock(self.gpus))
        object.__setattr__(self, "give_up", {_waiting_for(name): seconds for name, seconds in self.give_up.items()})
        object.__setattr__(self, "unavailable", frozenset(self.unavailable))
        for name in ("cpus", "memory_mb", "max_gpus", "max_sandboxes", "retry_after", "preempt_grace"):
            _at_least_0(name, getattr(self, name))
        for name, seconds in self.give_up.items():
            _at_least_0(f"give_up: {name}", seconds)
        for name in ("create_rate_v1", "create_rate_v2"):
            if (rate := getattr(self, name)) is not None and not 0 < rate < math.inf:
                raise ConditionsError(f"{name}: expected creations a second above 0, got {rate}")
        if self.create_burst is not None and self.create_burst < 1:
            raise ConditionsError(f"create_burst: expected at least 1, got {self.create_burst}")
        for name in ("scheduling_delay", "preempt_after"):
            span = getattr(self, name)
            if span is not None and (problem := span_problem(span)):
                raise ConditionsError(f"{name}: {problem}")
        if not 0 <= self.preempt_probability <= 1:
            raise ConditionsError(f"preempt_probability: expected a number from 0 to 1, got {self.preempt_probability}")

    def patience(self, gpu_type: str | None) -> float | None:
        """Return the seconds that a sandbox with that GPU (``None``: without) waits for what it needs; ``None``: for ever."""
        if gpu_type is None:
            return self.give_up.get(CPU)
        return self.give_up.get(gpu_type, self.give_up.get(ANY_GPU))


class Weather:
    """The conditions as they are now. Changed in the emulator's loop only."""

    def __init__(self, conditions: Conditions) -> None:
        self.now = conditions

    def change(self, changes: Mapping[str, object]) -> None:
        """Replace the conditions named. ``ConditionsError`` if that cannot be, ``TypeError`` for a name that none has."""
        self.now = dataclasses.replace(self.now, **changes)  # type: ignore[arg-type]


def _stock(gpus: Mapping[str, int]) -> dict[str, int]:
    """Return a stock by canonical type; spellings of one type add up."""
    found: dict[str, int] = {}
    for name, count in gpus.items():
        try:
            type_ = canonical(name)
        except UnknownGpuError as error:
            raise ConditionsError(f"gpus: {error}") from error
        if count < 0:
            raise ConditionsError(f"gpus: {name}: expected a count of at least 0, got {count}")
        found[type_] = found.get(type_, 0) + count
    return found


def _waiting_for(name: str) -> str:
    if name in {CPU, ANY_GPU}:
        return name
    try:
        return canonical(name)
    except UnknownGpuError as error:
        raise ConditionsError(f"give_up: {error}, '*' for any other GPU, 'cpu' for none") from error


def _at_least_0(name: str, value: float | None) -> None:
    if value is not None and not 0 <= value < math.inf:
        raise ConditionsError(f"{name}: expected at least 0, got {value}")
