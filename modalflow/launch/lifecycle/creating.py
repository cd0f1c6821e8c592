"""The sandbox of a launch is made: candidate by candidate, and by name where the outcome of a create is unknown.

Comes from ``preparing``, goes on to ``running``.
"""

from __future__ import annotations

from modalflow.launch import messages as m
from modalflow.launch import outcomes
from modalflow.launch.backoff import pause_before
from modalflow.launch.candidates import Candidates
from modalflow.launch.failures import FailureClass, of_error, with_hint
from modalflow.launch.gateway import CapacityExhausted, GatewayError, NameTaken, RateLimited, Unavailable
from modalflow.launch.identity import attempt_name
from modalflow.launch.lifecycle.ending import ask_to_stop, clear, ended
from modalflow.launch.lifecycle.patience import answered, tell_failure, while_unreachable
from modalflow.launch.lifecycle.record import (
    Commands,
    Launch,
    end_doomed,
    fail,
    learn_from_tags,
    on,
    pause,
    release_slot,
    try_again,
)
from modalflow.launch.lifecycle.running import go_on_with
from modalflow.launch.lifecycle.waiting import wait_told
from modalflow.launch.transitions import State

LATE_LOOKS = 6
LATE_PAUSE = 10.0
"""How often, and every how many seconds, the sandbox of an unanswered create is looked for once nobody waits for its launch any
more. What Modal makes still later is ended by the sweep: it has both of our tags, and its task is over."""
SLOW_CREATE = 2.0
"""Seconds after which a GPU create is reported as waiting: a candidate that is in stock is scheduled well within them."""


def line_up(launch: Launch, now: float) -> Commands:
    """Stand in line for a create, giving back what the one before held; end where the wait for a GPU is used up."""
    gpus: tuple[str, ...] = ()
    if (candidates := launch.candidates) is not None:
        gpus = candidates.choices(now)
        if not gpus:
            return fail(launch, FailureClass.CAPACITY, outcomes.no_capacity(candidates.names, candidates.waited(now)))
    launch.state = State.QUEUED
    if launch.refused_since is None:
        launch.since = now
    return [*release_slot(launch), m.RequestSlot(gpus=gpus)]


@on(m.SlotGranted, State.QUEUED)
def on_slot_granted(launch: Launch, happening: m.SlotGranted, now: float) -> Commands:
    """Its turn came."""
    launch.holds_slot = True
    if launch.candidates is None:
        return _create(launch, now)
    before, following = launch.gpu_try, launch.candidates.take(launch.the(happening.gpu), now)
    launch.gpu_try, launch.since = following, now
    moved = before is not None and before.gpu != following.gpu
    return [*(wait_told(launch, following.gpu) if moved else []), *_create(launch, now)]


@on(m.SlotRefused, State.QUEUED)
def on_slot_refused(launch: Launch, happening: m.SlotRefused, now: float) -> Commands:
    """Some candidates are more than the site allows: go on with the others, if there are any."""
    if launch.the(launch.candidates).drop(happening.gpus):
        return line_up(launch, now)
    return fail(launch, FailureClass.REFUSED, happening.reason)


def _same_again(launch: Launch, now: float) -> Commands:
    """Create again what failed for a reason other than capacity; a GPU whose share is used up is followed by the next."""
    if launch.candidates is not None:
        following = launch.candidates.again(now)
        if following is None:
            return line_up(launch, now)
        launch.gpu_try = following
    return _create(launch, now)


def _create(launch: Launch, _now: float) -> Commands:
    launch.state = State.LAUNCHING
    launch.sandbox_id = None
    launch.unknown = m.CreateTimedOut()  # until the call answers
    gpu = launch.gpu_try
    return [
        m.Create(
            plan=launch.the(launch.plan),
            name=attempt_name(launch.launch_id, launch.attempt),
            attempt=launch.attempt,
            gpu=gpu.gpu if gpu else None,
            bound=gpu.bound if gpu else launch.rules.create_timeout,
            slow_after=SLOW_CREATE if gpu else None,
        )
    ]


@on(m.CreateSlow, *State)
def on_create_slow(launch: Launch, happening: m.CreateSlow, _now: float) -> Commands:
    """Tell what is waited for; late word of an earlier attempt is ignored."""
    current = launch.state is State.LAUNCHING and happening.attempt == launch.attempt
    if not current or launch.gpu_try is None or launch.doom:
        return []
    return wait_told(launch, launch.gpu_try.gpu)


@on(m.Created, State.LAUNCHING)
def on_created(launch: Launch, happening: m.Created, _now: float) -> Commands:
    """The sandbox exists."""
    launch.unknown = launch.refused_since = None
    launch.create_lost = False  # should it still come: the name is taken
    if launch.doom:
        launch.sandbox_id = happening.sandbox_id
        return clear(launch)
    return go_on_with(launch, happening.sandbox_id)


@on(m.CreateFailed, State.LAUNCHING)
def on_create_failed(launch: Launch, happening: m.CreateFailed, now: float) -> Commands:
    """No sandbox was made, or the answer was lost."""
    error = happening.error
    if isinstance(error, Unavailable | NameTaken):
        launch.unknown = error
        return resolve(launch)
    launch.unknown = None
    if launch.doom:
        return resolve(launch) if launch.create_lost else end_doomed(launch, launch.doom)
    if isinstance(error, CapacityExhausted) and launch.candidates is not None:
        return _after_no_capacity(launch, launch.candidates, now)
    if isinstance(error, RateLimited):
        return _refused(launch, error, now)
    if isinstance(error, CapacityExhausted):
        return try_again(launch, error, _same_again)
    return fail(launch, of_error(error), with_hint(error))


