"""What is known of one launch, the table of its transitions, and the small moves that all of them are made of.

The other modules of this package fill the table: ``@on(happening, state, …)`` above a function says when it is taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from modalflow.launch import messages as m
from modalflow.launch import outcomes
from modalflow.launch.backoff import pause_before
from modalflow.launch.candidates import Candidates, Try
from modalflow.launch.events import LaunchEnded, LaunchNotice
from modalflow.launch.failures import Budget, FailureClass, of_error
from modalflow.launch.gateway import GatewayError, RateLimited, SandboxEnd, SandboxStatus
from modalflow.launch.keep_tags import instance_to_ask_for, keep_of
from modalflow.launch.transitions import InvalidTransition, State, Transitions
from modalflow.translation.plan import SandboxPlan
from modalflow.translation.tags import GRACE_TAG

STORY_LENGTH = 24
"""Happenings kept for an error's text: more than a usual launch has."""

T = TypeVar("T")

Commands = list[m.Command]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """The settings that decide: seconds, how often a transient failure is tried again, and a source of jitter in [0, 1).

    ``refusal_limit`` is how long creates that Modal refuses for now are tried; ``stamp`` writes a time of the monotonic clock for
    people.
    ``stop_grace``: seconds that a sandbox may take to stop whose pod does not say; 0 ends it at once.
    """

    create_timeout: float
    retries: int
    jitter: Callable[[], float]
    refusal_limit: float = 600.0
    stamp: Callable[[float], str] = "{:.0f} s".format
    stop_grace: int = 0
    infra_retries: int = 3

    def launches(self, budget: Budget) -> int:
        """Return how often a task that has not begun is launched again."""
        return self.retries if budget is Budget.LAUNCH else self.infra_retries


@dataclass(frozen=True, kw_only=True, slots=True)
class Adoption:
    """What is known of a launch that an earlier scheduler made."""

    sandbox_id: str | None
    can_relaunch: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Doom:
    """The launch is to end as soon as it holds no sandbox: ``silent`` after a revoke, else failed with ``reason``."""

    reason: str
    silent: bool
    failure: FailureClass = FailureClass.INTERNAL


@dataclass(eq=False, kw_only=True, slots=True)
class Launch:
    """One launch. Only the functions of this package change it."""

    launch_id: str
    key: Hashable
    rules: Rules
    state: State
    adoption: Adoption | None
    sandbox_id: str | None
    plan: SandboxPlan | None = None
    candidates: Candidates | None = None
    gpu_try: Try | None = None
    attempt: int = 1
    retries: int = 0
    holds_slot: bool = False
    since: float = 0.0
    """Since when it stands in line, or waits for the GPU under way."""
    told_in_line: bool = False
    queued_long: tuple[float, m.QueuedLong] | None = None
    """When that came and what it said, while it was not known that the launch stands in line (again)."""
    refused_since: float | None = None
    """Since when Modal refuses its creates."""
    runs: bool = False
    """Whether its sandbox has its workload."""
    unknown: GatewayError | m.CreateTimedOut | None = None
    """Why it is unknown whether the latest create made a sandbox; None while that is known."""
    create_lost: bool = False
    """A create with the workload in it was not answered and made nothing yet: Modal may still carry it out."""
    late_looks: int = 0
    """How often its sandbox was looked for after nobody waited for the launch any more."""
    was_queued: bool = False
    """Airflow had it QUEUED when it was taken over, so its sandbox may be of the part of the task before it deferred."""
    in_line: bool = False
    """The sandbox taken over from an earlier scheduler has no machine yet."""
    doom: Doom | None = None
    grace: int | None = None
    """Seconds that the sandbox may take to stop, where its pod says so."""
    keep: int = 0
    """Seconds that the sandbox is kept if its task fails."""
    kept_for: str | None = None
    """The task instance whose failure that is."""
    deadline: float = 0.0
    """When they are over, once it was asked to."""
    resume: Continuation | None = None
    """What follows a pause."""
    after_clearing: Continuation | None = None
    """What follows when a sandbox that is not wanted is gone, unless the launch is doomed."""
    silences: int = 0
    unreachable_since: float | None = None
    silence_told: bool = False
    clearing_since: float | None = None
    """When its sandbox was first to be ended and was not."""
    breaks: int = 0
    """Defects met since Modal last answered."""
    explaining: SandboxEnd | None = None
    relaunches: dict[Budget, int] = field(default_factory=dict)
    """How often the task was launched again because its sandbox ended before it began."""
    story: deque[tuple[float, State, str]] = field(default_factory=lambda: deque(maxlen=STORY_LENGTH))

    def told(self) -> str:
        """What happened so far, oldest first, with seconds since the first of them."""
        if not self.story:
            return "nothing happened yet"
        first = self.story[0][0]
        return ", ".join(f"+{at - first:.1f}s {state}: {name}" for at, state, name in self.story)

    @property
    def time_to_stop(self) -> int:
        """Seconds that the sandbox may take to stop; 0: it is ended at once."""
        return self.rules.stop_grace if self.grace is None else self.grace

    def the(self, value: T | None) -> T:
        """Return what must be known in this state."""
        if value is None:
            raise self.invalid("something is needed that is not known")
        return value

    def invalid(self, what: str) -> InvalidTransition:
        """Return the exception for what cannot be."""
        return InvalidTransition(f"launch {self.launch_id}: {what} while {self.state}; so far: {self.told()}")

    def failed(self, failure: FailureClass, reason: str) -> LaunchEnded:
        """Return the event of its failure."""
        return LaunchEnded(launch_id=self.launch_id, key=self.key, success=False, reason=reason, failure=failure)

    @property
    def has_workload(self) -> bool:
        """Whether a sandbox of this launch has its workload from birth."""
        return self.plan is None or self.plan.handover == "secret"


