"""Lets launches go whose task failed while their sandbox is kept for debugging (``keep_on_failure``).

The sandbox's supervisor tells Airflow of the failure at once, but the sandbox, whose end a launch waits for, stays. So for the
launches of such sandboxes, and for no others, Airflow's database is asked every ``ASK_EVERY`` seconds, for all of them together,
by primary key. In: launches that wait (``driver``), what Airflow says (``Claims``, called in a thread of its own). Out: that a
task failed. The GPUs of a kept sandbox stay counted until it ends (``pools``). ``backend`` runs it on its loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from modalflow.launch.few_questions import FewQuestions
from modalflow.launch.gateway import GatewayError, NotFound, SandboxEnd
from modalflow.launch.keep_tags import TAIL
from modalflow.launch.pools import Pools
from modalflow.launch.sweep import Claims

log = logging.getLogger(__name__)

ASK_EVERY = 10.0
"""Seconds between two questions: that long at most a failed task whose sandbox is kept holds a slot of Airflow's."""
ANSWER_LIMIT = 30.0
"""Seconds that the database may take; 10,000 launches are some 40 queries by primary key."""


class Keeping:
    """Used on the loop's thread only."""

    def __init__(
        self,
        claims: Claims | None,
        pools: Pools,
        *,
        ended: Callable[[str], Awaitable[SandboxEnd]],
        freed: Callable[[], None],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        """Ask ``claims`` (``None``: nobody can be asked, and launches wait for the end of their sandbox).

        ``ended`` waits for a sandbox's end. ``pools`` count the GPUs of kept sandboxes; ``freed`` is told when one's are free.
        """
        self._claims = claims
        self._ended = ended
        self._pools = pools
        self._freed = freed
        self._sleep = sleep
        self._questions = FewQuestions(at_once=1, limit=ANSWER_LIMIT)
        self._waiting: dict[str, tuple[str, asyncio.Future[None]]] = {}
        self._some_wait = asyncio.Event()
        self._holding: dict[str, asyncio.Task[None]] = {}

    async def end_or_failure(self, launch_id: str, instance: str, sandbox_id: str) -> SandboxEnd | None:
        """Return the end of the sandbox, or ``None`` once Airflow knows the launch's task as failed. Raises as ``ended``."""
        if self._claims is None:
            return await self._ended(sandbox_id)
        failed = asyncio.get_running_loop().create_future()
        ending = asyncio.ensure_future(self._ended(sandbox_id))
        self._waiting[launch_id] = (instance, failed)
        self._some_wait.set()
        try:
            await asyncio.wait([ending, failed], return_when=asyncio.FIRST_COMPLETED)
            return ending.result() if ending.done() else None
        finally:
            del self._waiting[launch_id]
            failed.cancel()
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)

    async def run(self) -> None:
        """Ask for as long as anybody waits, for ever. What fails is said and asked again."""
        try:
            while True:
                await self._some_wait.wait()
                await self._sleep(ASK_EVERY)
                try:
                    await self._ask()
                except Exception:
                    log.exception(
                        "modalflow: cannot ask Airflow whether tasks failed whose sandboxes are kept; it is asked again"
                    )
        finally:
            for task in self._holding.values():
                task.cancel()

    async def _ask(self) -> None:
        launches = {launch_id: instance for launch_id, (instance, _) in self._waiting.items()}
        if not launches or self._claims is None:
            self._some_wait.clear()
            return
        claims = self._claims
        known = await self._questions.ask(lambda: claims(launches, {}), "modalflow-keeping")
        for launch_id, claim in known.items():
            _, failed = self._waiting.get(launch_id, (None, None))
            if failed is not None and claim.failed_at is not None and not failed.done():
                failed.set_result(None)

    # GPUs

    @property
    def launches(self) -> frozenset[str]:
        """The launches that were let go and whose sandboxes' GPUs are counted here."""
        return frozenset(self._holding)

    def hand_on(self, launch_id: str, sandbox_id: str, seconds: int) -> None:
        """A launch is over whose sandbox is kept for ``seconds``: its GPUs are in flight until that ends."""
        if self._pools.hand_on(launch_id, sandbox_id):
            task = asyncio.create_task(self._hold(launch_id, sandbox_id, seconds), name=f"modalflow-kept-{sandbox_id}")
            self._holding[launch_id] = task

    async def _hold(self, launch_id: str, sandbox_id: str, seconds: int) -> None:
        try:
            async with asyncio.timeout(seconds + TAIL.total_seconds()):
                await self._until_it_ends(sandbox_id)
        except TimeoutError:
            log.warning("modalflow: the sandbox %s should have ended; its GPUs are counted no longer", sandbox_id)
        except Exception:
            log.exception(
                "modalflow: the end of the kept sandbox %s cannot be waited for; its GPUs are counted no longer", sandbox_id
            )
        del self._holding[launch_id]
        self._pools.release(sandbox_id)
        self._freed()

    async def _until_it_ends(self, sandbox_id: str) -> None:
        while True:
            try:
                await self._ended(sandbox_id)
            except NotFound:
                return
            except GatewayError as error:
                log.info("modalflow: the kept sandbox %s is looked at again: %s", sandbox_id, error)
                await self._sleep(ASK_EVERY)
            else:
                return
