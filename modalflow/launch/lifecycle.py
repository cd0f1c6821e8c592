"""What happens to one launch, decided without I/O: happenings in, commands out.

Knows nothing of asyncio, clocks or networks; the time of each happening is an argument (seconds of a monotonic clock). The
life of a launch: it is translated, App and image are prepared, it waits for a slot (CPU only), its sandbox is created (a GPU
goes from candidate to candidate), the workload is handed over, the end is waited for and explained. A create whose outcome is
unknown is resolved by the name of that attempt, never by creating another. ``driver`` performs the commands.

Two rules keep a task from running twice. A workload inside the create call ("secret") is in every sandbox of that name, so a
sandbox that is found is gone on with. A workload on stdin is given to one sandbox only, after its create is known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

from modalflow.launch import messages as m
from modalflow.launch import outcomes
from modalflow.launch.backoff import pause_before
from modalflow.launch.candidates import Candidates, Try
from modalflow.launch.events import LaunchEnded, LaunchNotice, LaunchStarted
from modalflow.launch.gateway import (
    CapacityExhausted,
    GatewayError,
    NameTaken,
    NotFound,
    RateLimited,
    SandboxEnd,
    SandboxStatus,
    Unavailable,
)
from modalflow.launch.identity import attempt_name
from modalflow.launch.transitions import InvalidTransition, State, Transitions
from modalflow.translation.diagnostics import Severity
from modalflow.translation.plan import SandboxPlan
from modalflow.translation.result import Translation
from modalflow.translation.tags import GRACE_TAG

SLOW_CREATE = 2.0
"""Seconds after which a GPU create is reported as waiting: a candidate that is in stock is scheduled well within them."""
UNREACHABLE_LIMIT = 600.0
"""Seconds without any answer after which a launch ends. Tasks must not die because Modal is away for a while; but a slot cannot
be held for ever, and Airflow gives a queued task up after [scheduler] task_queued_timeout (600 s) anyway."""
STORY_LENGTH = 24
"""Happenings kept for an error's text: more than a usual launch has."""

T = TypeVar("T")

