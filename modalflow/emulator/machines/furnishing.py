"""Making a container ready for its main process: Volumes and buckets mounted, the environment composed.

Flows in: a ``Workload`` that was just made, and what Modal itself sets. Flows out: the same workload with its container open.
``sandboxes`` and ``sidecars`` call it.
"""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from modal_proto import api_pb2

from modalflow.emulator.machines.buckets import Buckets
from modalflow.emulator.machines.container_tools import OUTBOX, TOOL_FOLDER
from modalflow.emulator.machines.environment import Toolbox, compose_env
from modalflow.emulator.machines.file_layers import show_in
from modalflow.emulator.machines.ingress import Ingress
from modalflow.emulator.machines.layer_store import LayerStore
from modalflow.emulator.machines.mounted_files import MountedFiles
from modalflow.emulator.machines.mounts import Mount
from modalflow.emulator.machines.sync_requests import SyncRequests
from modalflow.emulator.machines.workloads import Workload
from modalflow.emulator.state.blobs import BlobStore
from modalflow.emulator.state.store import Workspace

DOCKER_FOLDER = "/var/lib/docker"
"""There for a sandbox with the experimental option ``enable_docker``; there is no daemon."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Furnisher:
    """What every container of one emulator is furnished from."""

    blobs: BlobStore
    toolbox: Toolbox
    buckets: Buckets
    ingress: Ingress
    tools: Path
    """Folder of the programs of ours that run inside."""
    changed: Callable[..., None]
    """Is told the workspace and the Volume after a commit."""
    layers: LayerStore
    mounted: MountedFiles
    copies_layers: bool
    """Whether copied files are put into the container's root, which has no overlay to show them."""

    def stack(self, workspace: Workspace, definition: api_pb2.Sandbox) -> tuple[Path, ...]:
        """Return the folders a container is put on, the topmost first: the files it mounts, then its image's layers."""
        mounted = self.mounted.folders(definition.mount_ids)
        return (*reversed(mounted), *self.layers.stack(workspace.images.get(definition.image_id)))

    async def furnish(self, workload: Workload, own: Mapping[str, str]) -> None:
        """Place files, mount Volumes and buckets, open the container, compose the environment. ``OSError`` if that cannot be."""
        definition, container = workload.definition, workload.container
        workload.mounts = [self._mount(workload, mount) for mount in definition.volume_mounts]
        await self._show_files(workload)
        buckets = {container.inside(mount.mount_path): mount for mount in definition.cloud_bucket_mounts}
        folders = frozenset((*(mount.folder for mount in workload.mounts), *buckets))
        for mount in sorted(workload.mounts, key=lambda one: len(one.mount_path)):
            mount.nested = frozenset(one for one in folders if one != mount.folder and one.is_relative_to(mount.folder))
            await mount.materialise()
        for bucket in buckets.values():
            await asyncio.to_thread(self.buckets.mount, bucket, container, workload.workspace.name)
        container.bind(self.tools, TOOL_FOLDER, read_only=True)
        defaults = self.ingress.trust_inside(container)
        if _wants_docker_folder(definition):
            container.mount_folder(DOCKER_FOLDER).mkdir(parents=True, exist_ok=True)
        container.mount_folder(OUTBOX).mkdir(parents=True, exist_ok=True)
        await container.open()
        workload.requests = SyncRequests(container.sync_replies, workload.sync)
        workload.requests.open()
        workload.env = compose_env(
            image=workload.image,
            secrets=workload.secrets,
            own=own,
            container=container,
            toolbox=self.toolbox,
            defaults=defaults,
        )

    async def _show_files(self, workload: Workload) -> None:
        workspace = workload.workspace
        for mount_id in workload.definition.mount_ids:
            await self.mounted.prepare(workspace.mounts[mount_id], workspace.uploads)
        if self.copies_layers:
            image = workspace.images.get(workload.definition.image_id)
            folders = (*self.layers.only_files(image), *self.mounted.folders(workload.definition.mount_ids))
            if folders:
                await asyncio.to_thread(show_in, workload.container, folders)

    def _mount(self, workload: Workload, wanted: api_pb2.VolumeMount) -> Mount:
        volume = workload.workspace.volumes[wanted.volume_id]
        return Mount(
            volume_id=wanted.volume_id,
            mount_path=posixpath.normpath(wanted.mount_path),
            folder=workload.container.mount_folder(wanted.mount_path, read_only=wanted.read_only),
            tree=volume.tree,
            base=wanted.sub_path,
            read_only=wanted.read_only,
            syncs=volume.version == api_pb2.VOLUME_FS_VERSION_V2,
            blobs=self.blobs,
            committed=partial(self.changed, workload.workspace, volume),
            below=workload.container.root,
        )


def _wants_docker_folder(definition: api_pb2.Sandbox) -> bool:
    """Tell whether the option is set and no Volume or bucket is mounted there or above, which would be hidden or written to."""
    paths = [one.mount_path for one in definition.volume_mounts] + [one.mount_path for one in definition.cloud_bucket_mounts]
    covered = any(f"{DOCKER_FOLDER}/".startswith(f"{path.rstrip('/')}/") for path in paths)
    wanted = definition.experimental_options_v2.get("enable_docker", "").lower() == "true"
    # Older clients send booleans.
    return (wanted or definition.experimental_options.get("enable_docker", False)) and not covered
