"""A launch loop that answers no more is noticed, reported with what it is stuck at, and replaced by another.

One callback that blocks (a hook of the site's, a resolver, a lock) stops every launch of this scheduler, and Python cannot end a
thread. So a new loop takes over what the old one held, as a new scheduler would: by one listing, by name, by id. The old one is
fenced: its connection to Modal is closed before the new one asks anything, and what it still says is not heard.
``WatchedBackend`` stands where ``backend.LaunchBackend`` would; all of it runs on the scheduler's thread, in microseconds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from modalflow.launch.backend import LaunchBackend
from modalflow.launch.events import AdoptRequest, LaunchEnded, LaunchEvent, LaunchRequest, LaunchStarted
from modalflow.launch.failures import FailureClass
from modalflow.launch.gateway import Gateway
from modalflow.launch.outcomes import redact

log = logging.getLogger(__name__)

NOTICE_AFTER = 10.0
"""Seconds without an answer after which the log tells where the loop is. On a busy scheduler it answers within one."""
RESTART_AFTER = 60.0
"""Seconds without an answer after which another loop takes over. Too early costs a listing and a few calls; too late, tasks that
wait. No step of ours takes a second, and what the site's hooks do should not."""
LONGEST_STEP = 5.0
"""Seconds that one look counts for, at most: a scheduler that was itself stopped or asleep finds a loop that was so too."""
REVOKED_KEPT = 600.0
"""Seconds for which a revoked launch is remembered: its sandbox may not have been ended yet when the loop gets stuck."""

T = TypeVar("T")


@dataclass(kw_only=True, slots=True)
class _Held:
    """A launch as a new loop would need it. ``relaunch`` is dropped when the workload was handed over; ``due`` is when Airflow
    takes it back, on the watchdog's clock."""

    key: Hashable
    label: str
    log_path: str | None
    sandbox_id: str | None
    relaunch: Callable[[], LaunchRequest] | None
    due: float | None
    trace: Mapping[str, str]


@dataclass(slots=True)
class _Ping:
    """A question to the loop; ``answered`` is set on its thread."""

    sent: float
    answered: float | None = None


