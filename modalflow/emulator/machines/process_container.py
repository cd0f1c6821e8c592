"""Containers without rights: a process group, an empty environment, and private folders below a root.

Flows in: a ``ContainerSpec``. Flows out: processes of this machine. There is no mount namespace, so an absolute mount path is
rewritten to its place below the root wherever the processes are told about it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from modalflow.emulator.machines.containers import ContainerSpec, Isolation
from modalflow.emulator.machines.environment import HOME, PathRewriter, Toolbox
from modalflow.emulator.machines.output import Output
from modalflow.emulator.machines.private_mounts import PrivateMounts
from modalflow.emulator.machines.processes import Process, Spawner
from modalflow.emulator.machines.terminals import Terminal
from modalflow.emulator.machines.untrusted_folder import remove_tree

_log = logging.getLogger(__name__)

ISOLATION = Isolation(
    name="process",
    words=(
        "each sandbox is a process group with an empty environment and its own HOME, TMPDIR, working folder and Volume copies; "
        "it shares this machine's file system, network, users and resources, and is killed with the emulator"
    ),
)


class ProcessContainer:
    """One process group and its root."""

    def __init__(self, spec: ContainerSpec, root: Path, spawner: Spawner, toolbox: Toolbox) -> None:
        self.root = root
        self._spec = spec
        self._spawner = spawner
        self._attached = PrivateMounts(root)
        self._paths: list[str] = []
        self._links: dict[Path, Path] = {}
        self._rewriter = PathRewriter(root, [])
        self.base_env: Mapping[str, str] = {
            "PATH": toolbox.base_path,
            "HOME": str(root / HOME),
            "TMPDIR": str(root / "tmp"),
            "MODAL_EMULATOR_ROOT": str(root),
        }

    def place(self, path: str) -> Path:
        """Return the path below the root."""
        return self._rewriter.folder(path)

    @property
    def upper(self) -> None:
        """There is no overlay."""
        return

    @property
    def shown(self) -> Sequence[str]:
        """All of this machine is there."""
        return ()

    @property
    def sync_replies(self) -> Path:
        """The root."""
        return self.root

    def usage(self) -> None:
        """Nothing is counted."""
        return

    def mount_folder(self, path: str, *, read_only: bool = False) -> Path:  # noqa: ARG002 -- without a mount namespace nothing is
        """Name a mount; its folder is below the root."""
        self._name(path)
        return self.place(path)

    def bind(self, source: Path, path: str, *, read_only: bool = False) -> None:  # noqa: ARG002 -- a link cannot be
        """Show ``source`` by a link."""
        self._name(path)
        self._links[self.place(path)] = source

    def _name(self, path: str) -> None:
        self._paths.append(path)
        self._rewriter = PathRewriter(self.root, self._paths)

    def text(self, text: str) -> str:
        """Rewrite mount paths."""
        return self._rewriter.text(text)

    def inside(self, path: str) -> Path:
        """Return ``path`` if it is below the root already, else its place there."""
        here = Path(path)
        return here if here.is_relative_to(self.root) else self.place(path)

    async def open(self) -> None:
        """Make the folders and links."""
        for folder in (self.root / HOME, self.root / "tmp"):
            folder.mkdir(parents=True, exist_ok=True)
        for place, source in self._links.items():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(source.absolute(), target_is_directory=source.is_dir())

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        workdir: str | None,
        main: bool,
        output: Output,
        terminal: Terminal | None = None,
    ) -> Process:
        """Start a process of this machine."""
        cwd = self._working_folder(workdir, make=main)
        return await self._spawner.spawn(
            self._rewriter.argv(argv),
            env={**env, **terminal.env} if terminal else env,
            cwd=cwd,
            scope=self._spec.container_id,
            main=main,
            output=output,
            terminal=terminal,
            memory=self._spec.memory_mb << 20,
        )

    def _working_folder(self, workdir: str | None, *, make: bool) -> Path:
        """Return the folder below the root; where it is neither to be made nor there, this machine's, as for any other path."""
        cwd = self.place(workdir) if workdir else self.root / HOME
        if make:
            cwd.mkdir(parents=True, exist_ok=True)
        elif workdir and not cwd.is_dir() and Path(workdir).is_dir():
            return Path(workdir)
        return cwd

    async def take_layer(self, target: Path) -> None:
        """Refuse: what a process of this machine writes is nowhere apart."""
        raise OSError(f"there is no layer to put at {target}: sandboxes are process groups here")

    async def copy_layer(self, target: Path) -> None:
        """Refuse, for the same reason."""
        await self.take_layer(target)

    async def attach(self, layers: Sequence[Path], path: str, *, detached: bool) -> None:  # noqa: ARG002 -- there is no file system below
        """Copy the layers to below the root, and lead the path there from now on."""
        await asyncio.to_thread(self._attached.attach, layers, path, self.place(path))
        if path not in self._paths:
            self._name(path)

    async def detach(self, path: str) -> None:
        """Bring back what was there."""
        await asyncio.to_thread(self._attached.detach, path, self.place(path))

    async def close(self) -> None:
        """Remove the root."""
        try:
            await asyncio.to_thread(remove_tree, self.root)
        except OSError as error:
            _log.warning("%s could not be removed: %s", self.root, error)


class ProcessLauncher:
    """Makes process containers below one folder."""

    def __init__(self, folder: Path, spawner: Spawner, toolbox: Toolbox) -> None:
        self._folder = folder
        self._spawner = spawner
        self._toolbox = toolbox
        self.isolation = ISOLATION

    @property
    def above_host(self) -> Sequence[Path]:
        """None: sandboxes see this machine as it is."""
        return ()

    def container(self, spec: ContainerSpec) -> ProcessContainer:
        """Return a new container."""
        return ProcessContainer(spec, self._folder / spec.container_id, self._spawner, self._toolbox)
