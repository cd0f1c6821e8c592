"""What the launch loop shows to those who look on: metrics, traces, logs. They change nothing.

``sights`` keeps a ``Track`` of each launch and calls the ``Observer`` that the executor gave to ``backend``: on the loop's
thread, so an observer must be quick and must not wait. What one raises is logged and goes no further. No Airflow here:
``executor.metrics`` and ``executor.spans`` implement it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from modalflow.launch.transitions import State

SUCCESS = "success"
REVOKED = "revoked"
"""Outcome of a launch that Airflow took back: neither a success nor a failure."""
NO_CLASS = "failure"
"""Outcome of a failure that has no class."""


@dataclass(eq=False, kw_only=True, slots=True)
class Track:
    """One launch as observers see it; only ``sights`` changes it. Times are seconds of the backend's clock.

    ``micro_usd_hour`` is its list price in millionths of a US dollar an hour (``price_tags``) from when it runs, 0 where it is
    not known; ``prices`` are those of its candidates until then. ``phases`` are the seconds in each state before the workload
    was handed over; empty from then on. ``waited`` is the part of it that was spent on getting a machine.
    """

    launch_id: str
    label: str
    adopted: bool
    accepted_at: float
    since: float
    state: State
    gpu: str | None = None
    micro_usd_hour: int = 0
    running_since: float | None = None
    sandbox_id: str | None = None
    waited: float = 0.0
    phases: dict[State, float] = field(default_factory=dict)
    prices: Mapping[str | None, int] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether the launch has ended."""
        return self.state is State.ENDED


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """The end of a launch. ``ran`` is the seconds that its sandbox had its workload, as far as this process saw them.

    ``outcome`` is ``success``, ``revoked``, or the class of the failure. ``micro_usd`` is what that time costs by list price.
    """

    outcome: str
    reason: str
    ran: float
    micro_usd: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Gauges:
    """The loop at one moment. ``gpus`` counts GPUs (not launches) by model: being waited for, and running.

    ``loop_lag`` is the longest that the loop was late since the last time, in seconds.
    """

    states: Mapping[State, int]
    gpus_waiting: Mapping[str, int]
    gpus_running: Mapping[str, int]
    micro_usd_hour: int
    loop_lag: float


class Observer(Protocol):
    """Somebody who looks on. Called on the loop's thread, in the order of what happens to each launch."""

    def accepted(self, track: Track, trace: Mapping[str, str]) -> None:
        """A launch is there. ``trace`` is the W3C trace context of its task (``traceparent``), empty without one."""

    def phase_over(self, track: Track, phase: State, seconds: float) -> None:
        """A launch that does not run yet left ``phase``."""

    def started(self, track: Track, seconds: float) -> None:
        """The sandbox has its workload, ``seconds`` after the launch was accepted."""

    def ended(self, track: Track, ended: Ended) -> None:
        """The launch is over. Nothing follows."""

    def looked(self, gauges: Gauges) -> None:
        """Every few seconds."""

    def closed(self) -> None:
        """The loop stops; launches that are still there go on without it."""


class Nobody:
    """Looks at nothing."""

    def accepted(self, track: Track, trace: Mapping[str, str]) -> None:
        """See ``Observer``."""

    def phase_over(self, track: Track, phase: State, seconds: float) -> None:
        """See ``Observer``."""

    def started(self, track: Track, seconds: float) -> None:
        """See ``Observer``."""

    def ended(self, track: Track, ended: Ended) -> None:
        """See ``Observer``."""

    def looked(self, gauges: Gauges) -> None:
        """See ``Observer``."""

    def closed(self) -> None:
        """See ``Observer``."""


NOBODY = Nobody()
