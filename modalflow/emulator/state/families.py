"""The kinds of records that a state folder keeps, in the order in which they are read back.

Flows in: the dataclasses of ``store``. Flows out: ``FAMILIES``, for ``persistence``. Inline Secrets, environments of calls, and
unnamed Volumes and Secrets end with the emulator.
"""

from __future__ import annotations

import base64
import bisect
import json
import struct
from collections.abc import Iterator
from dataclasses import asdict, astuple
from typing import Any

from modal_proto import api_pb2

from modalflow.emulator.state.apps import App, Deployment
from modalflow.emulator.state.dicts import DictEntry, ModalDict
from modalflow.emulator.state.dicts import part_key as dict_part
from modalflow.emulator.state.environments import Environment, WorkspaceSettings, recalled
from modalflow.emulator.state.family import Data, Family, Parts
from modalflow.emulator.state.image_layers import ImageSettings
from modalflow.emulator.state.images import Image, ImageName, Revision
from modalflow.emulator.state.named import NamedObject
from modalflow.emulator.state.queues import ModalQueue, Partition, QueueItem
from modalflow.emulator.state.queues import part_key as queue_part
from modalflow.emulator.state.store import Sandbox, Secret, Volume, Workspace
from modalflow.emulator.state.volume_tree import File, Folder, Link, Node, walk

_SECONDS = struct.Struct("<d")
"""A time, since the epoch."""

SETTINGS = Family(
    name="settings",
    type=WorkspaceSettings,
    id=lambda _settings: "settings",
    records=lambda workspace: {"settings": workspace.settings},
    add=lambda workspace, settings: setattr(workspace, "settings", settings),
    dump=asdict,
    load=lambda data: WorkspaceSettings(**data),
)

ENVIRONMENTS = Family(
    name="environment",
    type=Environment,
    id=lambda environment: environment.environment_id,
    records=lambda workspace: {one.environment_id: one for one in workspace.environments.values()},
    add=recalled,
    dump=lambda environment: {**asdict(environment), "implied": False},
    load=lambda data: Environment(**data),
)


def _load_app(data: Data) -> App:
    return App(**{**data, "deployments": [Deployment(**one) for one in data["deployments"]]})


APPS = Family(
    name="app",
    type=App,
    id=lambda app: app.app_id,
    records=lambda workspace: workspace.apps,
    add=lambda workspace, app: workspace.apps.update({app.app_id: app}),
    dump=asdict,
    load=_load_app,
)


def _dump_secret(secret: Secret) -> Data | None:
    if not secret.name:
        return None
    return {
        "secret_id": secret.secret_id,
        "name": secret.name,
        "environment": secret.environment,
        "values": secret.values,
        "created_at": secret.created_at,
        "last_used_at": secret.last_used_at,
    }


SECRETS = Family(
    name="secret",
    type=Secret,
    id=lambda secret: secret.secret_id,
    records=lambda workspace: workspace.secrets,
    add=lambda workspace, secret: workspace.secrets.update({secret.secret_id: secret}),
    dump=_dump_secret,
    load=lambda data: Secret(**data),
)


def _dump_volume(volume: Volume) -> Data | None:
    if not volume.name:
        return None
    return {
        "volume_id": volume.volume_id,
        "name": volume.name,
        "environment": volume.environment,
        "version": volume.version,
        "created_at": volume.created_at,
    }


def _dump_node(volume: Volume, key: str) -> bytes | None:
    """Return one file, folder or link of a Volume; ``key`` is its path with a slash in front."""
    if not volume.tree.exists(key):
        return None
    node = volume.tree.get(key)
    data: dict[str, object] = {"mtime_ns": node.mtime_ns}
    if isinstance(node, Link):
        data["target"] = node.target
    elif isinstance(node, File):
        data |= {"blocks": node.blocks, "size": node.size, "mode": node.mode}
    return json.dumps(data).encode()


