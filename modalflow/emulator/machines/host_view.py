"""What containers see of this machine: its file system as the image's base, without what is private to its users.

Flows in: the folders to hide, and the interpreter that plays every image. Flows out: a layer of opaque folders to put on top of
``/``, and what has to be shown beside it, as an interpreter needs it from hidden folders or other file systems. ``oci_launcher``
asks once per emulator, and makes ``covers`` of folders.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from modalflow.emulator.machines.oci_config import Bind

_EMPTY = ("/root", "/home", "/tmp", "/var/tmp", "/run", "/media", "/var/spool/cron")  # noqa: S108 -- seen empty
_GONE = (
    "/var/lib/docker", "/var/lib/containerd", "/var/lib/containers", "/var/lib/kubelet", "/var/lib/rancher", "/var/lib/lxc",
    "/etc/shadow-", "/etc/gshadow-", "/etc/ssh", "/etc/kubernetes", "/etc/docker", "/.dockerenv",
)  # fmt: skip
_LOCKED = ("/etc/shadow", "/etc/gshadow")
_OPAQUE = "trusted.overlay.opaque"
_WANTED = "import json, sys; print(json.dumps([sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path]))"


def build(layer: Path, hidden: Iterable[Path], places: Mapping[str, bool]) -> None:
    """Fill the folder ``layer``: what is to be empty or gone, ``hidden`` folders, ``places`` of mounts (whether folders)."""
    for path in (*_EMPTY, *(str(folder) for folder in hidden if not any(folder.is_relative_to(place) for place in _EMPTY))):
        if Path(path).is_dir() and not Path(path).is_symlink():
            os.setxattr(_like_ours(layer, Path(path)), _OPAQUE, b"y")
    for path in _GONE:
        if os.path.lexists(path) and not Path(path).parent.is_symlink():
            _like_ours(layer, Path(path).parent)
            os.mknod(layer / path.lstrip("/"), stat.S_IFCHR, os.makedev(0, 0))
    for path in _LOCKED:
        if Path(path).is_file():
            place = _like_ours(layer, Path(path).parent) / Path(path).name
            place.write_text("".join(_locked(line) for line in Path(path).read_text().splitlines()))
            shutil.copystat(path, place)
            os.chown(place, Path(path).stat().st_uid, Path(path).stat().st_gid)
    for path, is_folder in places.items():
        place = layer / path.lstrip("/")
        (place if is_folder else place.parent).mkdir(parents=True, exist_ok=True)
        if not is_folder:
            place.touch()


def _locked(line: str) -> str:
    """Return a line of the password file without its password: nobody logs in by it."""
    name, _, *rest = line.split(":")
    return ":".join([name, "*", *rest]) + "\n"


def hides(path: Path, hidden: Iterable[Path]) -> bool:
    """Whether ``path`` is below something hidden, or on another file system than ``/``, which an overlay does not show."""
    places = (*_EMPTY, *(str(folder) for folder in hidden))
    return path.stat().st_dev != Path("/").stat().st_dev or any(path.is_relative_to(place) for place in places)


def binds(interpreter_bin: Path, hidden: Iterable[Path]) -> list[Bind]:
    """Return the files and folders that the interpreter in that folder and its packages need and an overlay does not show."""
    found: dict[str, Bind] = {}
    hidden = list(hidden)
    for name in _folders(interpreter_bin):
        # Both where it is named and where it is: an environment refers to its base by either.
        for path in dict.fromkeys((name, os.path.realpath(name))):
            if Path(path).exists() and path != "/" and hides(Path(path), hidden):
                found[path] = Bind(source=Path(path).resolve(), path=path, read_only=True)
    return [one for path, one in found.items() if not any(path.startswith(f"{other}/") for other in found)]


@functools.cache
def _folders(interpreter_bin: Path) -> tuple[str, ...]:
    """Ask the interpreter for its folders, with the environment that a sandbox has."""
    interpreter = next(path for name in ("python", "python3") if (path := interpreter_bin / name).exists())
    ran = subprocess.run(  # noqa: S603
        [interpreter, "-c", _WANTED], env={"HOME": "/root"}, capture_output=True, text=True, check=False, cwd="/"
    )
    try:
        said = json.loads(ran.stdout)
    except ValueError:  # whatever plays the interpreter is no Python: it has the folder that it is in
        said = []
    return tuple(dict.fromkeys([str(interpreter_bin.parent), *(path for path in said if path)]))


def _like_ours(layer: Path, path: Path) -> Path:
    """Make the folder ``path`` in the layer, each part with the mode and owner that it has here."""
    place = layer
    for part in path.parts[1:]:
        place = place / part
        if not place.is_dir():
            place.mkdir()
            ours = Path("/", *place.relative_to(layer).parts)
            shutil.copystat(ours, place)
            status = ours.stat()
            os.chown(place, status.st_uid, status.st_gid)
    return place
