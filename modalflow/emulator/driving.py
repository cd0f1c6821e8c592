"""What is done to a running emulator from outside of it: by a test, the control endpoint, a command.

Flows in: calls from any thread. Flows out: connections closed, refused and accepted again. ``Emulator`` and ``EmulatorThread``
are both ``Driven``; the faults and the clock have doors of their own (``emulator.faults``, ``emulator.clock``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from modalflow.emulator.core import Core
from modalflow.emulator.grpc_server import GrpcServer

Result = TypeVar("Result")

_SECONDS = 30.0
"""Within which the emulator's loop must do what another thread asks of it."""


class Engine(Protocol):
    """What of an emulator is driven."""

    @property
    def core(self) -> Core:
        """State and behaviour."""
        ...

    @property
    def grpc_server(self) -> GrpcServer:
        """The gRPC server."""
        ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop all of it lives in."""
        ...


class Driven:
    """The methods. From the emulator's own loop nothing may block: there only what is marked so may be called."""

    @property
    def _engine(self) -> Engine:
        raise NotImplementedError

    def _do(self, what: Callable[[], Result]) -> Result:
        """Run something short in the emulator's loop, from any thread, and return what it returns."""
        loop = self._engine.loop
        if _running_loop() is loop:
            return what()

        async def done() -> Result:
            return what()

        return asyncio.run_coroutine_threadsafe(done(), loop).result(_SECONDS)

    def _await(self, what: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Run a coroutine in the emulator's loop, from another thread than that of the loop, and return what it returns."""
        loop = self._engine.loop
        if _running_loop() is loop:
            raise RuntimeError("called from the emulator's own loop, which would wait for itself; call it from another thread")
        return asyncio.run_coroutine_threadsafe(what(), loop).result(_SECONDS)

    # -- connections

    def disconnect(self) -> None:
        """Close every connection of a client now; it may connect again at once. Also from the emulator's loop."""
        self._do(self._engine.grpc_server.disconnect)

    def refuse_connections(self) -> None:
        """Close every connection and accept none until ``accept_connections``: to a client the emulator is not there."""
        self._await(self._engine.grpc_server.refuse)

    def accept_connections(self) -> None:
        """Listen again, on the same port. ``OSError`` if somebody else has taken it meanwhile."""
        self._await(self._engine.grpc_server.accept)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