def _load_node(volume: Volume, key: str, data: bytes) -> None:
    fields: dict[str, Any] = json.loads(data)
    if "target" in fields:
        volume.tree.restore(key, Link(**fields))
    elif "blocks" in fields:
        volume.tree.restore(key, File(**{**fields, "blocks": tuple(fields["blocks"])}))
    else:
        volume.tree.restore(key, Folder(mtime_ns=fields["mtime_ns"]))


def _paths(volume: Volume) -> Iterator[str]:
    yield "/"
    for path, _ in walk(volume.tree.root):
        yield f"/{path}"


def _nodes(volume: Volume) -> Iterator[Node]:
    return (node for _, node in walk(volume.tree.root))


VOLUMES = Family(
    name="volume",
    type=Volume,
    id=lambda volume: volume.volume_id,
    records=lambda workspace: workspace.volumes,
    add=lambda workspace, volume: workspace.volumes.update({volume.volume_id: volume}),
    dump=_dump_volume,
    load=lambda data: Volume(**data),
    digests=lambda volume: (digest for node in _nodes(volume) if isinstance(node, File) for digest in node.blocks),
    parts=Parts(journal=lambda volume: volume.tree.journal, keys=_paths, dump=_dump_node, load=_load_node),
)


def _dump_image(image: Image) -> Data:
    settings = image.settings
    return {
        "image_id": image.image_id,
        "definition": _base64(image.definition.SerializeToString()),
        "settings": {
            "env": dict(settings.env),
            "workdir": settings.workdir,
            "entrypoint": settings.entrypoint,
            "command": settings.command,
            "shell": settings.shell,
            "user": settings.user,
        },
        "builder_version": image.builder_version,
        "layers": image.layers,
        "detached": image.detached,
        "recorded": image.recorded,
        "expires_at": image.expires_at,
        "key": image.key,
    }


def _load_image(data: Data) -> Image:
    settings = data["settings"]
    return Image(
        image_id=data["image_id"],
        definition=api_pb2.Image.FromString(base64.b64decode(data["definition"])),
        settings=ImageSettings(
            env=settings["env"],
            workdir=settings["workdir"],
            entrypoint=tuple(settings["entrypoint"]),
            command=tuple(settings["command"]),
            shell=tuple(settings["shell"]),
            user=settings["user"],
        ),
        builder_version=data["builder_version"],
        layers=tuple(data["layers"]),
        detached=data["detached"],
        recorded=tuple(data["recorded"]),
        expires_at=data["expires_at"],
        key=data["key"],
    )


def _add_image(workspace: Workspace, image: Image) -> None:
    workspace.images[image.image_id] = image
    if image.key:
        workspace.image_ids[image.key] = image.image_id


IMAGES = Family(
    name="image",
    type=Image,
    id=lambda image: image.image_id,
    records=lambda workspace: workspace.images,
    add=_add_image,
    dump=_dump_image,
    load=_load_image,
)

IMAGE_NAMES = Family(
    name="image name",
    type=ImageName,
    id=lambda name: name.key,
    records=lambda workspace: workspace.image_names,
    add=lambda workspace, name: workspace.image_names.update({name.key: name}),
    dump=lambda name: {"tag": name.tag, "environment": name.environment, "revisions": [astuple(one) for one in name.revisions]},
    load=lambda data: ImageName(
        tag=data["tag"], environment=data["environment"], revisions=[Revision(*one) for one in data["revisions"]]
    ),
)


def _dump_sandbox(sandbox: Sandbox) -> Data:
    return {
        "sandbox_id": sandbox.sandbox_id,
        "task_id": sandbox.task_id,
        "v2": sandbox.v2,
        "app_id": sandbox.app_id,
        "definition": _base64(sandbox.definition.SerializeToString()),
        "tags": sandbox.tags,
        "created_at": sandbox.created_at,
        "name": sandbox.name,
        "scheduled": sandbox.scheduled,
        "started_at": sandbox.started_at,
        "ready_at": sandbox.ready_at,
        "finished_at": sandbox.finished_at,
        "env_names": list(sandbox.env_names),
        "result": None if sandbox.result is None else _base64(sandbox.result.SerializeToString()),
    }


