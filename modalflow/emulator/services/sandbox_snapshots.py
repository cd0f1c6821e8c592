"""Snapshots of a sandbox's file system through the control plane, as older clients ask for them."""

from __future__ import annotations

import asyncio

from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.machines.machine import Machine
from modalflow.emulator.services.sandbox_calls import find
from modalflow.emulator.state.images import Image
from modalflow.emulator.wire import Call, Service, fail, unary

_DONE = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS)


class SandboxSnapshots(Service):
    """SandboxSnapshotFs, SandboxSnapshotFsAsync, SandboxSnapshotFsAsyncGet."""

    @unary
    async def SandboxSnapshotFs(self, request: api_pb2.SandboxSnapshotFsRequest, call: Call) -> api_pb2.SandboxSnapshotFsResponse:
        """Make an image of a sandbox's file system, without its Volumes and buckets."""
        machine = await self._to_snapshot(call, request.sandbox_id)
        try:
            async with asyncio.timeout(request.timeout or None):
                return _answer(await self.core.snapshots.filesystem(machine, call.idempotency_key, 0))
        except TimeoutError:
            fail(Status.DEADLINE_EXCEEDED, f"the snapshot was not done within {request.timeout:g} s")

    @unary
    async def SandboxSnapshotFsAsync(
        self, request: api_pb2.SandboxSnapshotFsAsyncRequest, call: Call
    ) -> api_pb2.SandboxSnapshotFsAsyncResponse:
        """Do the same; the image is there when this answers."""
        machine = await self._to_snapshot(call, request.sandbox_id)
        image = await self.core.snapshots.filesystem(machine, call.idempotency_key, 0)
        return api_pb2.SandboxSnapshotFsAsyncResponse(image_id=image.image_id)

    @unary
    async def SandboxSnapshotFsAsyncGet(
        self, request: api_pb2.SandboxSnapshotFsAsyncGetRequest, call: Call
    ) -> api_pb2.SandboxSnapshotFsResponse:
        """Return the image of an earlier ``SandboxSnapshotFsAsync``."""
        image = call.workspace.image(request.image_id)
        if image is None:
            fail(Status.NOT_FOUND, f"Image '{request.image_id}' not found")
        return _answer(image)

    async def _to_snapshot(self, call: Call, sandbox_id: str) -> Machine:
        machine = self.core.sandboxes.machine(find(call.workspace, sandbox_id))
        if await machine.running_process() is None or machine.over:
            fail(Status.NOT_FOUND, "Sandbox has already terminated")
        return machine


def _answer(image: Image) -> api_pb2.SandboxSnapshotFsResponse:
    return api_pb2.SandboxSnapshotFsResponse(
        image_id=image.image_id,
        result=_DONE,
        image_metadata=api_pb2.ImageMetadata(image_builder_version=image.builder_version),
    )
