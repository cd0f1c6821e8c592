"""Layers of images on this machine: one folder each, in the form of an overlay's upper folder, never changed once it is there.

Flows in: folders that builds, snapshots and mounts have filled. Flows out: the stack that a container is put on. Which image has
which layers is known to ``state.images``; ``layer_view`` looks into a stack, ``file_layers`` writes one.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from modalflow.emulator.machines.covers import move
from modalflow.emulator.machines.untrusted_folder import remove_tree
from modalflow.emulator.state.images import Image

Kind = Literal["files", "run", "snapshot"]
_PREFIX = {"files": "f", "run": "r", "snapshot": "s"}


class LayerStore:
    """The folder of all layers of an emulator. Names are short: an overlay's options have to fit into 4096 bytes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, name: str) -> Path:
        """Return the folder of the layer of that name."""
        return self._folder / name

    def new_name(self, kind: Kind) -> str:
        """Return a name that no layer has; nothing is there yet."""
        return f"{_PREFIX[kind]}{secrets.token_hex(5)}"

    def adopt(self, folder: Path, kind: Kind = "snapshot") -> str:
        """Move an upper folder, whiteouts and all, in here and return its name. Blocks; ``OSError`` if it cannot be read."""
        name = self.new_name(kind)
        move(folder, self.path(name))
        remove_tree(folder)  # what a move to another file system leaves
        return name

    def stack(self, image: Image | None) -> tuple[Path, ...]:
        """Return the folders of an image's layers, the topmost first, as an overlay wants them."""
        return tuple(self.path(name) for name in reversed(image.layers)) if image else ()

    def only_files(self, image: Image | None) -> tuple[Path, ...]:
        """Return the folders of those layers that hold copied files and nothing else, the lowest first."""
        return tuple(self.path(name) for name in image.layers if name.startswith("f")) if image else ()

    def discard(self, names: Iterable[str]) -> None:
        """Remove layers that nothing refers to. Blocks."""
        for name in names:
            remove_tree(self.path(name))

    def prune(self, used: Iterable[str]) -> None:
        """Remove every layer that is not ``used``; at start, for what a killed build left behind."""
        kept = set(used)
        self.discard(entry.name for entry in self._folder.iterdir() if entry.name not in kept)
