"""Builds of images: each definition is built once, however many ask for it; a failed one is built again when asked for again.

Flows in: checked definitions. Flows out: images in the workspace, and the log and result of each build, live and later.
``build_steps`` does the work; ``services.images`` is the protocol in front.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modal_proto import api_pb2

from modalflow.emulator.machines.build_context import ContextFile
from modalflow.emulator.machines.build_log import BuildLog
from modalflow.emulator.machines.build_runner import ContainerRunner
from modalflow.emulator.machines.build_steps import StepError, Steps
from modalflow.emulator.machines.containers import Launcher
from modalflow.emulator.machines.environment import Toolbox
from modalflow.emulator.machines.file_layers import Text, Uploaded
from modalflow.emulator.machines.layer_store import LayerStore
from modalflow.emulator.machines.networks import Networks
from modalflow.emulator.state.blobs import BlobStore
from modalflow.emulator.state.dockerfile import DockerfileError, Instruction, parse
from modalflow.emulator.state.ids import task_id
from modalflow.emulator.state.image_layers import ImageSettings, Scope
from modalflow.emulator.state.images import GLOBAL_MOUNT_PREFIXES, Image
from modalflow.emulator.state.store import Workspace

_log = logging.getLogger(__name__)
Result = api_pb2.GenericResult
REMEMBERED_BUILDS = 200
"""Ended builds whose logs can still be read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildOrder:
    """What is to be built. ``key``: digest of the definition; ``secrets``: environments in order, kept for the build only.

    ``modals_own``: a layer of Modal's own base images, which this machine plays.
    """

    image_id: str
    key: str
    app_id: str
    definition: api_pb2.Image
    builder_version: str
    base: Image | None
    secrets: Sequence[Mapping[str, str]] = field(repr=False)
    modals_own: bool
    cached: bool


@dataclass(eq=False, kw_only=True)
class Build:
    """One build, and what is left of it after its end."""

    workspace: Workspace
    image_id: str
    app_id: str
    base_id: str
    sandbox_id: str = ""
    """Builds run in none; so that a build can be told apart where logs of both are read."""
    task_id: str = field(default_factory=lambda: task_id(v2=False))
    log: BuildLog = field(default_factory=BuildLog)
    started_at: float = field(default_factory=time.time)
    finished_at: float = 0.0
    result: Result | None = None


