"""Domain allow-lists: TLS of a sandbox on port 443 comes here, and goes on to the server that it names, if that is allowed.

Flows in: TLS connections that a sandbox's firewall has sent here. Flows out: the same bytes to port 443 of the server named in
them (SNI), wherever the sandbox had meant them to go. Nothing is decrypted.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable

from modalflow.emulator.machines.name_relay import AccessOf, is_public_enough
from modalflow.emulator.machines.streams import splice

PORT = 443
_HELLO_SECONDS = 10.0
_HELLO_BYTES = 32 * 1024


class ServerNameGate:
    """Listens on one address for all sandboxes of an emulator."""

    def __init__(self, access_of: AccessOf, own_addresses: Callable[[], Awaitable[set[str]]]) -> None:
        self._access_of = access_of
        self._own_addresses = own_addresses
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None  # noqa: S101 -- it was started
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self, host: str) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._connected, host, 0)

    async def stop(self) -> None:
        """Listen no more, and cut what goes through."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        access = self._access_of(writer.get_extra_info("peername")[0])
        try:
            async with asyncio.timeout(_HELLO_SECONDS):
                hello, name = await read_hello(reader)
                if access is None or not name or not access.allows_domain(name):
                    return
                inner = await self._onward(name)
            inner[1].write(hello)
            await splice((reader, writer), inner)
        except OSError:  # the server is not there: to the sandbox it is a broken connection
            return
        finally:
            writer.transport.abort()

    async def _onward(self, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        own = await self._own_addresses()
        found = await asyncio.get_running_loop().getaddrinfo(name, PORT, type=socket.SOCK_STREAM)
        for _, _, _, _, address in found:
            if is_public_enough(str(address[0]), own):
                with contextlib.suppress(OSError):  # the next address may be better
                    return await asyncio.open_connection(str(address[0]), PORT)
        raise ConnectionRefusedError(f"{name}: no address that a sandbox may reach")


async def read_hello(reader: asyncio.StreamReader) -> tuple[bytes, str]:
    """Read a TLS client's first message; return all bytes read and the server's name in it, empty if there is none."""
    names: list[str] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def named(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> int:
        names.append(name or "")
        return ssl.AlertDescription.ALERT_DESCRIPTION_HANDSHAKE_FAILURE  # nothing else is wanted of OpenSSL here

    context.sni_callback = named
    incoming = ssl.MemoryBIO()
    reading = context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
    hello = b""
    while len(hello) < _HELLO_BYTES:
        data = await reader.read(4096)
        if not data:
            break
        hello += data
        incoming.write(data)
        try:
            reading.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError:
            break
    return hello, names[0] if names else ""
