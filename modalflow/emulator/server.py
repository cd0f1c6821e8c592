"""The emulator put together: folders, processes, servers, and what a client must be told to find it.

Flows in: an ``EmulatorConfig``. Flows out: a control plane and command router on one port, a block store on another, and the
environment that points a Modal client at them. ``thread`` runs it from synchronous code.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from google.protobuf.message import Message
from grpclib import GRPCError, Status
from grpclib.events import RecvRequest, listen

from modalflow.emulator.auth import RefusedError
from modalflow.emulator.clock import Clock
from modalflow.emulator.config import EmulatorConfig, EmulatorConfigError, url_host
from modalflow.emulator.control import VARIABLE, Control
from modalflow.emulator.core import Core
from modalflow.emulator.driving import Driven, Engine
from modalflow.emulator.faults import FaultError, Faults
from modalflow.emulator.faults.documents import read_faults
from modalflow.emulator.faults.effects import wrapped
from modalflow.emulator.faults.http_effects import fault_middleware
from modalflow.emulator.grpc_server import GrpcServer
from modalflow.emulator.interim import Interim
from modalflow.emulator.machines import container_tools, leftovers
from modalflow.emulator.machines.containers import Isolation
from modalflow.emulator.machines.network_choice import NetworkUnavailableError
from modalflow.emulator.machines.networks import NetworkIsolation
from modalflow.emulator.machines.untrusted_folder import remove_tree
from modalflow.emulator.router import CommandRouterService
from modalflow.emulator.services import ControlPlaneService
from modalflow.emulator.state.persistence import Persistence, keep_credentials, kept_credentials
from modalflow.emulator.state.state_folder import StateFolder
from modalflow.emulator.state.store import Workspace
from modalflow.emulator.wire import TASK_KEY, WORKSPACE_KEY, DetailsCodec, bare_name


class Emulator(Driven):
    """One emulator on the running loop: ``async with Emulator(config) as emulator``."""

    def __init__(self, config: EmulatorConfig | None = None) -> None:
        self.config, self.faults = _faults(config or EmulatorConfig())
        self.clock = Clock(frozen=self.config.frozen_clock)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._core: Core | None = None
        self._server: GrpcServer | None = None
        self._folder: Path | None = None
        self._claim: int | None = None
        """Held as long as the folder is ours."""
        self._state: StateFolder | None = None
        self._interim: Interim | None = None
        self._restarting = asyncio.Lock()
        self._block_port = 0
        """The same after a restart, so that an upload in the middle of it goes on."""
        self._control: Control | None = None

    @property
    def core(self) -> Core:
        """State and behaviour, while it runs."""
        if self._core is None:
            raise RuntimeError("the emulator is not running; use it as a context manager")
        return self._core

    @property
    def grpc_server(self) -> GrpcServer:
        """The gRPC server, while it runs."""
        if self._server is None:
            raise RuntimeError("the emulator is not running; use it as a context manager")
        return self._server

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop it was started in."""
        if self._loop is None:
            raise RuntimeError("the emulator is not running; use it as a context manager")
        return self._loop

    @property
    def _engine(self) -> Engine:
        return self

    async def start(self) -> None:
        """Start. ``OSError`` if the port is taken, ``EmulatorConfigError`` if the configuration cannot be used."""
        if sys.platform != "linux":
            raise EmulatorConfigError(f"the emulator needs Linux (process sub-reaping, memory files); this is {sys.platform}")
        self._loop = asyncio.get_running_loop()
        await self._begin()
        if self.config.control:
            self._control = Control(self)
            await self._control.start()

    async def _begin(self, again: Path | None = None) -> None:
        """Start what a restart starts anew. ``again``: the folder to make, which clients know from before."""
        parent = Path(tempfile.gettempdir())
        await asyncio.to_thread(leftovers.sweep, parent)
        if again is None:
            self._folder = Path(tempfile.mkdtemp(prefix=leftovers.PREFIX, dir=parent))
        else:
            await asyncio.to_thread(again.mkdir, 0o700)
            self._folder = again
        self._claim = leftovers.claim(self._folder)
        if os.geteuid() == 0:
            # A sandbox starts as root and may go on as another user, who has to reach what is below; the names are random.
            self._folder.chmod(0o711)
        try:
            await self._start(self._folder)
        except BaseException:
            await self.stop()
            raise

    async def _start(self, folder: Path) -> None:
        if self.config.state_dir is not None:
            self._state = StateFolder(self.config.state_dir)
            self._state.open()
            if self.config.token_id is None and (kept := kept_credentials(self._state)):
                self.config = replace(self.config, token_id=kept[0], token_secret=kept[1])
        core = self._core = Core(self.config, folder, self.clock)
        (folder / "sandboxes").mkdir(0o711)
        if self._state is not None:
            self._recall(core, self._state)
        container_tools.install(folder / "tools")
        await core.spawner.start(folder, wrapper=core.choice.wrapper, group=core.choice.group)
        try:
            await core.networks.start()
        except NetworkUnavailableError as error:
            raise EmulatorConfigError(str(error)) from error
        await core.ingress.start()
        await core.block_store.start(fault_middleware(self.faults), port=self._block_port)
        self._block_port = core.block_store.port
        server = GrpcServer([ControlPlaneService(core), CommandRouterService(core)], status_details_codec=DetailsCodec())
        listen(server, RecvRequest, self._admit)
        # SO_REUSEADDR (the default of asyncio on Linux): a restart may take the port while old connections linger.
        await server.start(self.config.host, self.config.port)
        self._server = server
        core.port = server.port

    def _recall(self, core: Core, state: StateFolder) -> None:
        """Bring back what an earlier emulator kept, and keep what changes from now on."""
        persistence = Persistence(state, core.store)
        persistence.load()
        core.blobs.collect(persistence.digests())
        core.layers.prune(
            layer for one in core.store.workspaces.values() for image in one.images.values() for layer in image.layers
        )
        core.persistence = persistence
        for workspace in core.store.workspaces.values():
            core.sandboxes.recall(workspace)
            core.app_lives.recall(workspace)
        if self.config.token_id is None:
            keep_credentials(state, core.authority.token_id, core.authority.token_secret)

    async def restart(self, *, keep_state: bool = True) -> None:
        """Stop and start again, on the same port, with the same token, faults, clock and capacity; sandboxes end.

        Without ``keep_state`` it comes back empty; a state folder that it had is left alone and no longer used. Raises what
        ``start`` raises, and is stopped then. One that is asked for meanwhile comes after it.
        """
        async with self._restarting:
            await self._restart(keep_state=keep_state)

    async def _restart(self, *, keep_state: bool) -> None:
        core = self.core
        authority, recorder = core.authority, core.recorder
        self.config = replace(
            self.config,
            port=core.port,
            token_id=authority.token_id,
            token_secret=authority.token_secret,
            gpus=None,
            conditions=core.weather.now,
            state_dir=self.config.state_dir if keep_state else None,
        )
        await self._end_sandboxes()
        if keep_state and self._state is None:
            self._interim = Interim(core.folder.parent)
            self.config = replace(self.config, state_dir=self._interim.keep(core.store, core.folder))
        await self._halt()
        await self._remove()
        if not keep_state:
            await self._drop_interim()
        await self._begin(core.folder)
        self.core.recorder.calls.extend(recorder.calls)

    async def stop(self) -> None:
        """Stop: sandboxes are terminated and committed, processes killed, the temporary folder removed."""
        if self._control is not None:
            await self._control.stop()
            self._control = None
        await self._end_sandboxes()
        await self._halt()
        await self._remove()
        await self._drop_interim()

    async def _end_sandboxes(self) -> None:
        """Answer nobody any more, end and commit whatever runs; the state is what it will be."""
        core, server = self._core, self._server
        self._server = None
        if server is not None:
            await server.abort()
        if core is not None:
            await core.app_lives.close()
            await core.builds.stop()
            await core.sandboxes.stop()

    async def _halt(self) -> None:
        """End the rest. The spawner removes the temporary folder as it goes."""
        core = self._core
        if core is not None:
            await core.ingress.stop()
            await core.networks.stop()
            await core.spawner.stop()
            await core.block_store.stop()

    async def _drop_interim(self) -> None:
        if self._interim is not None:
            await asyncio.to_thread(self._interim.remove)
            self._interim = None

    async def _remove(self) -> None:
        """Let go of the state, remove the folder."""
        folder = self._folder
        if self._state is not None:
            self._state.close()
            self._state = None
        self._core = None
        if folder is not None:
            await asyncio.to_thread(remove_tree, folder)
        self._folder = None
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    # -- the seam in front of the handlers

    async def _admit(self, event: RecvRequest) -> None:
        """Let a call in: who is it, and does a fault await it."""
        metadata: Any = event.metadata
        router = event.method_name.startswith("/modal.task_command_router.")
        authority = self.core.authority
        task_id = ""
        try:
            if router:
                access = authority.bearer(metadata)
                workspace, task_id = access.workspace, access.task_id
            else:
                workspace = authority.workspace_of(metadata)
        except RefusedError as error:
            raise GRPCError(Status.UNAUTHENTICATED, str(error)) from error
        if not router and "x-modal-client-version" not in metadata:
            raise GRPCError(Status.FAILED_PRECONDITION, "x-modal-client-version is missing")
        metadata.popall(WORKSPACE_KEY, None)
        metadata.popall(TASK_KEY, None)
        metadata[WORKSPACE_KEY] = workspace
        metadata[TASK_KEY] = task_id
        name = bare_name(event.method_name)
        note = partial(self.core.recorder.note, workspace=workspace)
        event.method_func = wrapped(self.faults, name, workspace, event.method_func, note)

    # -- for those who use it

    @property
    def port(self) -> int:
        """Port of the control plane."""
        return self.core.port

    @property
    def url(self) -> str:
        """``MODAL_SERVER_URL``."""
        return f"http://{url_host(self.config.host)}:{self.port}"

    @property
    def workspace(self) -> Workspace:
        """The workspace of the emulator's own token: the state as it is now, for tests to look at."""
        return self.core.store.workspace(self.core.authority.token_id)

    @property
    def network(self) -> NetworkIsolation:
        """What is in force for the networks of sandboxes."""
        return self.core.networks.isolation

    @property
    def isolation(self) -> Isolation:
        """What is in force for sandboxes."""
        return self.core.launcher.isolation

    def bucket(self, name: str) -> Path:
        """Return the folder that plays a cloud bucket, to be filled or looked at."""
        return self.core.buckets.folder(name, self.core.authority.token_id)

    def calls(self, method: str, workspace: str | None = None) -> list[Message]:
        """Requests of that RPC so far, as they were on the wire, if ``record_calls`` is set; of one workspace, or of all."""
        return self.core.recorder.requests(method, workspace)

    def environment(self) -> dict[str, str]:
        """Return the variables that point a Modal client here."""
        no_proxy = [part for part in os.environ.get("NO_PROXY", "").split(",") if part]
        hosts = ",".join(dict.fromkeys([*no_proxy, "127.0.0.1", "localhost", self.config.host, self.core.networks.host]))
        return {
            "MODAL_SERVER_URL": self.url,
            "MODAL_TOKEN_ID": self.core.authority.token_id,
            "MODAL_TOKEN_SECRET": self.core.authority.token_secret,
            # A file that does not exist: the user's own profile must not mix in.
            "MODAL_CONFIG_PATH": str(self.core.folder / "no-modal.toml"),
            "NO_PROXY": hosts,
            "no_proxy": hosts,
            **self.core.ingress.trust(),
            **({VARIABLE: self._control.address} if self._control is not None else {}),
        }


def _faults(config: EmulatorConfig) -> tuple[EmulatorConfig, Faults]:
    """Return the faults in force from the start, and the configuration with what their file says of the capacity."""
    if config.faults is None:
        return config, Faults(config.latency)
    try:
        document = read_faults(config.faults)
    except FaultError as error:
        raise EmulatorConfigError(str(error)) from error
    conditions = replace(config.conditions_at_start(), **document.capacity)
    return replace(config, gpus=None, conditions=conditions), document.faults_in_force(config.latency)