class ImageBuilds:
    """All builds of one emulator. ``runs``: whether RUN takes effect."""

    def __init__(
        self,
        *,
        launcher: Launcher,
        networks: Networks,
        store: LayerStore,
        toolbox: Toolbox,
        blobs: BlobStore,
        runs: bool,
        changed: Callable[..., None],
    ) -> None:
        self._launcher = launcher
        self._networks = networks
        self._store = store
        self._toolbox = toolbox
        self._blobs = blobs
        self.runs = runs
        self._changed = changed
        self._builds: OrderedDict[tuple[str, str], Build] = OrderedDict()
        self._tasks: dict[Build, asyncio.Task[None]] = {}

    def find(self, workspace: Workspace, image_id: str) -> Build | None:
        """Return the latest build of that image id."""
        return self._builds.get((workspace.name, image_id))

    def of_task(self, workspace: Workspace, build_task_id: str) -> Build | None:
        """Return the build with that task id."""
        return next((one for one in self._builds.values() if one.workspace is workspace and one.task_id == build_task_id), None)

    def chain(self, workspace: Workspace, image_id: str) -> list[Build]:
        """Return the builds of an image and of what is below it, the lowest first, as far as they are remembered."""
        found: list[Build] = []
        while build := self.find(workspace, image_id):
            found.insert(0, build)
            image_id = build.base_id
        return found

    def start(self, workspace: Workspace, order: BuildOrder) -> Build:
        """Begin a build, or join the one of the same id that goes on."""
        running = self.find(workspace, order.image_id)
        if running is not None and running.result is None:
            return running
        base_id = order.base.image_id if order.base else ""
        build = Build(workspace=workspace, image_id=order.image_id, app_id=order.app_id, base_id=base_id)
        self._builds[workspace.name, order.image_id] = build
        self._builds.move_to_end((workspace.name, order.image_id))
        self._tasks[build] = asyncio.create_task(self._live(build, order), name=f"build {order.image_id}")
        self._tasks[build].add_done_callback(lambda _: self._tasks.pop(build))
        self._forget_old()
        return build

    async def stop(self) -> None:
        """End every build and return when none is left."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget_old(self) -> None:
        ended = [key for key, build in self._builds.items() if build.result is not None]
        for key in ended[: max(0, len(self._builds) - REMEMBERED_BUILDS)]:
            del self._builds[key]

    async def _live(self, build: Build, order: BuildOrder) -> None:
        try:
            image = await self._built(build, order)
        except StepError as error:
            self._finish(build, Result(status=Result.GENERIC_STATUS_FAILURE, exitcode=1, exception=str(error)))
        except asyncio.CancelledError:
            text = "the emulator was stopped during the build"
            self._finish(build, Result(status=Result.GENERIC_STATUS_TERMINATED, exception=text))
            raise
        except Exception as error:
            # A build without an end would hang its client: tell it, and the log, that the fault is ours.
            _log.exception("build %s", order.image_id)
            text = f"the emulator failed: {error!r}"
            self._finish(build, Result(status=Result.GENERIC_STATUS_FAILURE, exitcode=1, exception=text))
        else:
            build.workspace.images[order.image_id] = image
            if order.cached:
                build.workspace.image_ids[order.key] = order.image_id
            build.log.say(f"Built image {order.image_id} in {time.time() - build.started_at:.2f}s\n")
            self._changed(build.workspace, image)
            self._finish(build, Result(status=Result.GENERIC_STATUS_SUCCESS))

    @staticmethod
    def _finish(build: Build, result: Result) -> None:
        build.finished_at = time.time()
        build.result = result
        build.log.end()

    async def _built(self, build: Build, order: BuildOrder) -> Image:
        build.log.say(f"Building image {order.image_id}\n")
        try:
            instructions = parse(order.definition.dockerfile_commands)
        except DockerfileError as error:
            raise StepError(str(error)) from error
        steps = self._steps(build, order)
        if order.modals_own and not any(one.source.upper() == "FROM SCRATCH" for one in instructions):
            self._play(build, steps, instructions)
        else:
            try:
                await steps.perform(instructions)
            except BaseException:
                await asyncio.to_thread(steps.discard, order.base.layers if order.base else ())
                raise
        return Image(
            image_id=order.image_id,
            definition=order.definition,
            settings=steps.scope.settings,
            builder_version=order.builder_version,
            layers=tuple(steps.layers),
            detached=steps.detached,
            recorded=tuple(steps.recorded),
            key=order.key if order.cached else "",
        )

    @staticmethod
    def _play(build: Build, steps: Steps, instructions: Sequence[Instruction]) -> None:
        build.log.say("   a base image of Modal's own: this machine's file system plays it, its steps are not run\n")
        for instruction in instructions:
            if instruction.keyword != "SHELL":  # a program of that base image, which is not here
                steps.scope = steps.scope.after(instruction)
        steps.recorded += [f"{one.source} (Modal's own base image; this machine plays it)" for one in instructions]

    def _steps(self, build: Build, order: BuildOrder) -> Steps:
        base, definition = order.base, order.definition
        runner = ContainerRunner(
            task_id=build.task_id,
            launcher=self._launcher,
            networks=self._networks,
            store=self._store,
            toolbox=self._toolbox,
            blobs=self._blobs,
            workspace=build.workspace,
            secrets=order.secrets,
            volumes=definition.volume_mounts,
            log=build.log,
            own_env={"MODAL_IMAGE_ID": order.image_id},
            changed=self._changed,
        )
        return Steps(
            scope=Scope(
                settings=base.settings if base else ImageSettings(),
                build_args=dict(definition.build_args),
                base_path=self._toolbox.base_path,
            ),
            layers=list(base.layers) if base else [],
            detached=base.detached if base else False,
            context=self._context(build.workspace, definition),
            store=self._store,
            log=build.log,
            runner=runner if self.runs else None,
            above_host=self._launcher.above_host,
            uv=self._tool("uv"),
            python=str(self._tool("python3") or "/usr/bin/env python3"),
            plays_python=self._plays_python(build.workspace, definition),
        )

    def _tool(self, name: str) -> Path | None:
        found = shutil.which(name, path=self._toolbox.base_path)
        return Path(found) if found else None

    @staticmethod
    def _plays_python(workspace: Workspace, definition: api_pb2.Image) -> bool:
        mount = workspace.mounts.get(definition.context_mount_id)
        return mount is not None and mount.name.startswith(GLOBAL_MOUNT_PREFIXES)

    def _context(self, workspace: Workspace, definition: api_pb2.Image) -> dict[str, ContextFile]:
        found: dict[str, ContextFile] = {}
        mount = workspace.mounts.get(definition.context_mount_id)
        for file in mount.files if mount else ():
            blocks, size = workspace.uploads[file.sha256]
            found[file.path.lstrip("/")] = ContextFile(Uploaded(self._blobs, blocks, size), file.mode)
        for given in definition.context_files:
            found[given.filename.lstrip("/")] = ContextFile(Text(given.data), 0o644)
        return found
