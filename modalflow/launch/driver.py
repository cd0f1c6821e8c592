"""Does what the lifecycle of one launch asks for, and tells it what came of it.

Each step is one named asyncio task whose result is the next happening; a new step supersedes the one before. ``backend`` owns
the drivers and lends them what they share: the gateway, the event queue, the slots, the clock.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from modalflow.launch import messages as m
from modalflow.launch.dag_code import DagCode
from modalflow.launch.events import LaunchEvent, LaunchRequest
from modalflow.launch.gateway import Gateway, GatewayError, RateLimited, SandboxEnd, SandboxStatus, Unavailable
from modalflow.launch.lifecycle import Lifecycle
from modalflow.launch.observe import Track
from modalflow.launch.outcomes import TAIL_BYTES, redact
from modalflow.launch.sights import Sights
from modalflow.launch.survey import Survey
from modalflow.launch.task_log import TaskLog
from modalflow.launch.transitions import State

log = logging.getLogger(__name__)

WORKLOAD_VARIABLE = "MODALFLOW_WORKLOAD"
"""Carries the workload where it is handed over as an inline secret; the bootstrap removes it from its environment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What the drivers share. All of it is used on the loop's thread only."""

    gateway: Callable[[], Gateway]
    survey: Survey
    argv: Sequence[str]
    stop_argv: Sequence[str]
    emit: Callable[[LaunchEvent], None]
    request_slot: Callable[[Driver, tuple[str, ...]], None]
    release_slot: Callable[[Driver], None]
    answered: Callable[[str, RateLimited | None], None]
    """Told what Modal said to the create of a launch: that it refuses for now, or nothing of the kind."""
    seen: Callable[[str, SandboxStatus | None], None]
    """Told of the sandbox that a launch was found to have."""
    forget: Callable[[Driver], None]
    keep: Callable[[asyncio.Task[None]], None]
    calm: Callable[[], Awaitable[None]]
    ready: Callable[[], Awaitable[None]]
    """Returns when what tasks need outside Modal's reach (a relay) is there; a ``GatewayError`` else."""
    ended: Callable[[str], Awaitable[SandboxEnd]]
    end_or_failure: Callable[[str, str, str], Awaitable[SandboxEnd | None]]
    """Takes launch id, task instance and sandbox id; ``None``: the task failed, and its sandbox is kept."""
    hand_on: Callable[[str, str, int], None]
    """Told of a launch and of its sandbox that is kept without its launch, and for how many seconds."""
    recall: Callable[[str, Hashable], Awaitable[LaunchRequest | None]]
    dag_code: DagCode
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    sights: Sights


