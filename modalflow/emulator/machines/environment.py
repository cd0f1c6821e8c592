"""What a sandbox's process sees: environment, argv, and, without a mount namespace, rewritten mount paths.

Flows in: image settings, Secrets in order, mounts. Flows out: the values that a container starts its command with.
Pure functions.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from modalflow.emulator.state.image_layers import ImageSettings

if TYPE_CHECKING:
    from modalflow.emulator.machines.containers import Container

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
HOME = "root"
"""The sandbox's HOME and default working folder, below its root; Modal's own is ``/root``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Toolbox:
    """Folders that come first on every sandbox's PATH: our ``sync``, then the environment that plays the image."""

    folders: tuple[Path, ...]

    @property
    def base_path(self) -> str:
        """PATH of a sandbox that sets none."""
        return ":".join([*map(str, self.folders), SYSTEM_PATH])

    def complete(self, path: str) -> str:
        """Return ``path`` with the toolbox in front if it lacks it, or no command of the image would be found."""
        present = path.split(":")
        return ":".join([*(folder for folder in map(str, self.folders) if folder not in present), path])


class PathRewriter:
    """Rewrites mount paths to where they are on this machine."""

    def __init__(self, root: Path, mount_paths: Iterable[str]) -> None:
        self._root = root
        # The longest first, or /mnt would win over /mnt/data. A path counts only as a whole prefix: not /mnt/database, not s3://b/mnt.
        paths = sorted((posixpath.normpath(path) for path in mount_paths), key=len, reverse=True)
        alternatives = "|".join(map(re.escape, paths))
        self._pattern = re.compile(rf"(?:(?<=file://)|(?<![\w./-]))(?:{alternatives})(?![\w.-])") if paths else None

    def text(self, text: str) -> str:
        """Rewrite every mount path in ``text``."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda match: f"{self._root}{match[0]}", text)

    def argv(self, argv: Sequence[str]) -> list[str]:
        """Rewrite arguments, except the program text after a ``-c``."""
        return [text if index and argv[index - 1] == "-c" else self.text(text) for index, text in enumerate(argv)]

    def folder(self, path: str) -> Path:
        """Return where an absolute path of the sandbox is on this machine; it cannot leave the root."""
        return self._root / posixpath.normpath("/" + path).lstrip("/")


def compose_env(
    *,
    image: ImageSettings,
    secrets: Iterable[Mapping[str, str]],
    own: Mapping[str, str],
    container: Container,
    toolbox: Toolbox,
    defaults: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Return a sandbox's environment: nothing inherited; ``defaults``, image, Secrets (later wins), Modal's own."""
    base = container.base_env
    env = {**base, "LANG": "C.UTF-8", **defaults, **image.env}
    for secret in secrets:
        env.update(secret)
    env = {name: value if base.get(name) == value else container.text(value) for name, value in env.items()}
    env["PATH"] = toolbox.complete(env["PATH"])
    return {**env, **{name: value for name, value in base.items() if name.startswith("MODAL_")}, **own}


def command_of(image: ImageSettings, args: Sequence[str]) -> list[str]:
    """Return the argv: the image's ENTRYPOINT, then the arguments, or the image's CMD if there are none."""
    return [*image.entrypoint, *(args or image.command)] or ["sleep", str(48 * 3600)]


def environment_bin(python: Path) -> Path:
    """Return the ``bin`` folder of an interpreter, or of an environment's folder. ``FileNotFoundError`` if there is none."""
    folder = python / "bin" if python.is_dir() else python.parent
    if not any((folder / name).is_file() for name in ("python", "python3")):
        raise FileNotFoundError(
            f"python: no interpreter at {os.fspath(python)!r}; name an interpreter or an environment's folder"
        )
    return folder.absolute()
