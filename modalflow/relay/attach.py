"""The connection to one relay: SSH inside the tunnel's TLS, both ends pinned; and the request to have its port led back to us.

In: a relay's address and keys, the socket of ``gate``. Out: ``held`` while the port is ours, ``standing by`` while another
scheduler has it (which the relay tells by refusing), an error when the relay is not to be reached.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import asyncssh

from modalflow.relay.keys import Keys

log = logging.getLogger(__name__)

USER = "modalflow"
CONNECT_SECONDS = 15.0
KEEPALIVE = 5
"""Seconds between two signs of life; after three without an answer the connection is over."""
STAND_BY = 1.0
"""Seconds between two requests for a port that another scheduler holds. One costs a packet each way."""
CIPHERS = ("aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com")
ATTACH_ERRORS = (OSError, asyncssh.Error, TimeoutError)
"""What a relay that cannot be reached, or is not ours, raises. ``ssl.SSLError`` is an ``OSError``."""

asyncssh.set_log_level(logging.WARNING)


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """Where a relay takes schedulers, and its number; ``task_port`` is the port in its sandbox that tasks come in by."""

    number: str
    host: str
    port: int
    task_port: int


@dataclass(frozen=True, slots=True)
class _Tls:
    """What asyncssh takes for a tunnel: it connects by TLS where asyncssh would by TCP."""

    context: ssl.SSLContext
    logger: Any = log

    async def create_connection(self, factory: Callable[[], Any], host: str, port: int) -> tuple[Any, Any]:
        loop = asyncio.get_running_loop()
        return await loop.create_connection(factory, host, port, ssl=self.context, ssl_handshake_timeout=CONNECT_SECONDS)


async def connect(endpoint: Endpoint, keys: Keys, context: ssl.SSLContext) -> asyncssh.SSHClientConnection:
    """Connect and prove both sides. Raises one of ``ATTACH_ERRORS``; a host key that is not the pinned one among them."""
    own, theirs = keys.client(endpoint.number), keys.host(endpoint.number)
    async with asyncio.timeout(CONNECT_SECONDS):
        return await asyncssh.connect(
            endpoint.host,
            endpoint.port,
            tunnel=_Tls(context),
            username=USER,
            client_keys=[asyncssh.import_private_key(own.private)],
            known_hosts=([asyncssh.import_public_key(theirs.public)], [], []),
            server_host_key_algs=["ssh-ed25519"],
            preferred_auth=["publickey"],
            encryption_algs=list(CIPHERS),
            compression_algs=["none"],
            agent_path=None,
            config=None,
            keepalive_interval=KEEPALIVE,
            keepalive_count_max=3,
        )


async def serve(
    connection: asyncssh.SSHClientConnection, endpoint: Endpoint, socket_path: str, serving: Callable[[bool], None]
) -> None:
    """Hold the relay's port, or stand by for it, until the connection ends. ``serving`` is told ``True`` when it becomes ours,
    ``False`` when another has it. Raises one of ``ATTACH_ERRORS`` where the relay ends the connection."""
    told = False
    while True:
        try:
            listener = await connection.forward_remote_port_to_path("", endpoint.task_port, socket_path)
        except asyncssh.ChannelListenError:
            if not told:
                serving(False)  # noqa: FBT003
                told = True
            await _or_end(connection, STAND_BY)
            continue
        serving(True)  # noqa: FBT003
        await connection.wait_closed()
        listener.close()
        raise ConnectionError("the relay ended the connection")


async def _or_end(connection: asyncssh.SSHClientConnection, seconds: float) -> None:
    """Wait, unless the connection ends before. Raises ``ConnectionError`` then."""
    try:
        async with asyncio.timeout(seconds):
            await connection.wait_closed()
    except TimeoutError:
        return
    raise ConnectionError("the relay ended the connection")
