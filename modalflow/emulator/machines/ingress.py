"""All ways into sandboxes from outside: tunnels, connect tokens, and the certificates that make them trustworthy.

Flows in: each sandbox's network and the ports that it opens. Flows out: addresses, tokens, and the variables with which clients
and sandboxes trust them. ``sandboxes`` closes what a sandbox had when it ends; ``services.tunnels`` is the protocol in front.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from modal_proto import api_pb2

from modalflow.emulator.machines import connect_tokens
from modalflow.emulator.machines.activity import Activity
from modalflow.emulator.machines.certificates import CertificateAuthority
from modalflow.emulator.machines.connect_proxy import ConnectProxy, Target
from modalflow.emulator.machines.containers import Container
from modalflow.emulator.machines.networks import Network, Networks, networks_of
from modalflow.emulator.machines.tunnels import Tunnel, Tunnels

CERTIFICATES = "/__modal/certificates"
"""Where a sandbox finds the authority's certificate: ``ca.pem`` alone, ``ca-bundle.pem`` with those of this machine."""


@dataclass(frozen=True, slots=True)
class _Door:
    network: Network
    inbound: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
    activity: Activity


class Ingress:
    """The ways into all sandboxes of one emulator, by task id."""

    def __init__(self, networks: Networks, folder: Path, sign: Callable[[str], str], host: str) -> None:
        self._networks = networks
        self._sign = sign
        self._host = host
        self._folder = folder
        self._doors: dict[str, _Door] = {}
        self._tunnels: Tunnels | None = None
        self._proxy: ConnectProxy | None = None

    @property
    def tunnels(self) -> Tunnels:
        """The tunnels, while it runs."""
        if self._tunnels is None:
            raise RuntimeError("the emulator is not running")
        return self._tunnels

    @property
    def proxy(self) -> ConnectProxy:
        """What connect tokens are for, while it runs."""
        if self._proxy is None:
            raise RuntimeError("the emulator is not running")
        return self._proxy

    async def start(self) -> None:
        """Make certificates and listen for connect tokens. The networks have been started."""
        host = self._networks.host
        authority = CertificateAuthority([host, "127.0.0.1", "::1", "localhost", self._host])
        self._folder.mkdir(mode=0o755)
        authority.write(self._folder)
        self._tunnels = Tunnels(host, authority)
        self._proxy = ConnectProxy(host, authority.server_context("http/1.1"), self._target)
        await self._proxy.start()

    async def stop(self) -> None:
        """Close everything."""
        if self._tunnels is not None:
            await self._tunnels.stop()
        if self._proxy is not None:
            await self._proxy.stop()

    # -- one sandbox

    async def open(self, task_id: str, network: Network, definition: api_pb2.Sandbox, activity: Activity) -> tuple[Tunnel, ...]:
        """Open the ports of a sandbox, whether anything listens there yet or not. ``OSError`` if there is no port left."""
        self._doors[task_id] = _Door(network, networks_of(definition.inbound_cidr_allowlist), activity)
        return await self.tunnels.open(task_id, network, definition.open_ports.ports, definition.inbound_cidr_allowlist, activity)

    def tunnels_of(self, task_id: str) -> tuple[Tunnel, ...]:
        """Return the tunnels of a sandbox that has not ended."""
        return self.tunnels.of(task_id)

    def connect_token(self, task_id: str, port: int, metadata: str) -> tuple[str, str]:
        """Return the address and a token for HTTP to a port. ``ConnectTokenError`` for what cannot be in a token."""
        token = connect_tokens.mint(self._sign, task_id=task_id, port=port or connect_tokens.DEFAULT_PORT, metadata=metadata)
        return self.proxy.url, token

    def connections(self, task_id: str) -> int:
        """Return how many connections come in to a sandbox: while there are any, it is not idle."""
        return self.tunnels.connections(task_id) + (self._proxy.connections(task_id) if self._proxy else 0)

    async def close(self, task_id: str) -> None:
        """Close the ways into a sandbox that has ended, and all their connections. No effect if there are none."""
        self._doors.pop(task_id, None)
        await self.tunnels.close(task_id)
        if self._proxy is not None:
            await self._proxy.close(task_id)

    def _target(self, token: str) -> Target | None:
        read = connect_tokens.read(self._sign, token)
        if read is None or read[0] not in self._doors:
            return None
        task_id, port, metadata = read
        door = self._doors[task_id]
        return Target(
            task_id=task_id,
            network=door.network,
            port=port,
            metadata=metadata,
            activity=door.activity,
            inbound=door.inbound,
        )

    # -- trust

    def trust(self) -> dict[str, str]:
        """Return the variables by which programs of this machine trust the tunnels, besides what they trust anyway."""
        return {**trust_variables(str(self._folder)), "MODAL_EMULATOR_CA_BUNDLE": f"{self._folder}/ca-bundle.pem"}

    def trust_inside(self, container: Container) -> Mapping[str, str]:
        """Show the certificates in a container that is not open yet; return the variables for its processes."""
        container.bind(self._folder, CERTIFICATES, read_only=True)
        return trust_variables(CERTIFICATES)


def trust_variables(folder: str) -> dict[str, str]:
    """Return the variables that OpenSSL, Python, curl and Go (the first), requests and Node read."""
    return {
        "SSL_CERT_FILE": f"{folder}/ca-bundle.pem",
        "REQUESTS_CA_BUNDLE": f"{folder}/ca-bundle.pem",
        "NODE_EXTRA_CA_CERTS": f"{folder}/ca.pem",
    }
