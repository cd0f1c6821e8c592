"""Volumes as objects, and reading them by parts: names, lists, lifetimes, ranges, odd names, blocks that are gone."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import modal
import pytest
from modal._utils.async_utils import synchronizer
from modal.exception import AlreadyExistsError, InvalidError, NotFoundError
from modal_proto import api_pb2

from modalflow.emulator import EmulatorThread
from modalflow.emulator.services import volumes as service
from modalflow.emulator.state.named import EPHEMERAL_SECONDS
from tests.emulator.conftest import rpc

BLOCK = 8 * 1024 * 1024


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def volume(request: pytest.FixtureRequest, workspace_client: modal.Client) -> modal.Volume:
    return modal.Volume.from_name("data", create_if_missing=True, version=request.param, client=workspace_client)


def put(volume: modal.Volume, **files: bytes) -> None:
    with volume.batch_upload() as batch:
        for path, data in files.items():
            batch.put_file(io.BytesIO(data), f"/{path}")


def test_names(volume: modal.Volume, workspace_client: modal.Client) -> None:
    objects = modal.Volume.objects
    volume.hydrate()
    with pytest.raises(AlreadyExistsError, match="Volume 'data' already exists in environment 'main'"):
        objects.create("data", client=workspace_client)
    objects.create("another", client=workspace_client)
    with pytest.raises(AlreadyExistsError, match="Volume 'data' already exists"):
        modal.Volume.rename("another", "data", client=workspace_client)
    with pytest.raises(InvalidError, match="Invalid Volume name: 'with space'"):
        modal.Volume.rename("another", "with space", client=workspace_client)
    modal.Volume.rename("data", "renamed", client=workspace_client)
    assert [one.name for one in objects.list(client=workspace_client)] == ["another", "renamed"]
    info = volume.info()
    assert info.created_by == "emulator"
    objects.delete("renamed", client=workspace_client)
    with pytest.raises(NotFoundError, match=r"Volume 'vo-\w+' not found"):
        volume.listdir("/")
    objects.delete("renamed", allow_missing=True, client=workspace_client)


def test_a_list_longer_than_a_page_is_whole(workspace_client: modal.Client) -> None:
    names = [f"volume-{number}" for number in range(102)]
    for name in names:
        modal.Volume.objects.create(name, client=workspace_client)
    assert [one.name for one in modal.Volume.objects.list(client=workspace_client)] == names[::-1]


def test_an_ephemeral_volume_ends_without_heartbeats(workspace_client: modal.Client, shared_emulator: EmulatorThread) -> None:
    with modal.Volume.ephemeral(client=workspace_client) as volume:
        put(volume, file=b"1")
        shared_emulator.clock.advance(EPHEMERAL_SECONDS - 1)
        rpc(workspace_client, "VolumeHeartbeat", api_pb2.VolumeHeartbeatRequest(volume_id=volume.object_id))
        shared_emulator.clock.advance(EPHEMERAL_SECONDS - 1)
        assert [entry.path for entry in volume.listdir("/")] == ["file"]
        assert modal.Volume.objects.list(client=workspace_client) == []
        shared_emulator.clock.advance(EPHEMERAL_SECONDS + 1)
        with pytest.raises(NotFoundError):
            volume.listdir("/")


def test_folders_empty_files_and_names_of_any_letters(volume: modal.Volume, tmp_path: Path) -> None:
    (tmp_path / "döner 🥙").mkdir()
    (tmp_path / "döner 🥙" / "with space and 'quote'.txt").write_text("x")
    (tmp_path / "empty").touch()
    with volume.batch_upload() as batch:
        batch.put_directory(tmp_path, "/in")
    assert [entry.path for entry in volume.listdir("in", recursive=True)] == [
        "in/döner 🥙",
        "in/döner 🥙/with space and 'quote'.txt",
        "in/empty",
    ]
    assert b"".join(volume.read_file("in/döner 🥙/with space and 'quote'.txt")) == b"x"
    assert b"".join(volume.read_file("in/empty")) == b""
    assert [entry.path for entry in volume.listdir("in/empty")] == ["in/empty"]


def test_a_list_can_be_cut(volume: modal.Volume, workspace_client: modal.Client) -> None:
    put(volume, a=b"", b=b"", c=b"")
    answer = rpc_list(workspace_client, api_pb2.VolumeListFilesRequest(volume_id=volume.object_id, path="/", max_entries=2))
    assert answer == ["a", "b"]


def rpc_list(client: modal.Client, request: api_pb2.VolumeListFilesRequest) -> list[str]:
    @synchronizer.create_blocking
    async def ask(client: modal.Client) -> list[str]:
        stream = client._stub.VolumeListFiles.unary_stream(request)
        return [entry.path async for batch in stream for entry in batch.entries]

    found: list[str] = ask(client)
    return found


def test_ranges_of_a_file_by_the_old_call(
    volume: modal.Volume, workspace_client: modal.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(100) + b"\0" * (BLOCK - 100) + os.urandom(50) + b"\0" * 7
    put(volume, big=data)

    def get(start: int = 0, length: int = 0) -> api_pb2.VolumeGetFileResponse:
        request = api_pb2.VolumeGetFileRequest(volume_id=volume.object_id, path="big", start=start, len=length)
        found: api_pb2.VolumeGetFileResponse = rpc(workspace_client, "VolumeGetFile", request)
        return found

    assert get().data == data
    for start, length in ((0, 1), (50, 100), (BLOCK - 1, 2), (BLOCK, 0), (BLOCK + 40, 1000), (len(data) + 5, 3)):
        found = get(start, length)
        assert (found.data, found.size) == (data[start:][: length or None], len(data))
    monkeypatch.setattr(service, "MAX_INLINE_BYTES", 1000)
    with pytest.raises(modal.exception.ResourceExhaustedError, match="ask for at most 1000 with len"):
        get()


def test_a_block_that_is_gone_is_told(volume: modal.Volume, shared_emulator: EmulatorThread) -> None:
    data = os.urandom(1000) + b"."  # a block is kept without zeros at its end
    put(volume, file=data)
    shared_emulator._emulator.core.blobs.path(hashlib.sha256(data).hexdigest()).unlink()
    with pytest.raises(Exception, match="404"):
        b"".join(volume.read_file("file"))
