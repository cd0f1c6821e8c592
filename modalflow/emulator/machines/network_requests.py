"""Requests to the kernel about links, sent together: one way there and back for many, by a socket of the namespace one is in.

Flows in: calls of ``pyroute2``'s ``IPRoute``, which it encodes. Flows out: what they ask for is done, all in order. ``pyroute2``
itself would wait for the answer to each, and takes milliseconds to connect in another namespace. ``network_links`` asks.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator

from pyroute2.iproute.linux import IPBatch

_HEADER = struct.Struct("=IHHII")
"""Length, type, flags, sequence and port of a message (RFC 3549, 2.2; the length counts the header)."""
_CODE = struct.Struct("=i")
_ERROR = 2
"""Type of the answer that a message was done (code 0) or refused."""
_ANSWER_BYTES = 65536


class Requests:
    """Encodes requests; used by one thread."""

    def __init__(self) -> None:
        self._batch: IPBatch | None = None

    @contextlib.contextmanager
    def sent_here(self) -> Iterator[IPBatch]:
        """Yield what takes requests, then have them done in the namespace of this thread. ``OSError``: one was refused."""
        if self._batch is None:
            self._batch = IPBatch()
        self._batch.reset()
        yield self._batch
        _ask(bytes(self._batch.batch))

    def close(self) -> None:
        """Let go of the encoder."""
        if self._batch is not None:
            self._batch.close()
            self._batch = None


def _ask(requests: bytes) -> None:
    """Send the messages, each of which asks for an answer, and take the answers in."""
    waiting = sum(1 for _ in _messages(requests))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
        kernel.bind((0, 0))
        kernel.sendall(requests)
        refusals = []
        while waiting:
            for kind, content in _messages(kernel.recv(_ANSWER_BYTES)):
                if kind == _ERROR:
                    waiting -= 1
                    refusals.append(-_CODE.unpack_from(content)[0])
    if any(refusals):
        code = next(filter(None, refusals))
        raise OSError(code, f"network: {os.strerror(code)}")


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of each message."""
    at = 0
    while at < len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        yield kind, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3
