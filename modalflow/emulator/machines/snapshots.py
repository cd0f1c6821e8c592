"""Snapshots of a running container: its file system, or one directory, as an image.

Flows in: a running ``Workload``. Flows out: an ``Image`` in the workspace. Where there is an overlay, what was written is copied
while the container stands still; a directory, and the private root of a container without an overlay, are packed by a program
inside it (``archive_script``) and unpacked here (``archives``). Volumes and buckets are part of no snapshot.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from modal_proto import api_pb2

from modalflow.emulator.clock import Clock
from modalflow.emulator.machines.archives import unpack
from modalflow.emulator.machines.container_tools import ARCHIVE, OUTBOX
from modalflow.emulator.machines.layer_store import LayerStore
from modalflow.emulator.machines.output import STDERR, Output
from modalflow.emulator.machines.untrusted_folder import UntrustedFolder, remove_tree
from modalflow.emulator.machines.workloads import Workload
from modalflow.emulator.state.ids import new_id
from modalflow.emulator.state.image_layers import ImageSettings
from modalflow.emulator.state.images import Image

_NOT_THERE = 2
"""Exit code of the archive program for a folder that is none."""


class SnapshotPathError(ValueError):
    """The directory to be snapshotted is none; the text is fit for the wire."""


class Snapshots:
    """Makes images of running containers. ``folder``: for what is under way."""

    def __init__(self, *, layers: LayerStore, folder: Path, clock: Clock, changed: Callable[..., None]) -> None:
        self._layers = layers
        self._folder = folder
        self._clock = clock
        self._changed = changed

    async def filesystem(self, workload: Workload, snapshot_id: str, seconds: float) -> Image:
        """Return an image of all that the container's file system shows, Volumes and buckets apart.

        The same ``snapshot_id`` gives the same image. ``seconds``: until it is forgotten, 0 never.
        """
        return await self._once(workload, snapshot_id, lambda: self._of_filesystem(workload, seconds))

    async def directory(self, workload: Workload, snapshot_id: str, path: str, seconds: float) -> Image:
        """Return an image that holds the content of a directory at its root, and nothing else. ``SnapshotPathError``: no such."""
        return await self._once(workload, snapshot_id, lambda: self._of_directory(workload, path, seconds))

    @staticmethod
    async def _once(workload: Workload, snapshot_id: str, make: Callable[[], Coroutine[Any, Any, Image]]) -> Image:
        task = workload.snapshots.get(snapshot_id)
        if task is None:
            task = workload.snapshots[snapshot_id] = asyncio.create_task(make(), name=f"snapshot {snapshot_id}")
            if not snapshot_id:
                del workload.snapshots[snapshot_id]
        # A caller that hangs up does not stop it: its retry asks for the same.
        return await asyncio.shield(task)

    async def _of_filesystem(self, workload: Workload, seconds: float) -> Image:
        base = workload.workspace.images.get(workload.definition.image_id)
        below = (*(base.layers if base else ()), *workload.definition.mount_ids)
        with self._staging() as folder:
            if workload.container.upper is not None:
                await workload.container.copy_layer(folder)
                layer = await asyncio.to_thread(self._layers.adopt, folder)
            else:
                # The root holds copies of all files of the image, so their layers are not needed below it.
                root = str(workload.container.root)
                await self._pack(workload, root, folder, below=root)
                layer = await asyncio.to_thread(self._layers.adopt, folder, "files")
                held = {path.name for path in self._layers.only_files(base)} | set(workload.definition.mount_ids)
                below = tuple(name for name in below if name not in held)
        return self._keep(workload, (*below, layer), seconds, settings=workload.image, detached=base.detached if base else False)

    async def _of_directory(self, workload: Workload, path: str, seconds: float) -> Image:
        with self._staging() as folder:
            await self._pack(workload, path, folder)
            layer = await asyncio.to_thread(self._layers.adopt, folder)
        return self._keep(workload, (layer,), seconds, settings=ImageSettings(), detached=True)

    @contextlib.contextmanager
    def _staging(self) -> Iterator[Path]:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        folder = self._folder / secrets.token_hex(8)
        try:
            yield folder
        finally:
            if folder.exists():
                remove_tree(folder)

    async def _pack(self, workload: Workload, path: str, folder: Path, *, below: str = "") -> None:
        """Pack a directory inside the container and unpack it at ``folder``."""
        definition = workload.definition
        mounts = [volume.mount_path for volume in definition.volume_mounts]
        mounts += [bucket.mount_path for bucket in definition.cloud_bucket_mounts]
        excluded = [f"{below}{one}" for one in (*mounts, "/__modal")] + list(workload.container.shown)
        name = secrets.token_hex(8)
        output = Output()
        process = await workload.container.spawn(
            [ARCHIVE, path, f"{OUTBOX}/{name}", *excluded], env=workload.env, workdir=None, main=False, output=output
        )
        process.close_stdin()
        end = await process.exited
        said = b"".join(chunk.data for chunk in output.streams[STDERR].available(0)).decode(errors="replace").strip()
        if end.code == _NOT_THERE:
            raise SnapshotPathError(f"{path}: {said}")
        if end.code:
            raise OSError(f"{path} could not be packed: {said.splitlines()[-1] if said else f'exit code {end.code}'}")
        await asyncio.to_thread(_unpack_from, UntrustedFolder(workload.container.inside(OUTBOX)), name, folder)

    def _keep(
        self, workload: Workload, layers: tuple[str, ...], seconds: float, *, settings: ImageSettings, detached: bool
    ) -> Image:
        base = workload.workspace.images.get(workload.definition.image_id)
        image = Image(
            image_id=new_id("im"),
            definition=api_pb2.Image(),
            settings=settings,
            builder_version=base.builder_version if base else "",
            layers=layers,
            detached=detached,
            expires_at=self._clock.time() + seconds if seconds > 0 else 0.0,
        )
        workload.workspace.images[image.image_id] = image
        self._changed(workload.workspace, image)
        return image


def _unpack_from(outbox: UntrustedFolder, name: str, target: Path) -> None:
    with outbox.opened() as descent:
        file = descent.open_file(name)
        if file is None:
            raise OSError("the sandbox's archive is gone")
        unpack(file, target)
        descent.remove(name)
