"""What the relay's loop asks of Modal; ``modal_gateway.relays.RelayGateway`` does it with the real client.

Raises only ``launch.gateway.GatewayError`` subclasses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from modalflow.launch.gateway import SandboxStatus

RELAY_TAG = "relay"
"""Tag of a relay's sandbox, with what ``policy.Mark`` says. It is public: keys come from a secret that is not on Modal."""
RELAY_OF_TAG = "relay_of"
"""Tag with the deployment. Not ``deployment``, which is that of tasks: nothing that looks for tasks shall find a relay."""


class Relays(Protocol):
    """Relay sandboxes, and those of tasks as far as they must be told something."""

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
        """Create a relay sandbox that lives ``seconds`` at most, with TLS tunnels to ``ports``; return its id.

        ``NameTaken`` if one of that name runs.
        """
        ...

    async def tunnels(self, sandbox_id: str) -> Mapping[int, tuple[str, int]]:
        """Return host and port of each tunnel, by the port inside."""
        ...

    async def list_running(self, tags: Mapping[str, str]) -> list[SandboxStatus]:
        """All running sandboxes that carry all these tags."""
        ...

    async def start_in(self, sandbox_id: str, argv: Sequence[str]) -> None:
        """Start a process in a running sandbox and return."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
