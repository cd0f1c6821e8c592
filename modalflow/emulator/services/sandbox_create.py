"""Creating sandboxes, V1 and V2: what Modal refuses is refused here, then ``sandboxes`` takes over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.auth import ROUTER_TOKEN_SECONDS
from modalflow.emulator.machines.tunnels import Tunnel
from modalflow.emulator.services.network_rules import check_network, opened_ports, tunnel_data
from modalflow.emulator.services.sandbox_checks import (
    check_buckets,
    check_name,
    check_placement,
    check_volumes,
    checked_tags,
    secrets_by_id,
    secrets_from,
)
from modalflow.emulator.state.admission import NoRoomError
from modalflow.emulator.state.capacity import demand_of
from modalflow.emulator.state.gpus import GpuRequest, UnknownGpuError, checked_request
from modalflow.emulator.state.ids import sandbox_id, task_id
from modalflow.emulator.state.store import Sandbox, Workspace
from modalflow.emulator.wire import Call, Service, create, fail, partial

MAX_TIMEOUT_SECONDS = 86_400
_FIELDS = "some fields of the definition, see the fields of a sandbox below"


class SandboxCreation(Service):
    """SandboxCreate, SandboxCreateV2."""

    @partial(_FIELDS)
    @create
    async def SandboxCreate(self, request: api_pb2.SandboxCreateRequest, call: Call) -> api_pb2.SandboxCreateResponse:
        """Take in a V1 sandbox; it may have to wait for a GPU, a CPU or memory (``SandboxGetTaskId``)."""
        secrets = secrets_by_id(call.workspace, request.definition.secret_ids)
        sandbox, _ = await self._launch(call, request.app_id, request.definition, request.tags, secrets, v2=False)
        return api_pb2.SandboxCreateResponse(
            sandbox_id=sandbox.sandbox_id, metadata=api_pb2.SandboxHandleMetadata(app_id=sandbox.app_id)
        )

    @partial(_FIELDS)
    @create
    async def SandboxCreateV2(self, request: api_pb2.SandboxCreateV2Request, call: Call) -> api_pb2.SandboxCreateV2Response:
        """Take in a V2 sandbox; it has a task id at once, even if it must wait for a CPU or memory."""
        if request.definition.resources.gpu_config.gpu_type:
            fail(Status.INVALID_ARGUMENT, "GPU sandboxes are not supported by SandboxCreateV2; use SandboxCreate")
        secrets = [dict(request.ephemeral_secrets.contents), *secrets_from(call.workspace, request.secret_sources)]
        sandbox, tunnels = await self._launch(call, request.app_id, request.definition, request.tags, secrets, v2=True)
        jwt = self.core.authority.mint(call.workspace.name, seconds=ROUTER_TOKEN_SECONDS, task=sandbox.task_id)
        return api_pb2.SandboxCreateV2Response(
            sandbox_id=sandbox.sandbox_id,
            task_id=sandbox.task_id,
            tunnels=tunnel_data(one for one in tunnels if not one.plain_port),
            metadata=api_pb2.SandboxHandleMetadata(app_id=sandbox.app_id),
            command_router_access=api_pb2.CommandRouterAccess(url=self.core.router_url(javascript=call.is_javascript), jwt=jwt),
        )

    async def _launch(
        self,
        call: Call,
        app_id: str,
        definition: api_pb2.Sandbox,
        tags: Sequence[api_pb2.SandboxTag],
        secrets: Sequence[Mapping[str, str]],
        *,
        v2: bool,
    ) -> tuple[Sandbox, Sequence[Tunnel]]:
        workspace = call.workspace
        gpu = _checked(workspace, app_id, definition)
        check_placement(definition)
        check_buckets(self.core.buckets, workspace, definition)
        check_network(call, definition, enforced=self.core.networks.isolation.name == "own")
        self._admit(workspace, definition, gpu, v2=v2)
        kept = api_pb2.Sandbox()
        kept.CopyFrom(definition)
        sandbox = Sandbox(
            sandbox_id=sandbox_id(v2=v2),
            task_id=task_id(v2=v2),
            v2=v2,
            app_id=app_id,
            definition=kept,
            tags=checked_tags(tags),
            created_at=workspace.next_created_at(),
            name=definition.name,
            env_names=tuple(sorted({name for secret in secrets for name in secret})),
        )
        machine = self.core.sandboxes.launch(workspace, sandbox, secrets, gpu)
        return sandbox, await opened_ports(self.core, machine)

    @staticmethod
    def _admit(workspace: Workspace, definition: api_pb2.Sandbox, gpu: GpuRequest | None, *, v2: bool) -> None:
        try:
            workspace.admission.admit(demand_of(definition, gpu), workspace.inventory, v2=v2)
        except NoRoomError as error:
            again = None if error.retry_after is None else [api_pb2.RPCRetryPolicy(retry_after_secs=error.retry_after)]
            fail(Status.RESOURCE_EXHAUSTED, str(error), again)


def _checked(workspace: Workspace, app_id: str, definition: api_pb2.Sandbox) -> GpuRequest | None:
    app = workspace.apps.get(app_id)
    if app is None:
        fail(Status.NOT_FOUND, f"App '{app_id}' not found")
    if app.stopped_at is not None:
        fail(Status.FAILED_PRECONDITION, f"App '{app_id}' is stopped")
    if definition.image_id and workspace.image(definition.image_id) is None:
        fail(Status.NOT_FOUND, f"Image '{definition.image_id}' not found")
    for mount_id in definition.mount_ids:
        if mount_id not in workspace.mounts:
            fail(Status.NOT_FOUND, f"Mount '{mount_id}' not found")
    if definition.timeout_secs > MAX_TIMEOUT_SECONDS:
        fail(Status.INVALID_ARGUMENT, f"Sandbox timeout must be at most {MAX_TIMEOUT_SECONDS} s, got {definition.timeout_secs}")
    check_name(workspace, app_id, definition.name)
    check_volumes(workspace, definition.volume_mounts)
    return _checked_gpu(definition.resources.gpu_config)


def _checked_gpu(config: api_pb2.GPUConfig) -> GpuRequest | None:
    if not config.gpu_type:
        return None
    try:
        return checked_request(config.gpu_type, config.count)
    except UnknownGpuError as error:
        fail(Status.INVALID_ARGUMENT, str(error))
