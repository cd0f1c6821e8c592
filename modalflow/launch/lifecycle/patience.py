"""How long a launch goes on asking when Modal does not answer, or does not end a sandbox, and who hears of it meanwhile.

Two measures. What Airflow waits for it is told within ``UNREACHABLE_LIMIT``. But a sandbox that lives, or may live, is watched
over until ``SANDBOX_LIFE``: Modal lets none live longer, so nothing is left behind then. Used by ``ending``, ``running``,
``creating`` and ``adopting``.
"""

from __future__ import annotations

from modalflow.launch import messages as m
from modalflow.launch import outcomes
from modalflow.launch.failures import FailureClass
from modalflow.launch.gateway import GatewayError
from modalflow.launch.lifecycle.record import Commands, Continuation, Doom, Launch, backoff, notice, pause, quit_with

UNREACHABLE_LIMIT = 600.0
"""Seconds without an answer after which Airflow is told that a launch failed whose sandbox is not known to run. Its own limit for
a queued task, [scheduler] task_queued_timeout, is as long by default."""
SANDBOX_LIFE = 86_400.0
"""Seconds that a Modal sandbox lives at most (24 h, Modal's guide, November 2026)."""
SILENCE_TOLD = 60.0
"""Seconds without an answer after which the task's log says so."""
LONG_PAUSE = 60.0
"""Seconds between two attempts to end a sandbox, once the usual ones are used up."""


def while_unreachable(
    launch: Launch, error: GatewayError, now: float, step: Continuation, *, limit: float = UNREACHABLE_LIMIT
) -> Commands:
    """Repeat a question that only Modal can answer. After ``limit`` seconds Airflow is told, unless it is told already.

    Asking goes on for as long as a sandbox may live, now in order to end it: ``step`` sees that by ``launch.doom``.
    """
    launch.unreachable_since = now if launch.unreachable_since is None else launch.unreachable_since
    silence = now - launch.unreachable_since
    if silence >= SANDBOX_LIFE:
        return _after_a_life(launch, outcomes.unreachable(_subject(launch), silence, str(error)))
    told: Commands = []
    if silence >= limit:
        told = tell_failure(launch, FailureClass.NETWORK, outcomes.unreachable(_subject(launch), silence, str(error)))
    elif silence >= SILENCE_TOLD and not launch.silence_told and not _is_silent(launch):
        launch.silence_told = True
        told = notice(launch, "modal-unreachable", outcomes.silent(silence, str(error)))
    launch.silences += 1
    return told + pause(launch, backoff(launch, launch.silences, error), step)


def answered(launch: Launch) -> None:
    """Modal answered: a further silence counts anew."""
    launch.unreachable_since = None
    launch.silence_told = False
    launch.silences = launch.breaks = 0


def not_ended(launch: Launch, error: GatewayError, now: float, step: Continuation) -> Commands:
    """Go on ending a sandbox that could not be ended: nothing may take its place, and nobody else would end it."""
    launch.clearing_since = now if launch.clearing_since is None else launch.clearing_since
    launch.retries += 1
    reason = outcomes.not_ended(launch.the(launch.sandbox_id), str(error))
    seconds = now - launch.clearing_since
    if seconds >= SANDBOX_LIFE:
        return _after_a_life(launch, reason)
    told: Commands = []
    if launch.retries == launch.rules.retries + 1:
        told = [m.WriteLog(level="warning", text=reason)]
    if seconds >= UNREACHABLE_LIMIT:
        doom = launch.doom
        told += tell_failure(
            launch, doom.failure if doom else FailureClass.NETWORK, f"{doom.reason}; {reason}" if doom else reason
        )
    usual = launch.retries <= launch.rules.retries
    wait = backoff(launch, launch.retries, error) if usual else LONG_PAUSE * (0.5 + launch.rules.jitter() / 2)
    return told + pause(launch, wait, step)


def tell_failure(launch: Launch, failure: FailureClass, reason: str) -> Commands:
    """Tell Airflow that the launch failed, while its sandbox may still have to be ended: the launch goes on without a word."""
    if _is_silent(launch):
        return []
    launch.doom = Doom(reason=reason, silent=True, failure=failure)
    return [m.WriteLog(level="error", text=reason), m.Emit(event=launch.failed(failure, reason))]


def _after_a_life(launch: Launch, reason: str) -> Commands:
    """No sandbox of this launch can live any more."""
    told = tell_failure(launch, FailureClass.NETWORK, reason)
    return told + quit_with(launch)


def _is_silent(launch: Launch) -> bool:
    return launch.doom is not None and launch.doom.silent


def _subject(launch: Launch) -> str:
    return f"the sandbox {launch.sandbox_id}" if launch.sandbox_id else f"launch {launch.launch_id}"
