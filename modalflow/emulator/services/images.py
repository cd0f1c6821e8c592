"""Images: every layer is recorded and answered as built at once. What of it takes effect: ``image_layers``."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.state.image_layers import ImageSettings, apply_layer
from modalflow.emulator.state.store import Image, Workspace
from modalflow.emulator.wire import Call, Service, fail, streaming, unary

_BUILT = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS)


class Images(Service):
    """Image*, MountGetOrCreate."""

    @unary
    async def ImageGetOrCreate(self, request: api_pb2.ImageGetOrCreateRequest, call: Call) -> api_pb2.ImageGetOrCreateResponse:
        """Record a layer; the same definition gives the same id."""
        workspace = call.workspace
        if request.existing_image_id:
            return _reply(_image(workspace, request.existing_image_id))
        if len(request.image.base_images) > 1:
            fail(Status.UNIMPLEMENTED, "ImageGetOrCreate with several base images is not implemented by the modalflow emulator")
        base = ImageSettings()
        for layer in request.image.base_images:
            base = _image(workspace, layer.image_id).settings
        definition = request.builder_version.encode() + request.image.SerializeToString(deterministic=True)
        image_id = "im-" + hashlib.sha256(definition).hexdigest()[:22]
        if image_id not in workspace.images:
            image = workspace.images[image_id] = Image(
                image_id=image_id,
                definition=request.image,
                settings=apply_layer(base, request.image.dockerfile_commands, self.core.toolbox.base_path),
                builder_version=request.builder_version,
            )
            self.core.state_changed(workspace, image)
        return _reply(workspace.images[image_id])

    @streaming
    async def ImageJoinStreaming(
        self, request: api_pb2.ImageJoinStreamingRequest, call: Call
    ) -> AsyncIterator[api_pb2.ImageJoinStreamingResponse]:
        """Tell that the build is done; nothing was run, so there is no build log."""
        image = _image(call.workspace, request.image_id)
        yield api_pb2.ImageJoinStreamingResponse(result=_BUILT, eof=True, metadata=_metadata(image))

    @unary
    async def ImageFromId(self, request: api_pb2.ImageFromIdRequest, call: Call) -> api_pb2.ImageFromIdResponse:
        """Find a recorded image."""
        image = _image(call.workspace, request.image_id)
        return api_pb2.ImageFromIdResponse(image_id=image.image_id, metadata=_metadata(image))


def _image(workspace: Workspace, image_id: str) -> Image:
    if image_id not in workspace.images:
        fail(Status.NOT_FOUND, f"Image '{image_id}' not found")
    return workspace.images[image_id]


def _metadata(image: Image) -> api_pb2.ImageMetadata:
    return api_pb2.ImageMetadata(image_builder_version=image.builder_version)


def _reply(image: Image) -> api_pb2.ImageGetOrCreateResponse:
    return api_pb2.ImageGetOrCreateResponse(image_id=image.image_id, result=_BUILT, metadata=_metadata(image))
