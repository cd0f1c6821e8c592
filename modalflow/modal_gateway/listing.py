"""Running sandboxes of one App, a page a call.

In: a client, an App, tags. Out: pages of ``SandboxInfo``, which hold name and tags already. The public ``Sandbox.list`` (modal
1.6.4) gives handles one by one, each a hop between two threads, without tags (a further call each): 50,000 of them would keep a
core busy for half a minute. So a page is asked for as the client asks for it, by ``SandboxImplV2.list_page``, which is internal;
where it has moved, the public listing serves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from modal import Client, Sandbox
from modal import exception as modal_errors
from modal_proto import api_pb2

from modalflow.launch.gateway import SandboxStatus, Unavailable
from modalflow.modal_gateway.endings import end_of_result

log = logging.getLogger(__name__)

TAG_READS = 16
"""``get_tags`` calls at the same time where a listing does not bring the tags."""
HANDLES = 100
"""Sandboxes a page where the listing brings them one by one."""

Infos = Sequence[api_pb2.SandboxInfo]
Page = Callable[[Client, api_pb2.SandboxListRequest], Awaitable[api_pb2.SandboxListResponse]]


def _internal_page() -> Page | None:
    """Return the client's own call for a page, to be awaited on any loop; ``None`` if this client has no such thing."""
    try:
        from modal._utils.async_utils import synchronize_api  # noqa: PLC0415 - internal: may be gone
        from modal.sandbox._impl_v2 import SandboxImplV2  # noqa: PLC0415

        page_of: Any = SandboxImplV2.list_page
    except (ImportError, AttributeError):
        log.warning("modalflow: this release of modal lists sandboxes in another way; its public, slower listing is used")
        return None

    async def _page(client: Any, request: api_pb2.SandboxListRequest) -> Any:
        return await page_of(client, request)

    synchronize: Any = synchronize_api  # has no types
    page: Page = synchronize(_page).aio
    return page


_PAGE = _internal_page()


async def pages(
    client: Client,
    app_id: str,
    tags: Mapping[str, str],
    *,
    seconds: float,
    with_tags: bool,
    environment: str = "",
    ended_too: bool = False,
) -> AsyncIterator[Infos]:
    """Yield all running sandboxes of an App that carry all these tags, the newest first; each page within ``seconds``.

    Without an ``app_id``, those of all Apps of ``environment``, where the client's own call can say so. ``ended_too`` asks for
    ended ones as well; a server that does not know the wish gives the running ones, and so does the public listing.
    ``with_tags`` may cost a call a sandbox. Raises the client's errors, ``TimeoutError``, and ``Unavailable`` if the server
    repeats itself. Of sandboxes created at the very same instant, at the border of two pages, one may be missing.
    """
    if _PAGE is not None:
        wanted = [api_pb2.SandboxTag(tag_name=name, tag_value=value) for name, value in tags.items()]
        request = api_pb2.SandboxListRequest(
            app_id=app_id, environment_name=environment if not app_id else "", include_finished=ended_too, tags=wanted
        )
        source = _by_pages(_PAGE, client, request, seconds)
    elif not app_id:
        return
    else:
        source = _by_handles(client, app_id, tags, seconds, with_tags=with_tags)
    async for page in source:
        yield page


async def _by_pages(ask: Page, client: Client, request: api_pb2.SandboxListRequest, seconds: float) -> AsyncIterator[Infos]:
    before = 0.0
    while True:
        async with asyncio.timeout(seconds):
            page = (await ask(client, request)).sandboxes
        if not page:
            return
        yield page
        oldest = page[-1].created_at
        if before and oldest >= before:
            raise Unavailable(f"could not list the running sandboxes: Modal gave the page before {before} twice")
        before = request.before_timestamp = oldest


async def _by_handles(
    client: Client, app_id: str, tags: Mapping[str, str], seconds: float, *, with_tags: bool
) -> AsyncIterator[Infos]:
    found: list[Sandbox] = []
    async for sandbox in _each_within(Sandbox.list.aio(app_id=app_id, tags=dict(tags), client=client), seconds):
        found.append(sandbox)
        if len(found) == HANDLES:
            yield await _infos(found, seconds, with_tags=with_tags)
            found = []
    if found:
        yield await _infos(found, seconds, with_tags=with_tags)


async def _infos(found: Sequence[Sandbox], seconds: float, *, with_tags: bool) -> Infos:
    at_a_time = asyncio.Semaphore(TAG_READS)

    async def info(sandbox: Sandbox) -> api_pb2.SandboxInfo | None:
        tags: Mapping[str, str] = {}
        if with_tags:
            async with at_a_time, asyncio.timeout(seconds):
                try:
                    tags = await sandbox.get_tags.aio()
                except modal_errors.NotFoundError:
                    return None  # ended meanwhile
        own = [api_pb2.SandboxTag(tag_name=name, tag_value=value) for name, value in tags.items()]
        return api_pb2.SandboxInfo(id=sandbox.object_id, tags=own)

    return [one for one in await asyncio.gather(*map(info, found)) if one is not None]


def status_of(info: api_pb2.SandboxInfo) -> SandboxStatus:
    """Return what a listing tells of a sandbox."""
    return SandboxStatus(
        sandbox_id=info.id,
        name=info.name,
        tags={tag.tag_name: tag.tag_value for tag in info.tags},
        end=end_of_result(info.task_info.result),
        waits=info.HasField("task_info") and not info.task_info.id and not info.task_info.started_at,
        made_at=datetime.fromtimestamp(info.created_at, UTC) if info.created_at else None,
    )


async def _each_within(listing: AsyncIterator[Sandbox], seconds: float) -> AsyncIterator[Sandbox]:
    """Yield what comes, each (so each page) within ``seconds``: the client itself waits for a page without a bound."""
    while True:
        try:
            async with asyncio.timeout(seconds):
                sandbox = await anext(listing)
        except StopAsyncIteration:
            return
        yield sandbox
