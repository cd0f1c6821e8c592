"""Ends, every few minutes, sandboxes of this deployment whose task Airflow knows as over.

What should have ended is mostly ended by its own program or its own launch; here comes what neither did: a program that hangs
after its task, a sandbox whose scheduler died between its task's end and its own. In: what runs on Modal, and what Airflow's
database says of it (``Claims``, called in a thread of its own). A sandbox is ended only if its deployment tag is ours, and the
database knows its launch (as that of a task instance, or as an earlier one of it) and has said at two looks in a row that it is
over: neither age nor a tag alone ends anything, and what other schedulers run is known to the same database. ``backend`` runs it
on its loop; ``stopping`` ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from modalflow.launch.few_questions import FewQuestions
from modalflow.launch.gateway import Gateway, GatewayError, SandboxStatus
from modalflow.launch.gpu_ledger import gpu_of_tag
from modalflow.launch.keep_tags import is_kept
from modalflow.launch.reconcile import DEPLOYMENT_TAG, LAUNCH_TAG
from modalflow.launch.stopping import end_in_order
from modalflow.translation.tags import GPU_TAG, INSTANCE_TAG

log = logging.getLogger(__name__)

AT_ONCE = 32
"""Sandboxes that are ended at the same time."""
ANSWER_LIMIT = 120.0
"""Seconds that the database may take; 100,000 sandboxes are some 400 queries by primary key."""
BY_ITSELF = ("callback_id", "connection_test_id")
"""Tags of what has no task instance: its launch id is its key in the database."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """What Airflow says of a launch. ``over``: its sandbox may be ended, unless it is kept; ``why`` is half a sentence.

    ``failed_at``: when its task failed, if that is how the try ended.
    """

    over: bool
    why: str
    failed_at: datetime | None = field(default=None, compare=False)


Claims = Callable[[Mapping[str, str], Mapping[str, datetime]], Mapping[str, Claim]]
"""Launch ids, each with its task instance's id (empty if it is none), and when their newest sandboxes were made, to what Airflow
says of those it knows. May block."""


class Sweep:
    """Used on the loop's thread only."""

    def __init__(
        self,
        gateway: Callable[[], Gateway],
        claims: Claims,
        *,
        deployment: str,
        stop_argv: Sequence[str],
        stop_grace: int,
        own: Callable[[], frozenset[str]] = frozenset,
        seen_elsewhere: Callable[[Mapping[str, str]], None] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Sweep ``deployment``. ``stop_argv`` asks a sandbox to stop, ``stop_grace`` is how many seconds it has then.

        ``seen_elsewhere`` is told, at each look, of the GPUs of all launches but ``own`` (launch id to ``H100:2``); of none where
        Modal could not be asked, for nobody is to wait for what nobody counts any more.
        """
        self._now = now
        self._own = own
        self._seen_elsewhere = seen_elsewhere
        self._gateway = gateway
        self._claims = claims
        self._questions = FewQuestions(at_once=1, limit=ANSWER_LIMIT)
        self._deployment = deployment
        self._stop_argv = tuple(stop_argv)
        self._stop_grace = stop_grace
        self._over: frozenset[str] = frozenset()

    async def run(self, interval: float, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Look at once and then every ``interval`` seconds, for ever. What fails is said and tried at the next look."""
        while True:
            try:
                await self.look()
            except GatewayError as error:
                log.warning("modalflow: cannot look for sandboxes that are left; the next look is in %g s: %s", interval, error)
            except Exception:
                log.exception("modalflow: cannot look for sandboxes that are left; the next look is in %g s", interval)
            await sleep(interval)

    async def look(self) -> None:
        """End what was over at the look before and is over still; remember what is over for the first time."""
        ours = await self._listed()
        launches = {
            status.tags.get(LAUNCH_TAG, ""): status.tags.get(INSTANCE_TAG, "") for status in ours if _can_be_found(status)
        }
        if not launches:
            self._over = frozenset()
            return
        # After the listing: a sandbox is made after its launch id is committed, so the database knows of each that is listed.
        made = made_of(ours)
        known = await self._questions.ask(lambda: self._claims(launches, made), "modalflow-sweep")
        claimed = [(status, claim) for status in ours if (claim := known.get(status.tags.get(LAUNCH_TAG, ""))) is not None]
        now = self._now()
        kept = {status.sandbox_id for status, claim in claimed if is_kept(status.tags, claim.failed_at, now)}
        over = {status.sandbox_id: (status, claim) for status, claim in claimed if claim.over and status.sandbox_id not in kept}
        before, self._over = self._over, frozenset(over)
        at_once = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(self._end(*over[sandbox_id], at_once) for sandbox_id in over if sandbox_id in before))

    async def _listed(self) -> list[SandboxStatus]:
        own, ours = self._own(), list[SandboxStatus]()
        try:
            running = await self._gateway().list_running({DEPLOYMENT_TAG: self._deployment})
            ours = [status for status in running if status.tags.get(DEPLOYMENT_TAG) == self._deployment]
        finally:
            if self._seen_elsewhere is not None:
                self._seen_elsewhere({launch_id: gpu for launch_id, gpu in _gpus_of(ours) if launch_id not in own})
        return ours

    async def _end(self, status: SandboxStatus, claim: Claim, at_once: asyncio.Semaphore) -> None:
        tags = status.tags
        task = ".".join(text for name in ("dag_id", "task_id") if (text := tags.get(name)))
        said = (status.sandbox_id, task or "no task", tags.get(LAUNCH_TAG), claim.why)
        async with at_once:
            log.warning("modalflow: ending sandbox %s (%s, launch %s), which was left running: %s", *said)
            try:
                await end_in_order(self._gateway(), status, stop_argv=self._stop_argv, stop_grace=self._stop_grace)
            except GatewayError as error:
                log.warning(
                    "modalflow: could not end sandbox %s; it is tried again at the next look: %s", status.sandbox_id, error
                )


def _gpus_of(statuses: Iterable[SandboxStatus]) -> Iterator[tuple[str, str]]:
    for status in statuses:
        if (gpu := gpu_of_tag(status.tags.get(GPU_TAG, ""))) is not None:
            yield status.tags.get(LAUNCH_TAG, ""), gpu


def made_of(statuses: Iterable[SandboxStatus]) -> Mapping[str, datetime]:
    """When the newest sandbox of each launch was created, of those whose listing says so."""
    made: dict[str, datetime] = {}
    for status in statuses:
        launch_id = status.tags.get(LAUNCH_TAG, "")
        if status.made_at is not None:
            made[launch_id] = max(status.made_at, made.get(launch_id, status.made_at))
    return made


def _can_be_found(status: SandboxStatus) -> bool:
    """Whether its tags hold a key of the database; ``airflow modal cleanup`` does without."""
    return INSTANCE_TAG in status.tags or any(name in status.tags for name in BY_ITSELF)
