"""Layers that hold copied files: written here without a mount, and shown to containers that have no file system of their own.

Flows in: files (uploads, context files, files of this machine) and where they go. Flows out: a folder in the form of an overlay's
upper folder. Paths are resolved in the stack below, so that a file for ``/bin`` goes where ``/bin`` leads, and never out of the
layer.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from modalflow.emulator.machines.containers import Container
from modalflow.emulator.machines.environment import HOME
from modalflow.emulator.machines.layer_view import LayerView
from modalflow.emulator.state.blobs import BlobStore


class Source(Protocol):
    """The content of one file."""

    def write(self, target: Path, mode: int) -> None:
        """Write it, replacing what is there."""
        ...


@dataclass(frozen=True, slots=True)
class Uploaded:
    """An upload: its blocks and its size in bytes."""

    blobs: BlobStore
    blocks: tuple[str, ...]
    size: int

    def write(self, target: Path, mode: int) -> None:
        """Write it from the block store."""
        target.unlink(missing_ok=True)
        file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self.blobs.write_to(file, self.blocks, self.size)
            os.fchmod(file, mode)
        finally:
            os.close(file)


@dataclass(frozen=True, slots=True)
class Text:
    """Content that came with the request."""

    data: bytes

    def write(self, target: Path, mode: int) -> None:
        """Write it out."""
        target.unlink(missing_ok=True)
        target.write_bytes(self.data)
        target.chmod(mode)


@dataclass(frozen=True, slots=True)
class OnMachine:
    """A file of this machine, or of a lower layer."""

    path: Path

    def write(self, target: Path, mode: int) -> None:
        """Copy it."""
        target.unlink(missing_ok=True)
        shutil.copyfile(self.path, target)
        target.chmod(mode)


class FileLayer:
    """A layer that is being written. ``OSError`` from its methods tells the path as the image sees it."""

    def __init__(self, folder: Path, below: LayerView) -> None:
        self._folder = folder
        self._below = below
        folder.mkdir(mode=0o755)
        _take_after(folder, below.find(""))

    def write(self, path: str, source: Source, mode: int, owner: tuple[int, int] = (0, 0)) -> None:
        """Put a file at an absolute path."""
        real = self._below.resolve(path)
        if self._below.is_folder(real) or (self._folder / real[1:]).is_dir():
            raise IsADirectoryError(f"{path} is a folder")
        self.folder(real.rpartition("/")[0] or "/")
        target = self._folder / real[1:]
        source.write(target, mode)
        if os.geteuid() == 0:
            os.chown(target, *owner)

    def folder(self, path: str) -> None:
        """Make a folder, as it is in the stack below if it is there. ``NotADirectoryError`` if something else is."""
        real = self._below.resolve(path)
        here = self._folder
        for part in real.split("/")[1:]:
            if not part:
                continue
            here = here / part
            found = self._below.find(str(here.relative_to(self._folder)))
            if here.is_dir():
                continue
            if here.exists() or (found is not None and not found.is_dir()):
                raise NotADirectoryError(f"/{here.relative_to(self._folder)} is no folder")
            here.mkdir(mode=0o755)
            _take_after(here, found)


def _take_after(folder: Path, lower: Path | None) -> None:
    """Give a folder the permissions and owner of the one below it: in an overlay those of the topmost count."""
    if lower is None:
        folder.chmod(0o755)
        return
    status = lower.stat()
    folder.chmod(status.st_mode & 0o7777)
    if os.geteuid() == 0:
        os.chown(folder, status.st_uid, status.st_gid)


def show_in(container: Container, layers: Sequence[Path]) -> None:
    """Copy file layers, the lowest first, to where a container without an overlay finds them. Before ``open``; blocks."""
    for layer in layers:
        for path in _own_paths(layer):
            source, target = layer / path, container.mount_folder(f"/{path}")
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy2(source, target, follow_symlinks=False)


def _own_paths(layer: Path, prefix: str = "") -> list[str]:
    """Return the paths at which a layer begins: what this machine does not have, and the private HOME's entries."""
    found: list[str] = []
    for entry in sorted(os.scandir(layer / prefix), key=lambda one: one.name):
        path = f"{prefix}{entry.name}"
        shared = Path("/", path).is_dir() or path == HOME
        if shared and entry.is_dir(follow_symlinks=False):
            found += _own_paths(layer, f"{path}/")
        else:
            found.append(path)
    return found
