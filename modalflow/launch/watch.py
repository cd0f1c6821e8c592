"""How the ends of running sandboxes are noticed: each by a long poll while they are few, all by one listing when they are many.

Modal tells nobody of an end (modal 1.6.4 has no event for it): one asks. A long poll answers at once, but costs a call every 10 s
for as long as the sandbox runs; one listing of what runs costs a call for each page, whoever ended. So up to ``LONG_POLLS``
sandboxes are polled. Beyond that the running ones are listed again and again, and whoever is missing is asked for by its id: an
end is taken from that answer only, never from an absence. In: sandbox ids, from ``driver``. Out: ends. docs/explanation/scale.md
has the arithmetic.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from modalflow.launch.backoff import pause_before
from modalflow.launch.gateway import Gateway, GatewayError, NotFound, RateLimited, SandboxEnd, Unavailable

log = logging.getLogger(__name__)

LONG_POLLS = 200
"""Sandboxes watched by a long poll each: 20 calls a second (one per 10 s and sandbox), about 10 KiB each in the client."""
FEW_AGAIN = 150
"""Down to so many, long polls begin again. Less than ``LONG_POLLS``, so that a number around it does not turn the wheel."""
LIST_EVERY = 5.0
"""Seconds between the beginnings of two listings, at least. An end frees a slot and nothing else (Airflow's API server heard of
the task's state from the task), so nobody waits for these seconds unless all of [core] parallelism runs."""
PAGES_A_SECOND = 20.0
"""Pages of listings asked for a second, at most: what long polls may cost. 50,000 sandboxes (500 pages of 100) take 25 s."""
CHECKS_AT_ONCE = 48
"""Calls at the same time for sandboxes that a listing lacks: at 100 ends a second and 0.3 s a call, 30 are needed."""
REFUSALS = 3
"""Listings in a row that Modal refuses for good (rather than does not answer) before every sandbox is asked for by its id."""
CHECKS_A_SECOND = 20.0
"""Sandboxes asked for by id a second where listings are refused."""
LONGEST_POLL = 600.0
"""Seconds after which a wait is begun anew, should the client have lost it: its own polls are of 10 s."""


@dataclass(slots=True)
class _Watched:
    """One sandbox. A pass of the listing judges those that were there before it began."""

    ended: asyncio.Future[SandboxEnd]
    since: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchFigures:
    """What watching has come to. ``latest_pass``: seconds from the beginning to the end of the latest look at all."""

    watched: int
    polls: int
    passes: int
    pages: int
    checks: int
    latest_pass: float


class Watch:
    """Watches sandboxes, on the loop. ``end`` is for one caller a sandbox."""

    def __init__(
        self,
        gateway: Callable[[], Gateway],
        tags: Mapping[str, str],
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        """Keep the arguments. ``tags``: what every sandbox that is watched carries. ``clock``: monotonic seconds."""
        self._gateway = gateway
        self._tags = tags
        self._clock = clock
        self._sleep = sleep
        self._watched: dict[str, _Watched] = {}
        self._polls: dict[str, asyncio.Task[None]] = {}
        self._lister: asyncio.Task[None] | None = None
        self._checker: asyncio.Task[None] | None = None
        self._refusals = 0
        self._complaint = ""
        self._passes = 0
        self._pages = 0
        self._checks = 0
        self._latest_pass = 0.0

    @property
    def figures(self) -> WatchFigures:
        """Counts since the start."""
        return WatchFigures(
            watched=len(self._watched),
            polls=len(self._polls),
            passes=self._passes,
            pages=self._pages,
            checks=self._checks,
            latest_pass=self._latest_pass,
        )

    async def end(self, sandbox_id: str) -> SandboxEnd:
        """Return when the sandbox has ended, however long that takes.

        Raises ``NotFound`` when Modal does not know it, else what ended a long poll (``GatewayError``). A listing that fails is
        repeated and raises nothing: the tasks run on, and there is nobody else to ask.
        """
        watched = _Watched(asyncio.get_running_loop().create_future(), self._passes)
        self._watched[sandbox_id] = watched
        if self._lister is not None:
            pass  # the next pass sees it
        elif len(self._watched) > LONG_POLLS:
            self._list_from_now()
        else:
            self._poll(sandbox_id)
        try:
            return await watched.ended
        finally:
            self._leave(sandbox_id, watched)

    async def stop(self) -> None:
        """Stop asking. Whoever waits in ``end`` goes on waiting."""
        tasks = [*self._polls.values(), *(task for task in (self._lister, self._checker) if task is not None)]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _leave(self, sandbox_id: str, watched: _Watched) -> None:
        if self._watched.get(sandbox_id) is not watched:
            return
        del self._watched[sandbox_id]
        if watched.ended.done() and not watched.ended.cancelled():
            watched.ended.exception()  # heard, even where the caller was cancelled in the same moment
        poll = self._polls.pop(sandbox_id, None)
        if poll is not None:
            poll.cancel()

    # Few

    def _poll(self, sandbox_id: str) -> None:
        self._polls[sandbox_id] = asyncio.create_task(self._long_poll(sandbox_id), name=f"modalflow-poll-{sandbox_id}")

    async def _long_poll(self, sandbox_id: str) -> None:
        watched = self._watched[sandbox_id]
        try:
            _settle(watched, await self._wait(sandbox_id))
        except Exception as error:
            _fail(watched, error)  # raised by ``end``

    async def _wait(self, sandbox_id: str) -> SandboxEnd:
        while True:
            try:
                async with asyncio.timeout(LONGEST_POLL) as scope:
                    return await self._gateway().wait(sandbox_id)
            except TimeoutError:
                if not scope.expired():
                    raise

    # Many

    def _list_from_now(self) -> None:
        log.info("modalflow: %d sandboxes run: their ends are read from listings from now on", len(self._watched))
        polls, self._polls = self._polls, {}
        for poll in polls.values():
            poll.cancel()
        self._lister = asyncio.create_task(self._list_again_and_again(), name="modalflow-lister")

    def _poll_from_now(self) -> None:
        log.info("modalflow: %d sandboxes run: each is waited for by itself from now on", len(self._watched))
        self._lister = None
        for sandbox_id in self._watched:
            self._poll(sandbox_id)

    async def _list_again_and_again(self) -> None:
        while len(self._watched) > FEW_AGAIN:
            begin = self._clock()
            pause = await self._pass()
            took = self._latest_pass = self._clock() - begin
            await self._sleep(max(pause, LIST_EVERY - took, 0.0))
        self._poll_from_now()

    async def _pass(self) -> float:
        """Look once at all; return the seconds to leave Modal alone in any case."""
        self._passes += 1
        try:
            if self._refusals >= REFUSALS:
                self._refusals -= 1  # and listed again after that
                await self._check_all(list(self._watched), pace=1 / CHECKS_A_SECOND)
            else:
                missing = await self._missing(self._passes)
                self._answered()
                await self._checked()
                self._checker = asyncio.create_task(self._check_all(missing, pace=0.0), name="modalflow-checker")
        except GatewayError as error:
            return self._failed(error)
        except Exception:
            log.exception("modalflow: a look at %d running sandboxes failed", len(self._watched))
            self._refusals += 1
        return 0.0

    async def _checked(self) -> None:
        """Wait for the checks of the pass before, which go on while the next one lists. Raises what they raised."""
        checker, self._checker = self._checker, None
        if checker is not None:
            await checker

    def _answered(self) -> None:
        if self._complaint:
            log.info("modalflow: the running sandboxes are listed again")
        self._complaint = ""
        self._refusals = 0

    def _failed(self, error: GatewayError) -> float:
        """Say once that listings fail; return how long to wait. What is not an outage counts towards ``REFUSALS``."""
        if not self._complaint:
            log.warning("modalflow: the running sandboxes cannot be listed, which is tried again and again: %s", error)
        self._complaint = str(error)
        if isinstance(error, Unavailable):
            return 0.0
        if isinstance(error, RateLimited):
            return pause_before(1, jitter=0.0, retry_after=error.retry_after)
        self._refusals += 1
        return 0.0

    async def _missing(self, this: int) -> list[str]:
        """Return who was watched before pass ``this`` began and is not listed."""
        seen = await self._running()
        return [one for one, watched in self._watched.items() if watched.since < this and one not in seen]

    async def _running(self) -> set[str]:
        """List what runs, at the pace that is allowed."""
        seen: set[str] = set()
        async with aclosing(self._gateway().running_ids(self._tags)) as pages:
            begin = self._clock()
            async for page in pages:
                seen.update(page)
                self._pages += 1
                rest = 1 / PAGES_A_SECOND - (self._clock() - begin)
                if rest > 0:
                    await self._sleep(rest)
                begin = self._clock()
        return seen

    async def _check_all(self, sandbox_ids: list[str], *, pace: float) -> None:
        """Ask for each by its id, ``pace`` seconds apart. One that Modal does not answer for comes up again in the next pass."""
        waiting = iter(sandbox_ids)
        unanswered: list[GatewayError] = []

        async def work() -> None:
            for sandbox_id in waiting:
                try:
                    await self._check(sandbox_id)
                except GatewayError as error:
                    unanswered.append(error)
                if pace:
                    await self._sleep(pace * CHECKS_AT_ONCE)

        await asyncio.gather(*(work() for _ in range(min(CHECKS_AT_ONCE, len(sandbox_ids)))))
        if unanswered:
            log.warning(
                "modalflow: Modal did not answer for %d sandboxes, which are asked for again: %s", len(unanswered), unanswered[0]
            )

    async def _check(self, sandbox_id: str) -> None:
        watched = self._watched.get(sandbox_id)
        if watched is None:
            return
        self._checks += 1
        status = await self._gateway().status(sandbox_id)
        if status is None:
            _fail(watched, NotFound(f"could not wait for the sandbox {sandbox_id}: Modal does not know it"))
        elif status.end is not None:
            _settle(watched, status.end)


def _settle(watched: _Watched, end: SandboxEnd) -> None:
    if not watched.ended.done():
        watched.ended.set_result(end)


def _fail(watched: _Watched, error: Exception) -> None:
    if not watched.ended.done():
        watched.ended.set_exception(error)