Continuation = Callable[[Launch, float], Commands]

TABLE: Transitions[Launch] = Transitions()
"""Filled by the decorated functions of this package; a pair that is not in it raises ``InvalidTransition``."""
on = TABLE.on


def translate(launch: Launch) -> Commands:
    """Have the launch translated: at its start, and whenever it starts again."""
    launch.state = State.TRANSLATING
    return [m.Translate()]


def start_again(launch: Launch) -> Commands:
    """Have it made anew, under the attempt that is set."""
    launch.sandbox_id = launch.adoption = None
    launch.runs = launch.was_queued = launch.told_in_line = False
    return translate(launch)


def learn_keep(launch: Launch, tags: Mapping[str, str]) -> None:
    """Read from a sandbox's tags whether it is kept when its task fails."""
    launch.keep, launch.kept_for = keep_of(tags), instance_to_ask_for(tags)


def learn_from_tags(launch: Launch, status: SandboxStatus) -> None:
    """Read the time to stop, and to keep, from a sandbox's tags, where it was not this scheduler that made the sandbox."""
    learn_keep(launch, status.tags)
    seconds = status.tags.get(GRACE_TAG, "")
    if launch.grace is None and seconds.isascii() and seconds.isdecimal():
        launch.grace = int(seconds)


def notice(launch: Launch, event: str, message: str, level: m.Level = "info") -> Commands:
    """Say something in the task's log and in its events."""
    told = LaunchNotice(launch_id=launch.launch_id, key=launch.key, event=event, message=message)
    return [m.WriteLog(level=level, text=message), m.Emit(event=told)]


# Ends


def release_slot(launch: Launch) -> Commands:
    """Give the slot back, if one is held."""
    held, launch.holds_slot = launch.holds_slot, False
    return [m.ReleaseSlot()] if held else []


def finish(launch: Launch, failure: FailureClass | None = None, reason: str = "") -> Commands:
    """End the launch with an event: a success unless there is a ``failure``."""
    launch.state = State.ENDED
    ended = LaunchEnded(launch_id=launch.launch_id, key=launch.key, success=failure is None, reason=reason, failure=failure)
    return [*release_slot(launch), m.Emit(event=ended), m.Forget()]


def fail(launch: Launch, failure: FailureClass, reason: str) -> Commands:
    """End the launch with a reason, in the task's log and the event."""
    return [m.WriteLog(level="error", text=reason), *finish(launch, failure, reason)]


def end_doomed(launch: Launch, doom: Doom) -> Commands:
    """End a launch that was waiting for the end of its sandbox only."""
    return quit_with(launch) if doom.silent else fail(launch, doom.failure, doom.reason)


def quit_with(launch: Launch) -> Commands:
    """End the launch without a word."""
    launch.state = State.ENDED
    return [*release_slot(launch), m.Forget()]


# Pauses


def pause(launch: Launch, seconds: float, resume: Continuation) -> Commands:
    """Do nothing for a while, then ``resume``."""
    launch.state = State.PAUSING
    launch.resume = resume
    return [m.Pause(seconds=seconds)]


@on(m.PauseOver, State.PAUSING)
def on_pause_over(launch: Launch, _: m.PauseOver, now: float) -> Commands:
    """Go on with what was put off."""
    resume, launch.resume = launch.the(launch.resume), None
    return resume(launch, now)


def backoff(launch: Launch, repetition: int, error: GatewayError | None = None) -> float:
    """Return the seconds before the ``repetition``-th try again (from 1)."""
    asked = error.retry_after if isinstance(error, RateLimited) else None
    return pause_before(repetition, jitter=launch.rules.jitter(), retry_after=asked)


def try_again(launch: Launch, error: GatewayError, step: Continuation) -> Commands:
    """Repeat a step that changed nothing, a bounded number of times."""
    launch.retries += 1
    if launch.retries > launch.rules.retries:
        return fail(launch, of_error(error), outcomes.gave_up(str(error), launch.rules.retries))
    return pause(launch, backoff(launch, launch.retries, error), step)
