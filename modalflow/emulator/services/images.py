"""Images: defined, built, joined while they are built, looked up and deleted. The work is done in ``machines.image_builds``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator

from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp
from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.machines.image_builds import Build, BuildOrder
from modalflow.emulator.machines.output import STDERR
from modalflow.emulator.services.sandbox_checks import secrets_by_id
from modalflow.emulator.state.images import Image, definition_key
from modalflow.emulator.state.store import Workspace
from modalflow.emulator.wire import Call, Service, create, fail, partial, streaming, unary

_BUILT = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS)
_ENTRIES_A_MESSAGE = 200


class Images(Service):
    """Image*, but for names."""

    @partial("several base images, build functions and multi-stage Dockerfiles are refused; FROM any registry is this machine")
    @create
    async def ImageGetOrCreate(self, request: api_pb2.ImageGetOrCreateRequest, call: Call) -> api_pb2.ImageGetOrCreateResponse:
        """Find the image of a definition, or begin to build it; the same definition gives the same id and is built once."""
        workspace = call.workspace
        if request.existing_image_id:
            return _reply(_image(workspace, request.existing_image_id))
        order = self._order(workspace, request)
        known = workspace.images.get(workspace.image_ids.get(order.key, "") if order.cached else "")
        if known is not None and not request.force_build:
            return _reply(known)
        build = self.core.builds.start(workspace, order)
        return api_pb2.ImageGetOrCreateResponse(image_id=build.image_id)

    def _order(self, workspace: Workspace, request: api_pb2.ImageGetOrCreateRequest) -> BuildOrder:
        definition = request.image
        if len(definition.base_images) > 1:
            fail(Status.UNIMPLEMENTED, "ImageGetOrCreate with several base images is not implemented by the modalflow emulator")
        if definition.HasField("build_function") or request.build_function_id:
            fail(Status.UNIMPLEMENTED, "Image.run_function is not implemented by the modalflow emulator, which has no Functions")
        if definition.context_mount_id and definition.context_mount_id not in workspace.mounts:
            fail(Status.NOT_FOUND, f"Mount '{definition.context_mount_id}' not found")
        for volume in definition.volume_mounts:
            if volume.volume_id not in workspace.volumes:
                fail(Status.NOT_FOUND, f"Volume '{volume.volume_id}' not found")
        values = secrets_by_id(workspace, definition.secret_ids)
        # What a Secret holds must not follow from an image's id, so it counts under a key of this emulator's own.
        marks = [self.core.authority.signature(json.dumps(one, sort_keys=True)) for one in values]
        anew = request.force_build or request.ignore_cache
        salt = secrets.token_hex(8) if anew else ""
        key = definition_key(definition, request.builder_version, workspace.mounts, marks)
        own = definition_key(definition, request.builder_version, workspace.mounts, marks, salt) if anew else key
        kept = api_pb2.Image()
        kept.CopyFrom(definition)
        return BuildOrder(
            image_id=f"im-{own[:22]}",
            key=key,
            app_id=request.app_id,
            definition=kept,
            builder_version=request.builder_version,
            base=_image(workspace, definition.base_images[0].image_id) if definition.base_images else None,
            secrets=values,
            modals_own=request.namespace == api_pb2.DEPLOYMENT_NAMESPACE_GLOBAL,
            cached=not request.ignore_cache,
        )

    @streaming
    async def ImageJoinStreaming(
        self, request: api_pb2.ImageJoinStreamingRequest, call: Call
    ) -> AsyncIterator[api_pb2.ImageJoinStreamingResponse]:
        """Stream the log of a build from ``last_entry_id`` on for ``timeout`` seconds, and at its end the result."""
        build = self.core.builds.find(call.workspace, request.image_id)
        if build is None:
            image = _image(call.workspace, request.image_id)
            yield api_pb2.ImageJoinStreamingResponse(result=_BUILT, eof=True, metadata=_metadata(image))
            return
        number = int(request.last_entry_id or 0)
        deadline = time.monotonic() + request.timeout if request.timeout else None
        while deadline is None or time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if deadline is None else deadline - time.monotonic()):
                    await build.log.wait_beyond(number)
            while number < build.log.size:
                number, logs = _logs(build, number)
                yield api_pb2.ImageJoinStreamingResponse(task_logs=logs, entry_id=str(number))
            if build.result is not None:
                built = call.workspace.images.get(request.image_id)
                metadata = _metadata(built) if built else None
                yield api_pb2.ImageJoinStreamingResponse(result=build.result, eof=True, metadata=metadata)
                return

    @unary
    async def ImageFromId(self, request: api_pb2.ImageFromIdRequest, call: Call) -> api_pb2.ImageFromIdResponse:
        """Find a built image."""
        image = _image(call.workspace, request.image_id, "Could not find image with ID '{}'")
        return api_pb2.ImageFromIdResponse(image_id=image.image_id, metadata=_metadata(image))

    @create
    async def ImageDelete(self, request: api_pb2.ImageDeleteRequest, call: Call) -> Empty:
        """Delete an image with its names; images built on it stay, and so do the layers that they, or running sandboxes, use."""
        workspace = call.workspace
        image = _image(workspace, request.image_id, "No Image with ID '{}' found")
        del workspace.images[image.image_id]
        names = [one for one in workspace.image_names.values() if one.image_id == image.image_id]
        for name in names:
            del workspace.image_names[name.key]
        if not any(one.definition.image_id == image.image_id and one.result is None for one in workspace.sandboxes.values()):
            used = {layer for one in workspace.images.values() for layer in one.layers}
            await asyncio.to_thread(self.core.layers.discard, [layer for layer in image.layers if layer not in used])
        self.core.state_changed(workspace, image, *names)
        return Empty()

    @unary
    async def ImageBuildChainGet(
        self, request: api_pb2.ImageBuildChainGetRequest, call: Call
    ) -> api_pb2.ImageBuildChainGetResponse:
        """Name the builds of an image and of those below it, base first: where ``modal image logs`` finds their logs."""
        chain = self.core.builds.chain(call.workspace, request.image_id)
        if not chain:
            _image(call.workspace, request.image_id)
        return api_pb2.ImageBuildChainGetResponse(build_steps=[_step(build) for build in chain])


def _image(workspace: Workspace, image_id: str, missing: str = "Image '{}' not found") -> Image:
    image = workspace.image(image_id)
    if image is None:
        fail(Status.NOT_FOUND, missing.format(image_id))
    return image


def _metadata(image: Image) -> api_pb2.ImageMetadata:
    return api_pb2.ImageMetadata(image_builder_version=image.builder_version, workdir=image.settings.workdir)


def _reply(image: Image) -> api_pb2.ImageGetOrCreateResponse:
    return api_pb2.ImageGetOrCreateResponse(image_id=image.image_id, result=_BUILT, metadata=_metadata(image))


def _logs(build: Build, number: int) -> tuple[int, list[api_pb2.TaskLogs]]:
    """Return the next entries, and the number of the one after them."""
    entries = build.log.since(number)
    first = build.log.size - len(entries)
    chosen = entries[:_ENTRIES_A_MESSAGE]
    return first + len(chosen), [
        api_pb2.TaskLogs(
            data=entry.text,
            timestamp=entry.time_ns / 1e9,
            file_descriptor=api_pb2.FILE_DESCRIPTOR_STDERR if entry.fd == STDERR else api_pb2.FILE_DESCRIPTOR_STDOUT,
        )
        for entry in chosen
    ]


def _step(build: Build) -> api_pb2.ImageBuildStep:
    step = api_pb2.ImageBuildStep(image_id=build.image_id, builder_app_id=build.app_id, builder_task_id=build.task_id)
    # The client asks for the log between these, the end excluded, and cuts them to microseconds.
    step.started_at.CopyFrom(_stamp(build.started_at - 0.001))
    step.finished_at.CopyFrom(_stamp((build.finished_at or time.time()) + 0.001))
    return step


def _stamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromNanoseconds(int(seconds * 1e9))
    return stamp
