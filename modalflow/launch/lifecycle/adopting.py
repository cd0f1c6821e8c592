"""A launch of an earlier scheduler is taken over: its sandbox is watched, given its workload, explained, or made anew.

``survey`` tells what Modal has of it, among all of its attempts. Goes on to ``running``, ``ending`` or, by translation, to
``preparing``. What Airflow said of the task when it handed it over decides the rest: a task that was still QUEUED can be rebuilt
(``can_relaunch``). It may have begun since: where its sandbox ended, Airflow is asked (``ending``).
"""

from __future__ import annotations

from modalflow.launch import messages as m
from modalflow.launch import outcomes
from modalflow.launch.failures import FailureClass
from modalflow.launch.lifecycle.creating import resolve
from modalflow.launch.lifecycle.ending import ended
from modalflow.launch.lifecycle.patience import SANDBOX_LIFE, UNREACHABLE_LIMIT, answered, while_unreachable
from modalflow.launch.lifecycle.record import Commands, Launch, fail, learn_from_tags, on, start_again, translate
from modalflow.launch.lifecycle.running import check, run, wait
from modalflow.launch.transitions import State


@on(m.Listed, State.ADOPTING)
def on_listed(launch: Launch, happening: m.Listed, now: float) -> Commands:
    """What runs is known; what does not may have ended, or never have been made."""
    launch.attempt = happening.attempt or launch.attempt
    status = happening.status
    if status is not None:
        learn_from_tags(launch, status)
        return _adopt(launch, status.sandbox_id, waits=status.waits)
    if launch.sandbox_id is not None and not launch.the(launch.adoption).can_relaunch:
        return check(launch, now)
    return find_adopted(launch, now)


def find_adopted(launch: Launch, _now: float) -> Commands:
    """Ask for everything that Modal has of this launch."""
    if launch.doom:
        return resolve(launch)
    launch.state = State.ADOPTING
    return [m.FindAttempts(sandbox_id=launch.the(launch.adoption).sandbox_id)]


@on(m.LookedUp, State.ADOPTING)
def on_adopted_looked_up(launch: Launch, happening: m.LookedUp, now: float) -> Commands:
    """Whether the earlier scheduler made a sandbox is known now."""
    answered(launch)
    launch.attempt = happening.attempt or launch.attempt
    status, adoption = happening.status, launch.the(launch.adoption)
    if status is not None and status.end is None:
        learn_from_tags(launch, status)
        return _adopt(launch, status.sandbox_id, waits=status.waits)
    if status is not None and status.end is not None:
        launch.sandbox_id = status.sandbox_id
        launch.adoption, launch.was_queued = None, adoption.can_relaunch
        return ended(launch, status.end)
    if launch.sandbox_id is not None:
        return check(launch, now)
    if adoption.can_relaunch:
        return start_again(launch)
    return fail(launch, FailureClass.LOST, outcomes.never_found(launch.launch_id))


@on(m.LookupFailed, State.ADOPTING)
def on_adopted_lookup_failed(launch: Launch, happening: m.LookupFailed, now: float) -> Commands:
    """Modal does not say: ask again."""
    # A task that runs, as far as Airflow knows, is not given up while its sandbox may live.
    limit = UNREACHABLE_LIMIT if launch.the(launch.adoption).can_relaunch else SANDBOX_LIFE
    return while_unreachable(launch, happening.error, now, find_adopted, limit=limit)


def _adopt(launch: Launch, sandbox_id: str, *, waits: bool) -> Commands:
    """Take a sandbox over. That it has its workload is certain only if its id was committed."""
    adoption = launch.the(launch.adoption)
    launch.adoption, launch.was_queued = None, adoption.can_relaunch
    launch.sandbox_id = sandbox_id
    if adoption.sandbox_id == sandbox_id:
        return wait(launch)
    if not adoption.can_relaunch:
        return run(launch)
    launch.in_line = waits
    return translate(launch)  # the plan says how the workload gets there
