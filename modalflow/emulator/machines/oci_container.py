"""One container by an OCI runtime: an overlay of this machine's file system, namespaces, control groups.

Flows in: a ``ContainerSpec`` and the ``Site``: what all containers of one emulator share. Flows out: orders to the spawner, whose
processes are then in the container. What was written is the overlay's upper folder, which is also the snapshot and the image's
next layer. The overlay is mounted in a namespace of the starting runtime only, so it goes with the container's last process.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from modalflow.emulator.machines import cgroups, covers, oci_config
from modalflow.emulator.machines.cgroups import Usage
from modalflow.emulator.machines.containers import AttachError, ContainerSpec
from modalflow.emulator.machines.covers import Cover
from modalflow.emulator.machines.oci_config import HOME, PRIVATE, Bind
from modalflow.emulator.machines.oci_mounts import OciMounts
from modalflow.emulator.machines.output import Output
from modalflow.emulator.machines.processes import Bundle, Exit, Process, Spawner
from modalflow.emulator.machines.terminals import ConsoleSocket, Terminal
from modalflow.emulator.machines.untrusted_folder import remove_tree

_log = logging.getLogger(__name__)

OVERLAY_OPTIONS = "redirect_dir=off,metacopy=off,index=off"
"""Upper folders must stand for themselves: they become layers elsewhere."""
KILLED = 137

_START = f"""\
cd -- "$1" || exit 1
mount -t overlay overlay -o "lowerdir=$2,upperdir=upper,workdir=work,{OVERLAY_OPTIONS}" rootfs 2>"$0/mount" || exit 1
bundle=$0; shift 2
while [ "$1" != -- ]; do
  (cd -- "$1" && exec mount -t overlay overlay -o "lowerdir=$2,upperdir=upper,workdir=work,{OVERLAY_OPTIONS}" "../rootfs$3" \\
    2>"$bundle/mount") || exit 1
  shift 3
done
shift; cd -- "$bundle" && exec runc "$@"
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """What the containers of one emulator share.

    ``folder``: the emulator's; ``bottom``: the layers that show this machine, topmost first; ``binds`` and ``covers``: in every
    container; ``group``: the control group above all of them; ``path``: PATH unless the image sets one; ``swap``: it can be
    limited; ``seccomp``: the system calls that are refused, if the runtime can filter.
    """

    folder: Path
    bottom: Sequence[Path]
    binds: Sequence[Bind]
    covers: Sequence[Cover]
    group: str
    path: str
    swap: bool
    seccomp: Mapping[str, object] | None
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def state(self) -> Path:
        """Where the runtime keeps what it knows."""
        return self.folder / "runc"

    def bundle(self) -> Path:
        """Return a name for a new bundle; it lies in the spawner's memory."""
        return self.folder / "private" / str(next(self.numbers))


