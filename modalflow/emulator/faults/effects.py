"""Faults of gRPC calls, done: the request is read, a rule is asked for, the handler runs or does not.

Flows in: the handler of one call and its stream. Flows out: a handler with what is to happen around it. ``server`` wraps each
call as it comes in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import grpclib.server
from google.protobuf.message import Message
from grpclib import GRPCError, Status

from modalflow.emulator.faults.board import Faults
from modalflow.emulator.faults.rules import Cut, Fault

Stream = grpclib.server.Stream[Any, Any]
Note = Callable[[str, Message], None]


class Handler(Protocol):
    """A method of a gRPC service."""

    async def __call__(self, stream: Stream) -> None:
        """Serve one call."""


def wrapped(faults: Faults, method: str, workspace: str, handler: Handler, note: Note) -> Handler:
    """Return ``handler`` with what is to happen to this one call around it. ``note`` is told of requests it never sees."""
    if faults.idle:
        return handler

    async def faulty(stream: Stream) -> None:
        request = await stream.recv_message()
        await faults.pass_frozen()
        rule = faults.take(method, workspace, request)
        delay = faults.latency(method) + (rule.seconds() if rule else 0.0)
        if delay:
            await asyncio.sleep(delay)
        tapped = _Tapped(stream, request)
        if rule is None or (rule.status is None and rule.cut is None):
            await handler(tapped)  # type: ignore[arg-type]
            return
        if rule.after_messages is not None or rule.after_seconds is not None:
            if not await _runs_until(rule, handler, tapped):
                return
        elif rule.after_handler:
            tapped.mute = True
            await handler(tapped)  # type: ignore[arg-type]
        elif request is not None:
            note(method, request)
        await _fail(stream, rule)

    return faulty


async def _fail(stream: Stream, rule: Fault) -> None:
    if isinstance(rule.status, Status):
        raise GRPCError(rule.status, rule.message, rule.details)
    await cut(stream, rule.cut)


async def _runs_until(rule: Fault, handler: Handler, tapped: _Tapped) -> bool:
    """Run the handler as far as the rule lets it; whether it was stopped."""
    tapped.left = rule.after_messages
    if tapped.left == 0:
        return True
    try:
        async with asyncio.timeout(rule.after_seconds) as limit:
            await handler(tapped)  # type: ignore[arg-type]
    except _EnoughError:
        return True
    except TimeoutError:
        if limit.expired():
            return True
        raise
    return False


async def cut(stream: Stream, how: Cut | None) -> None:
    """Reset the stream, or close its connection; in both cases the client gets no status."""
    if how == "connection":
        stream._stream._transport.abort()
    else:
        await stream.cancel()


class _EnoughError(Exception):
    """The stream has sent as many messages as it may."""


class _Tapped:
    """A stream whose first message was read already, and whose answers may be lost or counted."""

    def __init__(self, stream: Stream, first: Message | None) -> None:
        self._stream = stream
        self._first = first
        self._fresh = True
        self.mute = False
        self.left: int | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    async def recv_message(self) -> Message | None:
        """Return the next message, the one that was read already first."""
        if self._fresh:
            self._fresh = False
            return self._first
        message: Message | None = await self._stream.recv_message()
        return message

    async def __aiter__(self) -> AsyncIterator[Message]:
        while (message := await self.recv_message()) is not None:
            yield message

    async def send_message(self, message: Message) -> None:
        """Pass the answer on, unless it is to be lost."""
        if self.mute:
            return
        await self._stream.send_message(message)
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise _EnoughError

    async def send_initial_metadata(self) -> None:
        """Pass the headers on, unless they are to be lost."""
        if not self.mute:
            await self._stream.send_initial_metadata()
