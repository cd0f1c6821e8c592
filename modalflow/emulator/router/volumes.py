"""Volumes of a running sandbox, seen anew."""

from __future__ import annotations

from modal_proto import task_command_router_pb2 as router_pb2

from modalflow.emulator.router.access import TaskService
from modalflow.emulator.wire import Call, unary


class Volumes(TaskService):
    """TaskReloadVolumes."""

    @unary
    async def TaskReloadVolumes(
        self, request: router_pb2.TaskReloadVolumesRequest, call: Call
    ) -> router_pb2.TaskReloadVolumesResponse:
        """Show the sandbox what others have committed to its Volumes; its own changes are committed first."""
        workload = await self.running(call, request.task_id, request.container_id)
        for mount in workload.mounts:
            await mount.reload()
        return router_pb2.TaskReloadVolumesResponse()