class Driver:
    """One launch under way."""

    __slots__ = (
        "_around",
        "_inbox",
        "_request",
        "_slow",
        "_source",
        "_step",
        "key",
        "label",
        "launch_id",
        "lifecycle",
        "priority",
        "task_log",
        "track",
    )

    def __init__(
        self,
        lifecycle: Lifecycle,
        around: Surroundings,
        *,
        launch_id: str,
        key: Hashable,
        label: str,
        priority: int,
        source: Callable[[], LaunchRequest] | None,
        task_log: TaskLog | None,
        trace: Mapping[str, str],
    ) -> None:
        """Drive ``lifecycle``. ``source`` gives the request, called when it is first needed; ``None`` if it never can be."""
        self.lifecycle = lifecycle
        self.launch_id = launch_id
        self.key = key
        self.label = label
        self.priority = priority
        self.task_log = task_log
        self.track: Track = around.sights.accept(launch_id, label, lifecycle, trace)
        self._around = around
        self._source = source
        self._request: LaunchRequest | None = None
        self._inbox: deque[m.Happening] = deque()
        self._step: asyncio.Task[None] | None = None
        self._slow: asyncio.Task[None] | None = None

    def feed(self, happening: m.Happening) -> None:
        """Tell the lifecycle, and do what follows. Never raises: what goes wrong ends this launch."""
        self._inbox.append(happening)
        if len(self._inbox) > 1:
            return  # fed from within the loop below
        while self._inbox:
            happening = self._inbox[0]
            for command in self._noted(happening, self._decide(happening)):
                self._do(command)
            self._inbox.popleft()

    def _noted(self, happening: m.Happening, commands: list[m.Command]) -> list[m.Command]:
        """Account for a step. What goes wrong in that costs the launch nothing: it is all the same carried out."""
        try:
            return self._around.sights.note(self.track, happening, self.lifecycle, commands)
        except Exception:
            self._report("cannot be accounted for")
            return commands

    def _do(self, command: m.Command) -> None:
        """Carry out one command; a defect in that is the lifecycle's to deal with, or the launch would wait for ever."""
        try:
            self._perform(command)
        except Exception as error:
            self._report(f"failed at {type(command).__name__}")
            if self.lifecycle.state is not State.ENDED and not isinstance(command, m.WriteLog):
                self._inbox.append(m.Broke(message=_sentence(error)))

    def stop(self) -> asyncio.Task[None] | None:
        """Drop the step under way without a word (the process ends); the task to wait for, if there is one."""
        if self._slow is not None:
            self._slow.cancel()
        step, self._step = self._step, None  # whatever it still returns is not heard
        if step is None or step.done():
            return None
        step.cancel()
        return step

    @property
    def creating(self) -> asyncio.Task[None] | None:
        """The step under way while it makes a sandbox or fills one, and soon returns: worth a wait before the process ends."""
        state = self.lifecycle.state
        soon = state is State.HANDING_OVER or (state is State.LAUNCHING and self.lifecycle.gpu is None)
        return self._step if soon else None

    def _report(self, what: str) -> None:
        """Log a defect with its traceback, which may quote what it failed on: redacted like everything else."""
        log.error("modalflow: launch %s (%s) %s\n%s", self.launch_id, self.label, what, redact(traceback.format_exc()))

    def _decide(self, happening: m.Happening) -> list[m.Command]:
        try:
            return self.lifecycle.handle(happening, self._around.clock())
        except Exception as error:
            self._report("met a defect")
            return self._abort(error)

    def _abort(self, error: Exception) -> list[m.Command]:
        """End a launch whose lifecycle itself failed; one that had ended stays as it was."""
        if self.lifecycle.state is State.ENDED:
            return []
        try:
            return self.lifecycle.handle(m.Broke(message=_sentence(error)), self._around.clock())
        except Exception:
            self._report("cannot be wound down")
            return self.lifecycle.give_up(f"modalflow: internal error: {_sentence(error)}")

    def _perform(self, command: m.Command) -> None:
        match command:
            case m.Translate():
                self._inbox.append(self._translate())
            case m.RequestSlot(gpus=gpus):
                self._around.request_slot(self, gpus)
            case m.ReleaseSlot():
                self._around.release_slot(self)
            case m.Emit(event=event):
                self._around.emit(event)
            case m.WriteLog(level=level, text=text):
                if self.task_log and (flush := self.task_log.write(level, text)):
                    self._around.keep(flush)
            case m.Keep(sandbox_id=sandbox_id, seconds=seconds):
                self._around.hand_on(self.launch_id, sandbox_id, seconds)
            case m.Forget():
                self.stop()
                self._request = self._source = None
                self._around.forget(self)
            case _:
                self._begin(command)

    def _translate(self) -> m.Happening:
        try:
            return m.Translated(translation=self._the_request().translate())
        except Exception as error:
            self._report("cannot be translated")
            return m.Broke(message=_sentence(error))

    def _the_request(self) -> LaunchRequest:
        if self._request is None:
            if self._source is None:
                raise RuntimeError("this launch cannot be made again")
            self._request = self._source()
            self.priority = self._request.priority
        return self._request

    def _begin(self, step: m.Step) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None
        if isinstance(step, m.Wait):
            self._request = self._source = None  # the workload is handed over: keep neither it nor what makes it
        name = f"modalflow-{type(step).__name__.lower()}-{self.launch_id}"
        self._step = asyncio.create_task(self._run(step, self._step), name=name)
        if isinstance(step, m.Create) and step.slow_after is not None:
            self._slow = asyncio.create_task(self._tell_slow(step.slow_after, step.attempt), name=f"{name}-slow")

    async def _tell_slow(self, seconds: float, attempt: int) -> None:
        await self._around.sleep(seconds)
        self.feed(m.CreateSlow(attempt=attempt))

    async def _run(self, step: m.Step, before: asyncio.Task[None] | None) -> None:
        if before is not None and not before.done() and before is not asyncio.current_task():
            before.cancel()
            await asyncio.wait([before])
        happening = await self._outcome(step)
        if self._step is asyncio.current_task():
            self._step = None
            self.feed(happening)

    async def _outcome(self, step: m.Step) -> m.Happening:
        try:
            return await self._carry_out(step, self._around.gateway())
        except GatewayError as error:
            return _FAILURES[type(step)](error)
        except Exception as error:
            self._report(f"failed at {type(step).__name__}")
            if type(step) in _BREAKS:
                return m.Broke(message=_sentence(error))
            return _FAILURES[type(step)](Unavailable(f"modalflow: internal error: {_sentence(error)}"))

    async def _carry_out(self, step: m.Step, gateway: Gateway) -> m.Happening:  # noqa: C901, PLR0911, PLR0912  one case per step
        match step:
            case m.Prepare(plan=plan):
                await self._around.ready()
                brought = await self._around.dag_code.bring(self.launch_id, plan)
                await gateway.prepare(brought.plan)
                return m.Prepared(plan=brought.plan, warnings=brought.warnings)
            case m.Create():
                return await self._create(step, gateway)
            case m.Find(name=name):
                return m.LookedUp(status=self._seen(await gateway.find(name)))
            case m.FindAttempts(sandbox_id=committed):
                choice = await self._around.survey.one(self.launch_id, committed)
                self._around.seen(self.launch_id, choice.status if choice else None)
                return m.LookedUp(status=choice.status, attempt=choice.attempt) if choice else m.LookedUp(status=None)
            case m.Check(sandbox_id=sandbox_id):
                return m.Checked(status=self._seen(await gateway.status(sandbox_id)))
            case m.Terminate(sandbox_id=sandbox_id):
                await gateway.terminate(sandbox_id)
                return m.Terminated()
            case m.HandOver(sandbox_id=sandbox_id):
                await gateway.hand_over(sandbox_id, self._the_request().mint_workload().encode())
                return m.HandedOver()
            case m.Wait(sandbox_id=sandbox_id, kept_for=kept_for):
                await self._around.calm()
                if kept_for is None:
                    return m.SandboxEnded(end=await self._around.ended(sandbox_id))
                end = await self._around.end_or_failure(self.launch_id, kept_for, sandbox_id)
                return m.FailedAndKept() if end is None else m.SandboxEnded(end=end)
            case m.AskToStop(sandbox_id=sandbox_id):
                await gateway.start_in(sandbox_id, self._around.stop_argv)
                return m.AskedToStop()
            case m.AwaitEnd():
                return await self._await_end(step, gateway)
            case m.Recall():
                return await self._recall()
            case m.ReadTail(sandbox_id=sandbox_id):
                return m.TailRead(text=await gateway.output_tail(sandbox_id, max_bytes=TAIL_BYTES))
            case m.Pause(seconds=seconds):
                await self._around.sleep(seconds)
                return m.PauseOver()
            case m.Translate():
                return self._translate()

    async def _recall(self) -> m.Happening:
        request = await self._around.recall(self.launch_id, self.key)
        if request is None:
            return m.Recalled(possible=False)
        self._request, self.priority = request, request.priority
        return m.Recalled(possible=True)

    async def _await_end(self, step: m.AwaitEnd, gateway: Gateway) -> m.Happening:
        ending = asyncio.ensure_future(gateway.wait(step.sandbox_id))
        over = asyncio.ensure_future(self._around.sleep(step.seconds))
        try:
            await asyncio.wait([ending, over], return_when=asyncio.FIRST_COMPLETED)
            return m.SandboxEnded(end=ending.result()) if ending.done() else m.GraceOver()
        finally:
            for task in (ending, over):
                task.cancel()
            await asyncio.gather(ending, over, return_exceptions=True)

    async def _create(self, step: m.Create, gateway: Gateway) -> m.Happening:
        inline = step.plan.handover == "secret"
        secret_env = {WORKLOAD_VARIABLE: self._the_request().mint_workload()} if inline else {}
        try:
            async with asyncio.timeout(step.bound) as scope:
                sandbox_id = await gateway.create(
                    step.plan, name=step.name, gpu=step.gpu, argv=self._around.argv, secret_env=secret_env
                )
        except TimeoutError:
            if not scope.expired():
                raise
            return m.CreateTimedOut()
        except RateLimited as error:
            self._around.answered(self.launch_id, error)
            raise
        self._around.answered(self.launch_id, None)
        return m.Created(sandbox_id=sandbox_id)

    def _seen(self, status: SandboxStatus | None) -> SandboxStatus | None:
        """The sandbox if it is this launch's own; its GPUs are counted then."""
        own = self._around.survey.owns(self.launch_id, status)
        self._around.seen(self.launch_id, own)
        return own


