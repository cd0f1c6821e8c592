"""Images mounted into a container that has no mount namespace: copies below its root, where the path leads from then on.

Flows in: layers and a path. Flows out: a folder in its place, and at the end what was there before. Blocking: call it in a worker
thread. ``process_container`` is the user.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Sequence
from pathlib import Path

from modalflow.emulator.machines.containers import AttachError
from modalflow.emulator.machines.covers import copy
from modalflow.emulator.machines.untrusted_folder import UntrustedFolder, remove_tree


class PrivateMounts:
    """Those of one container, by path."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._covered: dict[str, Path] = {}

    def attach(self, layers: Sequence[Path], path: str, place: Path) -> None:
        """Put a copy of the layers, the topmost first, at ``place``. ``OSError`` if a link or a file is on the way."""
        if path in self._covered:
            self.detach(path, place)
        folder = self._root / f".modal-mount-{secrets.token_hex(4)}"
        folder.mkdir(mode=0o755)
        for layer in reversed(layers):
            copy(layer, folder)
        UntrustedFolder(place.parent).make(below=self._root)
        covered = self._root / f".modal-covered-{secrets.token_hex(4)}"
        with contextlib.suppress(FileNotFoundError):
            place.rename(covered)
        folder.rename(place)
        self._covered[path] = covered

    def detach(self, path: str, place: Path) -> None:
        """Bring back what was there, or an empty folder. ``AttachError`` if nothing is mounted at that path."""
        if path not in self._covered:
            raise AttachError(f"nothing is mounted at {path}")
        covered = self._covered.pop(path)
        with contextlib.suppress(FileNotFoundError):
            remove_tree(place)
        try:
            covered.rename(place)
        except FileNotFoundError:
            place.mkdir()
