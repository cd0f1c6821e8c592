"""The files of a folder as they are now: names and what tells whether a file has changed. Reads no content.

Flows in: the root of a bundle. Flows out: ``Tree``, for ``reading``. Blocks for the time of the walk: run it in a thread.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from modalflow.dag_code.manifest import is_text
from modalflow.launch.gateway import DagCodeError

LEFT_OUT = frozenset({"__pycache__", ".git", ".hg", ".svn", ".jj", ".bzr", "CVS", ".venv"})
"""Files and folders of these names are no code of a DAG."""
VENV_MARK = "pyvenv.cfg"
"""A folder with such a file is a virtual environment of this host, of no use in another."""
IGNORE_FILE = ".airflowignore"
MOST_ENTRIES = 100_000
"""Files and folders that are looked at. More is not code; and links into each other can make any number of paths."""
DEEPEST = 100
"""Folders in folders."""
MOST_FILES = 20_000
"""Files of a copy: their names go to Modal in one call, some 130 bytes each."""

Signature = tuple[int, int, int, int, int]
"""Device, inode, size, and the times of change of content and inode in ns: equal ones are the same content, if not too fresh."""


class FolderChangedError(Exception):
    """The folder changed while it was looked at."""


class Found(NamedTuple):
    """A file: its real path, and its signature. A tuple, for thousands of them are made and compared at each look."""

    real: str
    signature: Signature
    executable: bool

    @property
    def size(self) -> int:
        """Bytes."""
        return self.signature[2]


@dataclass(slots=True)
class Tree:
    """What a walk found. ``root`` is the real path of the folder; ``left_out`` says in words what was not taken along."""

    root: str
    files: dict[str, Found] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def signature_of(status: os.stat_result) -> Signature:
    """Return what tells a changed file."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def is_inside(real: str, root: str) -> bool:
    """Whether a real path is ``root`` or below it."""
    return real == root or real.startswith(root if root.endswith(os.sep) else root + os.sep)


def walk(folder: str, *, outside_links: bool) -> Tree:
    """Find all files below ``folder``; a link of its own (as git-sync makes) is resolved once, so that one state is seen.

    A link to a file or folder counts as what it leads to; a loop, and with ``outside_links`` off whatever leads out of the
    folder, is left out. Raises ``DagCodeError`` for what cannot be read, ``FolderChangedError`` if it changes meanwhile.
    """
    tree = Tree(root=os.path.realpath(folder))
    if not Path(tree.root).is_dir():
        raise DagCodeError(f"{folder} is not a folder of this host")
    looker = _Walk(tree, outside_links=outside_links)
    looker.folder(tree.root, "", (tree.root,))
    return tree


class _Walk:
    def __init__(self, tree: Tree, *, outside_links: bool) -> None:
        self._tree = tree
        self._outside_links = outside_links
        self._seen = 0

    def folder(self, real: str, prefix: str, above: tuple[str, ...]) -> None:
        """Take one folder; ``above`` are the real paths from the root down to it."""
        if len(above) > DEEPEST:
            raise DagCodeError(f"{self._tree.root} is more than {DEEPEST} folders deep: {prefix[:80]}…")
        entries = self._entries(real)
        if prefix and any(entry.name == VENV_MARK for entry in entries):
            return
        for entry in entries:
            if entry.name in LEFT_OUT:
                continue
            path = prefix + entry.name
            if not is_text(entry.name):
                self._leave(path, "its name is not UTF-8")
                continue
            self._entry(entry, path, above)

    def _entries(self, real: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(real) as listing:
                entries = list(listing)
        except FileNotFoundError as error:
            raise FolderChangedError(str(error)) from error
        except OSError as error:
            raise unreadable(real, error) from error
        self._seen += len(entries)
        if self._seen > MOST_ENTRIES:
            raise DagCodeError(
                f"{self._tree.root} holds more than {MOST_ENTRIES} files and folders, links followed: move out of it what is no "
                "code, or have the code in the image (dag_source = image)"
            )
        return entries

    def _entry(self, entry: os.DirEntry[str], path: str, above: tuple[str, ...]) -> None:
        try:
            if entry.is_symlink():
                self._link(entry.path, path, above)
            elif entry.is_dir(follow_symlinks=False):
                self.folder(entry.path, path + "/", (*above, entry.path))
            else:
                self._file(entry.path, path, entry.stat(follow_symlinks=False))
        except FileNotFoundError as error:
            raise FolderChangedError(str(error)) from error
        except OSError as error:
            raise unreadable(entry.path, error) from error

    def _link(self, at: str, path: str, above: tuple[str, ...]) -> None:
        real = os.path.realpath(at)
        if not is_inside(real, self._tree.root) and not self._outside_links:
            self._leave(
                path, f"a link that leads out of the folder, to {real}; [modal_executor] dag_outside_links = True follows it"
            )
            return
        status = self._status(real)
        if status is None:
            self._leave(path, "a link that leads nowhere")
        elif any(name in LEFT_OUT for name in _names_below(real, self._tree.root)):
            return
        elif not stat.S_ISDIR(status.st_mode):
            self._file(real, path, status)
        elif any(is_inside(folder, real) for folder in above):
            self._leave(path, "a link to a folder that it is in itself")
        else:
            self.folder(real, path + "/", (*above, real))

    def _status(self, real: str) -> os.stat_result | None:
        try:
            status = os.lstat(real)
        except FileNotFoundError:
            return None
        return None if stat.S_ISLNK(status.st_mode) else status  # a link to itself

    def _file(self, real: str, path: str, status: os.stat_result) -> None:
        if stat.S_ISREG(status.st_mode):
            self._tree.files[path] = Found(real, signature_of(status), bool(status.st_mode & stat.S_IXUSR))
        else:
            self._leave(path, "neither a file nor a folder")

    def _leave(self, path: str, why: str) -> None:
        self._tree.left_out.append(f"{path!r} is left out: {why}" if not is_text(path) else f"{path} is left out: {why}")


def _names_below(real: str, root: str) -> Iterator[str]:
    """Yield the names on the way from ``root`` to a real path inside it; none for one outside."""
    if is_inside(real, root):
        yield from Path(real).relative_to(root).parts


def unreadable(path: str, error: OSError) -> DagCodeError:
    """Return the error for what cannot be read."""
    return DagCodeError(
        f"{path} cannot be read by the scheduler ({error.strerror or error}): let its user (id {os.geteuid()}) read it, or move "
        "it out of the folder"
    )
