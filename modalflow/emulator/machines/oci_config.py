"""The OCI configuration of one container: namespaces, mounts, capabilities, limits.

Flows in: what a container is to be. Flows out: ``config.json`` for an OCI runtime, and the process description of an exec, as
plain values. Sources: the OCI runtime specification 1.0.2 and Docker's documented defaults (docs.docker.com, 2026-11). Pure
functions; ``oci_container`` is the user.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HOME = "/root"
PRIVATE = "/__modal"
"""The folder of the emulator's own things inside a container."""
PIDS = 8192
"""Processes and threads of one container at most."""

CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "SETGID", "SETUID", "SETFCAP", "SETPCAP", "NET_BIND_SERVICE",
        "SYS_CHROOT", "KILL", "AUDIT_WRITE",
    )
)  # fmt: skip
"""Docker's set without MKNOD (the emulator, which is root, reads folders that sandboxes write: no devices there) and NET_RAW.

Raw sockets pass by the firewall of the sandbox's own network, and with this machine's network they read what everybody sends
on its loopback, the tokens of the emulator's clients among it. ``ping`` needs none in a network of its own.
"""

OOM_SCORE = 500
"""When this machine runs out of memory, the kernel takes sandboxes first, not the emulator or what else runs here."""

_MASKED = (
    "/proc/1/environ",
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
)  # fmt: skip
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_INIT = """\
cd -- "$0" 2>/dev/null || { mkdir -p -- "$0" && cd -- "$0"; } || exit 126
unset OLDPWD
exec 3<&0 4>&1 5>&2 </dev/null >/dev/null 2>&1
env --default-signal=INT,QUIT -- "$@" <&3 >&4 2>&5 3<&- 4>&- 5>&- &
exec 3<&- 4>&- 5>&-
wait $!"""
"""Process 1 of a container: buries orphans, keeps none of the command's streams open, and ends with the command's code.

Without it the command would be process 1 itself, which the kernel protects from its own signals (``kill -9 $$`` does nothing).
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bind:
    """``source``, a file or folder of this machine, shown at ``path``."""

    source: Path
    path: str
    read_only: bool = False


def init_argv(argv: Sequence[str], workdir: str) -> list[str]:
    """Return the argv of process 1, which runs ``argv`` in ``workdir`` and makes that folder if it is not there."""
    return ["/bin/sh", "-c", _INIT, workdir, *argv]


def process(argv: Sequence[str], *, env: Mapping[str, str], cwd: str, terminal: tuple[int, int] | None) -> dict[str, object]:
    """Return the description of one process, root of the container; ``terminal``: rows and columns of a terminal of its own."""
    found: dict[str, object] = {
        "terminal": terminal is not None,
        "user": {"uid": 0, "gid": 0},
        "args": list(argv),
        "env": [f"{name}={value}" for name, value in env.items()],
        "cwd": cwd,
        "capabilities": {kind: list(CAPABILITIES) for kind in ("bounding", "effective", "permitted")},
        "oomScoreAdj": OOM_SCORE,
        # `su`, `sudo` and their like work in a container on Modal.
        "noNewPrivileges": False,
    }
    if terminal:
        found["consoleSize"] = {"height": terminal[0], "width": terminal[1]}
    return found


def config(
    *,
    main: Mapping[str, object],
    hostname: str,
    rootfs: Path,
    binds: Sequence[Bind],
    cgroup: str,
    resources: Mapping[str, object],
    seccomp: Mapping[str, object] | None,
) -> dict[str, object]:
    """Return ``config.json`` with ``main`` as its process. The network is this machine's until somebody adds a namespace."""
    return {
        "ociVersion": "1.0.2",
        "process": main,
        "root": {"path": str(rootfs), "readonly": False},
        "hostname": hostname,
        "mounts": [*_SYSTEM_MOUNTS, *(_bind(one) for one in sorted(binds, key=lambda one: one.path.count("/")))],
        "linux": {
            "cgroupsPath": cgroup,
            "resources": resources,
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
            "maskedPaths": list(_MASKED),
            "readonlyPaths": list(_READ_ONLY),
            **({"seccomp": seccomp} if seccomp else {}),
        },
    }


def resources(*, milli_cpu: int, cpu_request: int, memory_mb: int, swap: bool) -> dict[str, object]:
    """Return the limits: ``milli_cpu`` (1000 is one CPU) and ``memory_mb``, 0 for none; ``cpu_request`` is the share.

    ``swap``: whether this machine can limit swap, which is then not to be had beyond the memory.
    """
    cpu: dict[str, int] = {"shares": max(2, (cpu_request or 125) * 1024 // 1000)}
    if milli_cpu:
        cpu |= {"quota": max(1000, milli_cpu * 100), "period": 100_000}
    found: dict[str, object] = {"cpu": cpu, "pids": {"limit": PIDS}, "devices": _DEVICES}
    if memory_mb:
        found["memory"] = {"limit": memory_mb << 20} | ({"swap": memory_mb << 20} if swap else {})
    return found


def _bind(one: Bind) -> dict[str, object]:
    options = ["rbind", "rprivate", "nosuid", "nodev", "ro" if one.read_only else "rw"]
    return {"destination": posixpath.normpath(one.path), "type": "bind", "source": str(one.source), "options": options}


_DEVICES = [{"allow": False, "access": "rwm"}]
"""Nothing beyond what every runtime adds: null, zero, full, random, urandom, tty and terminals."""

_SYSTEM_MOUNTS: list[dict[str, object]] = [
    {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "nodev", "mode=1777"]},  # noqa: S108
    {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
]
