"""What is done to a running emulator from outside of it: by a test, the control endpoint, a command.

Flows in: calls from any thread. Flows out: other conditions, sandboxes preempted and ended, connections closed, refused and
accepted again. ``Emulator`` and ``EmulatorThread`` are both ``Driven``; the faults and the clock have doors of their own
(``emulator.faults``, ``emulator.clock``).
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from modalflow.emulator.clock import running_loop
from modalflow.emulator.core import Core
from modalflow.emulator.grpc_server import GrpcServer
from modalflow.emulator.machines.machine import Machine
from modalflow.emulator.machines.results import told
from modalflow.emulator.state.conditions import Conditions

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


class Capacity:
    """What every workspace meets for itself, and how it changes."""

    def __init__(self, engine: Engine, do: Callable[[Callable[[], None]], None]) -> None:
        self._engine = engine
        self._do = do

    @property
    def now(self) -> Conditions:
        """The conditions in force."""
        return self._engine.core.weather.now

    def set(self, **changes: Any) -> None:
        """Change the conditions that are named (``state.conditions.Conditions``); who waits is looked at again.

        What a sandbox holds it keeps, also if there is less now. ``ConditionsError`` for a value that cannot be, ``TypeError``
        for a name that there is not. Also from the emulator's loop.
        """
        self._do(lambda: self._change(changes))

    def _change(self, changes: dict[str, Any]) -> None:
        core = self._engine.core
        core.weather.change(changes)
        core.sandboxes.scheduler.review(list(core.store.workspaces.values()))


class Driven(ABC):
    """The methods. From the emulator's own loop nothing may block: there only what is marked so may be called."""

    @property
    @abstractmethod
    def _engine(self) -> Engine:
        """The emulator that runs."""

    def _do(self, what: Callable[[], Result]) -> Result:
        """Run something short in the emulator's loop, from any thread, and return what it returns."""
        loop = self._engine.loop
        if running_loop() is loop:
            return what()

        async def done() -> Result:
            return what()

        return asyncio.run_coroutine_threadsafe(done(), loop).result(_SECONDS)

    def _await(self, what: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Run a coroutine in the emulator's loop, from another thread than that of the loop, and return what it returns."""
        loop = self._engine.loop
        if running_loop() is loop:
            raise RuntimeError("called from the emulator's own loop, which would wait for itself; call it from another thread")
        return asyncio.run_coroutine_threadsafe(what(), loop).result(_SECONDS)

    # -- capacity

    @property
    def capacity(self) -> Capacity:
        """What workspaces meet: stock, delays, limits, preemption."""
        return Capacity(self._engine, self._do)

    # -- sandboxes

    def preempt(self, sandbox_id: str, *, grace: float | None = None) -> None:
        """Preempt a sandbox as Modal does: SIGINT to its main process, the end ``grace`` seconds later (the emulator's clock).

        ``None``: the grace of the conditions. ``KeyError`` if there is no such sandbox, ``ValueError`` for a grace below 0. No
        effect on one that has ended.
        """
        seconds = self.capacity.now.preempt_grace if grace is None else grace
        if not 0 <= seconds < math.inf:
            raise ValueError(f"grace: expected seconds of at least 0, got {seconds}")
        self._do(lambda: self._engine.core.sandboxes.scheduler.preempt(self._machine(sandbox_id), seconds))

    def end(self, sandbox_id: str, status: str, *, exitcode: int | None = None, exception: str | None = None) -> None:
        """End a sandbox with any status of ``GenericResult``: ``MEMORY_MANAGER_EVICTION``, ``INTERNAL_FAILURE``, ``SUCCESS``, ...

        Its processes are killed; ``exitcode`` and ``exception`` are those that clients read, if not the usual ones. ``KeyError``
        if there is no such sandbox, ``ValueError`` for another status. No effect on one that has ended.
        """
        result = told(status, exitcode, exception)
        self._do(lambda: self._engine.core.sandboxes.sentence(self._machine(sandbox_id), result))

    def _machine(self, sandbox_id: str) -> Machine:
        for workspace in self._engine.core.store.workspaces.values():
            if sandbox_id in workspace.sandboxes:
                return self._engine.core.sandboxes.machine(workspace.sandboxes[sandbox_id])
        raise KeyError(f"there is no sandbox {sandbox_id!r}")

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
