"""Names for sandboxes with a network of their own: questions to the gateway are passed on to this machine's name servers.

Flows in: DNS by UDP and TCP, from sandboxes. Flows out: the same, unread but for the name that is asked for, if an allow-list
may forbid it. A name server on this machine's loopback (``127.0.0.53``) is reached too, as it is this process that asks it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path

from modalflow.emulator.machines.networks import Access
from modalflow.emulator.machines.streams import splice

PORT = 53
_SECONDS = 5.0
_HEADER_BYTES = 12
_REFUSED = 5
_POINTER = 0xC0
AccessOf = Callable[[str], Access | None]


def name_servers(text: str) -> list[str]:
    """Return the name servers of a ``resolv.conf``."""
    words = [line.split() for line in text.splitlines()]
    return [one[1] for one in words if len(one) > 1 and one[0] == "nameserver"]


def resolv_conf(text: str, server: str) -> str:
    """Return a ``resolv.conf`` with another name server and the rest as it was."""
    kept = [
        line for line in text.splitlines() if line.split()[:1] not in ([], ["nameserver"]) and not line.startswith(("#", ";"))
    ]
    return "\n".join([f"nameserver {server}", *kept, ""])


class NameRelay:
    """Listens on one address for all sandboxes of an emulator."""

    def __init__(self, access_of: AccessOf, resolv: Path = Path("/etc/resolv.conf")) -> None:
        self._access_of = access_of
        self.text = resolv.read_text() if resolv.exists() else ""
        self.servers = name_servers(self.text) or ["127.0.0.1"]
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: str) -> None:
        """Listen. ``OSError`` if port 53 of that address is taken."""
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Questions(self._asked), local_addr=(host, PORT))
        self._tcp = await asyncio.start_server(self._connected, host, PORT)

    async def stop(self) -> None:
        """Listen no more."""
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _asked(self, question: bytes, peer: tuple[str, int]) -> None:
        self._keep(asyncio.get_running_loop().create_task(self._answer(question, peer)))

    async def _answer(self, question: bytes, peer: tuple[str, int]) -> None:
        assert self._udp is not None  # noqa: S101 -- it asked
        if not may_ask(self._access_of(peer[0]), question):
            self._udp.sendto(refusal(question), peer)
            return
        for server in self.servers:
            with contextlib.suppress(OSError):  # the next one may know, and without an answer the sandbox asks again
                self._udp.sendto(await ask(question, server), peer)
                return

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._keep(asyncio.get_running_loop().create_task(self._passed_on(reader, writer)))

    async def _passed_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        access = self._access_of(writer.get_extra_info("peername")[0])
        try:
            # By TCP there may be many questions; where names are limited, the few that need TCP go without.
            if access is not None and (access.is_open or access.cidrs):
                async with asyncio.timeout(_SECONDS):
                    inner = await asyncio.open_connection(self.servers[0], PORT)
                await splice((reader, writer), inner)
        except OSError:
            writer.transport.abort()
        finally:
            writer.close()


class _Questions(asyncio.DatagramProtocol):
    def __init__(self, asked: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._asked = asked

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Take a question in."""
        self._asked(data, addr)


async def ask(question: bytes, server: str) -> bytes:
    """Ask a name server by UDP. ``OSError`` without an answer."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)  # noqa: FBT003
        await loop.sock_connect(asking, (server, PORT))
        async with asyncio.timeout(_SECONDS):
            await loop.sock_sendall(asking, question)
            return await loop.sock_recv(asking, 65536)


def may_ask(access: Access | None, question: bytes) -> bool:
    """Whether a question may be passed on: all if addresses are allowed, those about allowed names otherwise."""
    if access is None:
        return False
    if access.is_open or access.cidrs:
        return True
    name = asked_name(question)
    return name is not None and access.allows_domain(name)


def asked_name(question: bytes) -> str | None:
    """Return the name in the first question of a DNS message (RFC 1035, 4.1.2); ``None`` if there is none."""
    labels: list[str] = []
    at = _HEADER_BYTES
    while at < len(question):
        length = question[at]
        if length == 0:
            return ".".join(labels)
        if length & _POINTER:
            return None
        labels.append(question[at + 1 : at + 1 + length].decode("ascii", "replace"))
        at += 1 + length
    return None


def refusal(question: bytes) -> bytes:
    """Return the answer REFUSED to a question."""
    return question[:2] + bytes([question[2] | 0x80 if len(question) > 2 else 0x80, _REFUSED]) + question[4:]  # noqa: PLR2004


def is_public_enough(address: str, own: set[str]) -> bool:
    """Whether an address may be connected to on behalf of a sandbox: not this machine's, nor one that means no machine."""
    one = ipaddress.ip_address(address)
    return not (one.is_loopback or one.is_link_local or one.is_multicast or one.is_unspecified or str(one) in own)
