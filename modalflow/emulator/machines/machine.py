"""The running side of one sandbox: its main container, and what belongs to the sandbox as a whole.

Flows in: a checked ``Sandbox``. Flows out: the object that ``sandboxes`` drives through its life, and that services look at.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from modalflow.emulator.machines.workloads import Workload
from modalflow.emulator.state.gpus import GpuRequest
from modalflow.emulator.state.store import Sandbox


@dataclass(eq=False, kw_only=True)
class Machine(Workload):
    """The running side of one sandbox: its main container, and what belongs to the sandbox as a whole."""

    sandbox: Sandbox
    gpu: GpuRequest | None
    stdin_index: int = 0
    """Number of the last V1 stdin message."""
    scheduled_at: float = 0.0
    """When its time began to run (``Clock.monotonic``)."""
    left_queue: asyncio.Event = field(default_factory=asyncio.Event)
    """It has its GPU, or needs none, or was ended while it waited."""

    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Its readiness probe has succeeded, or never will: it has ended."""

    async def wait_ready(self, seconds: float) -> None:
        """Return when the readiness probe has succeeded, the sandbox has ended, or that time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0)):
                await self.ready.wait()

    def schedule(self) -> None:
        """It has what it waited for."""
        self.sandbox.scheduled = True
        self.scheduled_at = self.workspace.clock.monotonic()
        self.left_queue.set()