class OciContainer:
    """One container."""

    def __init__(self, spec: ContainerSpec, site: Site, spawner: Spawner) -> None:
        self.root = site.folder / "containers" / spec.container_id
        self.base_env: Mapping[str, str] = {"PATH": site.path, "HOME": HOME}
        self._spec = spec
        self._site = site
        self._spawner = spawner
        self._binds: list[Bind] = []
        self._group = f"{site.group}/{spec.container_id}"
        self._main: Process | None = None
        self._mounts = OciMounts(self.root / "attached", spec.container_id, spawner)

    # -- paths

    @property
    def upper(self) -> Path:
        """The folder of all that was written."""
        return self.root / "upper"

    @property
    def shown(self) -> Sequence[str]:
        """The covers and binds that all containers have."""
        return [*(cover.path for cover in self._site.covers), *(bind.path for bind in self._site.binds)]

    @property
    def sync_replies(self) -> Path:
        """The folder that the container sees as ``/__modal/sync``."""
        return self.root / "sync"

    def place(self, path: str) -> Path:
        """Return the path in the upper folder."""
        return self.upper / _relative(path)

    def mount_folder(self, path: str, *, read_only: bool = False) -> Path:
        """Return a folder beside the overlay, bound into the container."""
        folder = self.root / "mounts" / _relative(path)
        self.bind(folder, path, read_only=read_only)
        return folder

    def bind(self, source: Path, path: str, *, read_only: bool = False) -> None:
        """Have a bind mount."""
        self._binds.append(Bind(source=source.absolute(), path=f"/{_relative(path)}", read_only=read_only))

    def text(self, text: str) -> str:
        """Paths are what they are."""
        return text

    def inside(self, path: str) -> Path:
        """Return the path below the innermost mount that it is in, or in the upper folder."""
        path = f"/{_relative(path)}"
        for one in sorted(self._binds, key=lambda one: len(one.path), reverse=True):
            if path == one.path or path.startswith(f"{one.path.rstrip('/')}/"):
                return one.source / path[len(one.path) :].lstrip("/")
        return self.place(path)

    # -- its life

    async def open(self) -> None:
        """Make the folders of the overlay."""
        await asyncio.to_thread(self.prepare)

    def prepare(self) -> None:
        """Do so; blocking."""
        for folder in (self.upper, self.root / "work", self.root / "rootfs", self.sync_replies):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)
        # Names that are short, of which many fit into the options of a mount: one page.
        for number, layer in enumerate((*self._spec.layers, *self._site.bottom)):
            (self.root / f"l{number}").symlink_to(layer)
        covers.prepare(self.root, self._site.covers, self._spec.layers)
        for one in self._binds:
            if one.source.is_relative_to(self.root):
                one.source.mkdir(parents=True, exist_ok=True)
        name = self._spec.container_id
        (self.root / "hosts").write_text(f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{name}\n")

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
        """Start the container with its main process, or a further process once that one runs."""
        env = {**env, **terminal.env} if terminal else env
        if main:
            wanted = self.config(self.main_process(argv, env=env, workdir=workdir, terminal=terminal))
            process = await self._ask(["run"], {"config.json": wanted}, main=True, output=output, terminal=terminal)
            process.verdict = self._verdict
            return process
        if self._main is None:
            raise OSError(f"nothing can be run in container {self._spec.container_id} before its main process")
        await self._main.started.wait()
        wanted = oci_config.process(argv, env=env, cwd=_absolute(workdir), terminal=_size(terminal))
        files = {"process.json": wanted}
        return await self._ask(["exec", "--process", "process.json"], files, main=False, output=output, terminal=terminal)

    def main_process(
        self, argv: Sequence[str], *, env: Mapping[str, str], workdir: str | None, terminal: Terminal | None = None
    ) -> dict[str, object]:
        """Return the description of process 1, which runs ``argv``."""
        return oci_config.process(oci_config.init_argv(argv, _absolute(workdir)), env=env, cwd="/", terminal=_size(terminal))

    def config(self, main: Mapping[str, object]) -> dict[str, object]:
        """Return the container's ``config.json``."""
        spec = self._spec
        return oci_config.config(
            main=main,
            hostname=spec.container_id,
            rootfs=self.root / "rootfs",
            binds=[
                *self._site.binds,
                Bind(source=self.root / "hosts", path="/etc/hosts"),
                *self._resolv_conf(),
                Bind(source=self.sync_replies, path=f"{PRIVATE}/sync"),
                *self._binds,
            ],
            cgroup=self._group,
            seccomp=self._site.seccomp,
            resources=oci_config.resources(
                milli_cpu=spec.milli_cpu, cpu_request=spec.cpu_request, memory_mb=spec.memory_mb, swap=self._site.swap
            ),
        )

    def _resolv_conf(self) -> list[Bind]:
        source = self._spec.network.resolv_conf if self._spec.network is not None else None
        return [Bind(source=source, path="/etc/resolv.conf", read_only=True)] if source is not None else []

    def argv(self, bundle: Path, command: Sequence[str], *, mounting: bool) -> list[str]:
        """Return the argv of the runtime; ``mounting`` mounts the overlay first, for the runtime and its container alone."""
        runc = ["--root", str(self._site.state), "--log", f"{bundle}/log", "--log-format", "json", *command]
        if not mounting:
            return ["runc", *runc, self._spec.container_id]
        count = len(self._spec.layers) + len(self._site.bottom)
        lower = ":".join(f"l{number}" for number in range(count))
        mounts = covers.mount_arguments(self.root, self._site.covers)
        arguments = [str(bundle), str(self.root), lower, *mounts, "--", *runc, self._spec.container_id]
        return ["unshare", "--mount", "--", "sh", "-c", _START, *arguments]

    async def _ask(
        self, command: Sequence[str], files: Mapping[str, object], *, main: bool, output: Output, terminal: Terminal | None
    ) -> Process:
        bundle = self._site.bundle()
        command = [*command, "--detach", "--pid-file", f"{bundle}/pid"]
        if terminal is None:
            return await self._order(bundle, command, files, main=main, output=output, terminal=None)
        path = self._site.folder / f"console-{bundle.name}"
        with ConsoleSocket(path) as console:
            command += ["--console-socket", str(path)]
            process = await self._order(bundle, command, files, main=main, output=output, terminal=terminal)
            await self._spawner.adopt(process, console)
        return process

    async def _order(
        self,
        bundle: Path,
        command: Sequence[str],
        files: Mapping[str, object],
        *,
        main: bool,
        output: Output,
        terminal: Terminal | None,
    ) -> Process:
        network = self._spec.network.namespace if main and self._spec.network is not None else None
        process = await self._spawner.spawn(
            self.argv(bundle, command, mounting=main),
            env={"PATH": os.defpath + ":/usr/sbin:/sbin:/usr/local/bin:/usr/local/sbin"},
            cwd=bundle,
            scope=self._spec.container_id,
            main=main,
            output=output,
            bundle=Bundle(folder=bundle, files=files, network=network),
            terminal=terminal,
        )
        if main:
            self._main = process
        return process

    def _verdict(self, end: Exit) -> Exit:
        if end.code == KILLED and cgroups.out_of_memory_kills(self._group):
            return replace(end, out_of_memory=True)
        return end

    def usage(self) -> Usage:
        """Return what its control group counts."""
        return cgroups.usage(self._group)

    async def take_layer(self, target: Path) -> None:
        """Move the upper folder away."""
        await asyncio.to_thread(self._take, target)

    async def copy_layer(self, target: Path) -> None:
        """Copy it while the container stands still."""
        await self._started().started.wait()
        await asyncio.to_thread(self._copy, target)

    def _copy(self, target: Path) -> None:
        with cgroups.frozen(self._group):  # or it could lead the copy astray by links
            covers.copy(self.upper, target)
            covers.take(self.root, self._site.covers, target, copied=True)

    def _take(self, target: Path) -> None:
        covers.move(self.upper, target)
        covers.take(self.root, self._site.covers, target)

    async def attach(self, layers: Sequence[Path], path: str, *, detached: bool) -> None:
        """Mount an overlay."""
        await self._mounts.attach(self._started(), (*layers, *(() if detached else self._site.bottom)), path)

    async def detach(self, path: str) -> None:
        """Unmount it."""
        await self._mounts.detach(self._started(), path)

    def _started(self) -> Process:
        if self._main is None:
            raise AttachError(f"container {self._spec.container_id} does not run yet")
        return self._main

    async def close(self) -> None:
        """Remove folders, the runtime's knowledge and the control group."""
        await asyncio.to_thread(self.remove)

    def remove(self) -> None:
        """Do so; blocking."""
        for folder in (self.root, self._site.state / self._spec.container_id):
            try:
                remove_tree(folder)
            except FileNotFoundError:  # all of the emulator's folder is gone
                continue
            except OSError as error:
                _log.warning("%s could not be removed: %s", folder, error)
        cgroups.remove(self._group)


def _size(terminal: Terminal | None) -> tuple[int, int] | None:
    return (terminal.rows, terminal.columns) if terminal else None


def _relative(path: str) -> str:
    return posixpath.normpath("/" + path).lstrip("/")


def _absolute(workdir: str | None) -> str:
    return f"/{_relative(posixpath.join(HOME, workdir))}" if workdir else HOME