_FAILURES: Mapping[type[m.Step], Callable[[GatewayError], m.Happening]] = {
    m.Prepare: lambda error: m.PrepareFailed(error=error),
    m.Create: lambda error: m.CreateFailed(error=error),
    m.Find: lambda error: m.LookupFailed(error=error),
    m.FindAttempts: lambda error: m.LookupFailed(error=error),
    m.Check: lambda error: m.CheckFailed(error=error),
    m.Terminate: lambda error: m.TerminateFailed(error=error),
    m.HandOver: lambda error: m.HandOverFailed(error=error),
    m.Wait: lambda error: m.WaitFailed(error=error),
    m.AskToStop: lambda error: m.AskFailed(error=error),
    m.AwaitEnd: lambda error: m.WaitFailed(error=error),
    m.Recall: lambda _: m.Recalled(possible=False),
    m.ReadTail: lambda _: m.TailRead(text=""),
    m.Pause: lambda _: m.PauseOver(),
}
"""What a step's failure is called."""

_BREAKS = frozenset({m.Translate, m.Prepare, m.Create, m.HandOver})
"""Steps that a defect ends the launch at. At the others a sandbox may live: they fail as if Modal had not answered, and are
repeated."""


def _sentence(error: Exception) -> str:
    return redact(f"{type(error).__name__}: {error}")
