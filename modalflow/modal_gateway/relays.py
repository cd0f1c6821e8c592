"""What the relay's loop asks of Modal (``relay.seam.Relays``), with the real client.

A gateway of its own: its loop and its connection are not the launches'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modal import Sandbox, Secret

from modalflow.modal_gateway.errors import bounded
from modalflow.modal_gateway.gateway import BUILD_LIMIT, ModalGateway
from modalflow.modal_gateway.parameters import inline_secret
from modalflow.translation.plan import ImagePlan

RELAY_IMAGE = ImagePlan(reference=None, python_version="3.11", packages=("asyncssh==2.24.1",))
"""Exact, as what runs there sees tokens."""
CORES = 0.25
"""Physical cores asked for; it may use more where there are any. 200 heartbeats of 5 s are 40 requests a second."""
MEMORY_MIB = 256


class RelayGateway(ModalGateway):
    """A ``ModalGateway`` that also makes relay sandboxes."""

    async def create_relay(
        self,
        *,
        name: str,
        argv: Sequence[str],
        secret_env: Mapping[str, str],
        tags: Mapping[str, str],
        ports: Sequence[int],
        seconds: int,
    ) -> str:
        """See ``Relays.create_relay``; the image is built if nobody built it before."""
        kept = await self._objects()
        async with bounded("make the image of the relay", BUILD_LIMIT):
            image = await kept.image(RELAY_IMAGE)
        async with bounded("create the relay's sandbox", self._settings.create_timeout):
            sandbox = await Sandbox.create.aio(
                *argv,
                app=await kept.app(),
                image=image,
                name=name,
                tags=dict(tags),
                secrets=[Secret.from_dict(inline_secret(secret_env))],
                encrypted_ports=list(ports),
                timeout=seconds,
                cpu=CORES,
                memory=MEMORY_MIB,
                client=kept.client,
            )
        self._keep_handle(sandbox.object_id, sandbox)
        return sandbox.object_id

    async def tunnels(self, sandbox_id: str) -> Mapping[int, tuple[str, int]]:
        """See ``Relays.tunnels``."""
        sandbox = self._sandboxes.pop(sandbox_id, None) or await self._look_up(sandbox_id, "find the tunnels of")
        async with bounded(f"find the tunnels of the sandbox {sandbox_id}", self._settings.rpc_timeout):
            found = await sandbox.tunnels.aio()
        return {inside: (tunnel.host, tunnel.port) for inside, tunnel in found.items()}
