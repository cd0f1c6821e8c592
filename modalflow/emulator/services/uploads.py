"""Content on its way to Volumes and images: whole files by SHA-256, and blobs over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import io

from google.protobuf.timestamp_pb2 import Timestamp
from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.state.ids import new_id
from modalflow.emulator.wire import Call, Service, create, fail, unary


class Uploads(Service):
    """MountPutFile, MountGetOrCreate, BlobCreate, BlobGet."""

    @unary
    async def MountPutFile(self, request: api_pb2.MountPutFileRequest, call: Call) -> api_pb2.MountPutFileResponse:
        """Tell whether a file is known, or take it in."""
        uploads = call.workspace.uploads
        if request.HasField("data"):
            if hashlib.sha256(request.data).hexdigest() != request.sha256_hex:
                fail(Status.INVALID_ARGUMENT, "MountPutFile: the data does not match sha256_hex")
            uploads[request.sha256_hex] = await asyncio.to_thread(self.core.blobs.put_file, io.BytesIO(request.data))
        elif request.HasField("data_blob_id"):
            if request.data_blob_id not in self.core.blob_contents:
                fail(Status.NOT_FOUND, f"Blob '{request.data_blob_id}' not found")
            uploads[request.sha256_hex] = self.core.blob_contents[request.data_blob_id]
        checked = Timestamp()
        checked.GetCurrentTime()
        return api_pb2.MountPutFileResponse(exists=request.sha256_hex in uploads, checked_at=checked)

    @create
    async def MountGetOrCreate(self, _request: api_pb2.MountGetOrCreateRequest, _call: Call) -> api_pb2.MountGetOrCreateResponse:
        """Record files that an image adds at start; they are not placed in sandboxes."""
        return api_pb2.MountGetOrCreateResponse(mount_id=new_id("mo"))

    @create
    async def BlobCreate(self, _request: api_pb2.BlobCreateRequest, _call: Call) -> api_pb2.BlobCreateResponse:
        """Give an address to upload one blob to, in one piece whatever its size."""
        blob_id = new_id("bl")
        url = self.core.block_store.blob_url(blob_id)
        # Lists, because Modal may offer several providers; modal 1.6.4 reads nothing else.
        return api_pb2.BlobCreateResponse(blob_ids=[blob_id], upload_urls=api_pb2.UploadUrlList(items=[url]))

    @unary
    async def BlobGet(self, request: api_pb2.BlobGetRequest, _call: Call) -> api_pb2.BlobGetResponse:
        """Give the address of an uploaded blob."""
        if request.blob_id not in self.core.blob_contents:
            fail(Status.NOT_FOUND, f"Blob '{request.blob_id}' not found")
        return api_pb2.BlobGetResponse(download_url=self.core.block_store.blob_url(request.blob_id))
