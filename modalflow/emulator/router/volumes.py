"""Volumes of a running sandbox, seen anew."""

from __future__ import annotations

from grpclib import Status
from modal_proto import task_command_router_pb2 as router_pb2

from modalflow.emulator.router.access import TaskService
from modalflow.emulator.wire import Call, fail, unary


class Volumes(TaskService):
    """TaskReloadVolumes."""

    @unary
    async def TaskReloadVolumes(
        self, request: router_pb2.TaskReloadVolumesRequest, call: Call
    ) -> router_pb2.TaskReloadVolumesResponse:
        """Show the sandbox what others have committed to its Volumes; its own changes are committed first."""
        workload = await self.running(call, request.task_id, request.container_id)
        for mount in workload.mounts:
            try:
                await mount.reload()
            except OSError as error:
                fail(Status.FAILED_PRECONDITION, f"The Volume at {mount.mount_path} could not be reloaded: {error}")
        return router_pb2.TaskReloadVolumesResponse()
