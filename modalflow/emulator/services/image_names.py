"""Names of images: published with a tag in an environment, looked up, listed, taken back."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty
from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.state.images import ImageName, ImageNameError, split_name
from modalflow.emulator.wire import Call, Service, create, fail, partial, unary

_PAGE = 100


class ImageNames(Service):
    """ImagePublish, ImageGetByTag, ImageListTags, ImageTagRevisions, ImageNameDelete."""

    @partial("every image stays in its workspace, also one published as public")
    @create
    async def ImagePublish(self, request: api_pb2.ImagePublishRequest, call: Call) -> api_pb2.ImagePublishResponse:
        """Let a name stand for an image from now on."""
        if call.workspace.image(request.image_id) is None:
            fail(Status.NOT_FOUND, f"Image '{request.image_id}' not found")
        environment, tag = _place(call, request.tag, request.environment_name)
        name = call.workspace.image_names.setdefault(f"{environment}/{tag}", ImageName(tag=tag, environment=environment))
        revision = name.publish(request.image_id)
        self.core.state_changed(call.workspace, name)
        return api_pb2.ImagePublishResponse(image_id=request.image_id, revision_id=revision.revision_id)

    @unary
    async def ImageGetByTag(self, request: api_pb2.ImageGetByTagRequest, call: Call) -> api_pb2.ImageGetByTagResponse:
        """Find the image that a name stands for."""
        return api_pb2.ImageGetByTagResponse(image_id=_found(call, request.tag, request.environment_name).image_id)

    @unary
    async def ImageListTags(self, request: api_pb2.ImageListTagsRequest, call: Call) -> api_pb2.ImageListTagsResponse:
        """List the names of an environment in order, by pages."""
        environment = call.environment(request.environment_name)
        names = sorted(
            (
                one
                for one in call.workspace.image_names.values()
                if one.environment == environment
                and one.tag.startswith(request.tag_prefix)
                and request.image_id in ("", one.image_id)
                and one.tag > request.page_token
            ),
            key=lambda one: one.tag,
        )
        page = names[: request.max_objects or _PAGE]
        return api_pb2.ImageListTagsResponse(
            items=[_item(one) for one in page],
            next_page_token=page[-1].tag if len(page) < len(names) else "",
            environment_name=environment,
        )

    @unary
    async def ImageTagRevisions(self, request: api_pb2.ImageTagRevisionsRequest, call: Call) -> api_pb2.ImageTagRevisionsResponse:
        """List what a name has stood for, the newest first, by pages."""
        environment, tag = _place(call, request.tag, request.environment_name)
        name = call.workspace.image_names.get(f"{environment}/{tag}")
        every = list(reversed(name.revisions)) if name else []
        if not request.page_token.isdigit() and request.page_token:
            fail(Status.INVALID_ARGUMENT, f"ImageTagRevisions: {request.page_token!r} is no page token of this emulator")
        start = int(request.page_token or 0)
        page = every[start : start + (request.max_objects or _PAGE)]
        following = start + len(page)
        return api_pb2.ImageTagRevisionsResponse(
            items=[
                api_pb2.ImageTagRevisionsItem(
                    image_id=one.image_id,
                    revision_id=one.revision_id,
                    created_at=one.published_at,
                    published_by=call.workspace.name,
                )
                for one in page
            ],
            next_page_token=str(following) if following < len(every) else "",
            tag=tag,
            environment_name=environment,
        )

    @create
    async def ImageNameDelete(self, request: api_pb2.ImageNameDeleteRequest, call: Call) -> Empty:
        """Take a name back with its history; the image stays."""
        name = _found(call, request.tag, "")
        del call.workspace.image_names[name.key]
        self.core.state_changed(call.workspace, name)
        return Empty()


def _place(call: Call, text: str, environment_name: str) -> tuple[str, str]:
    """Return environment and ``NAME:TAG``; INVALID_ARGUMENT for no name, NOT_FOUND for an unknown environment."""
    try:
        environment, tag = split_name(text, environment_name)
    except ImageNameError as error:
        fail(Status.INVALID_ARGUMENT, str(error))
    return call.environment(environment), tag


def _found(call: Call, text: str, environment_name: str) -> ImageName:
    environment, tag = _place(call, text, environment_name)
    name = call.workspace.image_names.get(f"{environment}/{tag}")
    if name is None or call.workspace.image(name.image_id) is None:
        fail(Status.NOT_FOUND, f"Image '{tag}' not found in environment '{environment}'")
    return name


def _item(name: ImageName) -> api_pb2.ImageListTagsItem:
    first, last = name.revisions[0], name.revisions[-1]
    return api_pb2.ImageListTagsItem(
        tag=name.tag,
        image_id=last.image_id,
        revision_id=last.revision_id,
        created_at=first.published_at,
        updated_at=last.published_at,
    )
