"""The network rules of a running sandbox."""

from __future__ import annotations

from grpclib import Status
from modal_proto import task_command_router_pb2 as router_pb2

from modalflow.emulator.machines.networks import NetworkAccessError, read_access
from modalflow.emulator.router.access import TaskService
from modalflow.emulator.services.network_rules import warn_unenforced
from modalflow.emulator.wire import Call, fail, unary


class NetworkAccess(TaskService):
    """TaskSetNetworkAccess."""

    @unary
    async def TaskSetNetworkAccess(
        self, request: router_pb2.TaskSetNetworkAccessRequest, call: Call
    ) -> router_pb2.TaskSetNetworkAccessResponse:
        """Replace the outbound rules of a running sandbox; connections that they forbid are cut."""
        machine = self.machine(call, request.task_id)
        await self.running(call, request.task_id)
        try:
            access = read_access(request.network_access)
        except NetworkAccessError as error:
            fail(Status.INVALID_ARGUMENT, str(error))
        if self.core.networks.isolation.name != "own":
            warn_unenforced(call, access)
        await machine.network.set_access(access)
        return router_pb2.TaskSetNetworkAccessResponse()
