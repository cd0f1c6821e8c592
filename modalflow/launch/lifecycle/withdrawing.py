"""A launch is to end, whatever it is at: Airflow took it back, or our own code failed.

Its sandbox, if it has one or may have, goes first: by ``ending``, or by ``creating.resolve`` where it is not known.
"""

from __future__ import annotations

from modalflow.launch import messages as m
from modalflow.launch.gateway import Unavailable
from modalflow.launch.lifecycle.creating import resolve
from modalflow.launch.lifecycle.ending import ask_to_stop, clear, on_terminate_failed, tell_end
from modalflow.launch.lifecycle.patience import SANDBOX_LIFE, while_unreachable
from modalflow.launch.lifecycle.record import Commands, Doom, Launch, end_doomed, on
from modalflow.launch.lifecycle.running import check
from modalflow.launch.transitions import State

BREAKS = 3
"""Defects in a row that a launch with a sandbox survives."""

_ALIVE = tuple(state for state in State if state is not State.ENDED)


@on(m.Revoked, *_ALIVE)
def on_revoked(launch: Launch, happening: m.Revoked, now: float) -> Commands:
    """End without a word; a running sandbox first has its time to stop."""
    already = launch.doom is not None
    launch.doom = Doom(reason=happening.reason, silent=True)
    if already:
        return []  # its sandbox is being ended; only nobody wants to hear of it any more
    if launch.time_to_stop and _is_watched(launch):
        return ask_to_stop(launch, launch.time_to_stop, happening.reason, now)
    if launch.state is State.LAUNCHING and launch.gpu_try is None:
        # A cancelled V2 create may be carried out after we looked for it. It is bounded: let it return.
        return []
    return [] if launch.state in (State.CLEARING, State.RESOLVING) else _wind_down(launch, launch.doom)


@on(m.Revoked, State.ENDED)
def on_revoked_late(_launch: Launch, _: m.Revoked, _now: float) -> Commands:
    """It has ended already."""
    return []


@on(m.Broke, *_ALIVE)
def on_broke(launch: Launch, happening: m.Broke, now: float) -> Commands:
    """Fail, once no sandbox is left; a defect met while a task runs is no reason to end it, unless it comes again and again."""
    launch.breaks += 1
    patient = launch.breaks <= BREAKS
    error = Unavailable(f"modalflow: internal error: {happening.message}")
    if _is_watched(launch) and patient:
        return while_unreachable(launch, error, now, check, limit=SANDBOX_LIFE)
    if launch.state in (State.RECALLING, State.EXPLAINING):
        return tell_end(launch, tail="")
    if launch.state is State.STOPPING:
        return clear(launch)
    launch.doom = launch.doom or Doom(reason=str(error), silent=False)
    if launch.state is State.CLEARING and patient:
        return on_terminate_failed(launch, m.TerminateFailed(error=error), now)
    if launch.state is State.RESOLVING and patient:
        return while_unreachable(launch, error, now, resolve)
    again = launch.state in (State.CLEARING, State.RESOLVING)
    return end_doomed(launch, launch.doom) if again else _wind_down(launch, launch.doom)


def _is_watched(launch: Launch) -> bool:
    """Whether all that is done is to wait for the end of a running sandbox; between two looks at it there is a pause."""
    return launch.state in (State.RUNNING, State.CHECKING) or (launch.state is State.PAUSING and launch.resume is check)


def _wind_down(launch: Launch, doom: Doom) -> Commands:
    """End the sandbox of this launch, if it has one or may have, then the launch."""
    launch.retries = 0
    if launch.sandbox_id is not None and launch.state not in (State.RECALLING, State.EXPLAINING):
        return clear(launch)
    if launch.unknown is not None or launch.create_lost or (launch.adoption is not None and launch.sandbox_id is None):
        return resolve(launch)
    return end_doomed(launch, doom)
