"""Folders of this machine that containers may change for themselves although their overlay does not show them.

The interpreter that plays every image mostly lies below a hidden folder (``/home``, ``/root``) or on another file system. It is
shown by a small overlay of its own at its path, so that ``pip install`` works and writes to a layer, never to this machine.

Flows in: such folders, the image's layers. Flows out: what to mount, and after the container's end its part of the layer.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cover:
    """``source``, a folder of this machine without links in its path, shown at ``path``."""

    source: Path
    path: str


def prepare(root: Path, covers: Iterable[Cover], layers: Sequence[Path]) -> None:
    """Make the folders of each cover's overlay below ``root``, and short names for what lies below it. Blocking."""
    for number, cover in enumerate(covers):
        here = root / f"c{number}"
        for name in ("upper", "work"):
            (here / name).mkdir(parents=True)
        _like(here / "upper", cover.source)
        for below, folder in enumerate(_lower(cover, layers)):
            (here / f"l{below}").symlink_to(folder)


def mount_arguments(root: Path, covers: Iterable[Cover]) -> list[str]:
    """Return, three words a cover, where to mount from, the lower folders, and the path in the container."""
    words: list[str] = []
    for number, cover in enumerate(covers):
        count = sum(1 for entry in (root / f"c{number}").iterdir() if entry.name.startswith("l"))
        words += [f"c{number}", ":".join(f"l{below}" for below in range(count)), cover.path]
    return words


def take(root: Path, covers: Iterable[Cover], target: Path, *, copied: bool = False) -> None:
    """Bring what was written in each cover into the layer ``target``, which has the rest. Blocking."""
    for number, cover in enumerate(covers):
        written = root / f"c{number}" / "upper"
        if not any(written.iterdir()):
            continue
        place = _parent_in(target, cover) / Path(cover.path).name
        if _is_folder(place):
            place.rmdir()  # the mount point, in which nothing can be
        (copy if copied else move)(written, place)


def move(source: Path, target: Path) -> None:
    """Move a folder; between file systems by ``cp``, which keeps whiteouts, owners and extended attributes."""
    try:
        source.rename(target)
    except OSError:
        copy(source, target)


def copy(source: Path, target: Path) -> None:
    """Copy a folder, or into one that is there, with whiteouts, owners and extended attributes. ``OSError`` if that cannot be."""
    done = subprocess.run(  # noqa: S603
        ["/bin/cp", "-a", "-T", "--", source, target], check=False, capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        raise OSError(f"copying failed: {' '.join(done.stderr.split()) or f'exit code {done.returncode}'}")


def _lower(cover: Cover, layers: Sequence[Path]) -> list[Path]:
    found = [layer for layer in layers if all(map(_is_folder, _steps(layer, cover.path)))]
    return [*(layer / cover.path[1:] for layer in found), cover.source]


def _steps(layer: Path, path: str) -> list[Path]:
    parts = Path(path).parts[1:]
    return [layer.joinpath(*parts[: count + 1]) for count in range(len(parts))]


def _parent_in(target: Path, cover: Cover) -> Path:
    """Make the folders above the cover in a layer, as they are on this machine. ``OSError`` if something else is there."""
    place = target
    for step in _steps(target, cover.path)[:-1]:
        place = step
        if not _is_folder(step):
            step.mkdir()
            _like(step, Path("/", step.relative_to(target)))
    return place


def _like(folder: Path, ours: Path) -> None:
    shutil.copystat(ours, folder)
    status = ours.stat()
    os.chown(folder, status.st_uid, status.st_gid)


def _is_folder(path: Path) -> bool:
    """Whether it is a folder, and no link to one."""
    return os.path.lexists(path) and stat.S_ISDIR(path.lstat().st_mode)