class WatchedBackend:
    """A ``LaunchBackend`` that survives the end of its loop. Used from one thread; no method blocks, but ``stop`` waits."""

    def __init__(self, make: Callable[[Gateway | None], LaunchBackend], *, clock: Callable[[], float] = time.monotonic) -> None:
        """``make`` builds a backend; it is given the gateway that the new one's must succeed, if there was one before."""
        self._make = make
        self._clock = clock
        self._backend = make(None)
        self._held: dict[str, _Held] = {}
        self._revoked: deque[tuple[float, str, _Held, str]] = deque()
        self._pending: list[LaunchEvent] = []
        self._inside: dict[int, str] = {}
        self._ping: _Ping | None = None
        self._looked = 0.0
        self._silent = 0.0
        self._told = False
        self._watching = False
        self._lag = 0.0
        self._restarts = 0

    @property
    def lag(self) -> float:
        """Seconds that the loop took to answer the latest question."""
        return self._lag

    @property
    def restarts(self) -> int:
        """How many loops were replaced."""
        return self._restarts

    # As a backend

    def start(self) -> None:
        """Start the loop's thread, and watch it from now on."""
        self._backend.start()
        self._looked = self._clock()
        self._watching = True

    def submit(self, *requests: LaunchRequest) -> None:
        """Launch workloads."""
        for request in requests:
            self._held[request.launch_id] = _Held(
                key=request.key,
                label=request.label,
                log_path=request.log_path,
                sandbox_id=None,
                relaunch=partial(self._guarded, request),
                due=self._due(request.queue_limit),
                trace=request.trace,
            )
        self._backend.submit(*requests, guard=self._guarded)

    def adopt(self, requests: list[AdoptRequest]) -> None:
        """Take over launches of an earlier scheduler."""
        guarded = [self._guarded_adoption(request) for request in requests]
        for one in guarded:
            self._held[one.launch_id] = _Held(
                key=one.key,
                label=one.label,
                log_path=one.log_path,
                sandbox_id=one.sandbox_id,
                relaunch=one.relaunch,
                due=self._due(one.queue_limit),
                trace=one.trace,
            )
        self._backend.adopt(guarded)

    def revoke(self, launch_id: str, reason: str) -> None:
        """End a launch without a further event for it."""
        held = self._held.pop(launch_id, None)
        if held is not None:
            held.relaunch = None
            self._revoked.append((self._clock(), launch_id, held, reason))
        self._backend.revoke(launch_id, reason)

    def drain(self) -> list[LaunchEvent]:
        """Take the events since the last call, oldest first, and look after the loop."""
        if self._watching:
            self._look()
        events, self._pending = [*self._pending, *self._backend.drain()], []
        for event in events:
            self._note(event)
        return events

    def describe(self) -> str:
        """State of all launches and of the loop, as text."""
        return f"{self._backend.describe()}\nmodalflow: loop lag {self._lag:.3f} s, {self._restarts} loops replaced"

    def stop(self, timeout: float) -> None:
        """Stop within ``timeout`` seconds; sandboxes run on."""
        self._watching = False
        self._backend.stop(timeout)

    # What a new loop would need

    def _due(self, queue_limit: float | None) -> float | None:
        return None if queue_limit is None else self._clock() + queue_limit

    def _note(self, event: LaunchEvent) -> None:
        if isinstance(event, LaunchEnded):
            self._held.pop(event.launch_id, None)
        elif isinstance(event, LaunchStarted) and (held := self._held.get(event.launch_id)):
            held.sandbox_id, held.relaunch, held.due = event.sandbox_id, None, None

    def _guarded(self, request: LaunchRequest) -> LaunchRequest:
        """Have it known which launch the loop is busy with while it runs code that is not this package's."""
        launch_id = request.launch_id
        return replace(
            request,
            translate=partial(self._busy_with, launch_id, request.translate),
            mint_workload=partial(self._busy_with, launch_id, request.mint_workload),
        )

    def _guarded_adoption(self, request: AdoptRequest) -> AdoptRequest:
        again = request.relaunch
        return request if again is None else replace(request, relaunch=lambda: self._guarded(again()))

    def _busy_with(self, launch_id: str, work: Callable[[], T]) -> T:
        """Do ``work``, on the loop's thread."""
        thread = threading.get_ident()
        self._inside[thread] = launch_id
        try:
            return work()
        finally:
            self._inside.pop(thread, None)

    # Looking after the loop

    def _look(self) -> None:
        now = self._clock()
        self._silent += min(now - self._looked, LONGEST_STEP)
        self._looked = now
        while self._revoked and self._revoked[0][0] < now - REVOKED_KEPT:
            self._revoked.popleft()
        if not self._backend.running:
            self._replace("has ended by itself")
        elif self._ping is None or self._ping.answered is not None:
            self._hear(self._ping)
            self._ping = ping = _Ping(now)
            self._backend.ping(lambda: setattr(ping, "answered", self._clock()))
        elif self._silent >= RESTART_AFTER:
            self._replace(f"has not answered for {self._silent:.0f} s")
        elif self._silent >= NOTICE_AFTER and not self._told:
            self._told = True
            log.warning("modalflow: the launch loop has not answered for %.0f s; it is at:\n%s", self._silent, self._stack())

    def _hear(self, ping: _Ping | None) -> None:
        if ping is not None and ping.answered is not None:
            self._lag = ping.answered - ping.sent
        if self._told:
            log.warning("modalflow: the launch loop answers again, after %.0f s", self._lag)
        self._silent, self._told = 0.0, False

    def _stack(self) -> str:
        return redact(self._backend.stack())

    def _replace(self, why: str) -> None:
        old, stack = self._backend, self._stack()
        log.error(
            "modalflow: the launch loop %s; another one takes its %d launches over. It was at:\n%s", why, len(self._held), stack
        )
        for event in old.drain():
            self._pending.append(event)
            self._note(event)
        self._give_up(self._inside.pop(old.thread_id, None), why)
        self._backend = self._make(old.abandon())
        self._restarts += 1
        self._ping, self._silent, self._told = None, 0.0, False
        self._backend.start()
        self._hand_over()

    def _give_up(self, launch_id: str | None, why: str) -> None:
        """End the launch whose own code holds the loop up: it would hold up the next one too."""
        held = self._held.pop(launch_id, None) if launch_id else None
        if launch_id is None or held is None:
            return
        reason = (
            f"modalflow: the launch loop {why} while it worked on this task's configuration or workload, which is not tried "
            "again; the scheduler's log says where it was (a hook in airflow_local_settings, most likely)"
        )
        log.error("modalflow: launch %s (%s) is given up: %s", launch_id, held.label, reason)
        self._pending.append(
            LaunchEnded(launch_id=launch_id, key=held.key, success=False, reason=reason, failure=FailureClass.INTERNAL)
        )

    def _hand_over(self) -> None:
        revoked = [entry for entry in self._revoked if entry[1] not in self._held]  # taken over again since
        launches = [*self._held.items(), *((launch_id, held) for _, launch_id, held, _ in revoked)]
        self._backend.adopt(
            [
                AdoptRequest(
                    launch_id=launch_id,
                    key=held.key,
                    label=held.label,
                    sandbox_id=held.sandbox_id,
                    log_path=held.log_path,
                    relaunch=held.relaunch,
                    queue_limit=None if held.due is None else max(held.due - self._clock(), 0.0),
                    trace=held.trace,
                )
                for launch_id, held in launches
            ]
        )
        for _, launch_id, _, reason in revoked:
            self._backend.revoke(launch_id, reason)
