"""Tunnels: ports of this machine that lead to ports of a sandbox, with TLS in front or without.

Flows in: the ports that a sandbox's definition opens, its ``Network``. Flows out: addresses, and bytes both ways. The protocol in
front is ``services.tunnels``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field

from modal_proto import api_pb2

from modalflow.emulator.machines.activity import Activity
from modalflow.emulator.machines.certificates import CertificateAuthority
from modalflow.emulator.machines.networks import Network, connect, networks_of
from modalflow.emulator.machines.streams import Connection, splice

_log = logging.getLogger(__name__)
_TLS_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Tunnel:
    """One open port: ``host:port`` leads to ``container_port`` by TLS, ``host:plain_port`` without (0: not open)."""

    container_port: int
    host: str
    port: int
    plain_port: int


@dataclass(eq=False, slots=True)
class _Opened:
    tunnels: tuple[Tunnel, ...] = ()
    servers: list[asyncio.Server] = field(default_factory=list)
    connections: set[asyncio.Task[None]] = field(default_factory=set)
    closed: bool = False


class Tunnels:
    """All tunnels of one emulator, by the task they lead to."""

    def __init__(self, host: str, authority: CertificateAuthority) -> None:
        self.host = host
        # Modal's ordinary tunnels speak HTTP/1.1 to the client; HTTP/2 is agreed on only where a port asks for it.
        self._contexts = {h2: authority.server_context(*(("h2", "http/1.1") if h2 else ("http/1.1",))) for h2 in (False, True)}
        self._opened: dict[str, _Opened] = {}

    async def open(
        self, task_id: str, network: Network, ports: Sequence[api_pb2.PortSpec], inbound: Sequence[str], activity: Activity
    ) -> tuple[Tunnel, ...]:
        """Listen for every port of a task. ``inbound``: CIDRs that may come in by TLS, all if there are none. Connections are
        uses of the sandbox, noted in ``activity``.

        ``OSError`` if there is no port left; ``NetworkAccessError`` for a CIDR that is none.
        """
        allowed = networks_of(inbound)
        opened = self._opened[task_id] = _Opened()
        try:
            for spec in ports:
                tls = self._contexts[spec.tunnel_type == api_pb2.TUNNEL_TYPE_H2]
                port = await self._listen(opened, _Handler(opened, network, spec.port, allowed, activity), tls)
                plain = (
                    await self._listen(opened, _Handler(opened, network, spec.port, (), activity), None)
                    if spec.unencrypted
                    else 0
                )
                tunnel = Tunnel(container_port=spec.port, host=self.host, port=port, plain_port=plain)
                opened.tunnels = (*opened.tunnels, tunnel)
        except OSError:
            await self.close(task_id)
            raise
        return opened.tunnels

    async def _listen(self, opened: _Opened, handler: _Handler, context: ssl.SSLContext | None) -> int:
        server = await asyncio.start_server(
            handler.serve,
            self.host,
            0,
            ssl=context,
            ssl_handshake_timeout=_TLS_SECONDS if context else None,
            family=socket.AF_INET6 if ":" in self.host else socket.AF_INET,
        )
        port = int(server.sockets[0].getsockname()[1])
        opened.servers.append(server)
        if opened.closed:  # the sandbox ended meanwhile
            server.close()
        return port

    def of(self, task_id: str) -> tuple[Tunnel, ...]:
        """Return the tunnels of a task that has not ended."""
        return self._opened[task_id].tunnels if task_id in self._opened else ()

    def connections(self, task_id: str) -> int:
        """Return how many connections a task's tunnels carry: while there are any, the sandbox is not idle."""
        return len(self._opened[task_id].connections) if task_id in self._opened else 0

    async def close(self, task_id: str) -> None:
        """Close a task's tunnels and their connections. No effect if there are none."""
        opened = self._opened.pop(task_id, None)
        if opened is None:
            return
        opened.closed = True
        for server in opened.servers:
            server.close()
        while opened.connections:
            for task in opened.connections:
                task.cancel()
            await asyncio.wait(opened.connections)

    async def stop(self) -> None:
        """Close all."""
        for task_id in list(self._opened):
            await self.close(task_id)


@dataclass(frozen=True, slots=True)
class _Handler:
    opened: _Opened
    network: Network
    port: int
    inbound: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]
    activity: Activity

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection in. A plain function: asyncio would keep the task of a coroutine to itself."""
        if self.opened.closed:  # it was being accepted when the tunnel was closed
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve((reader, writer)))
        self.opened.connections.add(task)
        task.add_done_callback(self.opened.connections.discard)
        self.activity.enter()
        task.add_done_callback(lambda _: self.activity.leave())

    async def _serve(self, client: Connection) -> None:
        try:
            if allowed(client[1], self.inbound):
                await splice(client, await connect(self.network, self.port))
        except OSError as error:  # nothing listens there (yet): to the client it is a closed connection
            _log.debug("tunnel to port %d: %s", self.port, error)
        finally:
            client[1].close()


def allowed(writer: asyncio.StreamWriter, inbound: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    """Whether a peer may come in."""
    peer = writer.get_extra_info("peername")
    return not inbound or (peer is not None and any(ipaddress.ip_address(peer[0]) in one for one in inbound))
