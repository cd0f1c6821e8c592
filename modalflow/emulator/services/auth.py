"""Handshake, tokens and environments."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty
from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.auth import AUTH_TOKEN_SECONDS
from modalflow.emulator.state.ids import new_id
from modalflow.emulator.state.store import DEFAULT_ENVIRONMENT
from modalflow.emulator.wire import Call, Service, fail, unary

IMAGE_BUILDER_VERSION = "2025.06"


class Auth(Service):
    """ClientHello, AuthTokenGet, Environment*."""

    @unary
    async def ClientHello(self, _request: Empty, _call: Call) -> api_pb2.ClientHelloResponse:
        """Say that the client is welcome."""
        return api_pb2.ClientHelloResponse(image_builder_version=IMAGE_BUILDER_VERSION)

    @unary
    async def AuthTokenGet(self, _request: api_pb2.AuthTokenGetRequest, call: Call) -> api_pb2.AuthTokenGetResponse:
        """Mint the token that V2 calls carry besides the credentials."""
        token = self.core.authority.mint(call.workspace.name, seconds=AUTH_TOKEN_SECONDS)
        return api_pb2.AuthTokenGetResponse(token=token)

    @unary
    async def EnvironmentGetOrCreate(
        self, request: api_pb2.EnvironmentGetOrCreateRequest, call: Call
    ) -> api_pb2.EnvironmentGetOrCreateResponse:
        """Find an environment, or make it if asked to."""
        name = request.deployment_name or DEFAULT_ENVIRONMENT
        known = call.workspace.environments
        if name not in known and request.object_creation_type == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
            fail(Status.NOT_FOUND, f"Environment '{name}' not found")
        if name not in known:
            known[name] = new_id("en")
            self.core.state_changed(call.workspace)
        return api_pb2.EnvironmentGetOrCreateResponse(
            environment_id=known[name],
            metadata=api_pb2.EnvironmentMetadata(
                name=name, settings=api_pb2.EnvironmentSettings(image_builder_version=IMAGE_BUILDER_VERSION)
            ),
        )

    @unary
    async def EnvironmentList(self, _request: Empty, call: Call) -> api_pb2.EnvironmentListResponse:
        """List the environments."""
        return api_pb2.EnvironmentListResponse(
            items=[
                api_pb2.EnvironmentListItem(
                    name=name, environment_id=found, default=name == DEFAULT_ENVIRONMENT, created_at=self.core.clock.time()
                )
                for name, found in call.workspace.environments.items()
            ]
        )

    @unary
    async def EnvironmentCreate(self, request: api_pb2.EnvironmentCreateRequest, call: Call) -> Empty:
        """Make an environment."""
        if request.name in call.workspace.environments:
            fail(Status.ALREADY_EXISTS, f"Environment '{request.name}' already exists")
        call.workspace.environments[request.name] = new_id("en")
        self.core.state_changed(call.workspace)
        return Empty()
