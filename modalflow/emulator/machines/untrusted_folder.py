"""A folder that a sandbox writes to while we read and write it, perhaps as root, perhaps against it.

Flows in: relative paths. Flows out: files read, written and removed below the folder and nowhere else: every step of the way is
opened by descriptor and follows no link, whatever the sandbox puts there between two looks. ``mounts`` and ``buckets`` work
through it; ``remove_tree`` is for whoever clears up after a sandbox. Blocking: call it in a worker thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from modalflow.emulator.state.volume_tree import MAX_DEPTH

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
TEMPORARY = ".modal-"
"""Begin of the names of files that are being written; they are part of no Volume."""


class ReplacedError(OSError):
    """The folder is no longer the one that was given out."""


class UntrustedFolder:
    """One folder, known by what it is and not by its name alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity: tuple[int, int] | None = None

    def make(self, *, below: Path) -> None:
        """Make the folder, with what is missing on the way from ``below``; remember which one it is.

        ``OSError`` if a link or a file is in the way: a Volume may hold one where another is to be mounted.
        """
        steps = self.path.relative_to(below).parts if self.path.is_relative_to(below) else ()
        if not steps:
            self.path.mkdir(parents=True, exist_ok=True)
        else:
            below.mkdir(parents=True, exist_ok=True)
        at = os.open(self.path if not steps else below, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in steps:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=at)
                inner = os.open(name, _FOLDER, dir_fd=at)
                os.close(at)
                at = inner
            self._identity = _identity(at)
        finally:
            os.close(at)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Descent]:
        """Open it for a while. ``ReplacedError`` if the sandbox put another in its place, ``OSError`` if it is gone."""
        try:
            root = os.open(self.path, _FOLDER)
        except NotADirectoryError as error:
            raise ReplacedError(errno.ESTALE, "replaced by something else while it was mounted") from error
        if self._identity is None:
            self._identity = _identity(root)
        elif _identity(root) != self._identity:
            os.close(root)
            raise ReplacedError(errno.ESTALE, "replaced by another folder while it was mounted")
        descent = Descent(root)
        try:
            yield descent
        finally:
            descent.close()


