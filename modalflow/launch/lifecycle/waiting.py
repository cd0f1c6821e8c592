"""What a launch waits for before it runs, said in the task's log and events: in line, for a GPU, or too long for Airflow.

``creating`` says here that it goes to the next GPU; ``backend`` has the time told (``SlotSlow``, ``QueuedLong``).
"""

from __future__ import annotations

from modalflow.launch import messages as m
from modalflow.launch.lifecycle.record import Commands, Launch, notice, on
from modalflow.launch.transitions import State

_NOT_QUEUED = frozenset({State.ENDED, State.ADOPTING, State.STOPPING, State.EXPLAINING})
"""States in which a launch that does not run yet waits for nothing."""


@on(m.SlotSlow, *State)
def on_slot_slow(launch: Launch, happening: m.SlotSlow, _now: float) -> Commands:
    """Tell once what a launch in line waits for."""
    if launch.state is not State.QUEUED or launch.told_in_line:
        return []
    launch.told_in_line = True
    if happening.gpu is not None:
        return wait_told(launch, happening.gpu, happening.why)
    return notice(launch, "waiting-in-line", _in_line(launch, "to be created", happening.why))


@on(m.QueuedLong, *State)
def on_queued_long(launch: Launch, happening: m.QueuedLong, now: float) -> Commands:
    """Say in time that Airflow is about to take the task back, and what it waits for."""
    launch.queued_long = (now, happening)
    return [] if launch.state in _NOT_QUEUED else still_queued(launch, now)


def still_queued(launch: Launch, now: float) -> Commands:
    """Say once that it is in Airflow's queue for long; one that runs may have to be said so later, when it is launched again."""
    if launch.queued_long is None or launch.runs or launch.doom:
        return []
    (at, happening), launch.queued_long = launch.queued_long, None
    queued, doing = happening.queued + now - at, _what_it_is_at(launch, happening.why)
    sentence = (
        f"not running after {queued:.0f} s in Airflow's queue: {doing}; a task that is queued for {happening.limit:g} s "
        "([scheduler] task_queued_timeout) is taken back by Airflow and queued again, twice, then it fails"
    )
    return notice(launch, "queued-for-long", sentence, "warning")


def _what_it_is_at(launch: Launch, why: str) -> str:
    match launch.state:
        case State.QUEUED:
            return _in_line(launch, "in line", why)
        case State.LAUNCHING if launch.gpu_try is not None:
            return _in_line(launch, f"for {launch.gpu_try.gpu}", "")
        case State.PREPARING:
            return "its App and image are being made"
        case state:
            return f"it is {state}"


def _in_line(launch: Launch, for_what: str, why: str) -> str:
    return f"waiting {for_what} since {launch.rules.stamp(launch.since)}" + (f": {why}" if why else "")


def wait_told(launch: Launch, gpu: str, why: str = "") -> Commands:
    """Tell of a wait for a GPU: as an event of the task in the first round, in the log in each."""
    told = notice(launch, "waiting-for-gpu", _in_line(launch, f"for {gpu}", why))
    return told if launch.candidates is None or launch.candidates.rounds <= 1 else told[:1]
