"""The seam between what a sandbox is and how it is run here: one launcher, one kind of container.

Flows in: a ``ContainerSpec``: image layers, limits. Flows out: a ``Container``: folders to put Volumes into, and processes.
Sandboxes, their sidecars and image builds are all run through it, so that whatever isolation is in force holds for each of them.
``oci_container`` and ``process_container`` (which needs no rights) are the two kinds, ``isolation`` chooses between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from modalflow.emulator.machines.cgroups import Usage
from modalflow.emulator.machines.networks import Network
from modalflow.emulator.machines.output import Output
from modalflow.emulator.machines.processes import Process
from modalflow.emulator.machines.terminals import Terminal


@dataclass(frozen=True, kw_only=True, slots=True)
class Isolation:
    """What a launcher keeps apart. ``name``: ``container`` or ``process``; ``words``: what holds and what does not."""

    name: str
    words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerSpec:
    """What is wanted of one container.

    ``container_id``: the task id of a sandbox, or whatever else names it once per emulator; its processes end with it.
    ``layers``: folders of the image's layers, the topmost first. ``milli_cpu`` and ``memory_mb``: limits, 0 for none.
    ``cpu_request``: its share when all want more, in thousandths of a CPU. ``network``: what its processes see, open before the
    container is; ``None`` is this machine's.
    """

    container_id: str
    layers: Sequence[Path] = ()
    milli_cpu: int = 0
    memory_mb: int = 0
    cpu_request: int = 0
    network: Network | None = None


class AttachError(Exception):
    """An image that cannot be mounted or unmounted there; the text is fit for the wire."""


class Container(Protocol):
    """One container. Mounts are named first, then it is opened, then processes are spawned in it, then it is closed."""

    @property
    def root(self) -> Path:
        """The folder on this machine below which the container's own files are."""
        ...

    @property
    def base_env(self) -> Mapping[str, str]:
        """Variables that depend on how it is run: PATH, HOME, TMPDIR."""
        ...

    def place(self, path: str) -> Path:
        """Return where an absolute path of the container is on this machine; it cannot leave the root, mounts not looked at."""
        ...

    def mount_folder(self, path: str, *, read_only: bool = False) -> Path:
        """Return a folder of this machine, to be filled, that the container shows at ``path``. Before ``open``.

        ``read_only`` is for the container's processes, where there is a mount namespace.
        """
        ...

    @property
    def upper(self) -> Path | None:
        """The folder of all that was written over the image (an overlay's upper folder), or ``None`` without an overlay."""
        ...

    @property
    def shown(self) -> Sequence[str]:
        """Paths of what it shows of this machine beside its own root, such as the interpreter; in no snapshot of a folder."""
        ...

    def usage(self) -> Usage | None:
        """Return what it has used so far, or ``None`` if that is not counted. Before ``close``."""
        ...

    @property
    def sync_replies(self) -> Path:
        """The folder here in which its ``sync`` waits for the answer."""
        ...

    def bind(self, source: Path, path: str, *, read_only: bool = False) -> None:
        """Show a folder or file of this machine at ``path``, live. Before ``open``. A link, where there is no mount namespace."""
        ...

    def text(self, text: str) -> str:
        """Rewrite the mount paths in an environment value to what the container's processes must use; mostly the text itself."""
        ...

    def inside(self, path: str) -> Path:
        """Return where a path that a process of the container named is on this machine, mounts included; for ``sync``."""
        ...

    async def open(self) -> None:
        """Make it ready for processes. ``OSError`` if that cannot be."""
        ...

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
        """Start a process; with ``main`` the container ends with it, and a missing ``workdir`` is made. ``None`` is HOME.

        ``terminal``: it gets one, and all its output is on stdout's stream.
        """
        ...

    async def take_layer(self, target: Path) -> None:
        """Move what was written in it to ``target``, as an overlay's upper folder. Its processes have ended; ``close`` follows.

        ``OSError`` where there is no overlay.
        """
        ...

    async def copy_layer(self, target: Path) -> None:
        """Copy what was written in it so far, as ``take_layer`` would move it, while all of its processes stand still.

        ``OSError`` where there is no overlay.
        """
        ...

    async def attach(self, layers: Sequence[Path], path: str, *, detached: bool) -> None:
        """Show layers, the topmost first, at a path while it runs, over this machine unless ``detached``; writable, and apart.

        What was shown there before by this is taken away. ``AttachError``, or ``OSError``, if that cannot be.
        """
        ...

    async def detach(self, path: str) -> None:
        """Take away what ``attach`` shows at exactly that path; what was there comes back. ``AttachError`` if that is nothing."""
        ...

    async def close(self) -> None:
        """Remove all of it. Its processes have ended. Never raises; safe to call twice, and unopened."""
        ...


class Launcher(Protocol):
    """Makes containers, all of one kind of isolation."""

    @property
    def isolation(self) -> Isolation:
        """What is in force."""
        ...

    @property
    def above_host(self) -> Sequence[Path]:
        """Layers between this machine's ``/`` and the images of its containers."""
        ...

    def container(self, spec: ContainerSpec) -> Container:
        """Return a new container, which costs nothing before ``open`` or ``mount_folder``."""
        ...
