"""What emulators left behind that were killed together with their spawner: found, and removed, at the next start.

Flows in: the folder in which emulators make theirs. Flows out: no process, control group or folder of a dead one.
Each living emulator holds a lock in its folder, which the kernel lets go of however it ends. ``server`` claims and sweeps.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from modalflow.emulator.machines import cgroups
from modalflow.emulator.machines.spawner import kill_quietly, process_table
from modalflow.emulator.machines.untrusted_folder import remove_tree

PREFIX = "modal-emulator-"
_LOCK = "lock"
_LOOKS = 100
"""Looks for processes before giving up: one that forks while it is killed needs another."""

_log = logging.getLogger(__name__)


def claim(folder: Path) -> int:
    """Mark an emulator's folder as in use by this process; return the descriptor to hold as long as it is."""
    # Locked before it has its name: who sweeps takes it for abandoned at no time.
    new = folder / f"{_LOCK}.new"
    fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    new.rename(folder / _LOCK)
    return fd


def sweep(parent: Path) -> list[Path]:
    """Kill and remove what dead emulators of this user left in ``parent``; return the folders that were removed.

    What cannot be removed is told in the log: it keeps no other emulator from starting.
    """
    swept = []
    for folder in _abandoned(parent):
        try:
            _kill_processes_of(folder)
            cgroups.remove(cgroups.group_of(folder))
            remove_tree(folder)
        except OSError as error:
            _log.warning("what a killed emulator had left in %s could not be removed: %s", folder, error)
            continue
        _log.warning("removed what a killed emulator had left: %s", folder)
        swept.append(folder)
    for group in cgroups.without_emulator(parent):
        cgroups.remove(group)
    return swept


def _abandoned(parent: Path) -> Iterator[Path]:
    for entry in list(os.scandir(parent)):
        if not entry.name.startswith(PREFIX) or not entry.is_dir(follow_symlinks=False):
            continue
        with contextlib.suppress(FileNotFoundError):  # its emulator ends just now
            if entry.stat(follow_symlinks=False).st_uid == os.geteuid() and _is_let_go(Path(entry.path, _LOCK)):
                yield Path(entry.path)


def _is_let_go(lock: Path) -> bool:
    """Whether nobody holds the lock. ``FileNotFoundError`` if there is none (yet)."""
    fd = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def _kill_processes_of(folder: Path) -> None:
    """Kill every process whose environment or working folder says that a sandbox below ``folder`` started it."""
    for _ in range(_LOOKS):
        found = [row.pid for row in process_table(0) if _belongs(row.pid, folder)]
        if not found:
            return
        for pid in found:
            kill_quietly(pid)


def _belongs(pid: int, folder: Path) -> bool:
    if pid == os.getpid():
        return False
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        working_folder = Path(f"/proc/{pid}/cwd").readlink()
    except OSError:  # it ended meanwhile, or is somebody else's
        return False
    return f"={folder}/".encode() in environment or working_folder.is_relative_to(folder / "sandboxes")
