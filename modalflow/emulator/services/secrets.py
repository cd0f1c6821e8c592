"""Secrets: named ones, and the unnamed ones that V1 sandboxes get their environment by."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty
from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.services.naming import UNNAMED, check_name
from modalflow.emulator.state.ids import new_id
from modalflow.emulator.state.store import Secret, Workspace
from modalflow.emulator.wire import Call, Service, create, fail, unary

_CREATES = (
    api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING,
    api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS,
    api_pb2.OBJECT_CREATION_TYPE_CREATE_OVERWRITE_IF_EXISTS,
)


class Secrets(Service):
    """Secret*."""

    @create
    async def SecretGetOrCreate(self, request: api_pb2.SecretGetOrCreateRequest, call: Call) -> api_pb2.SecretGetOrCreateResponse:
        """Find or make a Secret, as the creation type says."""
        secret = _found_or_made(call, request)
        missing = [key for key in request.required_keys if key not in secret.values]
        if missing:
            # The words that the JavaScript client looks for.
            fail(Status.FAILED_PRECONDITION, f"Secret is missing key(s): {', '.join(missing)} (Secret '{secret.name}')")
        self.core.state_changed(call.workspace, secret)
        return api_pb2.SecretGetOrCreateResponse(secret_id=secret.secret_id, metadata=_metadata(call.workspace, secret))

    @unary
    async def SecretList(self, request: api_pb2.SecretListRequest, call: Call) -> api_pb2.SecretListResponse:
        """List named Secrets, the newest first, without values."""
        environment = call.environment(request.environment_name)
        before = request.pagination.created_before or float("inf")
        found = [
            one
            for one in reversed(call.workspace.secrets.values())
            if one.name and one.environment == environment and one.created_at < before
        ]
        return api_pb2.SecretListResponse(
            environment_name=environment,
            items=[
                api_pb2.SecretListItem(
                    label=one.name,
                    created_at=one.created_at,
                    environment_name=environment,
                    secret_id=one.secret_id,
                    metadata=_metadata(call.workspace, one),
                    last_used_at=one.last_used_at,
                )
                for one in found[: request.pagination.max_objects or 100]
            ],
        )

    @unary
    async def SecretGetInfo(self, request: api_pb2.SecretGetInfoRequest, call: Call) -> api_pb2.SecretGetInfoResponse:
        """Tell a Secret's name and keys, never its values."""
        secret = _secret(call.workspace, request.secret_id)
        return api_pb2.SecretGetInfoResponse(metadata=_metadata(call.workspace, secret))

    @unary
    async def SecretUpdate(self, request: api_pb2.SecretUpdateRequest, call: Call) -> Empty:
        """Set some keys, or remove those that come without a value; the others stay."""
        secret = _secret(call.workspace, request.secret_id)
        values = dict(secret.values)
        for update in request.updates:
            if update.HasField("value"):
                values[update.key] = update.value
            else:
                values.pop(update.key, None)
        secret.values = _checked(values)
        self.core.state_changed(call.workspace, secret)
        return Empty()

    @create
    async def SecretDelete(self, request: api_pb2.SecretDeleteRequest, call: Call) -> Empty:
        """Delete a Secret."""
        secret = _secret(call.workspace, request.secret_id)
        del call.workspace.secrets[secret.secret_id]
        self.core.state_changed(call.workspace, secret)
        return Empty()


def _found_or_made(call: Call, request: api_pb2.SecretGetOrCreateRequest) -> Secret:
    workspace = call.workspace
    kind = request.object_creation_type
    environment = call.environment(request.environment_name)
    if kind in UNNAMED:
        return _add(workspace, "", environment, dict(request.env_dict), app_id=request.app_id)
    check_name("Secret", request.deployment_name)
    known = workspace.secret_named(environment, request.deployment_name)
    if known is None:
        if kind not in _CREATES:
            fail(Status.NOT_FOUND, f"Secret '{request.deployment_name}' not found in environment '{environment}'")
        return _add(workspace, request.deployment_name, environment, dict(request.env_dict))
    if kind == api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
        fail(Status.ALREADY_EXISTS, f"Secret '{request.deployment_name}' already exists in environment '{environment}'")
    if kind == api_pb2.OBJECT_CREATION_TYPE_CREATE_OVERWRITE_IF_EXISTS:
        known.values = _checked(dict(request.env_dict))
    return known


def _add(workspace: Workspace, name: str, environment: str, values: dict[str, str], *, app_id: str = "") -> Secret:
    secret = Secret(
        secret_id=new_id("st"),
        name=name,
        environment=environment,
        values=_checked(values),
        created_at=workspace.next_created_at(),
        app_id=app_id,
    )
    workspace.secrets[secret.secret_id] = secret
    return secret


def _secret(workspace: Workspace, secret_id: str) -> Secret:
    if secret_id not in workspace.secrets:
        fail(Status.NOT_FOUND, f"Secret '{secret_id}' not found")
    return workspace.secrets[secret_id]


def _checked(values: dict[str, str]) -> dict[str, str]:
    for key, value in values.items():
        if not key or "=" in key or "\0" in key + value:
            fail(Status.INVALID_ARGUMENT, f"Secret key {key!r}: no environment can hold it (empty, or with '=' or a NUL)")
    return values


def _metadata(workspace: Workspace, secret: Secret) -> api_pb2.SecretMetadata:
    return api_pb2.SecretMetadata(
        name=secret.name,
        keys=sorted(secret.values),
        environment_name=secret.environment,
        creation_info=api_pb2.CreationInfo(created_at=secret.created_at, created_by=workspace.username),
        last_used_at=secret.last_used_at,
    )