def _load_sandbox(data: Data) -> Sandbox:
    result = data["result"]
    return Sandbox(
        **{
            **data,
            "definition": api_pb2.Sandbox.FromString(base64.b64decode(data["definition"])),
            "env_names": tuple(data["env_names"]),
            "result": None if result is None else api_pb2.GenericResult.FromString(base64.b64decode(result)),
        }
    )


SANDBOXES = Family(
    name="sandbox",
    type=Sandbox,
    id=lambda sandbox: sandbox.sandbox_id,
    records=lambda workspace: workspace.sandboxes,
    add=lambda workspace, sandbox: workspace.add_sandbox(sandbox),
    dump=_dump_sandbox,
    load=_load_sandbox,
)


def _dump_named(one: NamedObject) -> dict[str, object] | None:
    if not one.name:
        return None
    return {
        "object_id": one.object_id,
        "name": one.name,
        "environment": one.environment,
        "created_at": one.created_at,
        "heard_at": one.heard_at,
    }


def _dump_entry(one: ModalDict, key: str) -> bytes | None:
    entry = one.entries.get(bytes.fromhex(key[1:]))
    return None if entry is None else _SECONDS.pack(entry.used_at) + entry.value


def _load_entry(one: ModalDict, key: str, data: bytes) -> None:
    [used_at] = _SECONDS.unpack_from(data)
    one.entries[bytes.fromhex(key[1:])] = DictEntry(value=data[_SECONDS.size :], used_at=used_at)


DICTS = Family(
    name="dict",
    type=ModalDict,
    id=lambda one: one.object_id,
    records=lambda workspace: workspace.dicts.by_id,
    add=lambda workspace, one: workspace.dicts.put_back(one),
    dump=_dump_named,
    load=lambda data: ModalDict(**data),
    parts=Parts(
        journal=lambda one: one.journal,
        keys=lambda one: map(dict_part, one.entries),
        dump=_dump_entry,
        load=_load_entry,
    ),
)


def _dump_queue(queue: ModalQueue) -> Data | None:
    named = _dump_named(queue)
    return named and {**named, "last_number": queue.last_number}


def _queue_parts(queue: ModalQueue) -> Iterator[str]:
    for key, partition in queue.partitions.items():
        yield queue_part(key)
        yield from (queue_part(key, item) for item in partition.items)


def _dump_item(queue: ModalQueue, key: str) -> bytes | None:
    """Return a partition's end, or one of its items."""
    name, _, number = key.partition("/")
    partition = queue.partitions.get(bytes.fromhex(name))
    if partition is None:
        return None
    if not number:
        return _SECONDS.pack(partition.expires_at)
    wanted, items = int(number), partition.items
    place = bisect.bisect_left(items, wanted, key=lambda item: item.number)
    return items[place].value if place < len(items) and items[place].number == wanted else None


def _load_item(queue: ModalQueue, key: str, data: bytes) -> None:
    name, _, number = key.partition("/")
    if number:
        queue.partitions[bytes.fromhex(name)].append(QueueItem(number=int(number), value=data))
    else:
        queue.partitions[bytes.fromhex(name)] = Partition(expires_at=_SECONDS.unpack(data)[0])


QUEUES = Family(
    name="queue",
    type=ModalQueue,
    id=lambda queue: queue.object_id,
    records=lambda workspace: workspace.queues.by_id,
    add=lambda workspace, queue: workspace.queues.put_back(queue),
    dump=_dump_queue,
    load=lambda data: ModalQueue(**data),
    parts=Parts(journal=lambda queue: queue.journal, keys=_queue_parts, dump=_dump_item, load=_load_item),
)

FAMILIES: tuple[Family[Any], ...] = (
    SETTINGS,
    ENVIRONMENTS,
    APPS,
    SECRETS,
    VOLUMES,
    DICTS,
    QUEUES,
    IMAGES,
    IMAGE_NAMES,
    SANDBOXES,
)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