def _refused(launch: Launch, error: RateLimited, now: float) -> Commands:
    """Back into the line, where the pace is set by what Modal refuses. Nothing was made, so no retry is used up."""
    launch.refused_since = now if launch.refused_since is None else launch.refused_since
    refused_for = now - launch.refused_since
    if refused_for >= launch.rules.refusal_limit:
        return fail(launch, FailureClass.QUOTA, outcomes.refused_for(refused_for, str(error)))
    if launch.candidates is not None:
        launch.candidates.put_back()
    return line_up(launch, now)


def _after_no_capacity(launch: Launch, candidates: Candidates, now: float) -> Commands:
    """Go to the next candidate; from the second round on with a pause, so that refusals that come at once do not spin."""
    launch.attempt += 1
    launch.retries = 0
    if candidates.rounds == 0:
        return line_up(launch, now)
    seconds = pause_before(candidates.rounds, jitter=launch.rules.jitter())
    return [*release_slot(launch), *pause(launch, seconds, line_up)]


@on(m.CreateTimedOut, State.LAUNCHING)
def on_create_timed_out(launch: Launch, happening: m.CreateTimedOut, _now: float) -> Commands:
    """The call was cut off: its sandbox may exist."""
    launch.unknown = happening
    return resolve(launch)


# A create whose outcome is unknown


def resolve(launch: Launch, _now: float = 0.0) -> Commands:
    """Look for the sandbox of this attempt by its name; of an earlier scheduler's launch, whose attempts are unknown, for all."""
    launch.state = State.RESOLVING
    if launch.adoption is not None:
        return [m.FindAttempts(sandbox_id=launch.adoption.sandbox_id)]
    return [m.Find(name=attempt_name(launch.launch_id, launch.attempt))]


@on(m.LookedUp, State.RESOLVING)
def on_looked_up(launch: Launch, happening: m.LookedUp, now: float) -> Commands:
    """Whether the create made a sandbox is known now."""
    answered(launch)
    status, unknown = happening.status, launch.unknown
    launch.unknown = None
    if status is None or (status.end is not None and (launch.doom or not launch.has_workload)):
        return _nothing_there(launch, unknown, now, ended=status is not None)
    launch.sandbox_id = status.sandbox_id
    if status.end is not None:
        return release_slot(launch) + ended(launch, status.end)
    if launch.doom and launch.adoption is not None:  # it may have run for long
        learn_from_tags(launch, status)
        if launch.time_to_stop:
            return ask_to_stop(launch, launch.time_to_stop, launch.doom.reason, now)
    # The client terminates a GPU sandbox whose create it gave up, so one that is found is about to go: make sure, then create
    # the next. Only a name that was taken already (by an earlier scheduler) stands for a sandbox that stays.
    if launch.doom or (launch.candidates is not None and not isinstance(unknown, NameTaken)):
        return clear(launch, _same_again)
    return go_on_with(launch, status.sandbox_id)


def _nothing_there(launch: Launch, unknown: GatewayError | m.CreateTimedOut | None, now: float, *, ended: bool) -> Commands:
    if launch.doom:
        return end_doomed(launch, launch.doom) if ended else _look_again(launch, unknown)
    timed_out = not isinstance(unknown, GatewayError)
    # The same name again unless that sandbox ended: should a lost create still arrive, its name is taken and nothing runs
    # twice. A GPU's next candidate needs a name of its own; its workload comes on stdin, so a late twin has none.
    if ended or (timed_out and launch.candidates is not None):
        launch.attempt += 1
    if timed_out and launch.candidates is not None:
        return _same_again(launch, now)
    error = unknown if isinstance(unknown, GatewayError) else Unavailable(outcomes.create_lost(launch.rules.create_timeout))
    launch.create_lost = launch.has_workload and not (ended or isinstance(error, NameTaken))
    if launch.create_lost and launch.retries >= launch.rules.retries:
        told = tell_failure(launch, of_error(error), outcomes.gave_up(str(error), launch.rules.retries))
        return told + _look_again(launch, error)
    return try_again(launch, error, _same_again)


def _look_again(launch: Launch, unknown: GatewayError | m.CreateTimedOut | None) -> Commands:
    """End a launch of which nothing is there, unless a create with its workload may still be carried out: look again then."""
    doom, adoption = launch.the(launch.doom), launch.adoption
    lost = unknown is not None and not isinstance(unknown, NameTaken)
    launch.create_lost |= launch.has_workload and (lost or (adoption is not None and adoption.can_relaunch))
    launch.late_looks += 1
    if not launch.create_lost or launch.late_looks > LATE_LOOKS:
        return end_doomed(launch, doom)
    told = tell_failure(launch, doom.failure, doom.reason)
    return [*told, *release_slot(launch), *pause(launch, LATE_PAUSE, resolve)]


@on(m.LookupFailed, State.RESOLVING)
def on_lookup_failed(launch: Launch, happening: m.LookupFailed, now: float) -> Commands:
    """Modal does not say: ask again."""
    return while_unreachable(launch, happening.error, now, resolve)
