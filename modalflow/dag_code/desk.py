"""``launch.dag_code.DagCode`` for bundles that are folders of this host.

Flows in: a plan with a Volume that is to hold a bundle's code. Flows out: the plan with the copy that holds it, and with its tag.
Next: ``copies``, for each bundle; ``tidying``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial

from modalflow.dag_code.copies import BundleCopies, Clocks, CodeVolume, Placed
from modalflow.dag_code.reading import FolderReader
from modalflow.dag_code.requirements import NotInstallableError, with_requirements
from modalflow.dag_code.tidying import tidy_up
from modalflow.launch.dag_code import Brought
from modalflow.launch.gateway import DagCodeError
from modalflow.translation.plan import ImagePlan, SandboxPlan
from modalflow.translation.tags import CODE_TAG

TIDY_EVERY = 3600.0
"""Seconds. What goes is days old, and a look is two calls."""


OpenAccount = Callable[[str | None], CodeVolume]
"""The Volume in the account of a connection (``Home.conn_id``). Called on the loop: the first time it imports Modal's client."""


class DagCodeDesk:
    """Used on one loop."""

    def __init__(
        self,
        readers: Mapping[str, Callable[[], FolderReader]],
        volume: OpenAccount,
        *,
        deployment: str,
        keep_days: int,
        clocks: Clocks,
        requirements: bool = True,
    ) -> None:
        """Bring the bundles of ``readers``; remove copies ``keep_days`` days after the last launch with them.

        ``requirements``: have what a bundle's ``requirements.txt`` names in the image that modalflow makes itself.
        """
        self._installs = requirements
        self._readers = readers
        self._volume = volume
        self._deployment = deployment
        self._keep_days = keep_days
        self._clocks = clocks
        self._bundles: dict[tuple[str, str | None], BundleCopies] = {}
        """By name, and by the account that the copies are for."""
        self._held: dict[str, str] = {}
        self._used = asyncio.Event()

    async def bring(self, launch_id: str, plan: SandboxPlan) -> Brought:
        """See ``DagCode.bring``."""
        name = next((volume.code_of for volume in plan.volumes if volume.code_of is not None), None)
        if name is None:
            return Brought(plan=plan)
        try:
            placed = await self._copies(name, plan.home.conn_id).current()
        except DagCodeError as error:
            raise DagCodeError(f"the code of bundle {name!r} cannot be brought to Modal: {error}") from error
        self._held[launch_id] = placed.copy.tag
        self._used.set()
        folder = placed.copy.folder(self._deployment)
        volumes = tuple(volume if volume.code_of is None else replace(volume, sub_path=folder) for volume in plan.volumes)
        tags = {**plan.tags, CODE_TAG: placed.copy.tag}
        image, warnings = self._image(plan.image, placed)
        return Brought(plan=replace(plan, image=image, volumes=volumes, tags=tags), warnings=warnings)

    def _image(self, image: ImagePlan, placed: Placed) -> tuple[ImagePlan, tuple[str, ...]]:
        """Return the image with what the bundle needs, and what to say in the task's log."""
        if image.has_base_of_its_own or not placed.requirements or not self._installs:
            return image, placed.left_out
        try:
            return replace(image, packages=with_requirements(image.packages, placed.requirements)), placed.left_out
        except NotInstallableError as error:
            return image, (*placed.left_out, str(error))

    def _copies(self, name: str, conn_id: str | None) -> BundleCopies:
        known = self._bundles.get((name, conn_id))
        if known is None:
            if name not in self._readers:
                raise DagCodeError("this scheduler knows no such bundle")
            volume = partial(self._volume, conn_id)
            known = BundleCopies(name, self._readers[name](), volume, self._deployment, self._clocks)
            self._bundles[name, conn_id] = known
        return known

    def release(self, launch_id: str) -> None:
        """See ``DagCode.release``."""
        self._held.pop(launch_id, None)

    async def tidy(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Look for what can go once something was brought, then every ``TIDY_EVERY`` seconds."""
        await self._used.wait()
        while True:
            for conn_id in {conn_id for _, conn_id in self._bundles}:
                await tidy_up(
                    self._volume(conn_id),
                    self._deployment,
                    keep_days=self._keep_days,
                    wall=self._clocks.wall,
                    held=lambda: set(self._held.values()),
                )
            await sleep(TIDY_EVERY)

    async def close(self) -> None:
        """See ``DagCode.close``."""
        for bundle in self._bundles.values():
            await bundle.close()
