"""Latency and faults, put between the socket and the handlers. Handlers know nothing of them.

Flows in: rules from a test (``add``) and the constant latency. Flows out: a delay, an error before the handler runs, or one
after it ran (the reply that got lost). ``server`` calls ``wrap`` for each request.
"""

from __future__ import annotations

import asyncio
import difflib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpclib.server
from google.protobuf.message import Message
from grpclib import GRPCError, Status
from modal_proto.api_grpc import ModalClientBase
from modal_proto.task_command_router_grpc import TaskCommandRouterBase

_METHODS = ModalClientBase.__abstractmethods__ | TaskCommandRouterBase.__abstractmethods__

Stream = grpclib.server.Stream[Any, Any]


class Handler(Protocol):
    """A method of a gRPC service."""

    async def __call__(self, stream: Stream) -> None:
        """Serve one call."""


@dataclass(slots=True)
class Fault:
    """What happens to the next ``times`` calls of ``method`` (``None``: until removed)."""

    method: str
    status: Status | None
    message: str
    details: Sequence[Message] | None
    delay: float
    times: int | None
    after_handler: bool
    hits: int = 0


class Faults:
    """The rules in force. ``add`` and ``clear`` may be called from any thread."""

    def __init__(self, latency: float) -> None:
        self._latency = latency
        self._rules: list[Fault] = []
        self._lock = threading.Lock()

    def add(
        self,
        method: str,
        *,
        status: Status | None = None,
        message: str = "fault injected",
        details: Sequence[Message] | None = None,
        delay: float = 0.0,
        times: int | None = 1,
        after_handler: bool = False,
    ) -> Fault:
        """Delay calls of ``method`` (``SandboxCreateV2``) by ``delay`` seconds, then fail them with ``status`` if one is given.

        With ``after_handler`` the handler runs first and its answer is lost. Rules of one method apply in the order they were
        added, one per call. Return the rule; its ``hits`` count. ``ValueError`` for a name that no RPC has.
        """
        if method not in _METHODS:
            near = difflib.get_close_matches(method, _METHODS, 1)
            raise ValueError(f"no RPC is called {method!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        rule = Fault(method, status, message, details, delay, times, after_handler)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Drop all rules; the latency stays."""
        with self._lock:
            self._rules.clear()

    def _take(self, method: str) -> Fault | None:
        with self._lock:
            for rule in self._rules:
                if rule.method == method and (rule.times is None or rule.hits < rule.times):
                    rule.hits += 1
                    return rule
        return None

    def wrap(self, method: str, handler: Handler) -> Handler:
        """Return ``handler`` with what is to happen to this one call around it."""
        rule = self._take(method)
        if rule is None and not self._latency:
            return handler

        async def faulty(stream: Stream) -> None:
            delay = self._latency + (rule.delay if rule else 0.0)
            if delay:
                await asyncio.sleep(delay)
            if rule is None or rule.status is None:
                await handler(stream)
                return
            error = GRPCError(rule.status, rule.message, rule.details)
            if rule.after_handler:
                await handler(_Mute(stream))  # type: ignore[arg-type]
            else:
                await stream.recv_message()
            raise error

        return faulty


class _Mute:
    """A stream whose answers go nowhere."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    async def send_message(self, message: Message) -> None:
        """Lose the answer."""

    async def send_initial_metadata(self) -> None:
        """Lose the headers too."""
