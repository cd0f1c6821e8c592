"""The control groups of containers: where they are, what they count, and their removal.

Flows in: a group's path, the same in every hierarchy (``/modalflow-<emulator>/<container>``). Flows out: usage, out-of-memory
kills, and nothing left behind. Both versions of control groups, and both at once, as Linux documents them
(docs.kernel.org/admin-guide/cgroup-v1, cgroup-v2, 2026-11). The runtime makes the groups; ``oci_container`` asks here.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modalflow.emulator.machines.spawner import remove_groups

_FREEZING_LOOKS, _FREEZING_RETRY, _FREEZING_PAUSE = 4000, 25, 0.005
_GROUP = "/modalflow-"
_DESERTED_SECONDS = 60.0
NEEDED = ("cpu", "memory", "pids")


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What a container has used: CPU time, memory now and at most. 0 where the machine does not count it."""

    cpu_ns: int
    memory_bytes: int
    memory_peak_bytes: int


@functools.cache
def hierarchies() -> dict[str, Path]:
    """Return where each controller is mounted, by its name; ``""`` is the one hierarchy of version 2, wherever it is mounted."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup2":
            found.setdefault("", Path(place))
        elif kind == "cgroup":
            found |= {name: Path(place) for name in options.split(",") if name in (*NEEDED, "cpuacct", "freezer")}
    unified = found.get("")
    if unified is not None and (unified / "cgroup.controllers").exists():
        for name in (unified / "cgroup.controllers").read_text().split():
            found.setdefault(name, unified)
    return found


def obstacle() -> str:
    """Say what keeps us from limiting resources; empty if nothing does."""
    found = hierarchies()
    for name in NEEDED:
        if name not in found:
            return f"the control group controller {name!r} is not mounted below /sys/fs/cgroup"
        if not os.access(found[name], os.W_OK):
            return f"control groups are read-only here ({found[name]} cannot be written)"
    return ""


def limits_swap() -> bool:
    """Whether swap is counted and can be limited."""
    if "SwapTotal:              0 kB" in Path("/proc/meminfo").read_text():
        return False
    memory = hierarchies()["memory"]
    return (memory / "memory.memsw.limit_in_bytes").exists() or (memory / "cgroup.controllers").exists()


def out_of_memory_kills(group: str) -> int:
    """Return how many processes of the group were killed because it had no memory left. 0 if the group is gone."""
    folder = _folder("memory", group)
    fields = _fields(folder / "memory.oom_control") or _fields(folder / "memory.events")
    return fields.get("oom_kill", 0)


def usage(group: str) -> Usage:
    """Return what the group uses."""
    memory, cpu = _folder("memory", group), _folder("cpu", group)
    cpu_ns = _number(_folder("cpuacct", group) / "cpuacct.usage") or _fields(cpu / "cpu.stat").get("usage_usec", 0) * 1000
    return Usage(
        cpu_ns=cpu_ns,
        memory_bytes=_number(memory / "memory.usage_in_bytes") or _number(memory / "memory.current"),
        memory_peak_bytes=_number(memory / "memory.max_usage_in_bytes") or _number(memory / "memory.peak"),
    )


def group_of(folder: Path) -> str:
    """Return the control group above all containers of the emulator with that folder."""
    return f"{_GROUP}{folder.name}"


def without_emulator(parent: Path) -> list[str]:
    """Return the groups of emulators that have no folder in ``parent``, no process, and nothing made in the last minute.

    A runtime that is killed while it makes a group may have made it after its emulator's groups were removed. An emulator
    whose folder is elsewhere loses nothing by this: the runtime makes the group again.
    """
    found = set()
    for place in hierarchies().values():
        for folder in place.glob(f"{_GROUP.lstrip('/')}*"):
            group = f"/{folder.name}"
            if not (parent / group.removeprefix(_GROUP)).exists() and _is_deserted(folder):
                found.add(group)
    return sorted(found)


def _is_deserted(folder: Path) -> bool:
    latest = time.time() - _DESERTED_SECONDS
    try:
        return all(
            Path(below).stat().st_mtime < latest and not Path(below, "cgroup.procs").read_text()
            for below, _, _ in os.walk(folder)
        )
    except FileNotFoundError:  # somebody is removing it
        return False


@contextlib.contextmanager
def frozen(group: str) -> Iterator[None]:
    """Have all processes of the group stand still for a while. Blocking. ``OSError`` if they cannot be stopped."""
    freezer = next((one for one in (_freezer_v1(group), _freezer_v2(group)) if one is not None), None)
    if freezer is None:
        raise OSError(errno.ENOENT, f"there is no freezer for the control group {group}")
    control, stop, go, state, stopped = freezer
    control.write_text(stop)
    try:
        for look in range(1, _FREEZING_LOOKS + 1):
            if stopped in state.read_text():
                break
            if look % _FREEZING_RETRY == 0:  # version 1 may stick half way when a process is just being made
                control.write_text(go)
                time.sleep(_FREEZING_PAUSE)
            control.write_text(stop)
            time.sleep(_FREEZING_PAUSE)
        else:
            raise OSError(errno.EBUSY, f"the control group {group} does not stand still")
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):  # it ended meanwhile
            control.write_text(go)


def _freezer_v1(group: str) -> tuple[Path, str, str, Path, str] | None:
    state = _folder("freezer", group) / "freezer.state"
    return (state, "FROZEN", "THAWED", state, "FROZEN") if state.exists() else None


def _freezer_v2(group: str) -> tuple[Path, str, str, Path, str] | None:
    folder = _folder("", group)
    control = folder / "cgroup.freeze"
    return (control, "1", "0", folder / "cgroup.events", "frozen 1") if control.exists() else None


def remove(group: str) -> None:
    """Remove the group and what is below it from every hierarchy; its processes have ended."""
    remove_groups(group)


def _folder(controller: str, group: str) -> Path:
    return hierarchies().get(controller, Path("/nonexistent")) / group.lstrip("/")


def _fields(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = [line.split() for line in lines]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}  # noqa: PLR2004 -- name and value


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
