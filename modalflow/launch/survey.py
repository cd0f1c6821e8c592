"""Asks Modal what is there of the launches of an earlier scheduler: one listing for all, one question for each that it has not.

Flows in: the gateway, this deployment's name. Flows out: a ``Choice`` for each launch, which ``lifecycle.adopting`` goes on with.
Requests that stand in line for nobody are ended here; nothing else is ever ended, and nothing that lacks one of our two tags is
looked at. ``reconcile`` decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

from modalflow.launch.gateway import Gateway, GatewayError, SandboxStatus
from modalflow.launch.reconcile import DEPLOYMENT_TAG, LAUNCH_TAG, Choice, by_launch, choose, is_ours

log = logging.getLogger(__name__)

AT_A_TIME = 16
"""Launches asked for at the same time. Thousands may have ended while no scheduler lived; each costs a few calls."""


class Survey:
    """What Modal has of our launches. Used on the loop's thread only."""

    def __init__(self, gateway: Callable[[], Gateway], deployment: str, keep: Callable[[asyncio.Task[None]], None]) -> None:
        """Ask ``gateway`` about the sandboxes of ``deployment``; ``keep`` takes what goes on in the background."""
        self._gateway = gateway
        self._deployment = deployment
        self._keep = keep
        self._at_a_time = asyncio.Semaphore(AT_A_TIME)

    async def running(self, committed: Mapping[str, str | None]) -> Mapping[str, Choice]:
        """Return what runs of these launches (id to the sandbox id that Airflow keeps), with one listing.

        A listing that fails says nothing of any of them: each is then asked for by itself, and that is repeated.
        """
        try:
            listed = await self._gateway().list_running({DEPLOYMENT_TAG: self._deployment})
        except GatewayError as error:
            log.warning("modalflow: cannot list running sandboxes, asking for each of %d launches: %s", len(committed), error)
            return {}
        except Exception:
            log.exception("modalflow: cannot list running sandboxes, asking for each of %d launches", len(committed))
            return {}
        found = {}
        for launch_id, statuses in by_launch(listed).items():
            if launch_id in committed and (choice := self._chosen(launch_id, statuses, committed[launch_id])):
                found[launch_id] = choice
        return found

    async def one(self, launch_id: str, committed: str | None) -> Choice | None:
        """Return what there is of one launch, ended attempts too where Modal can tell. Raises ``GatewayError``."""
        async with self._at_a_time:
            statuses = await self._gateway().list_launch({DEPLOYMENT_TAG: self._deployment, LAUNCH_TAG: launch_id})
        return self._chosen(launch_id, statuses, committed)

    def owns(self, launch_id: str, status: SandboxStatus | None) -> SandboxStatus | None:
        """Return ``status`` unless it runs for somebody else: it is ours by both tags, or not at all.

        An id or a name alone is no proof: a copy of this Airflow's database has the same.
        """
        foreign = (
            status is not None
            and status.end is None
            and bool(status.tags)  # they cannot be read of a sandbox that ends just now
            and not is_ours(status, deployment=self._deployment, launch_id=launch_id)
        )
        return None if foreign else status

    def _chosen(self, launch_id: str, statuses: Iterable[SandboxStatus], committed: str | None) -> Choice | None:
        ours = [status for status in statuses if is_ours(status, deployment=self._deployment, launch_id=launch_id)]
        choice = choose(ours, committed=committed)
        for sandbox_id in choice.strays if choice is not None else ():
            self._keep(asyncio.create_task(self._end(sandbox_id, launch_id), name=f"modalflow-stray-{sandbox_id}"))
        return choice

    async def _end(self, sandbox_id: str, launch_id: str) -> None:
        log.info("modalflow: ending %s of launch %s: it waits for a machine, and nobody waits for it", sandbox_id, launch_id)
        try:
            await self._gateway().terminate(sandbox_id)
        except GatewayError as error:
            log.warning("modalflow: could not end %s, which nobody waits for; it ends by its own timeout: %s", sandbox_id, error)
