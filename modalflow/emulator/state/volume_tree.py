"""The committed content of one Volume: a tree of names over content-addressed blocks. Pure state, no files, no wire.

Flows in: puts, removals, copies, and merged commits of sandboxes. Flows out: entries and listings, which ``services.volumes``
sends and ``mounts`` writes out as files.
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from modalflow.emulator.state.journal import Journal


class VolumePathError(ValueError):
    """A path that leaves the Volume, or a name that cannot be one."""


class VolumeNotFoundError(LookupError):
    """No such file or folder."""


class VolumeConflictError(ValueError):
    """The path is of the other kind: a file where a folder is needed, or the reverse."""


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """A file: its blocks' digests (hex), size in bytes, permission bits and time of change in ns since the epoch."""

    blocks: tuple[str, ...]
    size: int
    mode: int = 0o644
    mtime_ns: int = 0

    def same_content(self, other: object) -> bool:
        """Whether ``other`` is a file of the same bytes and mode; times do not count."""
        return isinstance(other, File) and (self.blocks, self.mode) == (other.blocks, other.mode)


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A symbolic link."""

    target: str
    mtime_ns: int = 0

    def same_content(self, other: object) -> bool:
        """Whether ``other`` is a link to the same place."""
        return isinstance(other, Link) and self.target == other.target


@dataclass(slots=True)
class Folder:
    """A folder and what is in it."""

    entries: dict[str, Node] = field(default_factory=dict)
    mtime_ns: int = field(default_factory=time.time_ns)


Node = File | Link | Folder


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a listing: ``path`` from the Volume's root, without a leading slash."""

    path: str
    node: Node


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What a commit does to one path relative to its mount: ``node`` of ``None`` removes it."""

    path: str
    node: File | Link | Folder | None


MAX_DEPTH = 128
"""Folders in folders. Deeper ones are of no use, and would cost a descriptor a level where they are written out."""
MAX_NAME_BYTES = 255
"""Of one name: what Linux allows."""


def parts_of(path: str) -> tuple[str, ...]:
    """Split a path of the wire into names. ``VolumePathError`` if it leaves the Volume, or no file system could hold it."""
    if "\0" in path:
        raise VolumePathError(f"path {path!r} holds a NUL byte")
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if ".." in parts:
        raise VolumePathError(f"path {path!r} must not contain '..'")
    if len(parts) > MAX_DEPTH:
        raise VolumePathError(f"path {path[:80]!r}… is more than {MAX_DEPTH} folders deep")
    for part in parts:
        if len(part.encode(errors="surrogateescape")) > MAX_NAME_BYTES:
            raise VolumePathError(f"name {part[:80]!r}… has more than {MAX_NAME_BYTES} bytes")
    return parts


class VolumeTree:
    """All files of one Volume. ``journal`` notes the paths that change, each with a slash in front."""

    def __init__(self) -> None:
        self.root = Folder()
        self.journal = Journal()
        self._prefix: tuple[str, ...] = ()
        """Where the root is, for a view of a part of another tree."""

    # -- reading

    def get(self, path: str) -> Node:
        """Return what is at ``path``; ``VolumeNotFoundError`` if nothing is."""
        node: Node = self.root
        for name in parts_of(path):
            if not isinstance(node, Folder) or name not in node.entries:
                raise VolumeNotFoundError(f"No such file or directory: {path!r}")
            node = node.entries[name]
        return node

    def file(self, path: str) -> File:
        """Return the file at ``path``; ``VolumeNotFoundError``, or ``VolumeConflictError`` for anything but a file."""
        node = self.get(path)
        if not isinstance(node, File):
            raise VolumeConflictError(f"Not a file: {path!r}")
        return node

    def exists(self, path: str) -> bool:
        """Whether anything is at ``path``."""
        try:
            self.get(path)
        except VolumeNotFoundError:
            return False
        return True

    def listing(self, path: str, *, recursive: bool) -> list[Entry]:
        """List a folder's entries, or the one file at ``path``."""
        node = self.get(path)
        base = "/".join(parts_of(path))
        if not isinstance(node, Folder):
            return [Entry(base, node)]
        found: list[Entry] = []
        for name, child in sorted(node.entries.items()):
            entry = Entry(posixpath.join(base, name), child)
            found.append(entry)
            if recursive and isinstance(child, Folder):
                found += self.listing(entry.path, recursive=True)
        return found

    # -- writing

    def make_folder(self, path: str) -> Folder:
        """Return the folder at ``path``, made with its parents if need be; ``VolumeConflictError`` if a file is in the way."""
        node = self.root
        parts = parts_of(path)
        for depth, name in enumerate(parts):
            child = node.entries.get(name)
            if child is None:
                child = node.entries[name] = Folder()
                node.mtime_ns = time.time_ns()
                self._note(parts[: depth + 1], child)
            if not isinstance(child, Folder):
                raise VolumeConflictError(f"Not a directory: {name!r} in {path!r}")
            node = child
        return node

    def put(self, path: str, node: Node) -> None:
        """Place a file, link or folder at ``path``, replacing a file or link that is there."""
        *parents, name = self._named(path)
        parent = self.make_folder("/".join(parents))
        before = parent.entries.get(name)
        if isinstance(before, Folder):
            if not isinstance(node, Folder):
                raise VolumeConflictError(f"Is a directory: {path!r}")
            self._note((*parents, name), before)
        parent.entries[name] = node
        parent.mtime_ns = time.time_ns()
        self._note((*parents, name), node)

    def remove(self, path: str, *, recursive: bool) -> None:
        """Remove what is at ``path``; a folder only if ``recursive``."""
        node = self.get(path)
        *parents, name = self._named(path)
        if isinstance(node, Folder) and not recursive:
            raise VolumeConflictError(f"Is a directory: {path!r}; remove it with recursive=True")
        parent = self.make_folder("/".join(parents))
        del parent.entries[name]
        parent.mtime_ns = time.time_ns()
        self._note((*parents, name), node)

    def restore(self, path: str, node: Node) -> None:
        """Put back what was there in an earlier life: nothing else changes, no time and no journal. Folders come first."""
        parts = parts_of(path)
        if not parts:
            self.root.mtime_ns = node.mtime_ns
            return
        parent = self.get("/".join(parts[:-1]))
        if not isinstance(parent, Folder):
            raise VolumeConflictError(f"Not a directory: {'/'.join(parts[:-1])!r}")
        parent.entries[parts[-1]] = node

    def _note(self, parts: tuple[str, ...], node: Node) -> None:
        """Tell the journal that ``node`` came to or went from there with all that is in it, which changed the folder too."""
        whole = "/" + "/".join((*self._prefix, *parts))
        self.journal.note([posixpath.dirname(whole), whole])
        if isinstance(node, Folder):
            self.journal.note(posixpath.join(whole, path) for path, _ in walk(node))

    def copy(self, sources: list[str], target: str, *, recursive: bool) -> None:
        """Copy as ``cp`` does: into ``target`` if it is a folder, else to that name."""
        into = self.exists(target) and isinstance(self.get(target), Folder)
        if len(sources) > 1 and not into:
            raise VolumeConflictError(f"Not a directory: {target!r}; several sources need an existing folder")
        for source in sources:
            node = self.get(source)
            place = posixpath.join(target, self._named(source)[-1]) if into else target
            if not isinstance(node, Folder):
                self.put(place, _copied(node))
            elif recursive:
                self._copy_folder(source, node, place)
            else:
                raise VolumeConflictError(f"Is a directory: {source!r}; copy it with recursive=True")

    def _copy_folder(self, source: str, folder: Folder, place: str) -> None:
        """Copy what is in a folder to what is at ``place``, or to a new folder there."""
        parts = parts_of(source)
        if parts_of(place)[: len(parts)] == parts:
            raise VolumeConflictError(f"Cannot copy {source!r} into itself, {place!r}")
        self.make_folder(place)
        for path, node in walk(folder):
            if isinstance(node, Folder):
                self.make_folder(posixpath.join(place, path))
            else:
                self.put(posixpath.join(place, path), _copied(node))

    def apply(self, base: str, changes: list[Change]) -> None:
        """Merge the commit of a mount that shows ``base``: per path, the last writer wins, whatever others did."""
        root = self.make_folder(base)
        view = VolumeTree()
        view.root = root
        view.journal, view._prefix = self.journal, (*self._prefix, *parts_of(base))
        for change in changes:
            if change.node is None:
                view.remove_unless_filled(change.path)
            elif isinstance(change.node, Folder):
                view.replace_file_by_folder(change.path)
            else:
                view.replace_folder_by(change.path, change.node)

    def remove_unless_filled(self, path: str) -> None:
        """Remove ``path`` if it is there, except a folder in which somebody else has put something."""
        if self.exists(path):
            node = self.get(path)
            if not (isinstance(node, Folder) and node.entries):
                self.remove(path, recursive=True)

    def replace_file_by_folder(self, path: str) -> None:
        """Make ``path`` a folder, also where parts of it were files."""
        parts = parts_of(path)
        for count in range(1, len(parts) + 1):
            prefix = "/".join(parts[:count])
            if self.exists(prefix) and not isinstance(self.get(prefix), Folder):
                self.remove(prefix, recursive=False)
        self.make_folder(path)

    def replace_folder_by(self, path: str, node: File | Link) -> None:
        """Place a file or link at ``path``, also where a folder was."""
        if self.exists(path) and isinstance(self.get(path), Folder):
            self.remove(path, recursive=True)
        parent = posixpath.dirname("/".join(parts_of(path)))
        if parent:
            self.replace_file_by_folder(parent)
        self.put(path, node)

    @staticmethod
    def _named(path: str) -> tuple[str, ...]:
        parts = parts_of(path)
        if not parts:
            raise VolumeConflictError(f"Path {path!r} is the Volume itself")
        return parts


def _copied(node: File | Link) -> File | Link:
    return replace(node, mtime_ns=time.time_ns())


def walk(folder: Folder, prefix: str = "") -> Iterator[tuple[str, Node]]:
    """Yield every node below ``folder`` with its relative path, folders before what is in them."""
    for name, child in folder.entries.items():
        path = posixpath.join(prefix, name)
        yield path, child
        if isinstance(child, Folder):
            yield from walk(child, path)
