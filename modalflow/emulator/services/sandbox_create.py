"""Creating sandboxes, V1 and V2: what Modal refuses is refused here, then ``sandboxes`` takes over."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.auth import ROUTER_TOKEN_SECONDS
from modalflow.emulator.machines.buckets import BucketError
from modalflow.emulator.state.gpus import GpuRequest, UnknownGpuError, checked_request
from modalflow.emulator.state.ids import sandbox_id, task_id
from modalflow.emulator.state.store import Sandbox, Workspace
from modalflow.emulator.state.volume_tree import parts_of
from modalflow.emulator.wire import Call, Service, create, fail, partial

MAX_TIMEOUT_SECONDS = 86_400
_NAME = re.compile(r"[a-zA-Z0-9._-]{1,64}")
_TAG = re.compile(r"[a-zA-Z0-9._-]{0,63}")
_FIELDS = "some fields of the definition, see the fields of a sandbox below"


class SandboxCreation(Service):
    """SandboxCreate, SandboxCreateV2."""

    @partial(_FIELDS)
    @create
    async def SandboxCreate(self, request: api_pb2.SandboxCreateRequest, call: Call) -> api_pb2.SandboxCreateResponse:
        """Take in a V1 sandbox; it may have to wait for a GPU (``SandboxGetTaskId``)."""
        secrets = _secrets_by_id(call.workspace, request.definition.secret_ids)
        sandbox = self._launch(call, request.app_id, request.definition, request.tags, secrets, v2=False)
        return api_pb2.SandboxCreateResponse(
            sandbox_id=sandbox.sandbox_id, metadata=api_pb2.SandboxHandleMetadata(app_id=sandbox.app_id)
        )

    @partial(_FIELDS)
    @create
    async def SandboxCreateV2(self, request: api_pb2.SandboxCreateV2Request, call: Call) -> api_pb2.SandboxCreateV2Response:
        """Take in a V2 sandbox, which starts at once."""
        if request.definition.resources.gpu_config.gpu_type:
            fail(Status.INVALID_ARGUMENT, "GPU sandboxes are not supported by SandboxCreateV2; use SandboxCreate")
        secrets = [dict(request.ephemeral_secrets.contents), *secrets_from(call.workspace, request.secret_sources)]
        sandbox = self._launch(call, request.app_id, request.definition, request.tags, secrets, v2=True)
        jwt = self.core.authority.mint(call.workspace.name, seconds=ROUTER_TOKEN_SECONDS, task=sandbox.task_id)
        return api_pb2.SandboxCreateV2Response(
            sandbox_id=sandbox.sandbox_id,
            task_id=sandbox.task_id,
            metadata=api_pb2.SandboxHandleMetadata(app_id=sandbox.app_id),
            command_router_access=api_pb2.CommandRouterAccess(url=self.core.router_url(javascript=call.is_javascript), jwt=jwt),
        )

    def _launch(
        self,
        call: Call,
        app_id: str,
        definition: api_pb2.Sandbox,
        tags: Sequence[api_pb2.SandboxTag],
        secrets: Sequence[Mapping[str, str]],
        *,
        v2: bool,
    ) -> Sandbox:
        workspace = call.workspace
        gpu = _checked(workspace, app_id, definition)
        self._check_buckets(workspace, definition)
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
        )
        self.core.sandboxes.launch(workspace, sandbox, secrets, gpu)
        return sandbox

    def _check_buckets(self, workspace: Workspace, definition: api_pb2.Sandbox) -> None:
        mounts = definition.cloud_bucket_mounts
        for mount in mounts:
            if mount.credentials_secret_id and mount.credentials_secret_id not in workspace.secrets:
                fail(Status.NOT_FOUND, f"Secret '{mount.credentials_secret_id}' not found")
            if not mount.mount_path.startswith("/") or not parts_of(mount.mount_path):
                fail(Status.INVALID_ARGUMENT, f"Bucket mount path {mount.mount_path!r} must be absolute and not the root")
            parts_of(mount.key_prefix)
            try:
                self.core.buckets.folder(mount.bucket_name, workspace.name)
            except BucketError as error:
                fail(Status.INVALID_ARGUMENT, str(error))
        taken = [mount.mount_path for mount in mounts] + [volume.mount_path for volume in definition.volume_mounts]
        for mount in mounts:
            if any(path.rstrip("/").startswith(mount.mount_path.rstrip("/") + "/") for path in taken):
                fail(Status.UNIMPLEMENTED, f"This emulator mounts nothing below the bucket at '{mount.mount_path}'")


def checked_tags(tags: Sequence[api_pb2.SandboxTag]) -> dict[str, str]:
    """Return tags as a dict; INVALID_ARGUMENT for what Modal documents as no tag (read November 2026 for App tags)."""
    found = {tag.tag_name: tag.tag_value for tag in tags}
    for name, value in found.items():
        if not name or not _TAG.fullmatch(name) or not _TAG.fullmatch(value):
            fail(Status.INVALID_ARGUMENT, f"Invalid tag {name!r}: expected up to 63 of letters, digits, '.', '_' and '-'")
    return found


def secrets_from(workspace: Workspace, sources: Sequence[api_pb2.SecretSource]) -> list[dict[str, str]]:
    """Return the environments of V2 secret sources in order; NOT_FOUND for an unknown id."""
    return [
        _secrets_by_id(workspace, [source.secret_id])[0] if source.secret_id else dict(source.env.contents) for source in sources
    ]


def _secrets_by_id(workspace: Workspace, secret_ids: Sequence[str]) -> list[dict[str, str]]:
    for secret_id in secret_ids:
        if secret_id not in workspace.secrets:
            fail(Status.NOT_FOUND, f"Secret '{secret_id}' not found")
    return [dict(workspace.secrets[secret_id].values) for secret_id in secret_ids]


def _checked(workspace: Workspace, app_id: str, definition: api_pb2.Sandbox) -> GpuRequest | None:
    app = workspace.apps.get(app_id)
    if app is None:
        fail(Status.NOT_FOUND, f"App '{app_id}' not found")
    if app.stopped_at is not None:
        fail(Status.FAILED_PRECONDITION, f"App '{app_id}' is stopped")
    if definition.image_id and definition.image_id not in workspace.images:
        fail(Status.NOT_FOUND, f"Image '{definition.image_id}' not found")
    for mount_id in definition.mount_ids:
        if mount_id not in workspace.mounts:
            fail(Status.NOT_FOUND, f"Mount '{mount_id}' not found")
    if definition.timeout_secs > MAX_TIMEOUT_SECONDS:
        fail(Status.INVALID_ARGUMENT, f"Sandbox timeout must be at most {MAX_TIMEOUT_SECONDS} s, got {definition.timeout_secs}")
    _check_name(workspace, app_id, definition.name)
    _check_volumes(workspace, definition.volume_mounts)
    return _checked_gpu(definition.resources.gpu_config)


def _check_name(workspace: Workspace, app_id: str, name: str) -> None:
    if name and not _NAME.fullmatch(name):
        fail(Status.INVALID_ARGUMENT, f"Invalid sandbox name {name!r}: expected 1 to 64 of letters, digits, '.', '_' and '-'")
    if (app_id, name) in workspace.running_names:
        fail(Status.ALREADY_EXISTS, f"A running sandbox named '{name}' already exists in this App")


def _check_volumes(workspace: Workspace, mounts: Sequence[api_pb2.VolumeMount]) -> None:
    seen: set[str] = set()
    for mount in mounts:
        if mount.volume_id not in workspace.volumes:
            fail(Status.NOT_FOUND, f"Volume '{mount.volume_id}' not found")
        if mount.volume_id in seen:
            fail(Status.INVALID_ARGUMENT, f"Volume '{mount.volume_id}' is mounted more than once")
        seen.add(mount.volume_id)
        if not mount.mount_path.startswith("/") or not parts_of(mount.mount_path):
            fail(Status.INVALID_ARGUMENT, f"Volume mount path {mount.mount_path!r} must be absolute and not the root")
        parts_of(mount.sub_path)


def _checked_gpu(config: api_pb2.GPUConfig) -> GpuRequest | None:
    if not config.gpu_type:
        return None
    try:
        return checked_request(config.gpu_type, config.count)
    except UnknownGpuError as error:
        fail(Status.INVALID_ARGUMENT, str(error))
