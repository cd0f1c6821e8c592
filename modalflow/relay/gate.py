"""Connections as they come out of the relay: each has to prove itself on its first line, or is closed without a byte.

In: bytes from a UNIX socket of ours, to which the connection to the relay leads. Out: proved connections, to ``filter``; the list
of relays, to sandboxes that ask for it. Nothing of a stranger reaches an HTTP parser.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from modalflow.relay.handshake import LONGEST_HELLO, Caller, check

log = logging.getLogger(__name__)

HELLO_SECONDS = 10.0
"""Time for the first line; it is one packet."""
MOST_STRANGERS = 256
"""Connections that have not proved themselves yet, at the same time."""
MOST_CONNECTIONS = 4096
"""Of all kinds. A task has one or two."""

NewHandler = Callable[[Caller], asyncio.Protocol]


class Gate:
    """Makes a protocol for each connection, and counts them. Used on one loop."""

    def __init__(
        self,
        key_of: Callable[[str], bytes],
        new_handler: NewHandler,
        relays: Callable[[], Sequence[str]],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``key_of`` gives the secret of a pass, ``new_handler`` what serves a proved caller, ``relays`` where tasks go now."""
        self.key_of = key_of
        self.new_handler = new_handler
        self.relays = relays
        self.clock = clock
        self.connections: set[asyncio.Transport] = set()
        self.strangers = 0
        self.turned_away = 0

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return _Entrance(self)

    def close(self) -> None:
        """Cut all connections."""
        for transport in list(self.connections):
            transport.abort()


class _Entrance(asyncio.Protocol):
    """One connection: a line, then whatever serves it."""

    __slots__ = ("_gate", "_got", "_inner", "_timer", "_transport")

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._got = bytearray()
        self._inner: asyncio.Protocol | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(transport)
        self._transport = transport
        gate = self._gate
        gate.connections.add(transport)
        gate.strangers += 1
        if len(gate.connections) > MOST_CONNECTIONS or gate.strangers > MOST_STRANGERS:
            self._turn_away()
        else:
            self._timer = asyncio.get_running_loop().call_later(HELLO_SECONDS, self._turn_away)

    def data_received(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.data_received(data)
            return
        self._got += data
        line, end, rest = bytes(self._got).partition(b"\n")
        if end or len(self._got) > LONGEST_HELLO:
            caller = check(line + end, self._gate.key_of, self._gate.clock())
            if caller is None:
                self._turn_away()
            else:
                self._let_in(caller, rest)

    def _let_in(self, caller: Caller, rest: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._no_stranger()
        self._transport.write(caller.answer)
        if caller.verb == "relays":
            self._transport.write(json.dumps(list(self._gate.relays())).encode() + b"\n")
            self._transport.close()
            return
        self._inner = self._gate.new_handler(caller)
        self._inner.connection_made(self._transport)
        if rest:
            self._inner.data_received(rest)

    def _turn_away(self) -> None:
        self._gate.turned_away += 1
        if self._transport is not None:
            self._transport.abort()

    def _no_stranger(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._inner is None and self._got is not _KNOWN:
            self._gate.strangers -= 1
            self._got = _KNOWN

    def connection_lost(self, error: Exception | None) -> None:
        self._no_stranger()
        if self._transport is not None:
            self._gate.connections.discard(self._transport)
        if self._inner is not None:
            self._inner.connection_lost(error)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._inner is not None else None

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()


_KNOWN = bytearray()
"""In the place of what a proved connection had sent."""


async def listen(gate: Gate, path: str) -> asyncio.Server:
    """Serve ``gate`` on a UNIX socket at ``path``, which nobody else may reach: its folder is ours alone."""
    loop = asyncio.get_running_loop()
    return await loop.create_unix_server(partial(_Entrance, gate), path)
