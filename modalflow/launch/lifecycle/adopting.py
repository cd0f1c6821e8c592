"""A launch of an earlier scheduler is taken over: its sandbox is watched, given its workload, explained, or made anew.

Goes on to ``running``, ``ending`` or, by translation, to ``preparing``.
"""

from __future__ import annotations

from modalflow.launch import messages as m
from modalflow.launch import outcomes
from modalflow.launch.failures import FailureClass
from modalflow.launch.identity import attempt_name
from modalflow.launch.lifecycle.creating import resolve
from modalflow.launch.lifecycle.ending import ended
from modalflow.launch.lifecycle.patience import SANDBOX_LIFE, UNREACHABLE_LIMIT, answered, while_unreachable
from modalflow.launch.lifecycle.record import Commands, Launch, fail, learn_grace, on, translate
from modalflow.launch.lifecycle.running import check, relaunch, run, wait
from modalflow.launch.transitions import State


@on(m.Listed, State.ADOPTING)
def on_listed(launch: Launch, happening: m.Listed, now: float) -> Commands:
    """What runs is known; what does not may have ended, or never have been made."""
    if happening.status is not None:
        learn_grace(launch, happening.status)
        return _adopt(launch, happening.status.sandbox_id)
    return check(launch, now) if launch.sandbox_id is not None else _find_adopted(launch, now)


def _find_adopted(launch: Launch, _now: float) -> Commands:
    if launch.doom:
        return resolve(launch)
    launch.state = State.ADOPTING
    return [m.Find(name=attempt_name(launch.launch_id, 1))]


@on(m.LookedUp, State.ADOPTING)
def on_adopted_looked_up(launch: Launch, happening: m.LookedUp, _now: float) -> Commands:
    """Whether the earlier scheduler made a sandbox is known now."""
    answered(launch)
    status = happening.status
    if status is not None and status.end is not None:
        launch.sandbox_id = status.sandbox_id
        return ended(launch, status.end)
    if status is not None:
        learn_grace(launch, status)
        return _adopt(launch, status.sandbox_id)
    if launch.the(launch.adoption).can_relaunch:
        return relaunch(launch)
    return fail(launch, FailureClass.LOST, outcomes.never_found(launch.launch_id))


@on(m.LookupFailed, State.ADOPTING)
def on_adopted_lookup_failed(launch: Launch, happening: m.LookupFailed, now: float) -> Commands:
    """Modal does not say: ask again."""
    # A task that runs, as far as Airflow knows, is not given up while its sandbox may live.
    limit = UNREACHABLE_LIMIT if launch.the(launch.adoption).can_relaunch else SANDBOX_LIFE
    return while_unreachable(launch, happening.error, now, _find_adopted, limit=limit)


def _adopt(launch: Launch, sandbox_id: str) -> Commands:
    """Take a running sandbox over. That it has its workload is certain only if its id was committed."""
    adoption = launch.the(launch.adoption)
    launch.adoption = None
    launch.sandbox_id = sandbox_id
    if adoption.sandbox_id is not None:
        return wait(launch)
    if not adoption.can_relaunch:
        return run(launch)
    return translate(launch)  # the plan says how the workload gets there
