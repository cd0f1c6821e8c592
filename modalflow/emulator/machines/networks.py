"""The network of a sandbox, seen from the emulator: how to reach its ports, and what reaches out of it.

Flows in: what a sandbox's definition asks for. Flows out: connections into the sandbox, for tunnels, connect tokens and
readiness probes alike. Here the sandbox shares the machine's network; ``network_namespaces`` gives it one of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from modal_proto import api_pb2

CONNECT_SECONDS = 10.0
LOOPBACKS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
"""Where a server inside may listen. One that is bound to every address is found at the first."""


class NetworkAccessError(ValueError):
    """Rules of a network that cannot be read; the text names the rule and what to write."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkIsolation:
    """What networks keep apart. ``name``: ``own`` or ``host``; ``words``: what holds and what does not."""

    name: str
    words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """Who a sandbox may call. ``cidrs`` and ``domains`` are ``None`` if everything is open; both empty if nothing is.

    ``domains`` are lower-case names, ``*.name`` for a name and all below it, ``*`` for all: TLS on port 443 by server name.
    """

    cidrs: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] | None = None
    domains: tuple[str, ...] | None = None

    @property
    def is_open(self) -> bool:
        """Whether there are no rules."""
        return self.cidrs is None

    def allows_domain(self, name: str) -> bool:
        """Whether TLS to that server name is allowed by name."""
        name = name.lower().rstrip(".")
        for one in self.domains or ():
            if one in ("*", name) or (one.startswith("*.") and (name == one[2:] or name.endswith(one[1:]))):
                return True
        return False


OPEN = Access()
BLOCKED = Access(cidrs=(), domains=())


def access_of(definition: api_pb2.Sandbox) -> Access:
    """Read the outbound rules of a definition. ``NetworkAccessError`` for a CIDR or domain that is none."""
    if definition.block_network:  # the form before ``network_access``
        return BLOCKED
    return read_access(definition.network_access)


def read_access(rules: api_pb2.NetworkAccess) -> Access:
    """Read outbound rules. ``NetworkAccessError`` for a CIDR or domain that is none."""
    types = api_pb2.NetworkAccess
    if rules.network_access_type == types.BLOCKED:
        return BLOCKED
    if rules.network_access_type != types.ALLOWLIST:
        return OPEN
    return Access(cidrs=networks_of(rules.allowed_cidrs), domains=tuple(_domain(one) for one in rules.allowed_domains))


def networks_of(texts: Sequence[str]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """Read CIDRs. ``NetworkAccessError`` for anything else."""
    return tuple(_network(text) for text in texts)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise NetworkAccessError(f"Invalid CIDR: {text}; expected one such as 203.0.113.0/24") from error


def _domain(text: str) -> str:
    name = text.lower().rstrip(".")
    labels = name.removeprefix("*.").split(".")
    if name != "*" and (not all(label.replace("-", "").isalnum() for label in labels) or not name.isascii()):
        raise NetworkAccessError(f"Invalid domain {text!r}: expected a name such as example.com or *.example.com, or *")
    return name


class Network(Protocol):
    """The network of one task: named first, then opened, then closed."""

    @property
    def namespace(self) -> Path | None:
        """The network namespace that processes must run in, once it is open; ``None`` for this machine's."""
        ...

    @property
    def resolv_conf(self) -> Path | None:
        """The file to be shown at ``/etc/resolv.conf``; ``None`` for this machine's."""
        ...

    async def open(self) -> None:
        """Have it ready for processes. ``OSError`` if that cannot be."""
        ...

    async def socket(self, family: socket.AddressFamily) -> socket.socket:
        """Return a TCP socket inside. ``OSError`` if it is not open (any more)."""
        ...

    async def set_access(self, access: Access) -> None:
        """Put new rules in force; connections that they forbid are cut."""
        ...

    async def close(self) -> None:
        """Remove it. Never raises; safe to call twice, and unopened."""
        ...


class Networks(Protocol):
    """Makes networks, all of one kind."""

    @property
    def isolation(self) -> NetworkIsolation:
        """What is in force."""
        ...

    @property
    def host(self) -> str:
        """The address where this machine and every sandbox reach the emulator's tunnels."""
        ...

    async def start(self) -> None:
        """Make ready. ``OSError`` if that cannot be."""
        ...

    async def stop(self) -> None:
        """Remove everything."""
        ...

    def network(self, access: Access) -> Network:
        """Return a new network, which costs nothing before it is opened."""
        ...


async def connect(network: Network, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a port of a sandbox. ``OSError`` (or ``TimeoutError``, which is one) if nothing listens there."""
    async with asyncio.timeout(CONNECT_SECONDS):
        return await asyncio.open_connection(sock=await connected_socket(network, port))


async def connected_socket(network: Network, port: int) -> socket.socket:
    """Return a non-blocking socket that is connected to a port of a sandbox. ``OSError`` if nothing listens there."""
    loop = asyncio.get_running_loop()
    failures: list[OSError] = []
    for family, address in LOOPBACKS:
        with contextlib.ExitStack() as stack:
            try:
                found = stack.enter_context(await network.socket(family))
                found.setblocking(False)  # noqa: FBT003
                await loop.sock_connect(found, (address, port))
            except OSError as error:
                failures.append(error)
                continue
            stack.pop_all()
            return found
    raise failures[0]


class HostNetwork:
    """This machine's network."""

    namespace = None
    resolv_conf = None

    async def open(self) -> None:
        """There is nothing to be made."""

    async def socket(self, family: socket.AddressFamily) -> socket.socket:
        """Return a socket of this machine."""
        return socket.socket(family, socket.SOCK_STREAM)

    async def set_access(self, access: Access) -> None:
        """Rules cannot be enforced here; who sets them is told so (``HostNetworks.isolation``)."""

    async def close(self) -> None:
        """There is nothing to be removed."""


class HostNetworks:
    """This machine's network for all."""

    isolation = NetworkIsolation(
        name="host",
        words="sandboxes share this machine's network, its localhost and each other's ports; network rules are not enforced",
    )

    def __init__(self, host: str) -> None:
        self.host = host

    async def start(self) -> None:
        """There is nothing to be made."""

    async def stop(self) -> None:
        """There is nothing to be removed."""

    def network(self, access: Access) -> HostNetwork:  # noqa: ARG002 -- rules need a network of one's own
        """Return this machine's."""
        return HostNetwork()
