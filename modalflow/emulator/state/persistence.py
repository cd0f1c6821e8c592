"""What outlives an emulator that was given a ``state_dir``: Apps, named Secrets and Volumes. Never a call's own environment.

Flows in: the store, after each change. Flows out: one JSON file a workspace (mode 0600), read back at the next start. The
Volumes' blocks lie beside it in ``blobs/``.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from modalflow.emulator.state.store import App, Secret, Store, Volume, Workspace
from modalflow.emulator.state.volume_tree import File, Folder, Link, Node

_FORMAT = 1


def save(store: Store, folder: Path) -> None:
    """Write every workspace, each file whole or not at all."""
    for workspace in store.workspaces.values():
        target = folder / f"workspace-{hashlib.sha256(workspace.name.encode()).hexdigest()[:16]}.json"
        temporary = target.with_suffix(".tmp")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as file:
            json.dump(_dumped(workspace), file)
        temporary.replace(target)


def load(store: Store, folder: Path) -> None:
    """Read every workspace back. ``ValueError`` for a file of another format."""
    for file in sorted(folder.glob("workspace-*.json")):
        data = json.loads(file.read_text())
        if data["format"] != _FORMAT:
            raise ValueError(
                f"{file}: written by another version (format {data['format']}, expected {_FORMAT}); use a new folder"
            )
        workspace = store.workspace(data["name"])
        workspace.environments.update(data["environments"])
        workspace.apps.update({one["app_id"]: App(**one) for one in data["apps"]})
        workspace.secrets.update({one["secret_id"]: Secret(**one) for one in data["secrets"]})
        for one in data["volumes"]:
            volume = Volume(**{name: value for name, value in one.items() if name != "tree"})
            volume.tree.root = _folder(one["tree"])
            workspace.volumes[volume.volume_id] = volume


def _dumped(workspace: Workspace) -> dict[str, object]:
    return {
        "format": _FORMAT,
        "name": workspace.name,
        "environments": workspace.environments,
        "apps": [
            {
                "app_id": one.app_id,
                "name": one.name,
                "environment": one.environment,
                "created_at": one.created_at,
                "stopped_at": one.stopped_at,
            }
            for one in workspace.apps.values()
            if one.name
        ],
        "secrets": [
            {
                "secret_id": one.secret_id,
                "name": one.name,
                "environment": one.environment,
                "values": one.values,
                "created_at": one.created_at,
            }
            for one in workspace.secrets.values()
            if one.name
        ],
        "volumes": [
            {
                "volume_id": one.volume_id,
                "name": one.name,
                "environment": one.environment,
                "version": one.version,
                "created_at": one.created_at,
                "tree": _tree(one.tree.root),
            }
            for one in workspace.volumes.values()
            if one.name
        ],
    }


def _tree(node: Node) -> dict[str, object]:
    if isinstance(node, Folder):
        return {"entries": {name: _tree(child) for name, child in node.entries.items()}, "mtime_ns": node.mtime_ns}
    if isinstance(node, Link):
        return {"target": node.target, "mtime_ns": node.mtime_ns}
    return {"blocks": node.blocks, "size": node.size, "mode": node.mode, "mtime_ns": node.mtime_ns}


def _folder(data: dict[str, dict[str, dict[str, object]]]) -> Folder:
    return Folder({name: _node(child) for name, child in data["entries"].items()}, int(str(data["mtime_ns"])))


def _node(data: dict[str, object]) -> Node:
    if "entries" in data:
        return _folder(data)  # type: ignore[arg-type]
    if "target" in data:
        return Link(target=str(data["target"]), mtime_ns=int(str(data["mtime_ns"])))
    blocks = data["blocks"]
    assert isinstance(blocks, list)  # noqa: S101 -- our own format
    return File(
        blocks=tuple(blocks), size=int(str(data["size"])), mode=int(str(data["mode"])), mtime_ns=int(str(data["mtime_ns"]))
    )
