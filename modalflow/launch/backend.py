"""All launches of one executor: the thread border, the queue by priority, the slots, and adoption.

Flows in from the scheduler's thread: requests (``submit``, ``adopt``, ``revoke``), none of which blocks or does I/O. Flows out
to it: events (``drain``). Everything between lives on one asyncio loop in one thread; ``driver`` runs each launch.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

from modalflow.launch import messages as m
from modalflow.launch.driver import Driver, Surroundings
from modalflow.launch.events import AdoptRequest, LaunchEvent, LaunchRequest
from modalflow.launch.gateway import Gateway, GatewayError
from modalflow.launch.lifecycle import Adoption, Lifecycle, Rules
from modalflow.launch.portal import LoopThread
from modalflow.launch.survey import Survey
from modalflow.launch.task_log import Journal, TaskLog
from modalflow.launch.transitions import State
from modalflow.launch.watch import Watch
from modalflow.settings import LaunchSettings

log = logging.getLogger(__name__)

STOP_SHARE = 0.5
"""Part of ``stop``'s time in which creates and hand-overs under way may finish; what is left is for closing connections."""

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
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Keep the arguments; no thread, no import of modal.

        ``gateway_factory`` is called on the loop's thread at the first need, again after a failure. ``argv`` is every sandbox's
        command, ``stop_argv`` what is run in one that has time to stop.
        ``clock`` (monotonic seconds), ``sleep`` and ``jitter`` ([0, 1)) are for tests.
        """
        self._gateway_factory = gateway_factory
        self._settings = settings
        self._journal = journal
        self._sleep = sleep
        self._rules = Rules(create_timeout=settings.create_timeout, retries=settings.launch_retries, jitter=jitter)
        self._gateway: Gateway | None = None
        self._thread = LoopThread("modalflow-launch")
        self._events: deque[LaunchEvent] = deque()
        self._drivers: dict[str, Driver] = {}
        self._order = itertools.count()
        self._intake: list[tuple[int, int, Driver]] = []
        self._waiting: list[tuple[int, int, Driver]] = []
        self._free_slots = settings.launch_concurrency
        self._no_creates = asyncio.Event()
        self._no_creates.set()
        self._background: set[asyncio.Task[None]] = set()
        self._intake_filled = asyncio.Event()
        self._stop_asked = asyncio.Event()
        self._stop_grace = 0.0
        self._watch = Watch(self._the_gateway, {"deployment": settings.deployment}, clock=clock, sleep=sleep)
        self._survey = Survey(self._the_gateway, settings.deployment, self._keep)
        self._around = Surroundings(
            gateway=self._the_gateway,
            survey=self._survey,
            argv=tuple(argv),
            stop_argv=tuple(stop_argv),
            emit=self._events.append,
            request_slot=self._request_slot,
            release_slot=self._release_slot,
            forget=self._forget,
            keep=self._keep,
            calm=self._calm,
            ended=self._watch.end,
            clock=clock,
            sleep=sleep,
        )

    # From the scheduler's thread

    def start(self) -> None:
        """Start the loop's thread. What was submitted before begins now."""
        self._thread.start(self._main)

    def submit(self, request: LaunchRequest) -> None:
        """Launch one workload. O(1); the outcome comes as events."""
        self._thread.post(partial(self._submit, request))

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
        slots = f"{self._free_slots} of {self._settings.launch_concurrency} CPU slots free"
        lines = [f"modalflow: {counts}; {slots}; thread {'running' if self._thread.running else 'not running'}"]
        for d in drivers:
            life = d.lifecycle
            gpu = f" {life.gpu}" if life.gpu else ""
            lines.append(
                f"  {d.launch_id} {d.label}: {life.state} (attempt {life.attempt}{gpu}) {life.sandbox_id or ''}".rstrip()
            )
        return "\n".join(lines)

    # On the loop

    async def _main(self) -> None:
        intake = asyncio.create_task(self._take_in(), name="modalflow-intake")
        try:
            await self._stop_asked.wait()
        finally:
            intake.cancel()
            await self._shut_down()

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

    def _submit(self, request: LaunchRequest) -> None:
        self._accept(request.launch_id, request.key, request.label, request.log_path, request.priority, lambda: request, None)

    def _accept(
        self,
        launch_id: str,
        key: object,
        label: str,
        log_path: str | None,
        priority: int,
        source: Callable[[], LaunchRequest] | None,
        adoption: Adoption | None,
    ) -> Driver | None:
        if launch_id in self._drivers:
            log.error("modalflow: launch %s (%s) is under way already; the second request for it is ignored", launch_id, label)
            return None
        task_log = TaskLog(log_path, self._settings.logs_volume, self._journal, self._the_gateway) if log_path else None
        driver = Driver(
            Lifecycle(launch_id, key, self._rules, adoption=adoption),
            self._around,
            launch_id=launch_id,
            key=key,
            label=label,
            priority=priority,
            source=source,
            task_log=task_log,
        )
        self._drivers[launch_id] = driver
        if adoption is None:
            heapq.heappush(self._intake, (-priority, next(self._order), driver))
            self._intake_filled.set()
        return driver

    def _adopt(self, requests: tuple[AdoptRequest, ...]) -> None:
        drivers = [driver for request in requests if (driver := self._accept_adoption(request))]
        self._keep(asyncio.create_task(self._hand_listing(drivers), name="modalflow-adoption"))

    def _accept_adoption(self, request: AdoptRequest) -> Driver | None:
        adoption = Adoption(sandbox_id=request.sandbox_id, can_relaunch=request.relaunch is not None)
        return self._accept(
            request.launch_id, request.key, request.label, request.log_path, 0, request.relaunch, adoption
        )  # fmt: skip

    async def _hand_listing(self, drivers: list[Driver]) -> None:
        """One listing for all; where it fails, each launch asks for itself and goes on asking."""
        running = await self._survey.running({driver.launch_id: driver.lifecycle.sandbox_id for driver in drivers})
        for driver in drivers:
            if driver.lifecycle.state is State.ADOPTING:  # not revoked meanwhile
                choice = running.get(driver.launch_id)
                driver.feed(m.Listed(status=choice.status, attempt=choice.attempt) if choice else m.Listed(status=None))

    def _revoke(self, launch_id: str, reason: str) -> None:
        driver = self._drivers.get(launch_id)
        if driver is not None:
            driver.feed(m.Revoked(reason=reason))

    def _request_slot(self, driver: Driver) -> None:
        heapq.heappush(self._waiting, (-driver.priority, next(self._order), driver))
        self._grant_slots()

    def _release_slot(self) -> None:
        self._free_slots += 1
        if self._free_slots == self._settings.launch_concurrency:
            self._no_creates.set()
        asyncio.get_running_loop().call_soon(self._grant_slots)

    def _grant_slots(self) -> None:
        while self._free_slots and self._waiting:
            _, _, driver = heapq.heappop(self._waiting)
            if driver.lifecycle.state is State.QUEUED:  # not revoked meanwhile
                self._free_slots -= 1
                self._no_creates.clear()
                driver.feed(m.SlotGranted())

    async def _calm(self) -> None:
        """Return when no CPU create is under way, after ``CALM_LIMIT`` at the latest."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CALM_LIMIT):
                await self._no_creates.wait()

    def _forget(self, driver: Driver) -> None:
        self._drivers.pop(driver.launch_id, None)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._background.add(task)
        task.add_done_callback(self._background.discard)


async def _settle(tasks: Sequence[asyncio.Task[None]], seconds: float) -> None:
    """Wait for tasks, at most ``seconds``."""
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)
