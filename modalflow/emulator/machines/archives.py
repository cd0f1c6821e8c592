"""Reading an archive that a sandbox wrote: it is written out below one new folder and nowhere else, whatever it says.

Flows in: an open tar file. Flows out: folders, files and links, with owners, modes and times. Devices, pipes and sockets are left
out. Blocking: call it in a worker thread. ``snapshots`` is the user.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import tarfile
from functools import partial
from pathlib import Path
from typing import IO

from modalflow.emulator.machines.untrusted_folder import Descent, UntrustedFolder


def unpack(file: int, target: Path) -> None:
    """Write the archive behind a descriptor (which is closed) into ``target``, which is made. ``OSError`` if it is none."""
    target.mkdir(mode=0o755)
    folders: list[tarfile.TarInfo] = []
    with os.fdopen(file, "rb") as stream, UntrustedFolder(target).opened() as descent:
        try:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                for info in archive:
                    _place(archive, info, descent)
                    folders += [info] if info.isdir() else []
            # Times and modes of folders last: what is written into them changes the one and needs the other.
            for info in reversed(folders):
                _take_on_folder(info, descent)
        except (tarfile.TarError, ValueError, OverflowError) as error:
            raise OSError(f"the sandbox's archive cannot be read: {error}") from error


def _path(info: tarfile.TarInfo) -> str:
    return posixpath.normpath(f"/{info.name}").lstrip("/")


def _place(archive: tarfile.TarFile, info: tarfile.TarInfo, descent: Descent) -> None:
    path = _path(info)
    if not path:
        return
    if info.isdir():
        descent.make_folder(path)
    elif info.issym():
        descent.make_link(path, info.linkname)
        _take_on(info, path, descent)
    elif info.isreg() or info.islnk():
        content = archive.extractfile(info)
        if content is not None:
            with content:
                write = partial(_copy, content)
                descent.write_file(path, write, mode=0o600, mtime_ns=0)
            _take_on(info, path, descent)


def _copy(content: IO[bytes], fd: int) -> None:
    with os.fdopen(fd, "wb", closefd=False) as file:
        shutil.copyfileobj(content, file, 1024 * 1024)


def _take_on(info: tarfile.TarInfo, path: str, descent: Descent) -> None:
    """Give a path its owner, mode and time; owners only where we may."""
    fd, name = descent.parent(path)
    if os.geteuid() == 0:
        os.chown(name, info.uid, info.gid, dir_fd=fd, follow_symlinks=False)
    if not info.issym():
        os.chmod(name, info.mode & 0o7777, dir_fd=fd)
    os.utime(name, ns=_times(info), dir_fd=fd, follow_symlinks=False)


def _take_on_folder(info: tarfile.TarInfo, descent: Descent) -> None:
    """Do so with a folder, unless the archive has put something else in its place since: a link leads anywhere."""
    try:
        fd = descent.folder(_path(info))
    except (FileNotFoundError, NotADirectoryError):
        return
    if os.geteuid() == 0:
        os.chown(fd, info.uid, info.gid)
    os.fchmod(fd, info.mode & 0o7777)
    os.utime(fd, ns=_times(info))


def _times(info: tarfile.TarInfo) -> tuple[int, int]:
    nanoseconds = int(float(info.mtime) * 1_000_000_000)
    return nanoseconds, nanoseconds
