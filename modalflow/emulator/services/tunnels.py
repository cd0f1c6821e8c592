"""Ways into a sandbox: its tunnels and connect tokens."""

from __future__ import annotations

import asyncio
import contextlib

from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.machines.connect_tokens import ConnectTokenError
from modalflow.emulator.services.network_rules import tunnel_data
from modalflow.emulator.state.store import Sandbox
from modalflow.emulator.wire import Call, Service, fail, partial, unary

MAX_WAIT_SECONDS = 60.0
_LOCAL = "host and port are of this machine, not https://….modal.host"


class Tunnels(Service):
    """SandboxGetTunnels, SandboxCreateConnectToken, each also as V2."""

    @partial(_LOCAL)
    @unary
    async def SandboxGetTunnels(self, request: api_pb2.SandboxGetTunnelsRequest, call: Call) -> api_pb2.SandboxGetTunnelsResponse:
        """Return the tunnels of a sandbox once it has left the queue; a TIMEOUT result if it does not within ``timeout``."""
        sandbox = self._running(call, request.sandbox_id)
        machine = self.core.sandboxes.machine(sandbox)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(request.timeout, MAX_WAIT_SECONDS)):
                await machine.left_queue.wait()
        if not machine.left_queue.is_set():
            late = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_TIMEOUT)
            return api_pb2.SandboxGetTunnelsResponse(result=late)
        return api_pb2.SandboxGetTunnelsResponse(
            result=api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS),
            tunnels=tunnel_data(self.core.ingress.tunnels_of(sandbox.task_id)),
        )

    SandboxGetTunnelsV2 = SandboxGetTunnels

    @partial(_LOCAL)
    @unary
    async def SandboxCreateConnectToken(
        self, request: api_pb2.SandboxCreateConnectTokenRequest, call: Call
    ) -> api_pb2.SandboxCreateConnectTokenResponse:
        """Return an address and a token for HTTP and WebSockets to a port of a sandbox, good until it ends."""
        sandbox = self._running(call, request.sandbox_id)
        try:
            url, token = self.core.ingress.connect_token(sandbox.task_id, request.port, request.user_metadata)
        except ConnectTokenError as error:
            fail(Status.INVALID_ARGUMENT, str(error))
        return api_pb2.SandboxCreateConnectTokenResponse(url=url, token=token)

    SandboxCreateConnectTokenV2 = SandboxCreateConnectToken

    def _running(self, call: Call, sandbox_id: str) -> Sandbox:
        sandbox = call.workspace.sandboxes.get(sandbox_id)
        if sandbox is None:
            fail(Status.NOT_FOUND, f"Sandbox '{sandbox_id}' not found")
        if sandbox.result is not None:
            fail(Status.FAILED_PRECONDITION, f"Sandbox '{sandbox_id}' has already terminated")
        return sandbox
