"""What the launch loop does, in Airflow's own metrics: StatsD, Datadog or OpenTelemetry, whichever ``[metrics]`` turns on.

An ``Observer`` of ``launch.observe``, called on the loop's thread: a metric is a datagram or a number in memory, never a wait.
The table ``METRICS`` says what there is; ``docs/reference/metrics.md`` is made of it (``provider.metrics_page``). Plain StatsD
has no tags: there, and wherever ``[metrics] legacy_names_on`` says so, the metric is sent a second time with the value of its
``by`` in its name, as Airflow does with its own (3.3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from modalflow.launch.observe import REVOKED, SUCCESS, Ended, Gauges, Track
from modalflow.launch.transitions import State
from modalflow.translation.gpus.caps import parse_gpu

CPU = "cpu"
"""Value of the tag ``gpu`` for a task without one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One metric: its name below Airflow's prefix, its kind and unit, its tags, and the one of them that also makes a name."""

    name: str
    kind: Literal["counter", "gauge", "timer"]
    unit: str
    tags: tuple[str, ...]
    by: str
    meaning: str


def _metric(name: str, kind: Literal["counter", "gauge", "timer"], unit: str, *tags: str, by: str = "", meaning: str) -> Metric:
    return Metric(name=f"modal_executor.{name}", kind=kind, unit=unit, tags=tags, by=by, meaning=meaning)


LAUNCHES = _metric(
    "launches", "counter", "launches", "adopted", meaning="Launches accepted; `adopted` ones were made by another scheduler."
)
PHASE = _metric(
    "launch.phase",
    "timer",
    "ms",
    "phase",
    "gpu",
    by="phase",
    meaning="Time that a launch spent in one phase before its task had a sandbox; the phases are below.",
)
START = _metric(
    "launch.start",
    "timer",
    "ms",
    "gpu",
    by="gpu",
    meaning="From the hand-over by Airflow's scheduler until the sandbox had its task, everything included. Not for "
    "adopted launches.",
)
WAIT = _metric(
    "queue_wait",
    "timer",
    "ms",
    "gpu",
    by="gpu",
    meaning="The part of it that was spent on getting a machine: waiting for a slot or for the GPU, and every create until "
    "one held.",
)
ENDED = _metric(
    "launches.ended",
    "counter",
    "launches",
    "outcome",
    "gpu",
    by="outcome",
    meaning="Launches that ended, by outcome: `success` (the task reported its own state to Airflow, whatever it was), `revoked` "
    "(Airflow took it back), or the class of the failure.",
)
FAILURES = _metric(
    "failures",
    "counter",
    "launches",
    "class",
    "gpu",
    by="class",
    meaning="Those of them that failed, by class.",
)
RUN = _metric(
    "run",
    "timer",
    "ms",
    "outcome",
    "gpu",
    by="gpu",
    meaning="How long the sandbox had its task, as far as this scheduler saw it.",
)
COST = _metric(
    "cost_micro_usd",
    "counter",
    "millionths of a US dollar",
    "gpu",
    by="gpu",
    meaning="What ended launches cost by Modal's list prices, requested resources only; counted when a launch ends.",
)
RATE = _metric(
    "micro_usd_per_hour",
    "gauge",
    "millionths of a US dollar an hour",
    meaning="What all running sandboxes together cost by list price.",
)
IN_FLIGHT = _metric("in_flight", "gauge", "launches", "state", by="state", meaning="Launches in each state, `running` included.")
GPUS_WAITING = _metric("gpus.waiting", "gauge", "GPUs", "gpu", by="gpu", meaning="GPUs that launches are waiting for, by model.")
GPUS_RUNNING = _metric("gpus.running", "gauge", "GPUs", "gpu", by="gpu", meaning="GPUs under running tasks, by model.")
LAG = _metric(
    "loop_lag",
    "gauge",
    "ms",
    meaning="The longest that the launch loop was late in the last 10 s. Some ms are usual; seconds mean that the "
    "scheduler's host is overloaded.",
)

METRICS = (LAUNCHES, PHASE, START, WAIT, ENDED, FAILURES, RUN, COST, RATE, IN_FLIGHT, GPUS_WAITING, GPUS_RUNNING, LAG)
"""Everything that is sent, in the order of the page."""

Send = Callable[..., None]


class Metrics:
    """Sends to ``stats``: ``airflow.observability.stats``, or what has its ``incr``, ``gauge`` and ``timing``."""

    def __init__(self, stats: Any, *, with_names: bool) -> None:
        """``with_names``: send each metric with a ``by`` a second time, under a name of its own."""
        self._send: Mapping[str, Send] = {"counter": stats.incr, "gauge": stats.gauge, "timer": stats.timing}
        self._with_names = with_names
        self._seen: dict[Metric, set[str]] = {GPUS_WAITING: set(), GPUS_RUNNING: set()}

    def accepted(self, track: Track, trace: Mapping[str, str]) -> None:  # noqa: ARG002 - of the protocol
        """Count a launch."""
        self._put(LAUNCHES, 1, adopted=str(track.adopted).lower())

    def phase_over(self, track: Track, phase: State, seconds: float) -> None:
        """Time a phase."""
        self._put(PHASE, seconds * 1000, phase=_word(phase), gpu=_gpu(track))

    def started(self, track: Track, seconds: float) -> None:
        """Time the start, and the wait in it."""
        if not track.adopted:
            self._put(START, seconds * 1000, gpu=_gpu(track))
            self._put(WAIT, track.waited * 1000, gpu=_gpu(track))

    def ended(self, track: Track, ended: Ended) -> None:
        """Count the end, its class, and what it cost."""
        outcome, gpu = _word(ended.outcome), _gpu(track)
        self._put(ENDED, 1, outcome=outcome, gpu=gpu)
        if ended.outcome not in (SUCCESS, REVOKED):
            self._put(FAILURES, 1, **{"class": outcome, "gpu": gpu})
        if track.running_since is not None:
            self._put(RUN, ended.ran * 1000, outcome=outcome, gpu=gpu)
        if ended.micro_usd:
            self._put(COST, ended.micro_usd, gpu=gpu)

    def looked(self, gauges: Gauges) -> None:
        """Say how things are."""
        self._put(RATE, gauges.micro_usd_hour)
        self._put(LAG, gauges.loop_lag * 1000)
        for state, count in gauges.states.items():
            self._put(IN_FLIGHT, count, state=_word(state))
        for metric, counts in ((GPUS_WAITING, gauges.gpus_waiting), (GPUS_RUNNING, gauges.gpus_running)):
            for gpu in self._seen[metric].union(counts):  # one that is gone must be said to be 0
                self._put(metric, counts.get(gpu, 0), gpu=gpu)
            self._seen[metric].update(counts)

    def closed(self) -> None:
        """A gauge keeps its last value: this process has no launches any more."""
        self.looked(Gauges(states=dict.fromkeys(State, 0), gpus_waiting={}, gpus_running={}, micro_usd_hour=0, loop_lag=0.0))

    def _put(self, metric: Metric, value: float, **tags: str) -> None:
        send = self._send[metric.kind]
        send(metric.name, value, tags=tags)
        if self._with_names and metric.by:
            others = {name: text for name, text in tags.items() if name != metric.by}
            send(f"{metric.name}.{tags[metric.by]}", value, tags=others)


def _gpu(track: Track) -> str:
    return parse_gpu(track.gpu)[0] if track.gpu else CPU


def _word(text: str) -> str:
    """A value that is a name in every metrics system: ``handing over`` has a blank."""
    return text.replace(" ", "_")
