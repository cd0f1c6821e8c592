"""A folder of DAGs put into a folder of a Modal Volume: what ``modalflow sync`` does.

In: a folder of this machine. Out: the same files on the Volume, and what else was there is gone. New files come before old ones
go, so that a task never meets an empty folder. The credentials are this process's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modal import Client, Volume

from modalflow.launch.gateway import Unauthenticated
from modalflow.modal_gateway.connection import open_client, read_credentials
from modalflow.modal_gateway.errors import bounded

CONNECT_LIMIT = 30.0
"""Seconds for reading the credentials and for connecting, each."""
UPLOAD_LIMIT = 1800.0
"""Seconds for the whole upload."""
LEFT_OUT = frozenset({"__pycache__", ".git"})
"""Folders that no DAG needs on Modal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Uploaded:
    """What was done. ``at_root`` are files beside the folder, which 0.3.1 put there and nothing here reads."""

    files: int
    removed: int
    at_root: tuple[str, ...]


def replace_folder(local: Path, volume: str, folder: str) -> Uploaded:
    """Make ``folder`` of the Volume, which is created if missing, what ``local`` is. Raises ``GatewayError``."""
    return asyncio.run(_replace(local, volume, folder))


async def _replace(local: Path, volume: str, folder: str) -> Uploaded:
    credentials = await read_credentials(None, CONNECT_LIMIT)
    async with bounded("connect to Modal", CONNECT_LIMIT):
        client = await open_client(credentials)
    try:
        async with client, bounded(f"bring {local} to Volume {volume}", UPLOAD_LIMIT):
            return await _upload(client, local, volume, folder)
    except Unauthenticated as error:
        raise credentials.explained(error) from error


async def _upload(client: Client, local: Path, name: str, folder: str) -> Uploaded:
    volume = Volume.from_name(name, create_if_missing=True)
    await volume.hydrate.aio(client)
    here = dict(_files(local, folder))
    async with volume.batch_upload.aio(force=True) as batch:
        for remote, path in here.items():
            batch.put_file(path, remote)
    at_root: list[str] = []
    removed = 0
    for entry in await volume.listdir.aio("/", recursive=True):
        remote = "/" + entry.path.lstrip("/")
        if entry.type.name != "FILE":
            continue
        if remote.count("/") == 1:
            at_root.append(remote)
        elif remote.startswith(f"/{folder}/") and remote not in here:
            await volume.remove_file.aio(remote)
            removed += 1
    return Uploaded(files=len(here), removed=removed, at_root=tuple(sorted(at_root)))


def _files(local: Path, folder: str) -> Iterator[tuple[str, Path]]:
    for path in sorted(local.rglob("*")):
        inside = path.relative_to(local)
        if path.is_file() and not LEFT_OUT & set(inside.parts):
            yield f"/{folder}/{inside.as_posix()}", path
