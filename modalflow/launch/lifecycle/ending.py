"""How the sandbox of a launch ends: by itself, asked to, or made to.

Flows in: the end that Modal told, or the wish to be rid of a sandbox. Flows out: the launch's end with its reason, or whatever
``Launch.after_clearing`` says. ``running``, ``creating`` and ``withdrawing`` come here.
"""

from __future__ import annotations

from modalflow.launch import messages as m
from modalflow.launch import outcomes
from modalflow.launch.failures import budget_of, of_end
from modalflow.launch.gateway import NotFound, SandboxEnd
from modalflow.launch.lifecycle.patience import not_ended
from modalflow.launch.lifecycle.record import (
    Commands,
    Continuation,
    Launch,
    backoff,
    end_doomed,
    fail,
    finish,
    notice,
    on,
    pause,
    release_slot,
    start_again,
)
from modalflow.launch.transitions import State

# A sandbox that is not wanted


def clear(launch: Launch, then: Continuation | None = None) -> Commands:
    """End the sandbox; ``then`` follows unless the launch is doomed, as it must be without a ``then``."""
    launch.after_clearing = then
    return _terminate(launch, 0.0)


def _terminate(launch: Launch, _now: float) -> Commands:
    launch.state = State.CLEARING
    return [m.Terminate(sandbox_id=launch.the(launch.sandbox_id))]


@on(m.Terminated, State.CLEARING)
def on_terminated(launch: Launch, _: m.Terminated, now: float) -> Commands:
    """The sandbox is gone: end the launch, or go on to the next attempt."""
    launch.sandbox_id = launch.clearing_since = None
    launch.retries = 0
    if launch.doom:
        return end_doomed(launch, launch.doom)
    then, launch.after_clearing = launch.the(launch.after_clearing), None
    launch.attempt += 1
    return then(launch, now)


@on(m.TerminateFailed, State.CLEARING)
def on_terminate_failed(launch: Launch, happening: m.TerminateFailed, now: float) -> Commands:
    """Try again, for as long as it may live."""
    if isinstance(happening.error, NotFound):
        return on_terminated(launch, m.Terminated(), now)
    return not_ended(launch, happening.error, now, _terminate)


# A sandbox that has time to stop


def ask_to_stop(launch: Launch, seconds: int, reason: str, now: float) -> Commands:
    """Have the workload told to stop, and give it ``seconds`` for that."""
    launch.state = State.STOPPING
    launch.deadline = now + seconds
    note = m.WriteLog(level="info", text=f"{reason}; the sandbox is asked to stop and has {seconds} s for it")
    return [note, m.AskToStop(sandbox_id=launch.the(launch.sandbox_id))]


@on(m.AskedToStop, State.STOPPING)
def on_asked_to_stop(launch: Launch, _: m.AskedToStop, now: float) -> Commands:
    """Wait for what is left of its time."""
    return [m.AwaitEnd(sandbox_id=launch.the(launch.sandbox_id), seconds=max(0.0, launch.deadline - now))]


@on(m.SandboxEnded, State.STOPPING)
def on_stopped(launch: Launch, _: m.SandboxEnded, _now: float) -> Commands:
    """It stopped in time."""
    launch.sandbox_id = None
    return end_doomed(launch, launch.the(launch.doom))


@on(m.GraceOver, State.STOPPING)
def on_grace_over(launch: Launch, _: m.GraceOver, _now: float) -> Commands:
    """It did not: end it."""
    return [m.WriteLog(level="warning", text="the sandbox did not stop in its time and is ended"), *clear(launch)]


@on(m.AskFailed, State.STOPPING)
def on_ask_failed(launch: Launch, _: m.AskFailed, _now: float) -> Commands:
    """It cannot be asked: end it."""
    return clear(launch)


@on(m.WaitFailed, State.STOPPING)
def on_wait_for_stop_failed(launch: Launch, _: m.WaitFailed, _now: float) -> Commands:
    """Its end cannot be waited for: end it."""
    return clear(launch)


# A sandbox that ended by itself


