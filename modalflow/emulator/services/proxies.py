"""Proxies (outgoing addresses that stay the same): there are none, since the emulator has no addresses to give."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty
from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.wire import Call, Service, fail, partial, unary


class Proxies(Service):
    """ProxyGet, ProxyList."""

    @partial("proxies; none can be made, so none is found")
    @unary
    async def ProxyGet(self, request: api_pb2.ProxyGetRequest, call: Call) -> api_pb2.ProxyGetResponse:
        """Tell that there is no proxy of that name."""
        environment = call.environment(request.environment_name)
        fail(Status.NOT_FOUND, f"Proxy '{request.name}' not found in environment '{environment}'; the emulator has no proxies")

    @partial("proxies; none can be made")
    @unary
    async def ProxyList(self, _request: Empty, _call: Call) -> api_pb2.ProxyListResponse:
        """List no proxy."""
        return api_pb2.ProxyListResponse()
