"""Keeps account of what the loop does, for those who look on.

``driver`` tells it each step of each launch's lifecycle (``note``); it keeps the ``Track`` of the launch, how many launches are
in which state and what they cost, measures how late the loop is, and tells the ``Observer``. O(1) a step, whatever is held.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import ParamSpec

from modalflow.launch import messages as m
from modalflow.launch.events import LaunchEnded, LaunchStarted
from modalflow.launch.lifecycle import Lifecycle
from modalflow.launch.observe import NO_CLASS, NOBODY, REVOKED, SUCCESS, Ended, Gauges, Observer, Track
from modalflow.launch.price_tags import gpu_words, micro_usd_hours, read_price_tags
from modalflow.launch.transitions import State
from modalflow.translation.gpus.caps import parse_gpu

log = logging.getLogger(__name__)

P = ParamSpec("P")

LAG_EVERY = 1.0
"""Seconds between two looks at how late the loop is: a stall shows as what such a second took longer."""
LOOKS = 10
"""Such looks between two ``Observer.looked``: about as often as metrics are collected."""
GETTING_A_MACHINE = frozenset({State.QUEUED, State.LAUNCHING, State.RESOLVING, State.CLEARING, State.PAUSING})
"""States in which a prepared launch waits for Modal, or for its turn with it."""
WORDS: Mapping[State, str] = {
    State.ACCEPTED: "waiting for its turn",
    State.ADOPTING: "being taken over",
    State.TRANSLATING: "translation",
    State.PREPARING: "App and image",
    State.QUEUED: "waiting for a slot",
    State.LAUNCHING: "creation",
    State.RESOLVING: "looking for the sandbox",
    State.CLEARING: "ending an earlier sandbox",
    State.PAUSING: "pauses before trying again",
    State.HANDING_OVER: "hand-over",
}
"""The states before a task runs, in the words of the sentence that its owner gets."""
SHOWN_FROM = 0.05
"""Seconds from which a phase is worth a word in that sentence."""


class Sights:
    """The account of one backend. Used on the loop's thread only."""

    def __init__(self, observer: Observer = NOBODY, *, clock: Callable[[], float]) -> None:
        """Tell ``observer``; ``clock`` gives monotonic seconds."""
        self._observer = observer
        self._clock = clock
        self._states: Counter[State] = Counter()
        self._gpus_waiting: Counter[str] = Counter()
        self._gpus_running: Counter[str] = Counter()
        self._micro_usd_hour = 0
        self._lag = 0.0
        self._due = 0.0
        self._looks = 0
        self._timer: asyncio.TimerHandle | None = None
        self._complained = False

    # Launches

    def accept(self, launch_id: str, label: str, lifecycle: Lifecycle, trace: Mapping[str, str]) -> Track:
        """Begin the account of a launch."""
        now = self._clock()
        state = lifecycle.state
        track = Track(
            launch_id=launch_id, label=label, adopted=state is State.ADOPTING, accepted_at=now, since=now, state=state
        )  # fmt: skip
        self._count(track, 1)
        self._tell(self._observer.accepted, track, trace)
        return track

    def note(
        self, track: Track, happening: m.Happening, lifecycle: Lifecycle, commands: Sequence[m.Command]
    ) -> list[m.Command]:  # fmt: skip
        """Account for one step of a launch. Returns its commands; that it started is told in more words."""
        if track.over:
            return list(commands)
        now = self._clock()
        self._count(track, -1)
        self._learn(track, happening)
        ended = _ended_in(commands)
        after = State.ENDED if ended else lifecycle.state
        self._move(track, lifecycle, after, now)
        self._count(track, 1)
        if after is State.ENDED:
            self._tell(self._observer.ended, track, _account(track, ended, now))
            return list(commands)
        return [_in_words(track, command, now) for command in commands]

    def _move(self, track: Track, lifecycle: Lifecycle, after: State, now: float) -> None:
        before = track.state
        track.gpu = lifecycle.gpu or track.gpu
        track.sandbox_id = lifecycle.sandbox_id or track.sandbox_id
        if before is after:
            return
        seconds, track.since, track.state = now - track.since, now, after
        if track.running_since is not None:
            return
        track.phases[before] = track.phases.get(before, 0.0) + seconds
        track.waited += seconds if before in GETTING_A_MACHINE else 0.0
        self._tell(self._observer.phase_over, track, before, seconds)
        if after is State.RUNNING:
            track.running_since = now
            track.micro_usd_hour = track.prices.get(track.gpu, 0)
            track.prices = {}
            self._tell(self._observer.started, track, now - track.accepted_at)

    def _learn(self, track: Track, happening: m.Happening) -> None:
        """Keep what the launch will cost: from its plan, or, if an earlier scheduler made it, from the sandbox's tags."""
        if isinstance(happening, m.Translated):
            plan = happening.translation.sandbox
            if plan is not None and track.running_since is None:
                track.prices = micro_usd_hours(plan)
                track.gpu = next(iter(plan.gpu_candidates), None)  # what it waits for, until one is being tried
        elif track.adopted and isinstance(happening, m.Listed | m.LookedUp | m.Checked) and happening.status is not None:
            gpu, price = read_price_tags(happening.status.tags)
            if price and not track.micro_usd_hour:
                track.gpu = gpu
                track.prices = {gpu: price}
                if track.running_since is not None:
                    track.micro_usd_hour = price

    def _count(self, track: Track, by: int) -> None:
        if track.over:
            return
        self._states[track.state] += by
        self._micro_usd_hour += by * track.micro_usd_hour
        if track.gpu is not None:
            model, count = parse_gpu(track.gpu)
            (self._gpus_waiting if track.running_since is None else self._gpus_running)[model] += by * count

    # The loop

    def start(self) -> None:
        """Look at the running loop from now on."""
        self._sleep(asyncio.get_running_loop())

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._tell(self._observer.closed)

    def _sleep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + LAG_EVERY
        self._timer = loop.call_at(self._due, self._woke, loop)

    def _woke(self, loop: asyncio.AbstractEventLoop) -> None:
        self._lag = max(self._lag, loop.time() - self._due)
        self._looks += 1
        if self._looks >= LOOKS:
            self._looks = 0
            self._tell(self._observer.looked, self.gauges())
            self._lag = 0.0
        self._sleep(loop)

    def gauges(self) -> Gauges:
        """The account as it is now."""
        return Gauges(
            states={state: self._states[state] for state in State if state is not State.ENDED},
            gpus_waiting=dict(self._gpus_waiting),
            gpus_running=dict(self._gpus_running),
            micro_usd_hour=self._micro_usd_hour,
            loop_lag=self._lag,
        )

    def _tell(self, what: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Tell the observer. What it raises costs no launch anything; the log has it once."""
        try:
            what(*args, **kwargs)
        except Exception:
            if not self._complained:
                self._complained = True
                log.exception("modalflow: an observer of launches failed; this is said once, launches go on")


def _ended_in(commands: Sequence[m.Command]) -> LaunchEnded | None:
    ends = (c.event for c in commands if isinstance(c, m.Emit) and isinstance(c.event, LaunchEnded))
    return next(ends, None)


def _account(track: Track, event: LaunchEnded | None, now: float) -> Ended:
    ran = 0.0 if track.running_since is None else now - track.running_since
    outcome = REVOKED
    if event is not None:
        outcome = SUCCESS if event.success else str(event.failure or NO_CLASS)
    return Ended(
        outcome=outcome,
        reason=event.reason if event is not None else "",
        ran=ran,
        micro_usd=round(track.micro_usd_hour * ran / 3600),
    )


def _in_words(track: Track, command: m.Command, now: float) -> m.Command:
    if not isinstance(command, m.Emit) or not isinstance(command.event, LaunchStarted):
        return command
    told = start_in_words(track, now - track.accepted_at)
    track.phases = {}
    return m.Emit(event=replace(command.event, told=told))


def start_in_words(track: Track, seconds: float) -> str:
    """``sandbox sb-… has its task on A10G after 12.4 s: App and image 1.1 s, creation 11.0 s``."""
    on = f" on {gpu_words(track.gpu)}" if track.gpu else ""
    parts = [f"{WORDS[state]} {spent:.1f} s" for state, spent in track.phases.items() if spent >= SHOWN_FROM and state in WORDS]
    told = f": {', '.join(parts)}" if parts else ""
    return f"sandbox {track.sandbox_id} has its task{on} after {seconds:.1f} s{told}"
