"""Bytes between two connections, until both are done: the inside of every tunnel and relay.

Flows in: two pairs of asyncio streams. Flows out: nothing is kept; each direction holds at most what a socket and a stream
buffer. ``tunnels``, ``name_relay`` and ``server_name_gate`` use it.
"""

from __future__ import annotations

import asyncio
import contextlib

CHUNK_BYTES = 256 * 1024
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def splice(left: Connection, right: Connection) -> None:
    """Carry bytes both ways until both directions have ended, then close both; a broken side ends the other."""
    ways = [asyncio.create_task(_carry(left[0], right[1])), asyncio.create_task(_carry(right[0], left[1]))]
    try:
        done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
        if any(way.exception() for way in done if not way.cancelled()):
            for _, writer in (left, right):
                writer.transport.abort()
        else:
            await asyncio.gather(*(_close(writer) for _, writer in (left, right)))
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for _, writer in (left, right):
            writer.transport.abort()  # no effect on one that was closed in order


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
    else:  # TLS has no half-close that clients understand
        await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):  # the other side broke it off first
        await writer.wait_closed()
