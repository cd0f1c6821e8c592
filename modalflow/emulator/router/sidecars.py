"""Sidecars through the command router."""

from __future__ import annotations

from grpclib import Status
from modal_proto import api_pb2
from modal_proto import task_command_router_pb2 as router_pb2

from modalflow.emulator.machines.machine import Machine, Sidecar
from modalflow.emulator.router.access import TaskService
from modalflow.emulator.services.sandbox_checks import secrets_by_id, secrets_from
from modalflow.emulator.services.sandbox_sidecars import check_sidecar
from modalflow.emulator.wire import Call, fail, partial, unary

MAIN = "main"
MAX_WAIT_SECONDS = 60.0


class Sidecars(TaskService):
    """TaskContainer*."""

    @partial("network rules of its own, memory reserves")
    @unary
    async def TaskContainerCreate(
        self, request: router_pb2.TaskContainerCreateRequest, call: Call
    ) -> router_pb2.TaskContainerCreateResponse:
        """Start a further container in a sandbox, with a name that no running one there has."""
        await self.running(call, request.task_id)
        machine = self.machine(call, request.task_id)
        definition = api_pb2.Sandbox(
            entrypoint_args=request.args,
            image_id=request.image_id,
            workdir=request.workdir or None,
            volume_mounts=request.volume_mounts,
            network_access=request.network_access,
            pty_info=request.pty_info,
        )
        check_sidecar(machine, request.container_name, definition)
        secrets = [
            *secrets_by_id(call.workspace, request.secret_ids),
            *secrets_from(call.workspace, request.secret_sources),
            dict(request.env),
        ]
        sidecar = self.core.sidecars.create(machine, request.container_name, definition, secrets)
        return router_pb2.TaskContainerCreateResponse(container_id=sidecar.container_id, container_name=sidecar.name)

    @unary
    async def TaskContainerGet(
        self, request: router_pb2.TaskContainerGetRequest, call: Call
    ) -> router_pb2.TaskContainerGetResponse:
        """Find the newest container of that name; one that has ended only if ``include_terminated``."""
        machine = self.machine(call, request.task_id)
        found = [one for one in _infos(machine, ended=request.include_terminated) if one.container_name == request.container_name]
        if not found:
            fail(Status.NOT_FOUND, f"No container named '{request.container_name}' in this sandbox")
        return router_pb2.TaskContainerGetResponse(container=found[-1])

    @unary
    async def TaskContainerList(
        self, request: router_pb2.TaskContainerListRequest, call: Call
    ) -> router_pb2.TaskContainerListResponse:
        """List the containers of a sandbox, the main one first; those that have ended only if ``include_terminated``."""
        machine = self.machine(call, request.task_id)
        return router_pb2.TaskContainerListResponse(containers=_infos(machine, ended=request.include_terminated))

    @unary
    async def TaskContainerTerminate(
        self, request: router_pb2.TaskContainerTerminateRequest, call: Call
    ) -> router_pb2.TaskContainerTerminateResponse:
        """End a sidecar; no error if it has ended."""
        self._sidecar(call, request.task_id, request.container_id).end(api_pb2.GenericResult.GENERIC_STATUS_TERMINATED)
        return router_pb2.TaskContainerTerminateResponse()

    @unary
    async def TaskContainerWait(
        self, request: router_pb2.TaskContainerWaitRequest, call: Call
    ) -> router_pb2.TaskContainerWaitResponse:
        """Return a sidecar's result, waiting for it at most ``timeout`` seconds; unset while it runs."""
        sidecar = self._sidecar(call, request.task_id, request.container_id)
        return router_pb2.TaskContainerWaitResponse(result=await sidecar.wait(min(request.timeout, MAX_WAIT_SECONDS)))

    def _sidecar(self, call: Call, task_id: str, container_id: str) -> Sidecar:
        machine = self.machine(call, task_id)
        if container_id not in machine.sidecars:
            fail(Status.NOT_FOUND, f"Container '{container_id}' not found")
        return machine.sidecars[container_id]


def _infos(machine: Machine, *, ended: bool) -> list[router_pb2.TaskContainerInfo]:
    named = [(machine.sandbox.task_id, MAIN, machine.result)]
    named += [(one.container_id, one.name, one.result) for one in machine.sidecars.values()]
    return [
        router_pb2.TaskContainerInfo(
            container_id=container_id, container_name=name, status="running" if result is None else "terminated", result=result
        )
        for container_id, name, result in named
        if ended or result is None
    ]
