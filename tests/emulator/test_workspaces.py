"""Two tokens on one emulator: whatever RPC is served, neither sees, changes nor ends what the other has."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator

import modal
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from grpclib import GRPCError, Status
from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from modal_proto import api_pb2
from modal_proto.api_grpc import ModalClientStub

from modalflow.emulator import EmulatorThread
from modalflow.emulator.coverage import coverage
from tests.emulator.conftest import StartEmulator

NAME = "things-of-the-first"
"""What everything of the first workspace is called. The second asks for the same name, and may make its own."""
CANARY = "canary-of-the-first"
"""What everything of the first workspace holds."""

NAMED = ("name", "deployment_name", "app_name", "sandbox_name", "label")
OF_NOBODY = {"AuthTokenGet", "ClientHello"}
"""They take no id and tell nothing of a workspace."""


@pytest.fixture(scope="module")
def seconds() -> float:
    """How long a call may stream or poll before it is taken for empty."""
    return 1.0


@pytest.fixture
def emulator(start_emulator: StartEmulator) -> EmulatorThread:
    return start_emulator(any_token=True)


@pytest.fixture
def first(emulator: EmulatorThread) -> Iterator[modal.Client]:
    client = modal.Client.from_credentials("ak-first", "as-first")
    yield client
    client.close()


@pytest.fixture
def ids(emulator: EmulatorThread, first: modal.Client) -> dict[str, str]:
    """One of everything in the first workspace, by the prefix of its id; all of it holds the canary."""
    app = modal.App.lookup(NAME, create_if_missing=True, client=first)
    modal.Secret.objects.create(NAME, {"KEY": CANARY}, client=first)
    secret = modal.Secret.from_name(NAME, client=first).hydrate()
    volume = modal.Volume.from_name(NAME, create_if_missing=True, version=2, client=first).hydrate()
    with volume.batch_upload() as batch:
        batch.put_file(__file__, f"/{NAME}")
    dict_ = modal.Dict.from_name(NAME, create_if_missing=True, client=first).hydrate()
    dict_["key"] = CANARY
    queue = modal.Queue.from_name(NAME, create_if_missing=True, client=first).hydrate()
    queue.put(CANARY)
    image = modal.Image.debian_slim("3.11")
    sandbox = modal.Sandbox.create(
        "sh", "-c", f"echo {CANARY}; exec sleep 600", app=app, client=first, image=image, name=NAME, secrets=[secret]
    )
    assert next(iter(sandbox.stdout)) == f"{CANARY}\n"
    objects = (secret, volume, dict_, queue, image, sandbox)
    workspace = emulator._emulator.core.store.workspace("ak-first")
    found = [one.object_id for one in objects] + [next(iter(workspace.tasks))]
    assert isinstance(app.app_id, str)
    return {one.partition("-")[0]: one for one in [*found, app.app_id]}


def filled(message: Message, ids: dict[str, str], prefix: str) -> bool:
    """Put the id of that prefix wherever the request takes an id, and the name wherever it takes one; whether there was any."""
    any_id = False
    for field in message.DESCRIPTOR.fields:
        repeated = bool(field.is_repeated)
        if field.message_type is not None:
            if not repeated and field.message_type.full_name.startswith("modal."):
                inner = type(message)()
                target = getattr(inner, field.name)
                if field.message_type is not message.DESCRIPTOR and filled(target, ids, prefix):
                    getattr(message, field.name).CopyFrom(target)
                    any_id = True
        elif field.type == FieldDescriptor.TYPE_STRING and field.name.rstrip("s").endswith("_id"):
            if repeated:
                getattr(message, field.name).append(ids[prefix])
            else:
                setattr(message, field.name, ids[prefix])
            any_id = True
        elif field.type == FieldDescriptor.TYPE_STRING and field.name in (
            "name",
            "deployment_name",
            "app_name",
            "sandbox_name",
            "label",
        ):
            setattr(message, field.name, NAME)
            any_id = True
        elif field.type == FieldDescriptor.TYPE_STRING and field.name == "path":
            setattr(message, field.name, f"/{NAME}")
    return any_id


async def called(stub: ModalClientStub, name: str, request: Message, seconds: float) -> tuple[Status, bytes]:
    """Status of a call of the second workspace, and every byte that it was told."""
    method = getattr(stub, name)
    metadata = {"x-modal-token-id": "ak-second", "x-modal-token-secret": "as-second", "x-modal-client-version": "1.6.4"}
    told = b""
    try:
        async with asyncio.timeout(seconds):
            if isinstance(method, UnaryUnaryMethod):
                told = (await method(request, metadata=metadata)).SerializeToString()
            else:
                async with method.open(metadata=metadata) as stream:
                    await stream.send_message(request, end=True)
                    async for reply in stream:
                        told += reply.SerializeToString()
    except TimeoutError:
        return Status.DEADLINE_EXCEEDED, told
    except GRPCError as error:
        return Status(error.status), told + (error.message or "").encode()
    return Status.OK, told


def test_no_rpc_tells_or_does_anything_with_what_another_workspace_has(
    emulator: EmulatorThread, ids: dict[str, str], first: modal.Client, seconds: float
) -> None:
    before = _everything(emulator)

    broken: set[str] = set()

    async def walk() -> None:
        async with Channel("127.0.0.1", emulator.port) as channel:
            stub = ModalClientStub(channel)
            for name in (rpc.name for rpc in coverage().of("ModalClient") if rpc.state != "not served"):
                method = getattr(stub, name)
                if not isinstance(method, UnaryUnaryMethod | UnaryStreamMethod) or name in OF_NOBODY:
                    continue
                for prefix in ids:
                    request = method.request_type()
                    takes_any = filled(request, ids, prefix)
                    status, told = await called(stub, name, request, seconds)
                    others = [CANARY, *(one for other, one in ids.items() if other != prefix)]
                    assert [one for one in others if one.encode() in told] == [], (name, prefix)
                    if status in (Status.UNKNOWN, Status.INTERNAL):
                        broken.add(name)
                    if not takes_any:
                        break

    asyncio.run(walk())
    assert broken == set(), "a request that makes no sense is to be refused, not to fail in the handler"
    assert _everything(emulator) == before
    assert modal.Sandbox.from_name(NAME, NAME, client=first).poll() is None
    assert modal.Queue.from_name(NAME, client=first).len() == 1
    assert modal.Dict.from_name(NAME, client=first)["key"] == CANARY


def _everything(emulator: EmulatorThread) -> dict[str, object]:
    """What the first workspace has, as far as a call could change it."""
    workspace = emulator._emulator.core.store.workspace("ak-first")
    return {
        "apps": {one.app_id: (one.name, one.stopped_at) for one in workspace.apps.values()},
        "secrets": {one.secret_id: (one.name, dict(one.values)) for one in workspace.secrets.values()},
        "volumes": {one.volume_id: (one.name, len(one.tree.listing("", recursive=True))) for one in workspace.volumes.values()},
        "images": sorted(workspace.images),
        "sandboxes": {one.sandbox_id: (one.name, dict(one.tags), one.result) for one in workspace.sandboxes.values()},
    }


def test_a_blob_is_its_workspaces_own(emulator: EmulatorThread, seconds: float) -> None:
    store = emulator._emulator.core.block_store
    blob_id, _ = store.create_blob("ak-first")
    store._contents[blob_id] = ((), 0)

    async def get() -> tuple[Status, Status]:
        async with Channel("127.0.0.1", emulator.port) as channel:
            stub = ModalClientStub(channel)
            whole = api_pb2.MountPutFileRequest(sha256_hex=hashlib.sha256(b"").hexdigest(), data_blob_id=blob_id)
            got = await called(stub, "BlobGet", api_pb2.BlobGetRequest(blob_id=blob_id), seconds)
            put = await called(stub, "MountPutFile", whole, seconds)
            return got[0], put[0]

    assert asyncio.run(get()) == (Status.NOT_FOUND, Status.NOT_FOUND)


def test_there_are_no_proxies(emulator: EmulatorThread, first: modal.Client) -> None:
    app = modal.App.lookup("tests", create_if_missing=True, client=first)
    with pytest.raises(modal.exception.NotFoundError, match="Proxy 'p' not found in environment 'main'"):
        modal.Sandbox.create(
            "true", app=app, client=first, image=modal.Image.debian_slim("3.11"), proxy=modal.Proxy.from_name("p"), gpu="T4"
        )
