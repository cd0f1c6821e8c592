"""A launch before its first create: translated, App and image prepared, in line for a slot.

Goes on to ``creating``; an adopted launch whose sandbox runs, to ``running``.
"""

from __future__ import annotations

from modalflow.launch import messages as m
from modalflow.launch import outcomes
from modalflow.launch.candidates import Candidates
from modalflow.launch.failures import FailureClass, of_error, with_hint
from modalflow.launch.gateway import RateLimited, Unavailable
from modalflow.launch.lifecycle.creating import line_up
from modalflow.launch.lifecycle.ending import clear
from modalflow.launch.lifecycle.record import Commands, Launch, fail, finish, on, translate, try_again
from modalflow.launch.lifecycle.running import go_on_with
from modalflow.launch.lifecycle.waiting import still_queued
from modalflow.launch.transitions import State
from modalflow.translation.diagnostics import Severity
from modalflow.translation.result import Translation


@on(m.Taken, State.ACCEPTED)
def on_taken(launch: Launch, _: m.Taken, _now: float) -> Commands:
    """Its turn to be translated came."""
    return translate(launch)


@on(m.Translated, State.TRANSLATING)
def on_translated(launch: Launch, happening: m.Translated, now: float) -> Commands:
    """Log what translation found; a refusal ends the launch, a plan is prepared."""
    translation = happening.translation
    notes: Commands = [
        m.WriteLog(level="error" if d.severity is Severity.ERROR else "warning", text=d.full())
        for d in translation.diagnostics
        if d.severity is not Severity.NOTICE and not launch.relaunches
    ]
    launch.grace = _grace_of(translation)
    if launch.sandbox_id is not None:  # adopted: it exists already, whatever the configuration says by now
        launch.plan = translation.sandbox
        in_line, launch.in_line = launch.in_line, False
        if in_line and launch.plan is not None and launch.plan.gpu_candidates:
            # Nobody waits for it within `gpu_wait`, nor for the other candidates, and it has no workload: begin anew.
            launch.candidates = Candidates(launch.plan.gpu_candidates, launch.plan.gpu_wait)
            return clear(launch, _prepare)
        return go_on_with(launch, launch.sandbox_id)
    if translation.errors or translation.sandbox is None:
        if translation.subject:
            notes = [m.WriteLog(level="error", text=f"{translation.subject} is refused:"), *notes]
        reason = outcomes.refusal([e.coded() for e in translation.errors], translation.subject)
        return notes + finish(launch, FailureClass.REFUSED, reason)
    launch.plan = translation.sandbox
    gpus = launch.plan.gpu_candidates
    launch.candidates, launch.gpu_try = Candidates(gpus, launch.plan.gpu_wait) if gpus else None, None
    return notes + _prepare(launch, now)


def _prepare(launch: Launch, now: float) -> Commands:
    launch.state = State.PREPARING
    return [*still_queued(launch, now), m.Prepare(plan=launch.the(launch.plan))]


@on(m.Prepared, State.PREPARING)
def on_prepared(launch: Launch, happening: m.Prepared, now: float) -> Commands:
    """Stand in line to be created."""
    launch.retries = 0
    launch.plan = happening.plan or launch.plan
    notes: Commands = [m.WriteLog(level="warning", text=text) for text in happening.warnings if not launch.relaunches]
    return notes + line_up(launch, now)


@on(m.PrepareFailed, State.PREPARING)
def on_prepare_failed(launch: Launch, happening: m.PrepareFailed, _now: float) -> Commands:
    """Try again what may pass; the rest ends the launch."""
    if isinstance(happening.error, Unavailable | RateLimited):
        return try_again(launch, happening.error, _prepare)
    return fail(launch, of_error(happening.error), with_hint(happening.error))


def _grace_of(translation: Translation) -> int | None:
    plan = translation.sandbox
    return plan.setup.grace.seconds if plan is not None and plan.setup.grace is not None else None
