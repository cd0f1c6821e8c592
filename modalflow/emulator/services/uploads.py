"""Content on its way to Volumes and images: whole files by SHA-256, and blobs over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import io

from google.protobuf.timestamp_pb2 import Timestamp
from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.state.ids import new_id
from modalflow.emulator.state.images import GLOBAL_MOUNT_PREFIXES, FileMount, MountPathError, mounted
from modalflow.emulator.state.store import Workspace
from modalflow.emulator.wire import Call, Service, create, fail, unary


class Uploads(Service):
    """Mount*, BlobCreate, BlobGet."""

    @unary
    async def MountPutFile(self, request: api_pb2.MountPutFileRequest, call: Call) -> api_pb2.MountPutFileResponse:
        """Tell whether a file is known, or take it in."""
        uploads = call.workspace.uploads
        if request.HasField("data"):
            if hashlib.sha256(request.data).hexdigest() != request.sha256_hex:
                fail(Status.INVALID_ARGUMENT, "MountPutFile: the data does not match sha256_hex")
            uploads[request.sha256_hex] = await asyncio.to_thread(self.core.blobs.put_file, io.BytesIO(request.data))
        elif request.HasField("data_blob_id"):
            blob = self.core.block_store.blob(call.workspace.name, request.data_blob_id)
            if blob is None:
                fail(Status.NOT_FOUND, f"Blob '{request.data_blob_id}' not found")
            blocks, size = blob
            if await asyncio.to_thread(self.core.blobs.digest, blocks, size) != request.sha256_hex:
                fail(Status.INVALID_ARGUMENT, "MountPutFile: the blob does not match sha256_hex")
            uploads[request.sha256_hex] = (blocks, size)
        return api_pb2.MountPutFileResponse(exists=request.sha256_hex in uploads, checked_at=_now())

    @unary
    async def MountBatchedCheckExistence(
        self, request: api_pb2.MountBatchedCheckExistenceRequest, call: Call
    ) -> api_pb2.MountBatchedCheckExistenceResponse:
        """Tell which files are not here yet."""
        missing = [digest for digest in request.sha256_hex_hashes if digest not in call.workspace.uploads]
        return api_pb2.MountBatchedCheckExistenceResponse(missing_sha256_hex_hashes=missing, checked_at=_now())

    @create
    async def MountGetOrCreate(self, request: api_pb2.MountGetOrCreateRequest, call: Call) -> api_pb2.MountGetOrCreateResponse:
        """Make a mount of uploaded files, the same id for the same ones; find a named one, Modal's own without their files."""
        name, environment = request.deployment_name, call.environment(request.environment_name)
        if name and not request.files:
            mount = _named(call.workspace, environment, name)
        else:
            try:
                mount = mounted(request.files)
            except MountPathError as error:
                fail(Status.INVALID_ARGUMENT, str(error))
            for file in mount.files:
                if file.sha256 not in call.workspace.uploads:
                    fail(Status.FAILED_PRECONDITION, f"MountGetOrCreate: {file.path} ({file.sha256}) was not uploaded")
        call.workspace.mounts[mount.mount_id] = mount
        if name:
            call.workspace.mount_names[environment, name] = mount.mount_id
        return api_pb2.MountGetOrCreateResponse(
            mount_id=mount.mount_id, handle_metadata=api_pb2.MountHandleMetadata(content_checksum_sha256_hex=mount.checksum)
        )

    @create
    async def BlobCreate(self, _request: api_pb2.BlobCreateRequest, call: Call) -> api_pb2.BlobCreateResponse:
        """Give an address to upload one blob to, in one piece whatever its size."""
        blob_id, url = self.core.block_store.create_blob(call.workspace.name)
        # Lists, because Modal may offer several providers; modal 1.6.4 reads nothing else.
        return api_pb2.BlobCreateResponse(blob_ids=[blob_id], upload_urls=api_pb2.UploadUrlList(items=[url]))

    @unary
    async def BlobGet(self, request: api_pb2.BlobGetRequest, call: Call) -> api_pb2.BlobGetResponse:
        """Give the address of an uploaded blob."""
        if self.core.block_store.blob(call.workspace.name, request.blob_id) is None:
            fail(Status.NOT_FOUND, f"Blob '{request.blob_id}' not found")
        return api_pb2.BlobGetResponse(download_url=self.core.block_store.blob_url(request.blob_id))


def _now() -> Timestamp:
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp


def _named(workspace: Workspace, environment: str, name: str) -> FileMount:
    mount_id = workspace.mount_names.get((environment, name), "")
    if not mount_id and name.startswith(GLOBAL_MOUNT_PREFIXES):
        return FileMount(mount_id=new_id("mo"), name=name)
    if not mount_id:
        fail(Status.NOT_FOUND, f"Mount '{name}' not found in environment '{environment}'")
    return workspace.mounts[mount_id]
