"""Containers by an OCI runtime: what they share, and whether this machine can have them.

Flows in: the emulator's folder, the interpreter that plays every image, folders to hide. Flows out: ``OciLauncher``, with the
wrapper by which its spawner is to be started: process 1 of a pid namespace, so that the kernel ends every container with it, in a
mount namespace, so that no mount is seen, or left, on this machine. ``trial`` finds out whether it works here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from modalflow.emulator.machines import cgroups, host_view
from modalflow.emulator.machines.containers import ContainerSpec, Isolation
from modalflow.emulator.machines.covers import Cover
from modalflow.emulator.machines.environment import SYSTEM_PATH, Toolbox
from modalflow.emulator.machines.oci_config import PRIVATE, Bind
from modalflow.emulator.machines.oci_container import OVERLAY_OPTIONS, OciContainer, Site
from modalflow.emulator.machines.processes import Spawner
from modalflow.emulator.machines.syscalls import container_filter

ISOLATION = Isolation(
    name="container",
    words=(
        "each sandbox is a container (runc) with its own mounts, processes, host name and IPC, limits of memory, CPU and "
        "processes, and a root file system of its own over this machine's, whose /root, /home, /tmp and /run it does not see; "
        "users are this machine's with reduced capabilities; everything is killed and removed with the emulator"
    ),
)

_TOOLS = {"runc": "runc", "unshare": "util-linux", "mount": "mount"}
_SETUP = f"""\
cd -- "$0" && mount -t tmpfs -o mode=0700 modalflow private || exit 1
if [ "$1" = over ]; then
  mount -t overlay overlay -o "lowerdir=/,upperdir=base,workdir=base-work,{OVERLAY_OPTIONS}" host || exit 1
fi
shift; exec "$@"
"""
_TRIAL = 'mkdir -m 700 "$0" && cat > "$0/config.json" && "$@" </dev/null || { cat "$0/mount" >&2; exit 1; }'
_TRIAL_SECONDS = 30


class OciLauncher:
    """Makes containers below one folder."""

    def __init__(self, folder: Path, spawner: Spawner, *, tools: Path, interpreter_bin: Path, hidden: Iterable[Path]) -> None:
        """``tools``: our commands; ``interpreter_bin``: where the image's interpreter is."""
        self._folder = folder
        self._spawner = spawner
        # Where they are, whatever links lead there: only that can be hidden.
        hidden = [path.resolve() for path in (folder, folder.parent, *hidden)]
        needed = host_view.binds(interpreter_bin, hidden)
        binds = [
            Bind(source=tools, path=f"{PRIVATE}/bin", read_only=True),
            *(one for one in needed if not one.source.is_dir()),
        ]
        for name in ("private", "base", "base-work", "host", "containers", "runc"):
            (folder / name).mkdir(mode=0o700)
        (folder / "base").chmod(0o755)
        own = {
            f"{PRIVATE}/bin": True,
            f"{PRIVATE}/sync": True,
            "/etc/hosts": False,
            "/etc/resolv.conf": False,
        }
        host_view.build(folder / "base", hidden, own | {one.path: one.source.is_dir() for one in needed})
        # An overlay refuses layers that lie below one another: a first one stands for `/` if our folder is in its file system.
        self._over = folder.stat().st_dev == Path("/").stat().st_dev
        self._site = Site(
            folder=folder,
            bottom=[folder / "host"] if self._over else [folder / "base", Path("/")],
            binds=binds,
            covers=[Cover(one.source, one.path) for one in needed if one.source.is_dir()],
            group=cgroups.group_of(folder),
            path=f"{PRIVATE}/bin:{interpreter_bin}:{SYSTEM_PATH}",
            swap=cgroups.limits_swap(),
            seccomp=container_filter(SEARCH_PATH),
        )
        self.toolbox = Toolbox(folders=(Path(PRIVATE, "bin"), interpreter_bin))

    @property
    def isolation(self) -> Isolation:
        """What is in force."""
        return ISOLATION

    @property
    def above_host(self) -> Sequence[Path]:
        """The layer that hides what is private on this machine."""
        return [self._folder / "base"]

    @property
    def group(self) -> str:
        """The control group of all containers."""
        return self._site.group

    @property
    def wrapper(self) -> list[str]:
        """What the spawner is to be started by."""
        namespaces = ["unshare", "--mount", "--propagation", "slave", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
        return [*namespaces, "--", "sh", "-c", _SETUP, str(self._folder), "over" if self._over else "beside"]

    def container(self, spec: ContainerSpec) -> OciContainer:
        """Return a new container."""
        return OciContainer(spec, self._site, self._spawner)

    def trial(self) -> str:
        """Run a container that does nothing; say what is in the way, or nothing. Blocking."""
        container = self.container(ContainerSpec(container_id="trial", memory_mb=64, milli_cpu=1000))
        bundle = self._folder / "private" / "trial"
        container.prepare()
        config = container.config(container.main_process(["true"], env={"PATH": SYSTEM_PATH}, workdir="/"))
        argv = [*self.wrapper, "sh", "-c", _TRIAL, str(bundle), *container.argv(bundle, ["run"], mounting=True)]
        try:
            ran = subprocess.run(  # noqa: S603
                argv,
                input=json.dumps(config),
                text=True,
                capture_output=True,
                check=False,
                timeout=_TRIAL_SECONDS,
                env={"PATH": SEARCH_PATH},
            )
        finally:
            container.remove()
            cgroups.remove(self.group)
        if not ran.returncode:
            return ""
        text = " ".join(ran.stderr.split()) or f"exit code {ran.returncode}"
        if "overlay" in text:
            return f"an overlay is refused ({text}); set TMPDIR to a folder that is not on an overlay, such as a mounted disk"
        return f"a container does not start ({text})"


SEARCH_PATH = f"{SYSTEM_PATH}:/usr/local/sbin"


def obstacle() -> str:
    """Say what this machine lacks for containers, as far as a look can tell; empty if nothing."""
    if os.geteuid() != 0:
        return "this is not root"
    for tool, package in _TOOLS.items():
        if shutil.which(tool, path=SEARCH_PATH) is None:
            return f"{tool} is not installed (apt install {package})"
    return cgroups.obstacle()
