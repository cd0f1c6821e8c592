"""RUN: one command in a container on the image's layers; what it wrote is the next layer.

Flows in: a command, the layers below, Secrets, Volumes. Flows out: its exit code and a new layer. Its output goes into the log.
"""

from __future__ import annotations

import asyncio
import itertools
import posixpath
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from modal_proto import api_pb2

from modalflow.emulator.machines.build_log import BuildLog
from modalflow.emulator.machines.containers import Container, ContainerSpec, Launcher
from modalflow.emulator.machines.environment import Toolbox, compose_env
from modalflow.emulator.machines.layer_store import LayerStore
from modalflow.emulator.machines.mounts import Mount
from modalflow.emulator.machines.networks import OPEN, Networks
from modalflow.emulator.machines.output import Output
from modalflow.emulator.machines.processes import Process, StdinClosedError
from modalflow.emulator.state.blobs import BlobStore
from modalflow.emulator.state.image_layers import Scope
from modalflow.emulator.state.store import Workspace

_BUILD_ENV = {
    # Modal's own base image answers Debian's questions in advance; the machine that plays it may not.
    "DEBIAN_FRONTEND": "noninteractive",
    # The interpreter may be the system's, whose packages a distribution guards; here only a layer is written to.
    "PIP_BREAK_SYSTEM_PACKAGES": "1",
    "UV_BREAK_SYSTEM_PACKAGES": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}


class ContainerRunner:
    """Runs the commands of one build, each in a container of its own."""

    def __init__(
        self,
        *,
        task_id: str,
        launcher: Launcher,
        networks: Networks,
        store: LayerStore,
        toolbox: Toolbox,
        blobs: BlobStore,
        workspace: Workspace,
        secrets: Sequence[Mapping[str, str]],
        volumes: Sequence[api_pb2.VolumeMount],
        log: BuildLog,
        own_env: Mapping[str, str],
        changed: Callable[..., None],
    ) -> None:
        self._task_id = task_id
        self._launcher = launcher
        self._networks = networks
        self._store = store
        self._toolbox = toolbox
        self._blobs = blobs
        self._workspace = workspace
        self._secrets = secrets
        self._volumes = volumes
        self._log = log
        self._own_env = own_env
        self._numbers = itertools.count(1)
        self._changed = changed

    async def run(self, argv: Sequence[str], *, scope: Scope, layers: Sequence[Path], stdin: bytes) -> tuple[int, str | None]:
        """Return the exit code and the new layer's name; ``None`` if nothing was written, or it failed."""
        container_id = f"{self._task_id}-{next(self._numbers)}"
        network = self._networks.network(OPEN)
        container = self._launcher.container(ContainerSpec(container_id=container_id, layers=layers, network=network))
        try:
            await network.open()
            mounts = [self._mount(container, one) for one in self._volumes]
            for mount in mounts:
                await mount.materialise()
            await container.open()
            code = await self._execute(container, container_id, argv, scope, stdin)
            for mount in mounts:
                await mount.commit()
            if code:
                return code, None
            return 0, await self._taken(container)
        finally:
            await container.close()
            await network.close()

    async def _execute(self, container: Container, container_id: str, argv: Sequence[str], scope: Scope, stdin: bytes) -> int:
        env = compose_env(
            image=scope.settings,
            secrets=self._secrets,
            own={**self._own_env, "MODAL_TASK_ID": container_id},
            container=container,
            toolbox=self._toolbox,
        )
        output = Output()
        process = await container.spawn(
            argv, env={**_BUILD_ENV, **scope.args, **env}, workdir=scope.settings.workdir or "/", main=True, output=output
        )
        try:
            follower = asyncio.create_task(self._log.follow(output), name=f"log of {container_id}")
            await _feed(process, stdin)
            end = await process.exited
            output.end()
            await follower
        except asyncio.CancelledError:
            process.kill()
            output.end()
            await process.exited
            raise
        if end.error:
            self._log.say(f"{end.error}\n")
        return end.code

    async def _taken(self, container: Container) -> str | None:
        name = self._store.new_name("run")
        target = self._store.path(name)
        await container.take_layer(target)
        if not any(target.iterdir()):
            await asyncio.to_thread(self._store.discard, [name])
            return None
        return name

    def _mount(self, container: Container, wanted: api_pb2.VolumeMount) -> Mount:
        volume = self._workspace.volumes[wanted.volume_id]
        return Mount(
            volume_id=wanted.volume_id,
            mount_path=posixpath.normpath(wanted.mount_path),
            folder=container.mount_folder(wanted.mount_path, read_only=wanted.read_only),
            tree=volume.tree,
            base=wanted.sub_path,
            read_only=wanted.read_only,
            syncs=False,
            blobs=self._blobs,
            committed=partial(self._changed, self._workspace, volume),
            below=container.root,
        )


async def _feed(process: Process, stdin: bytes) -> None:
    try:
        await process.write_stdin(0, stdin, eof=True)
    except StdinClosedError:
        return  # it did not want to read it