class Descent:
    """The way into an opened folder. Folders on the way to the last path stay open, since the next is mostly near it."""

    def __init__(self, root: int) -> None:
        self._names: list[str] = []
        self._fds = [root]

    def close(self) -> None:
        """Close all that is open."""
        while self._fds:
            os.close(self._fds.pop())

    def folder(self, path: str) -> int:
        """Return the descriptor of a folder, ours until the next call. ``OSError`` if a link or anything else is there."""
        names = path.split("/") if path else []
        if len(names) > MAX_DEPTH:
            raise OSError(errno.ENAMETOOLONG, f"more than {MAX_DEPTH} folders deep", path[:80])
        shared = 0
        while shared < min(len(names), len(self._names)) and names[shared] == self._names[shared]:
            shared += 1
        while len(self._names) > shared:
            self._names.pop()
            os.close(self._fds.pop())
        for name in names[shared:]:
            self._fds.append(os.open(name, _FOLDER, dir_fd=self._fds[-1]))
            self._names.append(name)
        return self._fds[-1]

    def has_folder(self, path: str) -> bool:
        """Whether a folder is there, itself and not by a link."""
        try:
            self.folder(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def parent(self, path: str) -> tuple[int, str]:
        """Return the descriptor of the folder that a path is in, and its name there."""
        folder, _, name = path.rpartition("/")
        return self.folder(folder), name

    def entries(self, path: str) -> list[tuple[str, os.stat_result]]:
        """Return names and states of what is in a folder, sorted; nothing if it is gone or is no folder any more."""
        try:
            fd = self.folder(path)
        except (FileNotFoundError, NotADirectoryError):
            return []
        found = []
        with os.scandir(fd) as scan:
            names = sorted(entry.name for entry in scan)
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found.append((name, os.stat(name, dir_fd=fd, follow_symlinks=False)))
        return found

    def lstat(self, path: str) -> os.stat_result:
        """Return the state of a path, of a link itself."""
        fd, name = self.parent(path)
        return os.stat(name, dir_fd=fd, follow_symlinks=False)

    def readlink(self, path: str) -> str:
        """Return where a link points."""
        fd, name = self.parent(path)
        return os.readlink(name, dir_fd=fd)

    def open_file(self, path: str) -> int | None:
        """Open a regular file for reading; ``None`` if it is gone or something else by now. A pipe does not hold us up."""
        try:
            fd, name = self.parent(path)
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, dir_fd=fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENOTDIR, errno.ENODEV):
                return None
            raise
        if stat.S_ISREG(os.fstat(file).st_mode):
            return file
        os.close(file)
        return None

    # -- writing

    def make_folder(self, path: str) -> None:
        """Make a folder, in the place of whatever else is there."""
        fd, name = self.parent(path)
        try:
            os.mkdir(name, dir_fd=fd)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=fd)
                os.mkdir(name, dir_fd=fd)

    def make_link(self, path: str, target: str) -> os.stat_result:
        """Make a link, in the place of whatever is there; return its state."""
        self.remove(path)
        fd, name = self.parent(path)
        os.symlink(target, name, dir_fd=fd)
        return os.stat(name, dir_fd=fd, follow_symlinks=False)

    def write_file(self, path: str, write: Callable[[int], None], *, mode: int, mtime_ns: int) -> os.stat_result:
        """Make a file of what ``write`` puts into a descriptor, whole or not at all; return its state."""
        fd, name = self.parent(path)
        temporary = TEMPORARY + secrets.token_hex(8)
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd)
        try:
            try:
                write(file)
                os.fchmod(file, mode)
                os.utime(file, ns=(mtime_ns, mtime_ns))
                try:
                    os.replace(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)
                except IsADirectoryError:
                    _remove(name, fd)
                    os.replace(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)
                return os.fstat(file)
            finally:
                os.close(file)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=fd)
            raise

    def remove(self, path: str) -> None:
        """Remove a path with all that is in it; no effect if it is gone, or what it was in."""
        try:
            fd, name = self.parent(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        _remove(name, fd)


def remove_tree(path: Path) -> None:
    """Remove a folder with all that is in it, however deep, following no link. No effect if it is gone."""
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _remove(path.name, fd)
    finally:
        os.close(fd)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return (status.st_dev, status.st_ino)


def _remove(name: str, fd: int) -> None:
    try:
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):  # Linux says the first, POSIX the second
        _remove_folder(name, fd)


def _remove_folder(name: str, fd: int) -> None:
    """Remove a folder: folders in it are brought up to its own level first, so that depth costs neither stack nor descriptors."""
    top = _into_forcibly(name, fd)
    try:
        pending = _emptied(top, top)
        while pending:
            one = pending.pop()
            inner = _into_forcibly(one, top)
            try:
                pending += _emptied(inner, top)
            finally:
                os.close(inner)
            os.rmdir(one, dir_fd=top)
    finally:
        os.close(top)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=fd)


def _into_forcibly(name: str, fd: int) -> int:
    """Open a folder, also one of ours whose mode forbids it."""
    try:
        inner = os.open(name, _FOLDER, dir_fd=fd)
        if os.fstat(inner).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            with contextlib.suppress(PermissionError):
                os.fchmod(inner, stat.S_IRWXU)
    except PermissionError:
        place = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        try:
            Path(f"/proc/self/fd/{place}").chmod(stat.S_IRWXU)
        finally:
            os.close(place)
        inner = os.open(name, _FOLDER, dir_fd=fd)
    return inner


def _emptied(folder: int, top: int) -> list[str]:
    """Unlink what is in ``folder`` and bring its folders into ``top`` under new names; return those."""
    found = []
    with os.scandir(folder) as scan:
        names = [entry.name for entry in scan]
    for name in names:
        try:
            os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            continue
        except (IsADirectoryError, PermissionError):
            moved = f"{TEMPORARY}{secrets.token_hex(8)}"
            with contextlib.suppress(FileNotFoundError):
                os.replace(name, moved, src_dir_fd=folder, dst_dir_fd=top)
                found.append(moved)
    return found
