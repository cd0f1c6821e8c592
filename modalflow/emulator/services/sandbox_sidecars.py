"""Sidecars through the control plane, as V2 sandboxes ask for them."""

from __future__ import annotations

from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.machines.machine import Machine
from modalflow.emulator.services.sandbox_calls import find
from modalflow.emulator.services.sandbox_checks import NAME, check_buckets, check_volumes, secrets_from
from modalflow.emulator.wire import Call, Service, create, fail, partial


class SandboxSidecars(Service):
    """SandboxContainerCreateV2."""

    @partial("network rules of its own, proxies, memory reserves, the identity token's subject (it names the sandbox)")
    @create
    async def SandboxContainerCreateV2(
        self, request: api_pb2.SandboxContainerCreateV2Request, call: Call
    ) -> api_pb2.SandboxContainerCreateV2Response:
        """Start a further container in a sandbox, with a name that no running one there has."""
        machine = self.core.sandboxes.machine(find(call.workspace, request.sandbox_id))
        if await machine.running_process() is None or machine.over:
            fail(Status.NOT_FOUND, "Sandbox has already terminated")
        definition = api_pb2.Sandbox()
        definition.CopyFrom(request.definition)
        check_sidecar(machine, request.container_name, definition)
        check_buckets(self.core.buckets, call.workspace, definition)
        secrets = [dict(request.ephemeral_secrets.contents), *secrets_from(call.workspace, request.secret_sources)]
        sidecar = self.core.sidecars.create(machine, request.container_name, definition, secrets)
        return api_pb2.SandboxContainerCreateV2Response(container_id=sidecar.container_id, container_name=sidecar.name)


def check_sidecar(machine: Machine, name: str, definition: api_pb2.Sandbox) -> None:
    """Refuse what Modal refuses of a sidecar: its name, an unknown image, wrong mounts."""
    if not NAME.fullmatch(name) or name == "main":
        fail(
            Status.INVALID_ARGUMENT,
            f"Invalid container name {name!r}: expected 1 to 64 of letters, digits, '.', '_' and '-', and not 'main'",
        )
    if any(one.name == name and one.result is None for one in machine.sidecars.values()):
        fail(Status.ALREADY_EXISTS, f"A running container named '{name}' already exists in this sandbox")
    if machine.workspace.image(definition.image_id) is None:
        fail(Status.NOT_FOUND, f"Image '{definition.image_id}' not found")
    check_volumes(machine.workspace, definition.volume_mounts)
