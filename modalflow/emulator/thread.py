"""The emulator from synchronous code: a loop of its own in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from google.protobuf.message import Message

from modalflow.emulator.clock import Clock
from modalflow.emulator.config import EmulatorConfig
from modalflow.emulator.driving import Engine
from modalflow.emulator.faults import Faults
from modalflow.emulator.machines.containers import Isolation
from modalflow.emulator.machines.networks import NetworkIsolation
from modalflow.emulator.server import Emulator
from modalflow.emulator.state.store import Workspace
from modalflow.emulator.tenants import Tenanted

_START_SECONDS = 30.0


class EmulatorThread(Tenanted):
    """``with EmulatorThread(config) as emulator:`` offers what ``Emulator`` does; stopping waits until all is cleaned up."""

    def __init__(self, config: EmulatorConfig | None = None) -> None:
        self._emulator = Emulator(config)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="modal-emulator", daemon=True)
        self._started = threading.Event()
        self._stopping = asyncio.Event()
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Start, and return when it serves. Raises what ``Emulator.start`` raises."""
        self._thread.start()
        if not self._started.wait(_START_SECONDS):
            raise TimeoutError(f"the emulator did not start within {_START_SECONDS:.0f} s")
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self) -> None:
        """Stop, and return when nothing of it is left. No effect if it is stopped."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def restart(self, *, keep_state: bool = True) -> None:
        """Stop and start again on the same port with the same token, and return when it serves; see ``Emulator.restart``."""
        asyncio.run_coroutine_threadsafe(self._emulator.restart(keep_state=keep_state), self._loop).result(_START_SECONDS)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._main())
        finally:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    async def _main(self) -> None:
        try:
            await self._emulator.start()
        except BaseException as error:  # handed to the thread that waits for the start
            self._failure = error
            return
        finally:
            self._started.set()
        await self._stopping.wait()
        await self._emulator.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    # -- the same as Emulator's

    @property
    def _engine(self) -> Engine:
        return self._emulator

    @property
    def faults(self) -> Faults:
        """Latency and faults; safe to use from here."""
        return self._emulator.faults

    @property
    def clock(self) -> Clock:
        """The emulator's time; safe to drive from here."""
        return self._emulator.clock

    @property
    def port(self) -> int:
        """Port of the control plane."""
        return self._emulator.port

    @property
    def url(self) -> str:
        """``MODAL_SERVER_URL``."""
        return self._emulator.url

    @property
    def workspace(self) -> Workspace:
        """State of the emulator's own token. It belongs to the emulator's thread: look, do not touch."""
        return self._emulator.workspace

    @property
    def isolation(self) -> Isolation:
        """What is in force for sandboxes."""
        return self._emulator.isolation

    @property
    def network(self) -> NetworkIsolation:
        """What is in force for the networks of sandboxes."""
        return self._emulator.network

    def bucket(self, name: str) -> Path:
        """Return the folder that plays a cloud bucket, to be filled or looked at."""
        return self._emulator.bucket(name)

    def calls(self, method: str, workspace: str | None = None) -> list[Message]:
        """Requests of that RPC so far, if ``record_calls`` is set; of one workspace (by token id), or of all."""
        return self._emulator.calls(method, workspace)

    def environment(self) -> dict[str, str]:
        """Return the variables that point a Modal client here."""
        return self._emulator.environment()
