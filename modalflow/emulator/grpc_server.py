"""grpclib's server, with an end: it knows its connections and can close them.

grpclib 0.4 closes the listening socket only; connections stay until the client goes (modal keeps the router's for 30 s), and
waiting for them would hang.
"""

from __future__ import annotations

import asyncio
import weakref

import grpclib.server
from grpclib.protocol import H2Protocol

_ACCEPT_TURNS = 5
"""Turns of the loop within which asyncio finishes accepting a connection that it has begun to accept."""


class GrpcServer(grpclib.server.Server):
    """A server whose ``abort`` leaves no connection and no handler behind."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._address: tuple[str, int] | None = None
        self._protocols: weakref.WeakSet[H2Protocol] = weakref.WeakSet()

    def _protocol_factory(self) -> H2Protocol:
        protocol = super()._protocol_factory()
        self._protocols.add(protocol)
        return protocol

    @property
    def port(self) -> int:
        """The port it listens on."""
        if not isinstance(self._server, asyncio.Server):
            raise TypeError("the server is not listening")
        return int(self._server.sockets[0].getsockname()[1])

    def disconnect(self) -> None:
        """Close every connection; handlers are cancelled. New ones are accepted."""
        for protocol in list(self._protocols):
            if hasattr(protocol, "processor"):
                protocol.processor.close()

    async def refuse(self) -> None:
        """Close every connection, and have new ones refused. No effect if they are already."""
        if isinstance(self._server, asyncio.Server):
            self._address = self._server.sockets[0].getsockname()[:2]
            await self._stop_listening()
            self._server = None
        self.disconnect()

    async def accept(self) -> None:
        """Listen again where it did before ``refuse``. ``OSError`` if the port is taken."""
        if self._server is None and self._address is not None:
            await self.start(*self._address)

    async def _stop_listening(self) -> None:
        if isinstance(self._server, asyncio.Server):
            # Accept no more, then let what is being accepted come in: closing first would drop it half made, and unclosed.
            for listening in self._server.sockets:
                asyncio.get_running_loop().remove_reader(listening.fileno())
            for _ in range(_ACCEPT_TURNS):
                await asyncio.sleep(0)
            self._server.close()

    async def abort(self) -> None:
        """Stop listening, close every connection, and return when every handler has ended."""
        await self._stop_listening()
        handlers = list(self._handlers)
        self.disconnect()
        for handler in handlers:
            handler.close()
            await handler.wait_closed()
        await asyncio.sleep(0)  # the transports tell their protocols in the loop's next turn
