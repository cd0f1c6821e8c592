"""A sandbox's private working copy of a Volume: written out at start, committed back at its end and on ``sync``.

Flows in: the committed tree and the files a sandbox wrote. Flows out: files on disk, and the ``Change`` list of a commit. Reading
and hashing run in a worker thread; the tree itself is touched only on the loop, so that commits do not interleave. The sandbox
may change anything in the copy at any time: all of it is reached through ``untrusted_folder``.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from modalflow.emulator.machines.untrusted_folder import TEMPORARY, Descent, UntrustedFolder
from modalflow.emulator.state.blobs import BlobStore
from modalflow.emulator.state.volume_tree import MAX_DEPTH, Change, File, Folder, Link, Node, VolumeTree, parts_of, walk

_RACY_NS = 20_000_000
"""A file changed this recently may change again without its time or size showing it (kernel clock ticks): look at its bytes."""


MAX_FILE_BYTES = 2**40
"""Of one file of a Volume: Modal's own limit for version 2 (modal.com/docs/guide/volumes, read November 2026)."""


class UnkeepableError(Exception):
    """What a sandbox made has no place in a Volume; the text says what and why."""


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
    below: Path | None = None
    """The folder that no sandbox can replace, from which the way to ``folder`` goes; ``None``: ``folder`` itself."""
    _known: dict[str, _Seen] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    _here: UntrustedFolder = field(init=False)

    def __post_init__(self) -> None:
        self._here = UntrustedFolder(self.folder)

    async def materialise(self) -> None:
        """Write the committed content out. A ``base`` that does not exist is created."""
        async with self._lock:
            self._known = await asyncio.to_thread(self._write, self._wanted())

    async def commit(self) -> bool:
        """Bring what the sandbox changed into the Volume; whether there was anything. Nothing for a read-only mount.

        ``OSError`` if some of it cannot be kept; the rest is.
        """
        if self.read_only:
            return False
        async with self._lock:
            changes, known, problems = await asyncio.to_thread(self._scan)
            self._known = known
            if changes:
                self.tree.apply(self.base, changes)
                self.committed()
            if problems:
                raise OSError("; ".join(problems))
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
        self._here.make(below=self.below or self.folder)
        if not wanted:
            return {}
        with self._here.opened() as here:
            return {path: self._place(here, path, node) for path, node in wanted.items()}

    def _place(self, here: Descent, path: str, node: Node) -> _Seen:
        if isinstance(node, Folder):
            here.make_folder(path)
            return _Seen(Folder(), None)
        if isinstance(node, Link):
            return _Seen(node, _signature(here.make_link(path, node.target)))
        status = here.write_file(
            path, lambda fd: self.blobs.write_to(fd, node.blocks, node.size), mode=node.mode, mtime_ns=node.mtime_ns
        )
        return _Seen(node, _signature(status))

    def _scan(self) -> tuple[list[Change], dict[str, _Seen], list[str]]:
        changes: list[Change] = []
        known: dict[str, _Seen] = {}
        problems: list[str] = []
        with self._here.opened() as here:
            for path, status in self._files(here, problems):
                before = self._known.get(path)
                try:
                    seen = self._look(here, path, status, before)
                except UnkeepableError as error:
                    problems.append(str(error))
                    if before is not None:
                        known[path] = before
                    continue
                if seen is None:
                    continue
                known[path] = seen
                if before is None or not _same(before.node, seen.node):
                    changes.append(Change(path=path, node=seen.node))
        # What was in a folder goes before the folder.
        changes += [Change(path=path, node=None) for path in sorted(self._known, reverse=True) if path not in known]
        return changes, known, problems

    def _files(self, here: Descent, problems: list[str]) -> Iterator[tuple[str, os.stat_result]]:
        """Everything below with its relative path, folders before what is in them; links are not followed."""
        deepest = MAX_DEPTH - len(parts_of(self.base))
        pending = [""]
        while pending:
            prefix = pending.pop()
            below: list[str] = []
            entries = here.entries(prefix)
            if entries and prefix.count("/") + 1 >= deepest:
                problems.append(f"{prefix[:80]!r}…: more than {MAX_DEPTH} folders deep")
                continue
            for name, status in entries:
                path = f"{prefix}/{name}" if prefix else name
                if name.startswith(TEMPORARY) or (self.nested and self.folder / path in self.nested):
                    continue
                if not _is_text(name):
                    problems.append(f"{path!r}: the name is not UTF-8")
                    continue
                yield path, status
                if stat.S_ISDIR(status.st_mode):
                    below.append(path)
            pending += reversed(below)

    def _look(self, here: Descent, path: str, status: os.stat_result, before: _Seen | None) -> _Seen | None:
        """Read one path, unless it cannot have changed. ``None``: it vanished, or is no file, folder or link."""
        if stat.S_ISDIR(status.st_mode):
            return _Seen(Folder(), None)
        now = time.time_ns()
        signature = _signature(status)
        if before is not None and before.signature is not None and before.signature == signature:
            return before
        if stat.S_ISLNK(status.st_mode):
            return _look_at_link(here, path, status)
        if not stat.S_ISREG(status.st_mode):
            return None
        file = here.open_file(path)
        if file is None:
            return None
        try:
            status = os.fstat(file)
            if status.st_size > MAX_FILE_BYTES:
                raise UnkeepableError(f"{path!r}: {status.st_size} bytes; a file of a Volume has at most {MAX_FILE_BYTES}")
            blocks, size = self.blobs.put_descriptor(file, status.st_size)
        finally:
            os.close(file)
        node = File(blocks=blocks, size=size, mode=stat.S_IMODE(status.st_mode), mtime_ns=status.st_mtime_ns)
        return _Seen(node, None if now - status.st_mtime_ns < _RACY_NS else _signature(status))

    def _refresh(self, wanted: dict[str, Node]) -> dict[str, _Seen]:
        known: dict[str, _Seen] = {}
        with self._here.opened() as here:
            for path in sorted(self._known, reverse=True):  # what is in a folder before the folder
                node = wanted.get(path)
                if node is None or isinstance(node, Folder) != isinstance(self._known[path].node, Folder):
                    here.remove(path)
            for path, node in wanted.items():
                before = self._known.get(path)
                if before is not None and _same(before.node, node):
                    known[path] = before
                    continue
                known[path] = self._place(here, path, node)
        return known


def _look_at_link(here: Descent, path: str, status: os.stat_result) -> _Seen | None:
    try:
        target = here.readlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:  # something else by now
            return None
        raise
    if not _is_text(target):
        raise UnkeepableError(f"{path!r}: the link's target is not UTF-8")
    return _Seen(Link(target=target, mtime_ns=status.st_mtime_ns), _signature(status))


def _is_text(name: str) -> bool:
    """Whether a name of the file system can be said on the wire."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _signature(status: os.stat_result) -> tuple[int, int, int, int]:
    return (status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns)


def _same(before: Node, after: Node) -> bool:
    if isinstance(before, Folder) or isinstance(after, Folder):
        return isinstance(before, Folder) and isinstance(after, Folder)
    return before.same_content(after)
