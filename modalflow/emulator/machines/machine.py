"""The running side of one sandbox: its main container, and what belongs to the sandbox as a whole.

Flows in: a checked ``Sandbox``. Flows out: the object that ``sandboxes`` drives through its life, and that services look at.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from modal_proto.api_pb2 import GenericResult

from modalflow.emulator.machines.networks import Network
from modalflow.emulator.machines.workloads import Status, Workload
from modalflow.emulator.state.gpus import GpuRequest
from modalflow.emulator.state.store import Sandbox

SIDECAR_MARK = "-ctr-"
"""What stands in a sidecar's id between its sandbox's id and its own part."""


@dataclass(eq=False, kw_only=True)
class Sidecar(Workload):
    """A further container of a sandbox."""

    name: str


@dataclass(eq=False, kw_only=True)
class Machine(Workload):
    """The running side of one sandbox: its main container, and what belongs to the sandbox as a whole."""

    sandbox: Sandbox
    gpu: GpuRequest | None
    network: Network
    sidecars: dict[str, Sidecar] = field(default_factory=dict)
    """By container id, in the order of their creation; also those that have ended."""
    sentence: GenericResult | None = None
    """How its end will be told, whatever it is, if that was decided from outside."""
    stdin_index: int = 0
    """Number of the last V1 stdin message."""
    scheduled_at: float = 0.0
    """When its time began to run (``Clock.monotonic``)."""
    left_queue: asyncio.Event = field(default_factory=asyncio.Event)
    """It has what it requested, or was ended while it waited."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Its readiness probe has succeeded, or never will: it has ended."""

    async def end_sidecars(self) -> None:
        """End them all and return when they are cleaned up."""
        for sidecar in self.sidecars.values():
            sidecar.end(Status.GENERIC_STATUS_TERMINATED)
        for sidecar in self.sidecars.values():
            await sidecar.finished.wait()

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
