"""What COPY finds: the files that came with a layer's definition, chosen by its sources as Docker chooses them.

Flows in: a context mount, context files, one COPY instruction's words. Flows out: which file goes to which path.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from modalflow.emulator.machines.file_layers import OnMachine, Source
from modalflow.emulator.machines.layer_view import LayerView


class CopyError(Exception):
    """A COPY that cannot be done; the text says why."""


@dataclass(frozen=True, slots=True)
class ContextFile:
    """A file of the context: content and permission bits."""

    source: Source
    mode: int


@dataclass(frozen=True, slots=True)
class Target:
    """A file and the absolute path it is copied to."""

    path: str
    file: ContextFile


Context = Mapping[str, ContextFile]
"""Files by their path relative to the context's root."""


def targets(context: Context, sources: Sequence[str], destination: str, below: LayerView) -> list[Target]:
    """Return what is copied where. ``CopyError`` for a source that is not there, or several for a destination without slash."""
    chosen = [found for source in sources for found in _chosen(context, source)]
    folder = destination.endswith("/") or below.is_folder(destination)
    files = sum(1 for name, _ in chosen if name)
    if (len(sources) > 1 or files > 1) and not destination.endswith("/"):
        raise CopyError(f"COPY of several sources: the destination {destination!r} must end with a slash")
    found: list[Target] = []
    for name, members in chosen:
        if name:
            path = posixpath.join(destination, name) if folder else destination
            found.append(Target(path, members[""]))
        else:
            found += [Target(posixpath.join(destination, path), file) for path, file in members.items()]
    return found


def _chosen(context: Context, source: str) -> list[tuple[str, Context]]:
    """Return what a source means: (name, {"": file}) for each file, ("", files by relative path) for each folder."""
    path = posixpath.normpath("/" + source).strip("/")
    if ".." in source.split("/"):
        raise CopyError(f"COPY: {source!r} leaves the build context; sources are below it")
    if path in context:
        return [(posixpath.basename(path), {"": context[path]})]
    if any(character in path for character in "*?["):
        names = {matched for name in context if (matched := _matched(name, path))}
        found = [one for name in sorted(names) for one in _chosen(context, name)]
    else:
        prefix = f"{path}/" if path else ""
        members = {name[len(prefix) :]: file for name, file in context.items() if name.startswith(prefix)}
        found = [("", members)] if members or not path else []
    if not found:
        raise CopyError(f"COPY: {source!r} not found in the build context")
    return found


def _matched(name: str, pattern: str) -> str:
    """Return the part of a path that a pattern of as many parts matches, the empty text if it does not."""
    parts, patterns = name.split("/"), pattern.split("/")
    head = parts[: len(patterns)]
    matches = len(head) == len(patterns) and all(fnmatchcase(*pair) for pair in zip(head, patterns, strict=True))
    return "/".join(head) if matches else ""


def from_view(view: LayerView, source: str) -> list[tuple[str, ContextFile]]:
    """Return the files at a path of another image's file system, by relative path (``""``: it is one file itself)."""
    real = view.resolve(source)
    found = view.find(real)
    if found is None:
        raise CopyError(f"COPY --from: {source!r} is not on this machine, whose file system plays every registry image")
    if found.is_file():
        return [("", _file_of(found))]
    names = [Path(folder, name) for folder, _, files in os.walk(found) for name in files]
    return [(str(path.relative_to(found)), _file_of(path)) for path in names if path.is_file() and not path.is_symlink()]


def _file_of(path: Path) -> ContextFile:
    return ContextFile(OnMachine(path), path.stat().st_mode & 0o777)
