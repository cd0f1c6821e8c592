"""The files that a sandbox gets at its start (``add_local_*``): each mount is written out once, as a layer of its own.

Flows in: a ``FileMount`` and the uploads of its workspace. Flows out: a folder that containers are put on, named like the mount.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from modalflow.emulator.machines.file_layers import FileLayer, Uploaded
from modalflow.emulator.machines.layer_store import LayerStore
from modalflow.emulator.machines.layer_view import LayerView
from modalflow.emulator.state.blobs import BlobStore
from modalflow.emulator.state.images import FileMount

Uploads = Mapping[str, tuple[tuple[str, ...], int]]


class MountedFiles:
    """The layers of all mounts."""

    def __init__(self, layers: LayerStore, blobs: BlobStore, above_host: Sequence[Path]) -> None:
        self._layers = layers
        self._above_host = above_host
        self._blobs = blobs
        self._writing: dict[str, asyncio.Task[None]] = {}

    def folders(self, mount_ids: Iterable[str]) -> tuple[Path, ...]:
        """Return the folders of mounts that were prepared, in their order."""
        return tuple(self._layers.path(mount_id) for mount_id in mount_ids)

    async def prepare(self, mount: FileMount, uploads: Uploads) -> None:
        """Write a mount out, once. ``OSError`` if its files cannot be where they should; ``KeyError`` for one never uploaded."""
        if self._layers.path(mount.mount_id).exists():
            return
        task = self._writing.get(mount.mount_id)
        if task is None:
            task = asyncio.create_task(asyncio.to_thread(self._write, mount, uploads), name=f"mount {mount.mount_id}")
            self._writing[mount.mount_id] = task
            task.add_done_callback(lambda _: self._writing.pop(mount.mount_id))
        await asyncio.shield(task)

    def _write(self, mount: FileMount, uploads: Uploads) -> None:
        name = self._layers.new_name("files")
        unfinished = self._layers.path(name)
        layer = FileLayer(unfinished, LayerView((), above_host=self._above_host))
        try:
            for file in mount.files:
                blocks, size = uploads[file.sha256]
                layer.write(file.path, Uploaded(self._blobs, blocks, size), file.mode)
            unfinished.rename(self._layers.path(mount.mount_id))
        except BaseException:
            self._layers.discard([name])
            raise
