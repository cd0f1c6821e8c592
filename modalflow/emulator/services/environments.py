"""Environments: found, made, listed, renamed, deleted with what is in them."""

from __future__ import annotations

import re

from google.protobuf.empty_pb2 import Empty
from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.state.environments import IMAGE_BUILDER_VERSIONS, Environment, emptied, renamed
from modalflow.emulator.state.store import Workspace
from modalflow.emulator.wire import Call, Service, create, fail, partial, unary

_NAME = re.compile(r"(?!en-)[a-z0-9][a-z0-9\-_]{0,63}", re.IGNORECASE)


class Environments(Service):
    """Environment*, but budgets and roles, which nobody has here."""

    @unary
    async def EnvironmentGetOrCreate(
        self, request: api_pb2.EnvironmentGetOrCreateRequest, call: Call
    ) -> api_pb2.EnvironmentGetOrCreateResponse:
        """Find an environment, the default one if none is named, or make it if asked to."""
        workspace = call.workspace
        name = request.deployment_name
        if request.object_creation_type == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
            name = call.environment(name)
        elif name not in workspace.environments:
            self._add_environment(workspace, name)
        found = workspace.environments[name]
        return api_pb2.EnvironmentGetOrCreateResponse(
            environment_id=found.environment_id,
            metadata=api_pb2.EnvironmentMetadata(
                name=name,
                settings=api_pb2.EnvironmentSettings(
                    image_builder_version=found.image_builder_version or workspace.settings.image_builder_version,
                    webhook_suffix=found.web_suffix,
                ),
            ),
        )

    @unary
    async def EnvironmentList(self, _request: Empty, call: Call) -> api_pb2.EnvironmentListResponse:
        """List the environments, the oldest first."""
        return api_pb2.EnvironmentListResponse(items=[_item(call.workspace, one) for one in call.workspace.environments.values()])

    @partial("a restricted environment restricts nobody; budgets and public environments")
    @create
    async def EnvironmentCreate(self, request: api_pb2.EnvironmentCreateRequest, call: Call) -> Empty:
        """Make an environment."""
        if request.name in call.workspace.environments:
            fail(Status.ALREADY_EXISTS, f"Environment '{request.name}' already exists")
        self._add_environment(call.workspace, request.name, restricted=request.is_managed)
        return Empty()

    @partial("limits of tasks and GPUs, blocking of unauthenticated resources")
    @create
    async def EnvironmentUpdate(self, request: api_pb2.EnvironmentUpdateRequest, call: Call) -> api_pb2.EnvironmentListItem:
        """Rename an environment with all that is in it, or set its web suffix or image builder version."""
        workspace = call.workspace
        found = workspace.environments[call.environment(request.current_name)]
        name = request.name.value if request.HasField("name") else found.name
        if name != found.name:
            if name in workspace.environments:
                fail(Status.ALREADY_EXISTS, f"Environment '{name}' already exists")
            _check_name(name)
        if request.HasField("image_builder_version"):
            if request.image_builder_version:
                check_builder_version(request.image_builder_version)
            found.image_builder_version = request.image_builder_version
        if request.HasField("web_suffix"):
            found.web_suffix = request.web_suffix.value
        if name != found.name:
            renamed(workspace, found, name)
        self.core.state_changed(workspace)
        return _item(workspace, found)

    @create
    async def EnvironmentDelete(self, request: api_pb2.EnvironmentDeleteRequest, call: Call) -> Empty:
        """Delete an environment with its Apps, Secrets, Volumes, Dicts and Queues; its sandboxes are terminated."""
        workspace = call.workspace
        found = workspace.environments[call.environment(request.name)]
        if found.name == workspace.settings.default_environment:
            fail(Status.FAILED_PRECONDITION, f"Environment '{found.name}' is the default one and cannot be deleted")
        waited_at = [queue.object_id for queue in workspace.queues if queue.environment == found.name]
        for app in emptied(workspace, found):
            self.core.app_lives.stop(workspace, app, by=workspace.username)
        for queue_id in waited_at:
            self.core.arrivals.closed(queue_id)
        self.core.state_changed(workspace)
        return Empty()

    @unary
    async def EnvironmentGetRoles(
        self, request: api_pb2.EnvironmentGetRolesRequest, call: Call
    ) -> api_pb2.EnvironmentGetRolesResponse:
        """Tell that the workspace's one user may do everything in the environment."""
        found = find_environment(call.workspace, request.environment_id)
        return api_pb2.EnvironmentGetRolesResponse(
            name=found.name,
            created_at=found.created_at,
            principal_roles=[
                api_pb2.EnvironmentGetRolesResponse.Principal(
                    user_id=call.workspace.user_id,
                    user_name=call.workspace.username,
                    role_str="contributor",
                    role=api_pb2.ENVIRONMENT_ROLE_CONTRIBUTOR,
                    member_role=api_pb2.MEMBER_ROLE_OWNER,
                    inherits_default_member_role=True,
                )
            ],
        )

    def _add_environment(self, workspace: Workspace, name: str, *, restricted: bool = False) -> None:
        _check_name(name)
        workspace.environments[name] = Environment(name=name, created_at=workspace.next_created_at(), restricted=restricted)
        self.core.state_changed(workspace, *workspace.environments.values())


def find_environment(workspace: Workspace, environment_id: str) -> Environment:
    """Return the environment of that id; NOT_FOUND if there is none."""
    found = next((one for one in workspace.environments.values() if one.environment_id == environment_id), None)
    if found is None:
        fail(Status.NOT_FOUND, f"Environment '{environment_id}' not found")
    return found


def check_builder_version(version: str) -> None:
    """End the call with INVALID_ARGUMENT unless there is such an image builder version."""
    if version not in IMAGE_BUILDER_VERSIONS:
        known = ", ".join(IMAGE_BUILDER_VERSIONS)
        fail(Status.INVALID_ARGUMENT, f"Image builder version '{version}' does not exist; write one of {known}")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        fail(
            Status.INVALID_ARGUMENT,
            f"Invalid Environment name: '{name}'. Write 1 to 64 letters, digits, dashes or underscores, "
            "a letter or digit first and not 'en-'",
        )


def _item(workspace: Workspace, one: Environment) -> api_pb2.EnvironmentListItem:
    return api_pb2.EnvironmentListItem(
        name=one.name,
        environment_id=one.environment_id,
        default=one.name == workspace.settings.default_environment,
        created_at=one.created_at,
        webhook_suffix=one.web_suffix,
        is_managed=one.restricted,
        image_builder_version=one.image_builder_version or None,
        effective_role=api_pb2.ENVIRONMENT_ROLE_CONTRIBUTOR,
    )
