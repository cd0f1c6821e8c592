"""What a stack of layers shows, looked up without mounting it: links, whiteouts and opaque folders as overlayfs has them.

Flows in: folders, the topmost first. Flows out: where a path leads, and what is there. Nothing is followed outside of the stack.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

_MOST_LINKS = 40
_MOST_TEXT_BYTES = 1024 * 1024
HOST = Path("/")


class LayerView:
    """A stack to look into. What it has seen it remembers: make a new one after a change."""

    def __init__(self, layers: Sequence[Path], *, above_host: Sequence[Path] = (), detached: bool = False) -> None:
        """``above_host``: layers that every image has between its own and this machine; ``detached``: neither counts.

        Where there are such layers, images see of this machine what containers see: the file system of ``/`` and no other,
        so neither another disk nor ``/proc``, in which the emulator's own environment is.
        """
        self._layers: tuple[Path, ...] = tuple(layers) if detached else (*layers, *above_host, HOST)
        self._host_device = HOST.stat().st_dev if above_host else None
        self._seen: dict[str, Path | None] = {"": self._layers[0] if self._layers else HOST}

    def find(self, path: str) -> Path | None:
        """Return where a path of real folders is on this machine; ``None`` if there is nothing. The last part may be a link."""
        path = path.strip("/")
        if path not in self._seen:
            parent = path.rpartition("/")[0]
            self._seen[path] = self._search(path) if parent == "" or self.find(parent) is not None else None
        return self._seen[path]

    def _search(self, path: str) -> Path | None:
        for layer in self._layers:
            here = layer
            for part in path.split("/"):
                here = here / part
                try:
                    status = here.lstat()
                except (FileNotFoundError, NotADirectoryError):
                    break
                if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                    return None
                if layer == HOST and self._host_device not in (None, status.st_dev):
                    return None
                if here != layer / path and not stat.S_ISDIR(status.st_mode):
                    return None
            else:
                return here
            if _hides_lower(layer, path):
                return None
        return None

    def resolve(self, path: str) -> str:
        """Return the absolute path without links that ``path`` leads to, whether it exists or not. ``OSError`` for a loop."""
        done: list[str] = []
        todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                del done[-1:]
                continue
            found = self.find("/".join([*done, part]))
            if found is None or not found.is_symlink():
                done.append(part)
                continue
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = str(found.readlink())
            if target.startswith("/"):
                done.clear()
            todo += [part for part in reversed(target.split("/")) if part not in ("", ".")]
        return "/" + "/".join(done)

    def is_folder(self, path: str) -> bool:
        """Whether ``path`` leads to a folder."""
        real = self.resolve(path)
        found = self.find(real)
        return real == "/" or (found is not None and found.is_dir())

    def text(self, path: str) -> str:
        """Return the text of a file, at most the first MiB; the empty text if it is not there."""
        found = self.find(self.resolve(path))
        if found is None or not found.is_file():
            return ""
        with found.open("rb") as file:
            return file.read(_MOST_TEXT_BYTES).decode(errors="replace")


def _hides_lower(layer: Path, path: str) -> bool:
    """Whether a folder on the way to ``path`` says that nothing below this layer counts."""
    here = layer
    for part in path.split("/")[:-1]:
        here = here / part
        try:
            if os.getxattr(here, "trusted.overlay.opaque", follow_symlinks=False) == b"y":
                return True
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return False
            if error.errno not in (errno.ENODATA, errno.EPERM, errno.EOPNOTSUPP):
                raise
    return False
