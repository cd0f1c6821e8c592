"""Handshake and tokens."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from modalflow.emulator.auth import AUTH_TOKEN_SECONDS
from modalflow.emulator.wire import Call, Service, unary


class Auth(Service):
    """ClientHello, AuthTokenGet."""

    @unary
    async def ClientHello(self, _request: Empty, call: Call) -> api_pb2.ClientHelloResponse:
        """Say that the client is welcome."""
        return api_pb2.ClientHelloResponse(image_builder_version=call.workspace.settings.image_builder_version)

    @unary
    async def AuthTokenGet(self, _request: api_pb2.AuthTokenGetRequest, call: Call) -> api_pb2.AuthTokenGetResponse:
        """Mint the token that V2 calls carry besides the credentials."""
        token = self.core.authority.mint(call.workspace.name, seconds=AUTH_TOKEN_SECONDS)
        return api_pb2.AuthTokenGetResponse(token=token)
