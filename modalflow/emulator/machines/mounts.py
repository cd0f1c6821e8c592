"""A sandbox's private working copy of a Volume: written out at start, committed back at its end and on ``sync``.

Flows in: the committed tree and the files a sandbox wrote. Flows out: files on disk, and the ``Change`` list of a commit. Reading
and hashing run in a worker thread; the tree itself is touched only on the loop, so that commits do not interleave.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from modalflow.emulator.state.blobs import BlobStore
from modalflow.emulator.state.volume_tree import Change, File, Folder, Link, Node, VolumeTree, walk

_RACY_NS = 20_000_000
"""A file changed this recently may change again without its time or size showing it (kernel clock ticks): look at its bytes."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A path as it was when last equal to what the mount knows; ``signature`` of ``None`` means: compare the bytes."""

    node: File | Link | Folder
    signature: tuple[int, int, int, int] | None


@dataclass(slots=True)
class Mount:
    """One mounted Volume. ``folder`` is its place on disk, ``base`` the folder of the Volume that it shows."""

    volume_id: str
    mount_path: str
    folder: Path
    tree: VolumeTree
    base: str
    read_only: bool
    syncs: bool
    """Whether ``sync`` in the sandbox commits it (version 2)."""
    blobs: BlobStore
    committed: Callable[[], None]
    """Called on the loop after the tree was changed."""
    nested: frozenset[Path] = frozenset()
    """Folders of other mounts inside this one; they are not part of this Volume."""
    _known: dict[str, _Seen] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def materialise(self) -> None:
        """Write the committed content out. A ``base`` that does not exist is created."""
        async with self._lock:
            wanted = self._wanted()
            if wanted:
                self._known = await asyncio.to_thread(self._write, wanted)
            else:
                self.folder.mkdir(parents=True, exist_ok=True)

    async def commit(self) -> bool:
        """Bring what the sandbox changed into the Volume; whether there was anything. Nothing for a read-only mount."""
        if self.read_only:
            return False
        async with self._lock:
            changes, known = await asyncio.to_thread(self._scan)
            self._known = known
            if changes:
                self.tree.apply(self.base, changes)
                self.committed()
            return bool(changes)

    async def reload(self) -> None:
        """Commit, then show what others have committed."""
        await self.commit()
        async with self._lock:
            self._known = await asyncio.to_thread(self._refresh, self._wanted())

    def _wanted(self) -> dict[str, Node]:
        if self.read_only and not self.tree.exists(self.base):
            return {}
        return dict(walk(self.tree.make_folder(self.base)))

    # -- in a worker thread

    def _write(self, wanted: dict[str, Node]) -> dict[str, _Seen]:
        self.folder.mkdir(parents=True, exist_ok=True)
        return {path: self._place(path, node) for path, node in wanted.items()}

    def _place(self, path: str, node: Node) -> _Seen:
        target = self.folder / path
        if isinstance(node, Folder):
            target.mkdir(exist_ok=True)
            return _Seen(Folder(), None)
        if isinstance(node, Link):
            target.symlink_to(node.target)
            return _Seen(node, _signature(target.lstat()))
        self.blobs.write_file(node.blocks, node.size, target, mode=node.mode, mtime_ns=node.mtime_ns)
        return _Seen(node, _signature(target.lstat()))

    def _scan(self) -> tuple[list[Change], dict[str, _Seen]]:
        changes: list[Change] = []
        known: dict[str, _Seen] = {}
        for path, status in _files_below(self.folder, self.nested):
            before = self._known.get(path)
            seen = self._look(path, status, before)
            if seen is None:
                continue
            known[path] = seen
            if before is None or not _same(before.node, seen.node):
                changes.append(Change(path=path, node=seen.node))
        # What was in a folder goes before the folder.
        changes += [Change(path=path, node=None) for path in sorted(self._known, reverse=True) if path not in known]
        return changes, known

    def _look(self, path: str, status: os.stat_result, before: _Seen | None) -> _Seen | None:
        """Read one path, unless it cannot have changed. ``None``: it vanished, or is no file, folder or link."""
        if stat.S_ISDIR(status.st_mode):
            return _Seen(Folder(), None)
        now = time.time_ns()
        signature = _signature(status)
        if before is not None and before.signature is not None and before.signature == signature:
            return before
        target = self.folder / path
        try:
            if stat.S_ISLNK(status.st_mode):
                return _Seen(Link(target=str(target.readlink()), mtime_ns=status.st_mtime_ns), signature)
            if not stat.S_ISREG(status.st_mode):
                return None
            with target.open("rb") as file:
                blocks, size = self.blobs.put_file(file)
        except FileNotFoundError:
            return None
        node = File(blocks=blocks, size=size, mode=stat.S_IMODE(status.st_mode), mtime_ns=status.st_mtime_ns)
        return _Seen(node, None if now - status.st_mtime_ns < _RACY_NS else signature)

    def _refresh(self, wanted: dict[str, Node]) -> dict[str, _Seen]:
        for path in sorted(self._known, reverse=True):  # what is in a folder before the folder
            node = wanted.get(path)
            if node is None or isinstance(node, Folder) != isinstance(self._known[path].node, Folder):
                _remove(self.folder / path)
        known: dict[str, _Seen] = {}
        for path, node in wanted.items():
            before = self._known.get(path)
            if before is not None and _same(before.node, node):
                known[path] = before
                continue
            if isinstance(node, Link):
                _remove(self.folder / path)
            known[path] = self._place(path, node)
        return known


def _signature(status: os.stat_result) -> tuple[int, int, int, int]:
    return (status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns)


def _same(before: Node, after: Node) -> bool:
    if isinstance(before, Folder) or isinstance(after, Folder):
        return isinstance(before, Folder) and isinstance(after, Folder)
    return before.same_content(after)


def _files_below(folder: Path, nested: frozenset[Path]) -> list[tuple[str, os.stat_result]]:
    """Everything below ``folder`` with its relative path, folders first; links are not followed."""
    found: list[tuple[str, os.stat_result]] = []
    pending = [""]
    while pending:
        prefix = pending.pop()
        try:
            entries = sorted(os.scandir(folder / prefix), key=lambda entry: entry.name)
        except FileNotFoundError:
            continue
        for entry in entries:
            if entry.name.startswith(".modal-") or (nested and Path(entry.path) in nested):
                continue
            path = f"{prefix}{entry.name}"
            try:
                found.append((path, entry.stat(follow_symlinks=False)))
            except FileNotFoundError:
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append(f"{path}/")
    return found


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
