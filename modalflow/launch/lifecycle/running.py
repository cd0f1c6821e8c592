"""A launch whose sandbox exists: the workload is handed over, the end waited for.

Comes from ``creating`` and ``adopting``, goes on to ``ending``.
"""

from __future__ import annotations

from modalflow.launch import messages as m
from modalflow.launch import outcomes
from modalflow.launch.events import LaunchStarted
from modalflow.launch.failures import FailureClass, of_error
from modalflow.launch.gateway import GatewayError, NotFound, RateLimited, Unavailable
from modalflow.launch.lifecycle.ending import clear, ended
from modalflow.launch.lifecycle.patience import SANDBOX_LIFE, answered, while_unreachable
from modalflow.launch.lifecycle.record import (
    Commands,
    Doom,
    Launch,
    backoff,
    fail,
    learn_from_tags,
    learn_keep,
    on,
    pause,
    release_slot,
    start_again,
)
from modalflow.launch.transitions import State


def go_on_with(launch: Launch, sandbox_id: str) -> Commands:
    """The sandbox of this launch is known: give it the workload if it lacks it."""
    launch.sandbox_id = sandbox_id
    launch.retries = 0
    # GPUs are held until the launch ends; a place among CPU creates only as long as its create takes.
    freed = release_slot(launch) if launch.gpu_try is None else []
    return freed + (run(launch) if launch.has_workload else _hand_over(launch, 0.0))


def _hand_over(launch: Launch, _now: float) -> Commands:
    launch.state = State.HANDING_OVER
    return [m.HandOver(sandbox_id=launch.the(launch.sandbox_id))]


@on(m.HandedOver, State.HANDING_OVER)
def on_handed_over(launch: Launch, _: m.HandedOver, _now: float) -> Commands:
    """The sandbox has all it needs."""
    return run(launch)


@on(m.HandOverFailed, State.HANDING_OVER)
def on_hand_over_failed(launch: Launch, happening: m.HandOverFailed, _now: float) -> Commands:
    """Try again; a sandbox that can never be given its workload is ended."""
    if not isinstance(happening.error, Unavailable | RateLimited):
        # The sandbox takes no input (any more): it ended, or has its workload already. Its end will tell.
        return wait(launch)
    launch.retries += 1
    if launch.retries <= launch.rules.retries:
        return pause(launch, backoff(launch, launch.retries, happening.error), _hand_over)
    launch.retries = 0
    reason = f"the workload could not be handed to the sandbox {launch.sandbox_id}: {happening.error}"
    launch.doom = Doom(reason=reason, silent=False, failure=of_error(happening.error))
    return clear(launch)


def run(launch: Launch) -> Commands:
    """Say that the sandbox has its workload, and wait for its end."""
    started = LaunchStarted(launch_id=launch.launch_id, key=launch.key, sandbox_id=launch.the(launch.sandbox_id))
    return [m.Emit(event=started), *wait(launch)]


def wait(launch: Launch) -> Commands:
    """Wait for the end of the sandbox."""
    launch.state = State.RUNNING
    launch.runs = True
    if launch.plan is not None:
        learn_keep(launch, launch.plan.tags)
    launch.plan = launch.candidates = None  # a task may run for hours: keep the launch small
    return [m.Wait(sandbox_id=launch.the(launch.sandbox_id), kept_for=launch.kept_for)]


@on(m.WaitFailed, State.RUNNING)
def on_wait_failed(launch: Launch, happening: m.WaitFailed, now: float) -> Commands:
    """Waiting broke off: look whether the sandbox runs."""
    return _lost(launch) if isinstance(happening.error, NotFound) else _unsure(launch, happening.error, now)


@on(m.CheckFailed, State.CHECKING)
def on_check_failed(launch: Launch, happening: m.CheckFailed, now: float) -> Commands:
    """Modal does not say whether the sandbox runs: ask again."""
    return _lost(launch) if isinstance(happening.error, NotFound) else _unsure(launch, happening.error, now)


def _unsure(launch: Launch, error: GatewayError, now: float) -> Commands:
    # Airflow hears of the task from the task itself: a running sandbox is not given up while it may live.
    return while_unreachable(launch, error, now, check, limit=SANDBOX_LIFE)


def check(launch: Launch, _now: float) -> Commands:
    """Ask whether the sandbox runs."""
    launch.state = State.CHECKING
    return [m.Check(sandbox_id=launch.the(launch.sandbox_id))]


@on(m.Checked, State.CHECKING)
def on_checked(launch: Launch, happening: m.Checked, _now: float) -> Commands:
    """It runs, has ended, or is not known any more."""
    answered(launch)
    if happening.status is None:
        return _lost(launch)
    if launch.adoption is not None:
        launch.was_queued, launch.adoption = launch.adoption.can_relaunch, None
    if happening.status.end is not None:
        return ended(launch, happening.status.end)
    learn_from_tags(launch, happening.status)
    return wait(launch)


def _lost(launch: Launch) -> Commands:
    if launch.adoption and launch.adoption.can_relaunch:
        launch.attempt += 1
        return start_again(launch)
    return fail(launch, FailureClass.LOST, outcomes.gone(launch.the(launch.sandbox_id)))
