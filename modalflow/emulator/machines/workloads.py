"""The running side of one container with a main process: what a sandbox and each of its sidecars have in common.

Flows in: a definition with its secrets, a ``Container``. Flows out: processes with their output, mounts, an environment.
``furnishing`` fills it, ``execs`` adds processes, ``sandboxes`` and ``sidecars`` end it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from modal_proto import api_pb2

from modalflow.emulator.machines.activity import Activity
from modalflow.emulator.machines.cgroups import Usage
from modalflow.emulator.machines.containers import Container
from modalflow.emulator.machines.mounts import Mount
from modalflow.emulator.machines.output import Output
from modalflow.emulator.machines.processes import Process
from modalflow.emulator.machines.sync_requests import SyncRequests
from modalflow.emulator.state.image_layers import ImageSettings
from modalflow.emulator.state.images import Image
from modalflow.emulator.state.store import Workspace

Status = api_pb2.GenericResult


@dataclass(eq=False, kw_only=True)
class Workload:
    """One container and what runs in it. ``secrets`` are dropped at its end."""

    container_id: str
    workspace: Workspace
    definition: api_pb2.Sandbox
    container: Container
    secrets: Sequence[Mapping[str, str]]
    activity: Activity
    """Of the whole sandbox."""
    mounts: list[Mount] = field(default_factory=list)
    requests: SyncRequests | None = None
    """Where its ``sync`` is heard."""
    env: dict[str, str] = field(default_factory=dict)
    output: Output = field(default_factory=Output)
    process: Process | None = None
    execs: dict[str, Process] = field(default_factory=dict)
    result: api_pb2.GenericResult | None = None
    """How it ended, once it did and all is committed and cleaned up."""
    verdict: api_pb2.GenericResult.GenericStatus.ValueType | None = None
    """Why we ended it, if we did."""
    running: asyncio.Event = field(default_factory=asyncio.Event)
    """The main process was asked for, or never will be."""
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    snapshots: dict[str, asyncio.Task[Image]] = field(default_factory=dict)
    """By the client's own id, so that a retry makes no second one."""
    used: Usage | None = None
    """What the container had used at its end."""
    exec_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def image(self) -> ImageSettings:
        """Settings of its image."""
        image = self.workspace.images.get(self.definition.image_id)
        return image.settings if image else ImageSettings()

    @property
    def workdir(self) -> str | None:
        """The working folder of its processes unless they name another; ``None`` is HOME."""
        return self.definition.workdir or self.image.workdir

    def usage(self) -> Usage | None:
        """Return what its container has used, also after its end; ``None`` if that is not counted."""
        return self.used if self.finished.is_set() else self.container.usage()

    @property
    def over(self) -> bool:
        """Whether its main process has ended, or never started: nothing more can be run in it."""
        return self.finished.is_set() or (self.process is not None and self.process.exited.done())

    def condemn(self, verdict: api_pb2.GenericResult.GenericStatus.ValueType) -> None:
        """Say why it is being ended; the first reason stays."""
        if self.verdict is None:
            self.verdict = verdict

    def condemned(self) -> bool:
        """Whether it is being ended by us."""
        return self.verdict is not None

    def end(self, verdict: api_pb2.GenericResult.GenericStatus.ValueType) -> None:
        """End it now for that reason. No effect on one whose main process has ended."""
        if self.process is not None and self.process.exited.done():
            return
        self.condemn(verdict)
        if self.process is not None:
            self.process.kill()

    async def wait(self, seconds: float) -> api_pb2.GenericResult | None:
        """Return the result, or ``None`` if it has not ended within that time."""
        if seconds > 0 and not self.finished.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.finished.wait()
        return self.result

    async def running_process(self) -> Process | None:
        """Return the main process once it was asked for; ``None`` if the end came without one."""
        await self.running.wait()
        return self.process

    async def commit_all(self) -> str:
        """Hear no ``sync`` any more, commit every mount; return what went wrong, if anything did. Its processes have ended."""
        if self.requests is not None:
            await self.requests.close()
        problems = []
        for mount in self.mounts:
            try:
                await mount.commit()
            except OSError as error:
                problems.append(f"Volume at {mount.mount_path} could not be committed: {error}")
        return "; ".join(problems)

    async def sync(self, paths: Sequence[str]) -> bool:
        """Commit the version 2 Volumes at or around ``paths`` (all if there are none); whether there was one."""
        chosen = [mount for mount in self.mounts if mount.syncs and self._concerns(mount, paths)]
        for mount in chosen:
            await mount.commit()
        return bool(chosen)

    def _concerns(self, mount: Mount, paths: Sequence[str]) -> bool:
        for path in paths:
            inside = self.container.inside(path)
            if inside.is_relative_to(mount.folder) or mount.folder.is_relative_to(inside):
                return True
        return not paths
