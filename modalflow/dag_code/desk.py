"""``launch.dag_code.DagCode`` for bundles that are folders of this host.

Flows in: a plan with a Volume that is to hold a bundle's code. Flows out: the plan with the copy that holds it, and with its tag.
Next: ``copies``, for each bundle; ``tidying``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from modalflow.dag_code.copies import BundleCopies, Clocks, OpenVolume
from modalflow.dag_code.reading import FolderReader
from modalflow.dag_code.tidying import tidy_up
from modalflow.launch.dag_code import Brought
from modalflow.launch.gateway import DagCodeError
from modalflow.translation.plan import SandboxPlan
from modalflow.translation.tags import CODE_TAG

TIDY_EVERY = 3600.0
"""Seconds. What goes is days old, and a look is two calls."""


class DagCodeDesk:
    """Used on one loop."""

    def __init__(
        self, readers: Mapping[str, FolderReader], volume: OpenVolume, *, deployment: str, keep_days: int, clocks: Clocks
    ) -> None:
        """Bring the bundles of ``readers``; remove copies ``keep_days`` days after the last launch with them."""
        self._bundles = {name: BundleCopies(name, reader, volume, deployment, clocks) for name, reader in readers.items()}
        self._volume = volume
        self._deployment = deployment
        self._keep_days = keep_days
        self._wall = clocks.wall
        self._held: dict[str, str] = {}
        self._used = asyncio.Event()

    async def bring(self, launch_id: str, plan: SandboxPlan) -> Brought:
        """See ``DagCode.bring``."""
        name = next((volume.code_of for volume in plan.volumes if volume.code_of is not None), None)
        if name is None:
            return Brought(plan=plan)
        bundle = self._bundles.get(name)
        if bundle is None:
            raise DagCodeError(f"this scheduler knows no bundle {name!r} whose code it could bring to Modal")
        try:
            placed = await bundle.current()
        except DagCodeError as error:
            raise DagCodeError(f"the code of bundle {name!r} cannot be brought to Modal: {error}") from error
        self._held[launch_id] = placed.copy.tag
        self._used.set()
        folder = placed.copy.folder(self._deployment)
        volumes = tuple(volume if volume.code_of is None else replace(volume, sub_path=folder) for volume in plan.volumes)
        tags = {**plan.tags, CODE_TAG: placed.copy.tag}
        return Brought(plan=replace(plan, volumes=volumes, tags=tags), warnings=placed.left_out)

    def release(self, launch_id: str) -> None:
        """See ``DagCode.release``."""
        self._held.pop(launch_id, None)

    async def tidy(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Look for what can go once something was brought, then every ``TIDY_EVERY`` seconds."""
        await self._used.wait()
        while True:
            await tidy_up(
                self._volume(),
                self._deployment,
                keep_days=self._keep_days,
                wall=self._wall,
                held=lambda: set(self._held.values()),
            )
            await sleep(TIDY_EVERY)

    async def close(self) -> None:
        """See ``DagCode.close``."""
        for bundle in self._bundles.values():
            await bundle.close()
