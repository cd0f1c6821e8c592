"""All launches of one executor: the thread border, the queue by priority, the lines for creates, and adoption.

Flows in from the scheduler's thread: requests (``submit``, ``adopt``, ``revoke``), none of which blocks or does I/O. Flows out
to it: events (``drain``). Everything between lives on one asyncio loop in one thread; ``driver`` runs each launch, ``pools`` says
who may create when.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from traceback import format_exc
from typing import TypeVar

from modalflow.launch import messages as m
from modalflow.launch.alarms import TOLD_AFTER, WARNED_AT, Alarm, Alarms
from modalflow.launch.credentials import say_credentials
from modalflow.launch.dag_code import MakeDagCode, no_dag_code
from modalflow.launch.driver import Driver, Surroundings
from modalflow.launch.events import AdoptRequest, LaunchEnded, LaunchEvent, LaunchRequest
from modalflow.launch.failures import FailureClass
from modalflow.launch.gateway import Gateway, GatewayError, RateLimited, SandboxStatus, Unavailable
from modalflow.launch.gpu_ledger import gpu_of_tag
from modalflow.launch.keeping import Keeping
from modalflow.launch.lifecycle import Adoption, Lifecycle, Rules
from modalflow.launch.observe import NOBODY, Observer
from modalflow.launch.outcomes import redact
from modalflow.launch.pools import Limits, Pools
from modalflow.launch.portal import LoopThread
from modalflow.launch.recall import Recall, Recaller
from modalflow.launch.sights import Sights
from modalflow.launch.survey import Survey
from modalflow.launch.sweep import Claims, Sweep
from modalflow.launch.task_log import Journal, TaskLog
from modalflow.launch.transitions import State
from modalflow.launch.watch import Watch
from modalflow.settings import LaunchSettings
from modalflow.translation.tags import GPU_TAG

log = logging.getLogger(__name__)

R = TypeVar("R", LaunchRequest, AdoptRequest)

STOP_SHARE = 0.5
"""Part of ``stop``'s time in which creates and hand-overs under way may finish; what is left is for closing connections."""

SHORTEST_LOOK = 0.001
"""Seconds between two looks at the lines at least: a timer that is due at once would not let the loop rest."""

CALM_LIMIT = 1.0
"""Seconds for which waiting for a sandbox's end makes way to creates under way. Each wait is a long poll that competes with them
for the one connection (in a burst of 100, a quarter of the time), and no Airflow task ends sooner: its imports take longer."""


