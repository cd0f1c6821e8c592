"""Snapshots of a sandbox's file system and directories, and images mounted into it."""

from __future__ import annotations

import posixpath

from google.protobuf.empty_pb2 import Empty
from grpclib import Status
from modal_proto import task_command_router_pb2 as router_pb2

from modalflow.emulator.machines.containers import AttachError
from modalflow.emulator.machines.snapshots import SnapshotPathError
from modalflow.emulator.router.access import TaskService
from modalflow.emulator.wire import Call, fail, partial, unary

DEFAULT_TTL_SECONDS = 30 * 24 * 3600
"""Of a snapshot that is asked for without one (modal 1.6.4, ``Sandbox.snapshot_filesystem``)."""


class Snapshots(TaskService):
    """TaskSnapshotFilesystem, TaskSnapshotDirectory, TaskMountDirectory, TaskUnmountDirectory."""

    @unary
    async def TaskSnapshotFilesystem(
        self, request: router_pb2.TaskSnapshotFilesystemRequest, call: Call
    ) -> router_pb2.TaskSnapshotFilesystemResponse:
        """Make an image of a container's file system, without its Volumes and buckets."""
        workload = await self.running(call, request.task_id, request.container_id)
        try:
            image = await self.core.snapshots.filesystem(workload, request.snapshot_id, _ttl(request))
        except OSError as error:
            fail(Status.FAILED_PRECONDITION, f"the snapshot could not be made: {error}")
        return router_pb2.TaskSnapshotFilesystemResponse(image_id=image.image_id)

    @partial("encryption keys are taken and not used")
    @unary
    async def TaskSnapshotDirectory(
        self, request: router_pb2.TaskSnapshotDirectoryRequest, call: Call
    ) -> router_pb2.TaskSnapshotDirectoryResponse:
        """Make an image of a directory's content, which is at the root of it."""
        path = _path(request.path)
        workload = await self.running(call, request.task_id, request.container_id)
        try:
            image = await self.core.snapshots.directory(workload, request.snapshot_id, path, _ttl(request))
        except SnapshotPathError as error:
            fail(Status.NOT_FOUND, str(error))
        except OSError as error:
            fail(Status.FAILED_PRECONDITION, f"the snapshot could not be made: {error}")
        return router_pb2.TaskSnapshotDirectoryResponse(image_id=image.image_id)

    @partial("encryption keys are taken and not used")
    @unary
    async def TaskMountDirectory(self, request: router_pb2.TaskMountDirectoryRequest, call: Call) -> Empty:
        """Show an image, or an empty folder, at a path; what was there comes back when it is unmounted."""
        path = _path(request.path)
        workload = await self.running(call, request.task_id, request.container_id)
        image = call.workspace.image(request.image_id)
        if request.image_id and image is None:
            fail(Status.NOT_FOUND, f"Image '{request.image_id}' not found")
        try:
            await workload.container.attach(self.core.layers.stack(image), path, detached=image is None or image.detached)
        except (AttachError, OSError) as error:
            fail(Status.FAILED_PRECONDITION, f"{path} cannot be mounted: {error}")
        return Empty()

    @unary
    async def TaskUnmountDirectory(self, request: router_pb2.TaskUnmountDirectoryRequest, call: Call) -> Empty:
        """Take away what was mounted at exactly that path."""
        workload = await self.running(call, request.task_id, request.container_id)
        try:
            await workload.container.detach(_path(request.path))
        except AttachError as error:
            fail(Status.FAILED_PRECONDITION, str(error))
        return Empty()


def _path(path: bytes) -> str:
    text = path.decode(errors="surrogateescape")
    normal = posixpath.normpath(text)
    if not text.startswith("/") or normal == "/" or "\0" in text:
        fail(Status.INVALID_ARGUMENT, f"Invalid path {text!r}: expected an absolute path that is not the root")
    return normal


def _ttl(request: router_pb2.TaskSnapshotFilesystemRequest | router_pb2.TaskSnapshotDirectoryRequest) -> float:
    """Return the seconds until the image is forgotten, 0 for never."""
    seconds = request.ttl_seconds if request.HasField("ttl_seconds") else DEFAULT_TTL_SECONDS
    return max(seconds, 0)
