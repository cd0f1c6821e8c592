"""Copies of one bundle: a look and an upload for all launches that wait for them.

Flows in: launches, which want the code as it is when they ask. Flows out: the ``Copy`` that a launch is to mount, once Modal has
all of it. Everything here runs on the launch loop; reading goes to a thread, one at a time for each bundle. A launch that comes
while the folder is being looked at shares the next look with all others that come then: what it gets is never older than itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from modalflow.dag_code.manifest import CodeFile, amount
from modalflow.dag_code.reading import FolderReader, Look
from modalflow.dag_code.shelf import Copy, day_of
from modalflow.dag_code.tree import FolderChangedError
from modalflow.launch.gateway import Unavailable
from modalflow.launch.off_loop import off_loop

log = logging.getLogger(__name__)

LOOKS = 4
"""How often a folder that changes under the reader's eyes is looked at before the launch waits and tries again."""
REST_SHARE = 4.0
"""Times the length of a look that pass before the next: looks take a fifth of one core at most, however many launches come."""
LONGEST_REST = 5.0
"""Seconds; a look at a slow shared disk may take long."""
LOOK_LIMIT = 120.0
"""Seconds that a look may take before the launches are told. Its thread cannot be stopped; no other is started until it ends."""

BELIEVED_FOR = 60.0
"""Seconds for which a copy that was seen on Modal is taken to be there: somebody may delete the Volume."""

ReadBlock = Callable[[CodeFile, int], bytes]
"""The content of one block of a file, as it was hashed. Blocks, and raises ``FolderChangedError``."""


class CodeVolume(Protocol):
    """What of Modal is asked. All raise ``GatewayError``."""

    async def put(self, folder: str, files: Sequence[CodeFile], read: ReadBlock) -> int:
        """Make ``folder`` hold ``files``, all at once, and return how many bytes Modal did not have yet."""
        ...

    async def names(self, folder: str) -> list[str]:
        """Return what is in ``folder``; nothing if it does not exist."""
        ...

    async def remove(self, folder: str) -> None:
        """Remove ``folder`` and all in it; no error if it is gone."""
        ...

    async def tags_in_use(self) -> set[str]:
        """Return the tags of the copies that running sandboxes of the deployment mount."""
        ...


OpenVolume = Callable[[], CodeVolume]
"""Called on the loop, at the first need: it imports Modal's client."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clocks:
    """``wall`` in seconds since the epoch, ``now`` monotonic, ``sleep`` in seconds."""

    wall: Callable[[], float]
    now: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed:
    """A copy that Modal has, what of the folder is not in it, and the text of its ``requirements.txt``."""

    copy: Copy
    left_out: tuple[str, ...]
    requirements: str = ""


class BundleCopies:
    """The copies of one bundle."""

    def __init__(self, name: str, reader: FolderReader, volume: OpenVolume, deployment: str, clocks: Clocks) -> None:
        """Bring what ``reader`` finds to ``volume``; ``name`` is the bundle's."""
        self.name = name
        self._reader = reader
        self._volume = volume
        self._deployment = deployment
        self._clocks = clocks
        self._running: asyncio.Task[Placed] | None = None
        self._next: asyncio.Task[Placed] | None = None
        self._reading: asyncio.Future[Look] | None = None
        self._rested_at = float("-inf")
        self._there: Copy | None = None
        self._seen_at = float("-inf")

    async def current(self) -> Placed:
        """Have Modal hold the folder as it is now or later. Raises ``GatewayError``; all who share a look share its error."""
        if self._next is None:
            self._next = asyncio.create_task(self._round(self._running), name=f"modalflow-dag-code-{self.name}")
            self._next.add_done_callback(_retrieved)
        return await asyncio.shield(self._next)

    async def close(self) -> None:
        """Stop what is under way."""
        tasks = [task for task in (self._running, self._next) if task is not None and not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _round(self, before: asyncio.Task[Placed] | None) -> Placed:
        if before is not None and not before.done():
            await asyncio.wait([before])
        rest = self._rested_at - self._clocks.now()
        if rest > 0:
            await self._clocks.sleep(rest)
        self._running, self._next = asyncio.current_task(), None  # who comes from now on needs a look of its own
        for _ in range(LOOKS):
            try:
                return await self._bring(await self._look())
            except FolderChangedError as error:
                changed = error
        raise Unavailable(f"the code of bundle {self.name!r} changes all the time: {changed}") from changed

    async def _look(self) -> Look:
        if self._reading is not None and not self._reading.done():
            raise Unavailable(f"{self._reader.folder} has not been read within {LOOK_LIMIT:g} s: is its disk away?")
        begun = self._clocks.now()
        self._reading = off_loop(self._reader.look, f"modalflow-dag-code-{self.name}")
        self._reading.add_done_callback(_retrieved)
        try:
            async with asyncio.timeout(LOOK_LIMIT):
                return await asyncio.shield(self._reading)
        except TimeoutError as error:
            raise Unavailable(f"{self._reader.folder} could not be read within {LOOK_LIMIT:g} s") from error
        finally:
            took = self._clocks.now() - begun
            self._rested_at = self._clocks.now() + min(took * REST_SHARE, LONGEST_REST)

    async def _bring(self, look: Look) -> Placed:
        copy = Copy(day_of(self._clocks.wall()), look.manifest.digest)
        if copy != self._there or not await self._is_there(copy):
            self._there = None
            await self._put(copy, look)
            self._there, self._seen_at = copy, self._clocks.now()
        return Placed(copy=copy, left_out=look.left_out, requirements=look.requirements)

    async def _is_there(self, copy: Copy) -> bool:
        if self._clocks.now() - self._seen_at < BELIEVED_FOR:
            return True
        folder, _, name = copy.folder(self._deployment).rpartition("/")
        there = name in await self._volume().names(folder)
        if there:
            self._seen_at = self._clocks.now()
        return there

    async def _put(self, copy: Copy, look: Look) -> None:
        manifest, begun = look.manifest, self._clocks.now()
        sent = await self._volume().put(copy.folder(self._deployment), manifest.files, partial(self._reader.block, look))
        log.info(
            "modalflow: bundle %s is on Modal as %s: %d files, %s, of which %s were new (%.1f s)",
            self.name,
            copy.tag,
            len(manifest.files),
            amount(manifest.size),
            amount(sent),
            self._clocks.now() - begun,
        )


def _retrieved(future: asyncio.Future[Any]) -> None:
    """Hear an error that nobody may be left to hear."""
    if not future.cancelled():
        future.exception()