class LaunchBackend:
    """Launches sandboxes and reports how they end. Construct, ``start``, use from one thread, ``stop``."""

    def __init__(
        self,
        gateway_factory: Callable[[], Gateway],
        settings: LaunchSettings,
        argv: Sequence[str],
        journal: Journal,
        *,
        stop_argv: Sequence[str] = (),
        observer: Observer = NOBODY,
        recall: Recall | None = None,
        claims: Claims | None = None,
        dag_code: MakeDagCode = no_dag_code,
        check: bool = False,
        ready: Callable[[], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Keep the arguments; no thread, no import of modal.

        ``gateway_factory`` is called on the loop's thread at the first need, again after a failure. ``argv`` is every sandbox's
        command, ``stop_argv`` what is run in one that has time to stop. ``recall`` asks Airflow whether a task has not begun.
        ``dag_code`` brings the code of DAGs. With ``claims`` it ends what others left (``sweep``). ``check``: ask Modal at start
        whether it takes the credentials.
        ``ready`` is awaited before each launch, and may raise ``GatewayError``.
        ``clock`` (monotonic seconds), ``sleep`` and ``jitter`` ([0, 1)) are for tests.
        """
        self._gateway_factory = gateway_factory
        self._check = check
        self._settings = settings
        self._journal = journal
        self._sleep = sleep
        self._clock = clock
        self._rules = Rules(
            create_timeout=settings.create_timeout,
            retries=settings.launch_retries,
            infra_retries=settings.infra_retries,
            jitter=jitter,
            refusal_limit=settings.queued_timeout,
            stamp=_stamps(clock),
            stop_grace=settings.stop_grace,
        )
        self._gateway: Gateway | None = None
        self._thread = LoopThread("modalflow-launch")
        self._events: deque[LaunchEvent] = deque()
        self._drivers: dict[str, Driver] = {}
        self._following: dict[str, Callable[[int], None]] = {}
        self._order = itertools.count()
        self._intake: list[tuple[int, int, Driver]] = []
        self._pools = Pools(Limits.allowed(settings))
        self._alarms = Alarms()
        self._look_asked = False
        self._look_timer: asyncio.TimerHandle | None = None
        self._no_creates = asyncio.Event()
        self._no_creates.set()
        self._background: set[asyncio.Task[None]] = set()
        self._intake_filled = asyncio.Event()
        self._stop_asked = asyncio.Event()
        self._stop_grace = 0.0
        self._watch = Watch(self._the_gateway, {"deployment": settings.deployment}, clock=clock, sleep=sleep)
        self._keeping = Keeping(claims, self._pools, ended=self._watch.end, freed=self._creates_changed, sleep=sleep)
        self._survey = Survey(self._the_gateway, settings.deployment, self._keep)
        self._sweep = self._sweep_by(claims, stop_argv) if claims is not None and settings.sweep_interval else None
        self._dag_code = dag_code(self._the_gateway)
        self._around = Surroundings(
            gateway=self._the_gateway,
            survey=self._survey,
            argv=tuple(argv),
            stop_argv=tuple(stop_argv),
            emit=self._events.append,
            request_slot=self._request_slot,
            release_slot=self._release_slot,
            answered=self._answered,
            seen=self._seen,
            forget=self._forget,
            keep=self._keep,
            calm=self._calm,
            ready=ready or _at_once,
            ended=self._watch.end,
            end_or_failure=self._keeping.end_or_failure,
            hand_on=self._keeping.hand_on,
            recall=Recaller(recall),
            dag_code=self._dag_code,
            clock=clock,
            sleep=sleep,
            sights=Sights(observer, clock=clock),
        )

    # From the scheduler's thread

    def start(self) -> None:
        """Start the loop's thread. What was submitted before begins now."""
        self._thread.start(self._main)

    def submit(self, *requests: LaunchRequest, guard: Callable[[LaunchRequest], LaunchRequest] | None = None) -> None:
        """Launch workloads. O(1) for each; the outcome comes as events. ``guard`` is put on each on the loop's thread."""
        take = partial(self._submit, guard=guard)
        self._thread.post_later([partial(self._taken, request, take) for request in requests])

    def adopt(self, requests: list[AdoptRequest]) -> None:
        """Take over launches of an earlier scheduler: one listing for all of them, then each goes its way."""
        if requests:
            self._thread.post(partial(self._adopt, tuple(requests)))

    def revoke(self, launch_id: str, reason: str) -> None:
        """End a launch without a further event for it. Unknown and ended launches are ignored."""
        self._thread.post(partial(self._revoke, launch_id, reason))

    def drain(self) -> list[LaunchEvent]:
        """Take the events since the last call, oldest first. No I/O, never raises."""
        taken = []
        while self._events:
            taken.append(self._events.popleft())
        return taken

    def stop(self, timeout: float) -> None:
        """Stop within ``timeout`` seconds. Running sandboxes go on; what was being created is found again by its name."""
        if not self._thread.running:
            return
        self._stop_grace = timeout * STOP_SHARE
        self._thread.post(self._stop_asked.set)
        if not self._thread.join(timeout):
            log.warning("modalflow: the launch thread did not stop within %g s; it is left to the end of the process", timeout)

    def describe(self) -> str:
        """State of all launches as text, for a debug dump; a snapshot that may be off by the step under way."""
        drivers = list(self._drivers.values())
        states = Counter(str(d.lifecycle.state) for d in drivers)
        counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "no launches"
        pools = self._pools.in_words()
        lines = [f"modalflow: {counts}; {pools}; thread {'running' if self._thread.running else 'not running'}"]
        for d in drivers:
            life = d.lifecycle
            gpu = f" {life.gpu}" if life.gpu else ""
            lines.append(
                f"  {d.launch_id} {d.label}: {life.state} (attempt {life.attempt}{gpu}) {life.sandbox_id or ''}".rstrip()
            )
        return "\n".join(lines)

    # For the watchdog, from the scheduler's thread

    @property
    def running(self) -> bool:
        """Whether the loop's thread lives."""
        return self._thread.running

    @property
    def thread_id(self) -> int:
        """Identifier of the loop's thread."""
        return self._thread.ident

    def stack(self) -> str:
        """Where the loop's thread is right now, and that of Modal's client."""
        client = self._gateway.stack() if self._gateway is not None else ""
        return self._thread.stack() + (f"The thread of Modal's client is at:\n{client}" if client else "")

    def ping(self, answer: Callable[[], None]) -> None:
        """Have ``answer`` called through the loop, and through the thread of Modal's client once there is one."""
        self._thread.post(lambda: answer() if self._gateway is None else self._gateway.ping(answer))

    def abandon(self) -> Gateway | None:
        """Give a loop up that answers no more: should it wake, it ends. Returns its gateway, to be succeeded by another."""
        self._gateway_factory = _abandoned
        self._thread.post(self._stop_asked.set)
        return self._gateway

    # On the loop

    async def _main(self) -> None:
        own = [asyncio.create_task(self._take_in(), name="modalflow-intake")]
        own.append(asyncio.create_task(self._keeping.run(), name="modalflow-keeping"))
        if self._sweep is not None:
            sweeping = self._sweep.run(self._settings.sweep_interval, self._sleep)
            own.append(asyncio.create_task(sweeping, name="modalflow-sweep"))
        if self._check:
            own.append(asyncio.create_task(say_credentials(self._the_gateway), name="modalflow-credentials"))
        own.append(asyncio.create_task(self._dag_code.tidy(self._sleep), name="modalflow-dag-code-tidy"))
        self._around.sights.start()
        try:
            await self._stop_asked.wait()
        finally:
            for task in own:
                task.cancel()
            self._around.sights.stop()
            await self._shut_down()

    def _sweep_by(self, claims: Claims, stop_argv: Sequence[str]) -> Sweep:
        settings = self._settings
        grace = settings.stop_grace
        return Sweep(
            self._the_gateway,
            claims,
            deployment=settings.deployment,
            stop_argv=stop_argv,
            stop_grace=grace,
            own=lambda: self._keeping.launches.union(self._drivers),
            seen_elsewhere=self._seen_elsewhere,
        )

    def _seen_elsewhere(self, gpus: Mapping[str, str]) -> None:
        self._pools.see_elsewhere(gpus)
        self._look_soon()

    async def _take_in(self) -> None:
        """Translate one launch after the other, most urgent first, letting everything else run in between."""
        while True:
            await self._intake_filled.wait()
            self._intake_filled.clear()
            while self._intake:
                _, _, driver = heapq.heappop(self._intake)
                if driver.lifecycle.state is State.ACCEPTED:
                    driver.feed(m.Taken())
                await asyncio.sleep(0)

    async def _shut_down(self) -> None:
        creating = [task for driver in self._drivers.values() if (task := driver.creating)]
        await _settle([*creating, *self._background], self._stop_grace)
        steps = [task for driver in list(self._drivers.values()) if (task := driver.stop())]
        for task in self._background:
            task.cancel()
        await _settle([*steps, *self._background], self._stop_grace / 2)
        await self._watch.stop()
        await self._dag_code.close()
        if self._gateway is not None:
            try:
                async with asyncio.timeout(self._stop_grace / 2):
                    await self._gateway.close()
            except (GatewayError, TimeoutError) as error:
                log.warning("modalflow: the connection to Modal was not closed in order: %s", error)

    def _the_gateway(self) -> Gateway:
        if self._gateway is None:
            self._gateway = self._gateway_factory()
        return self._gateway

    def _taken(self, request: R, take: Callable[[R], None]) -> None:
        """Take a request. A defect in that fails this one: nobody would ever hear of it, and its slot would be held for good."""
        try:
            take(request)
        except Exception as error:
            self._not_taken(request, error)

    def _not_taken(self, request: LaunchRequest | AdoptRequest, error: Exception) -> None:
        launch_id, key = request.launch_id, request.key
        log.error("modalflow: launch %s (%s) met a defect when it was taken\n%s", launch_id, request.label, redact(format_exc()))
        if launch_id not in self._drivers:  # else it goes its way
            reason = redact(f"modalflow: internal error: {type(error).__name__}: {error}")
            internal = FailureClass.INTERNAL
            self._events.append(LaunchEnded(launch_id=launch_id, key=key, success=False, reason=reason, failure=internal))

    def _submit(
        self, request: LaunchRequest, attempt: int = 1, guard: Callable[[LaunchRequest], LaunchRequest] | None = None
    ) -> None:
        request = guard(request) if guard is not None else request

        def again(attempt: int) -> None:
            self._taken(request, partial(self._submit, attempt=attempt))

        if self._under_way(request.launch_id, request.label, again):
            return
        about = (request.launch_id, request.key, request.label, request.log_path, request.priority)
        driver = self._accept(*about, lambda: request, None, request.trace, attempt)
        self._warn_in_time(driver, request.queue_limit)

    def _under_way(self, launch_id: str, label: str, then: Callable[[int], None]) -> bool:
        """Whether a launch of that id is under way; if it is being withdrawn, ``then`` follows, given a free attempt's number."""
        before = self._drivers.get(launch_id)
        if before is None:
            return False
        if before.lifecycle.is_withdrawn:
            log.info("modalflow: launch %s (%s) begins again when its sandbox of before has ended", launch_id, label)
            self._following[launch_id] = then
        else:
            log.error("modalflow: launch %s (%s) is under way already; the second request for it is ignored", launch_id, label)
        return True

    def _accept(
        self,
        launch_id: str,
        key: Hashable,
        label: str,
        log_path: str | None,
        priority: int,
        source: Callable[[], LaunchRequest] | None,
        adoption: Adoption | None,
        trace: Mapping[str, str],
        attempt: int = 1,
    ) -> Driver:
        task_log = TaskLog(log_path, self._settings.logs_volume, self._journal, self._the_gateway) if log_path else None
        driver = Driver(
            Lifecycle(launch_id, key, self._rules, adoption=adoption, attempt=attempt),
            self._around,
            launch_id=launch_id,
            key=key,
            label=label,
            priority=priority,
            source=source,
            task_log=task_log,
            trace=trace,
        )
        self._drivers[launch_id] = driver
        if adoption is None:
            heapq.heappush(self._intake, (-priority, next(self._order), driver))
            self._intake_filled.set()
        return driver

    def _adopt(self, requests: Sequence[AdoptRequest]) -> None:
        drivers: list[Driver] = []
        for request in requests:
            self._taken(request, partial(self._accept_adoption, drivers))
        self._pools.listing(begins=True)
        self._keep(asyncio.create_task(self._hand_listing(drivers), name="modalflow-adoption"))

    def _accept_adoption(self, drivers: list[Driver], request: AdoptRequest) -> None:
        if self._under_way(request.launch_id, request.label, lambda _attempt: self._adopt([request])):
            return
        adoption = Adoption(sandbox_id=request.sandbox_id, can_relaunch=request.relaunch is not None)
        driver = self._accept(
            request.launch_id, request.key, request.label, request.log_path, 0, request.relaunch, adoption, request.trace
        )  # fmt: skip
        drivers.append(driver)
        self._warn_in_time(driver, request.queue_limit)

    async def _hand_listing(self, drivers: list[Driver]) -> None:
        """One listing for all; where it fails, each launch asks for itself and goes on asking."""
        try:
            running = await self._survey.running({driver.launch_id: driver.lifecycle.sandbox_id for driver in drivers})
            for driver in drivers:
                if driver.lifecycle.state is State.ADOPTING:  # not revoked meanwhile
                    choice = running.get(driver.launch_id)
                    self._seen(driver.launch_id, choice.status if choice else None)
                    driver.feed(m.Listed(status=choice.status, attempt=choice.attempt) if choice else m.Listed(status=None))
        finally:
            self._pools.listing(begins=False)
            self._look_soon()

    def _revoke(self, launch_id: str, reason: str) -> None:
        self._following.pop(launch_id, None)
        driver = self._drivers.get(launch_id)
        if driver is not None:
            driver.feed(m.Revoked(reason=reason))

    # Lines

    def _request_slot(self, driver: Driver, gpus: tuple[str, ...]) -> None:
        never = self._pools.ask(driver.launch_id, priority=driver.priority, gpus=gpus)
        if never is not None:
            driver.feed(m.SlotRefused(gpus=gpus, reason=never))
            return
        self._alarms.set(self._clock() + TOLD_AFTER, driver.launch_id, Alarm.IN_LINE)
        self._look_soon()

    def _release_slot(self, driver: Driver) -> None:
        self._pools.release(driver.launch_id)
        self._creates_changed()

    def _answered(self, launch_id: str, refusal: RateLimited | None) -> None:
        if refusal is None:
            self._pools.accepted(launch_id)
        else:
            self._pools.refused(launch_id, self._clock(), refusal.retry_after)

    def _seen(self, launch_id: str, status: SandboxStatus | None) -> None:
        """Count the GPUs of a sandbox that runs, whoever made it."""
        gpu = gpu_of_tag(status.tags.get(GPU_TAG, "")) if status is not None and status.end is None else None
        if gpu is not None and launch_id in self._drivers:
            self._pools.count(launch_id, gpu)

    def _creates_changed(self) -> None:
        if self._pools.cpu_creates:
            self._no_creates.clear()
        else:
            self._no_creates.set()
        self._look_soon()

    def _look_soon(self) -> None:
        """Look at the lines once everything that happens now has happened."""
        if not self._look_asked:
            self._look_asked = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        """Let those begin whose turn has come, see to alarms, and come back when time alone will have changed something."""
        self._look_asked = False
        now = self._clock()
        granted = self._pools.grants(now)
        for grant in granted:
            driver = self._drivers[grant.launch_id]
            driver.feed(m.SlotGranted(gpu=grant.gpu))
        if granted:
            self._creates_changed()
        for launch_id, alarm in self._alarms.due(now):
            self._ring(launch_id, alarm, now)
        if self._look_timer is not None:
            self._look_timer.cancel()
        following = [wait for wait in (self._pools.next_look(now), self._alarms.next(now)) if wait is not None]
        self._look_timer = (
            asyncio.get_running_loop().call_later(max(min(following), SHORTEST_LOOK), self._look) if following else None
        )

    def _ring(self, launch_id: str, alarm: Alarm, now: float) -> None:
        driver = self._drivers.get(launch_id)
        if driver is None:
            return
        why = self._pools.why(launch_id, now)
        if alarm is Alarm.IN_LINE:
            driver.feed(m.SlotSlow(gpu=self._pools.first_choice(launch_id), why=why))
        else:
            limit = self._settings.queued_timeout
            driver.feed(m.QueuedLong(queued=limit * WARNED_AT, limit=limit, why=why))

    def _warn_in_time(self, driver: Driver, queue_limit: float | None) -> None:
        """Have it told if the launch does not run when most of the time is over after which Airflow takes it back."""
        if queue_limit is not None:
            left = queue_limit - self._settings.queued_timeout * (1 - WARNED_AT)
            self._alarms.set(self._clock() + max(left, 0.0), driver.launch_id, Alarm.QUEUED_LONG)
            self._look_soon()

    async def _calm(self) -> None:
        """Return when no CPU create is under way, after ``CALM_LIMIT`` at the latest."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CALM_LIMIT):
                await self._no_creates.wait()

    def _forget(self, driver: Driver) -> None:
        self._drivers.pop(driver.launch_id, None)
        self._pools.forget(driver.launch_id)
        self._dag_code.release(driver.launch_id)
        if driver.launch_id in self._following:
            asyncio.get_running_loop().call_soon(self._follow, driver.launch_id, driver.lifecycle.attempt + 1)
        self._creates_changed()

    def _follow(self, launch_id: str, attempt: int) -> None:
        """Begin what was wanted meanwhile, unless it has been taken back since."""
        if (following := self._following.pop(launch_id, None)) is not None:
            following(attempt)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _stamps(clock: Callable[[], float]) -> Callable[[float], str]:
    """Write times of the monotonic ``clock`` as people read them, in UTC."""
    offset = time.time() - clock()
    return lambda at: datetime.fromtimestamp(offset + at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


async def _at_once() -> None:
    """Nothing else need be there for a launch."""


def _abandoned() -> Gateway:
    raise Unavailable("this launch loop was given up")


async def _settle(tasks: Sequence[asyncio.Task[None]], seconds: float) -> None:
    """Wait for tasks, at most ``seconds``."""
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)