@on(m.SandboxEnded, State.RUNNING)
def on_sandbox_ended(launch: Launch, happening: m.SandboxEnded, _now: float) -> Commands:
    """The end that was waited for."""
    return ended(launch, happening.end)


@on(m.FailedAndKept, State.RUNNING)
def on_failed_and_kept(launch: Launch, _: m.FailedAndKept, _now: float) -> Commands:
    """Airflow has the failure from the task: the launch is over, and its sandbox runs on by itself."""
    sandbox_id = launch.the(launch.sandbox_id)
    told = notice(launch, "sandbox-kept", outcomes.kept(sandbox_id, launch.keep))
    return [*told, m.Keep(sandbox_id=sandbox_id, seconds=launch.keep), *finish(launch)]


def ended(launch: Launch, end: SandboxEnd) -> Commands:
    """Report the end of the sandbox; if its task may not have begun, first ask Airflow, and launch it again.

    A task that was QUEUED when it was taken over may have a success behind it that is not its own: the sandbox is of the part of
    the task before it deferred, whose id Airflow had not yet replaced. Nor need it be: it may have begun and ended meanwhile.
    """
    launch.explaining = end
    if outcomes.succeeded(end):
        return _ask_whether_it_began(launch) if launch.was_queued else finish(launch)
    budget = budget_of(end)
    if budget is None or launch.relaunches.get(budget, 0) >= launch.rules.launches(budget):
        return _explain(launch, end)
    return _ask_whether_it_began(launch)


def _ask_whether_it_began(launch: Launch) -> Commands:
    launch.state = State.RECALLING
    return [m.Recall()]


@on(m.Recalled, State.RECALLING)
def on_recalled(launch: Launch, happening: m.Recalled, _now: float) -> Commands:
    """Launch a task again that has not begun; once it has, its failure is a matter of Airflow's retries."""
    end = launch.the(launch.explaining)
    if not happening.possible:
        return finish(launch) if outcomes.succeeded(end) else _explain(launch, end)
    if outcomes.succeeded(end):
        told = notice(launch, "launching-again", outcomes.of_an_earlier_part(launch.the(launch.sandbox_id)))
        return told + _next_attempt(launch) + start_again(launch)
    budget = launch.the(budget_of(end))
    count, limit = launch.relaunches.get(budget, 0) + 1, launch.rules.launches(budget)
    launch.relaunches[budget] = count
    reason = outcomes.reason(end, sandbox_id=launch.the(launch.sandbox_id))
    told = notice(launch, "launching-again", outcomes.again(reason, count, limit, budget))
    return told + _next_attempt(launch) + pause(launch, backoff(launch, count), _launch_again)


def _next_attempt(launch: Launch) -> Commands:
    launch.attempt += 1
    launch.retries = 0
    launch.sandbox_id = launch.explaining = launch.gpu_try = launch.candidates = None
    return release_slot(launch)


def _launch_again(launch: Launch, _now: float) -> Commands:
    return start_again(launch)


def _explain(launch: Launch, end: SandboxEnd) -> Commands:
    """Look at the last output where that explains the end."""
    if not outcomes.explained_by_output(end):
        return tell_end(launch, tail="")
    launch.state = State.EXPLAINING
    return [m.ReadTail(sandbox_id=launch.the(launch.sandbox_id))]


@on(m.TailRead, State.EXPLAINING)
def on_tail_read(launch: Launch, happening: m.TailRead, _now: float) -> Commands:
    """The last output is known, or cannot be."""
    return tell_end(launch, tail=happening.text)


def tell_end(launch: Launch, *, tail: str) -> Commands:
    """Report the end that was to be explained, with what is known of its output."""
    end, sandbox_id = launch.the(launch.explaining), launch.the(launch.sandbox_id)
    if outcomes.succeeded(end):
        return finish(launch)
    earlier = outcomes.earlier(sum(launch.relaunches.values()))
    return fail(launch, of_end(end), outcomes.reason(end, sandbox_id=sandbox_id, tail=tail, earlier=earlier))