Commands = list[m.Command]
Continuation = Callable[[float], Commands]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """The settings that decide: seconds, how often a transient failure is tried again, and a source of jitter in [0, 1)."""

    create_timeout: float
    retries: int
    jitter: Callable[[], float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Adoption:
    """What is known of a launch that an earlier scheduler made."""

    sandbox_id: str | None
    can_relaunch: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Doom:
    """The launch is to end as soon as it holds no sandbox: ``silent`` after a revoke, else failed with ``reason``."""

    reason: str
    silent: bool


TABLE: Transitions[Lifecycle] = Transitions()
"""Filled by the decorated methods below; a pair that is not in it raises ``InvalidTransition``."""
_on = TABLE.on
_S = State


class Lifecycle:
    """One launch. ``handle`` is the only way in; it returns what is to be done."""

    __slots__ = (
        "_adoption", "_attempt", "_candidates", "_deadline", "_doom", "_explaining", "_grace",
        "_holds_slot", "_key", "_launch_id", "_plan", "_resume",
        "_retries", "_rules", "_sandbox_id", "_silences", "_story", "_try", "_unknown", "_unreachable_since", "state",
    )  # fmt: skip

    def __init__(self, launch_id: str, key: Hashable, rules: Rules, *, adoption: Adoption | None = None) -> None:
        """Start a launch of ours, or take one over that an earlier scheduler started."""
        self.state = State.ADOPTING if adoption else State.ACCEPTED
        self._launch_id = launch_id
        self._key = key
        self._rules = rules
        self._adoption = adoption
        self._plan: SandboxPlan | None = None
        self._candidates: Candidates | None = None
        self._try: Try | None = None
        self._attempt = 1
        self._retries = 0
        self._sandbox_id = adoption.sandbox_id if adoption else None
        # Why it is unknown whether the latest create made a sandbox; None while that is known.
        self._unknown: GatewayError | m.CreateTimedOut | None = None
        self._doom: _Doom | None = None
        # Seconds that the sandbox may take to stop, and when they are over once it was asked to.
        self._grace: int | None = None
        self._deadline = 0.0
        self._resume: Continuation | None = None
        self._silences = 0
        self._unreachable_since: float | None = None
        self._explaining: SandboxEnd | None = None
        self._holds_slot = False
        self._story: deque[tuple[float, State, str]] = deque(maxlen=STORY_LENGTH)

    @property
    def sandbox_id(self) -> str | None:
        """The sandbox of this launch as far as it is known."""
        return self._sandbox_id

    @property
    def attempt(self) -> int:
        """The number of the attempt under way, from 1."""
        return self._attempt

    @property
    def gpu(self) -> str | None:
        """The GPU candidate under way."""
        return self._try.gpu if self._try else None

    def story(self) -> str:
        """What happened so far, oldest first, with seconds since the first of them."""
        if not self._story:
            return "nothing happened yet"
        first = self._story[0][0]
        return ", ".join(f"+{at - first:.1f}s {state}: {name}" for at, state, name in self._story)

    def handle(self, happening: m.Happening, now: float) -> Commands:
        """Take one happening and return the commands that follow from it, in order.

        Raises ``InvalidTransition`` when this cannot happen in this state; nothing is changed then.
        """
        transition = TABLE.find(self.state, happening)
        if transition is None:
            raise self._invalid(f"{type(happening).__name__} cannot happen")
        self._story.append((now, self.state, type(happening).__name__))
        return transition(self, happening, now)

    # Translation and preparation

    @_on(m.Taken, _S.ACCEPTED)
    def _on_taken(self, _: m.Taken, _now: float) -> Commands:
        self.state = State.TRANSLATING
        return [m.Translate()]

    @_on(m.Translated, _S.TRANSLATING)
    def _on_translated(self, happening: m.Translated, now: float) -> Commands:
        translation = happening.translation
        notes: Commands = [
            m.WriteLog(level="error" if d.severity is Severity.ERROR else "warning", text=d.full())
            for d in translation.diagnostics
            if d.severity is not Severity.NOTICE
        ]
        self._grace = _grace_of(translation)
        if self._sandbox_id is not None:  # adopted: it runs already, whatever the configuration says by now
            self._plan = translation.sandbox
            return self._go_on_with(self._sandbox_id)
        if translation.errors or translation.sandbox is None:
            if translation.subject:
                notes = [m.WriteLog(level="error", text=f"{translation.subject} is refused:"), *notes]
            reason = outcomes.refusal([e.coded() for e in translation.errors], translation.subject)
            return notes + self._finish(success=False, reason=reason)
        self._plan = translation.sandbox
        if self._plan.gpu_candidates:
            self._candidates = Candidates(self._plan.gpu_candidates, self._plan.gpu_wait)
        return notes + self._prepare(now)

    def _prepare(self, _now: float) -> Commands:
        self.state = State.PREPARING
        return [m.Prepare(plan=self._the(self._plan))]

    @_on(m.Prepared, _S.PREPARING)
    def _on_prepared(self, _: m.Prepared, now: float) -> Commands:
        self._retries = 0
        if self._candidates is None:
            self.state = State.QUEUED
            return [m.RequestSlot()]
        return self._next_candidate(now)

    @_on(m.PrepareFailed, _S.PREPARING)
    def _on_prepare_failed(self, happening: m.PrepareFailed, _now: float) -> Commands:
        if isinstance(happening.error, Unavailable | RateLimited):
            return self._try_again(happening.error, self._prepare)
        return self._fail(str(happening.error))

    # Creating

    @_on(m.SlotGranted, _S.QUEUED)
    def _on_slot_granted(self, _: m.SlotGranted, now: float) -> Commands:
        self._holds_slot = True
        return self._create(now)

    def _next_candidate(self, now: float) -> Commands:
        return self._try_gpu(self._the(self._candidates).next(now), now)

    def _same_again(self, now: float) -> Commands:
        """Create again what failed for a reason other than capacity."""
        return self._create(now) if self._candidates is None else self._try_gpu(self._candidates.again(now), now)

    def _try_gpu(self, following: Try | None, now: float) -> Commands:
        if following is None:
            candidates = self._the(self._candidates)
            return self._fail(outcomes.no_capacity(candidates.names, candidates.waited(now)))
        moved = self._try is not None and self._try.gpu != following.gpu
        self._try = following
        told = self._notice("waiting-for-gpu", f"waiting for {following.gpu}") if moved else []
        return told + self._create(now)

    def _create(self, _now: float) -> Commands:
        self.state = State.LAUNCHING
        self._sandbox_id = None
        self._unknown = m.CreateTimedOut()  # until the call answers
        gpu = self._try
        return [
            m.Create(
                plan=self._the(self._plan),
                name=attempt_name(self._launch_id, self._attempt),
                attempt=self._attempt,
                gpu=gpu.gpu if gpu else None,
                bound=gpu.bound if gpu else self._rules.create_timeout,
                slow_after=SLOW_CREATE if gpu else None,
            )
        ]

    @_on(m.CreateSlow, *_S)
    def _on_create_slow(self, happening: m.CreateSlow, _now: float) -> Commands:
        current = self.state is State.LAUNCHING and happening.attempt == self._attempt
        if not current or self._try is None or self._doom:
            return []
        return self._notice("waiting-for-gpu", f"waiting for {self._try.gpu}")

    @_on(m.Created, _S.LAUNCHING)
    def _on_created(self, happening: m.Created, _now: float) -> Commands:
        self._unknown = None
        if self._doom:
            self._sandbox_id = happening.sandbox_id
            return self._clear()
        return self._go_on_with(happening.sandbox_id)

    @_on(m.CreateFailed, _S.LAUNCHING)
    def _on_create_failed(self, happening: m.CreateFailed, now: float) -> Commands:
        error = happening.error
        if isinstance(error, Unavailable | NameTaken):
            self._unknown = error
            return self._resolve()
        self._unknown = None
        if self._doom:
            return self._end_doomed(self._doom)
        if isinstance(error, CapacityExhausted) and self._candidates is not None:
            return self._after_no_capacity(self._candidates, now)
        if isinstance(error, RateLimited | CapacityExhausted):
            return self._try_again(error, self._same_again)
        return self._fail(str(error))

    def _after_no_capacity(self, candidates: Candidates, now: float) -> Commands:
        """Go to the next candidate; from the second round on with a pause, so that refusals that come at once do not spin."""
        self._attempt += 1
        self._retries = 0
        if candidates.rounds == 0:
            return self._next_candidate(now)
        return self._pause(pause_before(candidates.rounds, jitter=self._rules.jitter()), self._next_candidate)

    @_on(m.CreateTimedOut, _S.LAUNCHING)
    def _on_create_timed_out(self, happening: m.CreateTimedOut, _now: float) -> Commands:
        self._unknown = happening
        return self._resolve()

    # A create whose outcome is unknown

    def _resolve(self, _now: float = 0.0) -> Commands:
        self.state = State.RESOLVING
        return [m.Find(name=attempt_name(self._launch_id, self._attempt))]

    @_on(m.LookedUp, _S.RESOLVING)
    def _on_looked_up(self, happening: m.LookedUp, now: float) -> Commands:
        self._answered()
        status, unknown = happening.status, self._unknown
        self._unknown = None
        if status is None or (status.end is not None and (self._doom or not self._has_workload)):
            return self._nothing_there(unknown, now, ended=status is not None)
        self._sandbox_id = status.sandbox_id
        if status.end is not None:
            return self._release_slot() + self._ended(status.end)
        if self._doom and self._adoption is not None:  # it may have run for long
            self._learn_grace(status)
            if self._grace is not None:
                return self._ask_to_stop(self._grace, self._doom.reason, now)
        # The client terminates a GPU sandbox whose create it gave up, so one that is found is about to go: make sure, then create
        # the next. Only a name that was taken already (by an earlier scheduler) stands for a sandbox that stays.
        if self._doom or (self._candidates is not None and not isinstance(unknown, NameTaken)):
            return self._clear()
        return self._go_on_with(status.sandbox_id)

    def _nothing_there(self, unknown: GatewayError | m.CreateTimedOut | None, now: float, *, ended: bool) -> Commands:
        if self._doom:
            return self._end_doomed(self._doom)
        timed_out = not isinstance(unknown, GatewayError)
        # The same name again unless that sandbox ended: should a lost create still arrive, its name is taken and nothing runs
        # twice. A GPU's next candidate needs a name of its own; its workload comes on stdin, so a late twin has none.
        if ended or (timed_out and self._candidates is not None):
            self._attempt += 1
        if timed_out and self._candidates is not None:
            return self._same_again(now)
        error = unknown if isinstance(unknown, GatewayError) else Unavailable(outcomes.create_lost(self._rules.create_timeout))
        return self._try_again(error, self._same_again)

    @_on(m.LookupFailed, _S.RESOLVING)
    def _on_lookup_failed(self, happening: m.LookupFailed, now: float) -> Commands:
        return self._while_unreachable(happening.error, now, self._resolve)

    # Ending a sandbox that is not wanted

    def _clear(self, _now: float = 0.0) -> Commands:
        self.state = State.CLEARING
        return [m.Terminate(sandbox_id=self._the(self._sandbox_id))]

    @_on(m.Terminated, _S.CLEARING)
    def _on_terminated(self, _: m.Terminated, now: float) -> Commands:
        self._sandbox_id = None
        if self._doom:
            return self._end_doomed(self._doom)
        self._attempt += 1
        return self._same_again(now)

    @_on(m.TerminateFailed, _S.CLEARING)
    def _on_terminate_failed(self, happening: m.TerminateFailed, now: float) -> Commands:
        if isinstance(happening.error, NotFound):
            return self._on_terminated(m.Terminated(), now)
        self._retries += 1
        if self._retries <= self._rules.retries:
            return self._pause(self._backoff(self._retries), self._clear)
        if self._doom:
            return self._end_doomed(self._doom)
        return self._fail(f"could not end the sandbox {self._sandbox_id} of an earlier attempt: {happening.error}")

    # Giving a sandbox that is not wanted any more time to stop

    def _ask_to_stop(self, seconds: int, reason: str, now: float) -> Commands:
        self.state = State.STOPPING
        self._deadline = now + seconds
        note = m.WriteLog(level="info", text=f"{reason}; the sandbox is asked to stop and has {seconds} s for it")
        return [note, m.AskToStop(sandbox_id=self._the(self._sandbox_id))]

    @_on(m.AskedToStop, _S.STOPPING)
    def _on_asked_to_stop(self, _: m.AskedToStop, now: float) -> Commands:
        return [m.AwaitEnd(sandbox_id=self._the(self._sandbox_id), seconds=max(0.0, self._deadline - now))]

    @_on(m.SandboxEnded, _S.STOPPING)
    def _on_stopped(self, _: m.SandboxEnded, _now: float) -> Commands:
        self._sandbox_id = None
        return self._end_doomed(self._the(self._doom))

    @_on(m.GraceOver, _S.STOPPING)
    def _on_grace_over(self, _: m.GraceOver, _now: float) -> Commands:
        return [m.WriteLog(level="warning", text="the sandbox did not stop in its time and is ended"), *self._clear()]

    @_on(m.AskFailed, _S.STOPPING)
    def _on_ask_failed(self, _: m.AskFailed, _now: float) -> Commands:
        return self._clear()

    @_on(m.WaitFailed, _S.STOPPING)
    def _on_wait_for_stop_failed(self, _: m.WaitFailed, _now: float) -> Commands:
        return self._clear()

    # Handing over and running

    @property
    def _has_workload(self) -> bool:
        """Whether a sandbox of this launch has its workload from birth."""
        return self._plan is None or self._plan.handover == "secret"

    def _go_on_with(self, sandbox_id: str) -> Commands:
        """The sandbox of this launch is known: give it the workload if it lacks it."""
        self._sandbox_id = sandbox_id
        self._retries = 0
        return self._release_slot() + (self._run() if self._has_workload else self._hand_over())

    def _hand_over(self, _now: float = 0.0) -> Commands:
        self.state = State.HANDING_OVER
        return [m.HandOver(sandbox_id=self._the(self._sandbox_id))]

    @_on(m.HandedOver, _S.HANDING_OVER)
    def _on_handed_over(self, _: m.HandedOver, _now: float) -> Commands:
        return self._run()

    @_on(m.HandOverFailed, _S.HANDING_OVER)
    def _on_hand_over_failed(self, happening: m.HandOverFailed, _now: float) -> Commands:
        if not isinstance(happening.error, Unavailable | RateLimited):
            # The sandbox takes no input (any more): it ended, or has its workload already. Its end will tell.
            return self._wait()
        self._retries += 1
        if self._retries <= self._rules.retries:
            return self._pause(self._backoff(self._retries, happening.error), self._hand_over)
        self._retries = 0
        reason = f"the workload could not be handed to the sandbox {self._sandbox_id}: {happening.error}"
        self._doom = _Doom(reason=reason, silent=False)
        return self._clear()

    def _run(self) -> Commands:
        started = LaunchStarted(launch_id=self._launch_id, key=self._key, sandbox_id=self._the(self._sandbox_id))
        return [m.Emit(event=started), *self._wait()]

    def _wait(self, _now: float = 0.0) -> Commands:
        self.state = State.RUNNING
        self._plan = self._candidates = None  # a task may run for hours: keep the launch small
        return [m.Wait(sandbox_id=self._the(self._sandbox_id))]

    @_on(m.WaitFailed, _S.RUNNING)
    def _on_wait_failed(self, happening: m.WaitFailed, now: float) -> Commands:
        return self._lost() if isinstance(happening.error, NotFound) else self._unsure(happening.error, now)

    @_on(m.CheckFailed, _S.CHECKING)
    def _on_check_failed(self, happening: m.CheckFailed, now: float) -> Commands:
        return self._lost() if isinstance(happening.error, NotFound) else self._unsure(happening.error, now)

    def _unsure(self, error: GatewayError, now: float) -> Commands:
        return self._while_unreachable(error, now, self._check)

    def _check(self, _now: float = 0.0) -> Commands:
        self.state = State.CHECKING
        return [m.Check(sandbox_id=self._the(self._sandbox_id))]

    @_on(m.Checked, _S.CHECKING)
    def _on_checked(self, happening: m.Checked, _now: float) -> Commands:
        self._answered()
        if happening.status is None:
            return self._lost()
        self._adoption = None
        if happening.status.end is not None:
            return self._ended(happening.status.end)
        self._learn_grace(happening.status)
        return self._wait()

    def _lost(self) -> Commands:
        if self._adoption and self._adoption.can_relaunch:
            self._attempt += 1
            return self._relaunch()
        return self._fail(outcomes.gone(self._the(self._sandbox_id)))

    # Taking over from an earlier scheduler

    @_on(m.Listed, _S.ADOPTING)
    def _on_listed(self, happening: m.Listed, _now: float) -> Commands:
        if happening.status is not None:
            self._learn_grace(happening.status)
            return self._adopt(happening.status.sandbox_id)
        return self._check() if self._sandbox_id is not None else self._find_adopted()

    def _find_adopted(self, _now: float = 0.0) -> Commands:
        self.state = State.ADOPTING
        return [m.Find(name=attempt_name(self._launch_id, 1))]

    @_on(m.LookedUp, _S.ADOPTING)
    def _on_adopted_looked_up(self, happening: m.LookedUp, _now: float) -> Commands:
        self._answered()
        status = happening.status
        if status is not None and status.end is not None:
            self._sandbox_id = status.sandbox_id
            return self._ended(status.end)
        if status is not None:
            self._learn_grace(status)
            return self._adopt(status.sandbox_id)
        if self._the(self._adoption).can_relaunch:
            return self._relaunch()
        return self._fail(outcomes.never_found(self._launch_id))

    @_on(m.LookupFailed, _S.ADOPTING)
    def _on_adopted_lookup_failed(self, happening: m.LookupFailed, now: float) -> Commands:
        return self._while_unreachable(happening.error, now, self._find_adopted)

    def _learn_grace(self, status: SandboxStatus) -> None:
        """Read the time to stop from a sandbox's tags, where it was not this scheduler that made the sandbox."""
        seconds = status.tags.get(GRACE_TAG, "")
        if self._grace is None and seconds.isascii() and seconds.isdecimal():
            self._grace = int(seconds)

    def _adopt(self, sandbox_id: str) -> Commands:
        """Take a running sandbox over. That it has its workload is certain only if its id was committed."""
        adoption = self._the(self._adoption)
        self._adoption = None
        self._sandbox_id = sandbox_id
        if adoption.sandbox_id is not None:
            return self._wait()
        if not adoption.can_relaunch:
            return self._run()
        self.state = State.TRANSLATING  # the plan says how the workload gets there
        return [m.Translate()]

    def _relaunch(self) -> Commands:
        self._adoption = None
        self._sandbox_id = None
        self.state = State.TRANSLATING
        return [m.Translate()]

    # Ends

    @_on(m.SandboxEnded, _S.RUNNING)
    def _on_sandbox_ended(self, happening: m.SandboxEnded, _now: float) -> Commands:
        return self._ended(happening.end)

    def _ended(self, end: SandboxEnd) -> Commands:
        sandbox_id = self._the(self._sandbox_id)
        if outcomes.succeeded(end):
            return self._finish(success=True, reason="")
        if not outcomes.explained_by_output(end):
            return self._fail(outcomes.reason(end, sandbox_id=sandbox_id))
        self.state = State.EXPLAINING
        self._explaining = end
        return [m.ReadTail(sandbox_id=sandbox_id)]

    @_on(m.TailRead, _S.EXPLAINING)
    def _on_tail_read(self, happening: m.TailRead, _now: float) -> Commands:
        end, sandbox_id = self._the(self._explaining), self._the(self._sandbox_id)
        return self._fail(outcomes.reason(end, sandbox_id=sandbox_id, tail=happening.text))

    @_on(m.Revoked, *(s for s in _S if s is not _S.ENDED))
    def _on_revoked(self, happening: m.Revoked, now: float) -> Commands:
        already = self._doom is not None
        self._doom = _Doom(reason=happening.reason, silent=True)
        if already:
            return []  # its sandbox is being ended; only nobody wants to hear of it any more
        # Between two looks at a running sandbox there is a pause.
        runs = self.state in (State.RUNNING, State.CHECKING) or (self.state is State.PAUSING and self._resume == self._check)
        if self._grace is not None and runs:
            return self._ask_to_stop(self._grace, happening.reason, now)
        if self.state is State.LAUNCHING and self._try is None:
            # A cancelled V2 create may be carried out after we looked for it. It is bounded: let it return.
            return []
        return [] if self.state in (State.CLEARING, State.RESOLVING) else self._wind_down(self._doom)

    @_on(m.Broke, *(s for s in _S if s is not _S.ENDED))
    def _on_broke(self, happening: m.Broke, _now: float) -> Commands:
        if self.state is State.STOPPING:
            return self._clear()
        again = self._doom is not None or self.state in (State.CLEARING, State.RESOLVING, State.EXPLAINING)
        self._doom = self._doom or _Doom(reason=f"modalflow: internal error: {happening.message}", silent=False)
        return self._end_doomed(self._doom) if again else self._wind_down(self._doom)

    @_on(m.Revoked, _S.ENDED)
    def _on_revoked_late(self, _: m.Revoked, _now: float) -> Commands:
        return []

    def _wind_down(self, doom: _Doom) -> Commands:
        """End the sandbox of this launch, if it has one or may have, then the launch."""
        self._retries = 0
        if self._sandbox_id is not None and self.state is not State.EXPLAINING:
            return self._clear()
        if self._unknown is not None or (self._adoption is not None and self._sandbox_id is None):
            return self._resolve()
        return self._end_doomed(doom)

    def _end_doomed(self, doom: _Doom) -> Commands:
        if not doom.silent:
            return self._fail(doom.reason)
        self.state = State.ENDED
        return [*self._release_slot(), m.Forget()]

    def _fail(self, reason: str) -> Commands:
        return [m.WriteLog(level="error", text=reason), *self._finish(success=False, reason=reason)]

    def _finish(self, *, success: bool, reason: str) -> Commands:
        self.state = State.ENDED
        ended = LaunchEnded(launch_id=self._launch_id, key=self._key, success=success, reason=reason)
        return [*self._release_slot(), m.Emit(event=ended), m.Forget()]

    def _release_slot(self) -> Commands:
        held, self._holds_slot = self._holds_slot, False
        return [m.ReleaseSlot()] if held else []

    # Pauses

    def _pause(self, seconds: float, resume: Continuation) -> Commands:
        self.state = State.PAUSING
        self._resume = resume
        return [m.Pause(seconds=seconds)]

    @_on(m.PauseOver, _S.PAUSING)
    def _on_pause_over(self, _: m.PauseOver, now: float) -> Commands:
        resume, self._resume = self._the(self._resume), None
        return resume(now)

    def _backoff(self, repetition: int, error: GatewayError | None = None) -> float:
        asked = error.retry_after if isinstance(error, RateLimited) else None
        return pause_before(repetition, jitter=self._rules.jitter(), retry_after=asked)

    def _try_again(self, error: GatewayError, step: Continuation) -> Commands:
        """Repeat a step that changed nothing, a bounded number of times."""
        self._retries += 1
        if self._retries > self._rules.retries:
            return self._fail(outcomes.gave_up(str(error), self._rules.retries))
        return self._pause(self._backoff(self._retries, error), step)

    def _while_unreachable(self, error: GatewayError, now: float, step: Continuation) -> Commands:
        """Repeat a question that only Modal can answer, until ``UNREACHABLE_LIMIT``."""
        self._unreachable_since = now if self._unreachable_since is None else self._unreachable_since
        silence = now - self._unreachable_since
        if silence < UNREACHABLE_LIMIT:
            self._silences += 1
            return self._pause(self._backoff(self._silences, error), step)
        if self._doom:
            return self._end_doomed(self._doom)
        subject = f"the sandbox {self._sandbox_id}" if self._sandbox_id else f"launch {self._launch_id}"
        return self._fail(outcomes.unreachable(subject, silence, str(error)))

    def _answered(self) -> None:
        self._unreachable_since = None
        self._silences = 0

    def _notice(self, event: str, message: str) -> Commands:
        notice = LaunchNotice(launch_id=self._launch_id, key=self._key, event=event, message=message)
        return [m.WriteLog(level="info", text=message), m.Emit(event=notice)]

    def _the(self, value: T | None) -> T:
        """Return what must be known in this state."""
        if value is None:
            raise self._invalid("something is needed that is not known")
        return value

    def _invalid(self, what: str) -> InvalidTransition:
        return InvalidTransition(f"launch {self._launch_id}: {what} while {self.state}; so far: {self.story()}")


def _grace_of(translation: Translation) -> int | None:
    plan = translation.sandbox
    return plan.setup.grace.seconds if plan is not None and plan.setup.grace is not None else None
