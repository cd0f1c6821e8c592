"""What the services of one emulator share: its state, its machines and its authority, composed.

Flows in: an ``EmulatorConfig`` and a folder. Flows out: ``Core``, which every service holds. ``server`` starts and stops it.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from google.protobuf.message import Message

from modalflow.emulator.auth import Authority
from modalflow.emulator.block_store import BlockStore
from modalflow.emulator.clock import Clock
from modalflow.emulator.config import EmulatorConfig, EmulatorConfigError, parse_network_range, url_host
from modalflow.emulator.machines import sync_requests
from modalflow.emulator.machines.app_lives import AppLives
from modalflow.emulator.machines.arrivals import Arrivals
from modalflow.emulator.machines.buckets import Buckets
from modalflow.emulator.machines.containers import Launcher
from modalflow.emulator.machines.environment import environment_bin
from modalflow.emulator.machines.execs import Execs
from modalflow.emulator.machines.furnishing import Furnisher
from modalflow.emulator.machines.image_builds import ImageBuilds
from modalflow.emulator.machines.ingress import Ingress
from modalflow.emulator.machines.isolation import Choice, IsolationError, Setting, choose
from modalflow.emulator.machines.layer_store import LayerStore
from modalflow.emulator.machines.mounted_files import MountedFiles
from modalflow.emulator.machines.network_choice import ChosenNetworks
from modalflow.emulator.machines.networks import Networks
from modalflow.emulator.machines.output import EndedOutputs
from modalflow.emulator.machines.processes import Spawner
from modalflow.emulator.machines.sandboxes import Sandboxes
from modalflow.emulator.machines.sidecars import Sidecars
from modalflow.emulator.machines.snapshots import Snapshots
from modalflow.emulator.state.blobs import BlobStore
from modalflow.emulator.state.conditions import Weather
from modalflow.emulator.state.persistence import Persistence
from modalflow.emulator.state.store import Store, Workspace
from modalflow.emulator.wire import Recorder


class Core:
    """What the services share: state, behaviour and authority of one emulator."""

    def __init__(self, config: EmulatorConfig, folder: Path, clock: Clock) -> None:
        self.config = config
        self.clock = clock
        self.folder = folder
        self.weather = Weather(config.conditions_at_start())
        self.store = Store(self.weather, clock)
        self.authority = Authority(config)
        self.arrivals = Arrivals()
        self.recorder = Recorder(config.record_calls)
        self.pending_creates: dict[tuple[str, str], asyncio.Future[Message]] = {}
        self.blobs = BlobStore((config.state_dir or folder) / "blobs", durable=config.state_dir is not None)
        self.block_store = BlockStore(config.host, self.authority, self.blobs, clock)
        self.buckets = Buckets((config.state_dir or folder) / "buckets", config.buckets, self.authority.token_id)
        self.spawner = Spawner()
        sync_requests.install(folder / "bin")
        self.choice = _choice(config, folder, folder / "bin", self.spawner)
        self.toolbox, self.launcher = self.choice.toolbox, self.choice.launcher
        self.layers = LayerStore((config.state_dir or folder) / "layers")
        self.mounted = MountedFiles(self.layers, self.blobs, self.launcher.above_host)
        self.networks: Networks = ChosenNetworks(
            config.network,
            parse_network_range(config.network_range),
            folder,
            config.host,
            containers=self.launcher.isolation.name == "container",
        )
        self.ingress = Ingress(self.networks, folder / "certificates", self.authority.signature, config.host)
        self.builds = ImageBuilds(
            launcher=self.launcher,
            networks=self.networks,
            store=self.layers,
            toolbox=self.toolbox,
            blobs=self.blobs,
            runs=_builds_run(config, self.launcher),
            changed=self.state_changed,
        )
        furnisher = Furnisher(
            blobs=self.blobs,
            toolbox=self.toolbox,
            buckets=self.buckets,
            ingress=self.ingress,
            tools=folder / "tools",
            changed=self.state_changed,
            layers=self.layers,
            mounted=self.mounted,
            copies_layers=self.launcher.isolation.name == "process",
        )
        outputs = EndedOutputs()
        self.execs = Execs(clock, outputs)
        self.sandboxes = Sandboxes(
            launcher=self.launcher,
            networks=self.networks,
            ingress=self.ingress,
            furnisher=furnisher,
            execs=self.execs,
            sign=self.authority.signature,
            clock=clock,
            changed=self.state_changed,
            weather=self.weather,
            outputs=outputs,
        )
        self.sidecars = Sidecars(launcher=self.launcher, furnisher=furnisher, sign=self.authority.signature, outputs=outputs)
        self.snapshots = Snapshots(layers=self.layers, folder=folder / "snapshots", clock=clock, changed=self.state_changed)
        self.app_lives = AppLives(clock=clock, sandboxes=self.sandboxes, changed=self.state_changed)
        self.port = 0
        self.persistence: Persistence | None = None
        """Set by ``server`` once the state is read back, if it is kept at all."""

    def router_url(self, *, javascript: bool) -> str:
        """Return the command router's address. The JavaScript client wants ``https`` and then dials loopback in clear text."""
        return f"{'https' if javascript else 'http'}://{url_host(self.config.host)}:{self.port}"

    def app_url(self, app_id: str) -> str:
        """Return the address that stands where Modal's would be an App's page; it says what to do instead."""
        return self.block_store.app_url(app_id)

    def state_changed(self, workspace: Workspace, *records: object) -> None:
        """Write what was made, changed or removed, if the state is kept at all; everything of the workspace if none is named.

        Call it before the client hears of the change. ``StateError`` if it cannot be written.
        """
        if self.persistence is not None:
            self.persistence.keep(workspace, *records)


def _builds_run(config: EmulatorConfig, launcher: Launcher) -> bool:
    """Whether RUN takes effect in image builds. ``EmulatorConfigError`` if it should and cannot."""
    contained = launcher.isolation.name == "container"
    if config.image_builds == "run" and not contained:
        raise EmulatorConfigError(
            "image_builds: 'run' needs containers, and sandboxes are process groups here, so that RUN would change this machine; "
            "write 'auto' or 'record', or see what keeps containers from this machine"
        )
    return config.image_builds != "record" and contained


def _choice(config: EmulatorConfig, folder: Path, tools: Path, spawner: Spawner) -> Choice:
    """Return the launcher that was asked for, or that this machine allows."""
    setting = Setting(
        folder=folder,
        tools=tools,
        interpreter_bin=_python_bin(config, tools),
        hidden=[config.state_dir] if config.state_dir else [],
    )
    try:
        return choose(config.isolation, setting, spawner)
    except IsolationError as error:
        raise EmulatorConfigError(str(error)) from error


def _python_bin(config: EmulatorConfig, tools: Path) -> Path:
    """Return the folder that plays the image's ``bin``. A ``python3`` without a ``python`` gets one beside ``sync``."""
    try:
        folder = environment_bin(config.python or Path(sys.executable))
    except FileNotFoundError as error:
        raise EmulatorConfigError(str(error)) from error
    if not (folder / "python").exists():
        tools.mkdir(exist_ok=True)
        shim = tools / "python"
        shim.write_text(f'#!/bin/sh\nexec "{folder}/python3" "$@"\n')
        shim.chmod(0o755)
    return folder
