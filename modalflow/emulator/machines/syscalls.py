"""The system calls that a container is refused, as an OCI runtime takes them: ways around its control groups, and out of it.

Flows in: whether the runtime can filter. Flows out: the ``seccomp`` part of ``config.json``. All else is allowed: capabilities
and namespaces hold it. Sources: the OCI runtime specification 1.0.2, Linux's man pages (2026-11).
"""

from __future__ import annotations

import errno
import functools
import platform
import shutil
import socket
import subprocess

_NEW_USER_NAMESPACE = 0x10000000
_KEYRINGS = ("add_key", "keyctl", "request_key")
_KERNEL = ("bpf", "io_uring_enter", "io_uring_register", "io_uring_setup", "perf_event_open", "userfaultfd")
_SOCKETS = (socket.AF_ALG, socket.AF_VSOCK)
_ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
}


def filter_of(machine: str) -> dict[str, object]:
    """Return the filter for a kind of machine, as ``platform.machine`` names it.

    - A user namespace of its own makes a process root in it, which may then mount its control groups and lift its limits.
    - Keyrings are not namespaced: those of uid 0 are this machine's. Neither are VM sockets, which reach what it runs on.
    - What ``clone3`` is told lies in memory, out of a filter's reach; without it C libraries use ``clone``.
    """
    namespaces = {"index": 0, "value": _NEW_USER_NAMESPACE, "valueTwo": _NEW_USER_NAMESPACE, "op": "SCMP_CMP_MASKED_EQ"}
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": _ARCHITECTURES.get(machine, []),
        "syscalls": [
            _refused(["clone", "unshare"], errno.EPERM, namespaces),
            _refused(["clone3"], errno.ENOSYS),
            _refused([*_KEYRINGS, *_KERNEL], errno.EPERM),
            *(
                _refused(["socket"], errno.EAFNOSUPPORT, {"index": 0, "value": int(family), "op": "SCMP_CMP_EQ"})
                for family in _SOCKETS
            ),
        ],
    }


@functools.cache
def container_filter(path: str) -> dict[str, object] | None:
    """Return the filter for this machine; ``None`` if the ``runc`` on ``path`` was built without. Blocking, once."""
    runc = shutil.which("runc", path=path)
    if runc is None:
        return None
    ran = subprocess.run([runc, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    return filter_of(platform.machine()) if "libseccomp" in ran.stdout else None


def _refused(names: list[str], error: int, *conditions: dict[str, object]) -> dict[str, object]:
    return {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": error, "args": list(conditions)}
