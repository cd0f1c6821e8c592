"""HTTP beside gRPC: where clients put and get the blocks of Volume files, and whole blobs.

Flows in: signed addresses that the control plane gave out, and bytes. Flows out: bytes. An address is good for one method, one
content and an hour; whoever has none gets nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import io
from collections.abc import Callable
from typing import TypeVar

from aiohttp import web
from aiohttp.typedefs import Middleware

from modalflow.emulator.auth import Authority
from modalflow.emulator.clock import Clock
from modalflow.emulator.config import url_host
from modalflow.emulator.http_guard import guard
from modalflow.emulator.state.blobs import BLOCK_SIZE, BlobStore
from modalflow.emulator.state.ids import new_id
from modalflow.emulator.state.state_folder import StateError

Data = TypeVar("Data")
Result = TypeVar("Result")

ADDRESS_SECONDS = 3600
"""How long an address is good for. Modal's own number is not published; clients use one at once."""
MAX_BLOB_BYTES = 64 * 1024**3
"""Of one blob; Modal's own limit is not published."""

Content = tuple[tuple[str, ...], int]
"""Blocks by digest, and the size in bytes."""


class BlockStore:
    """The HTTP server, and the blobs that were uploaded to it."""

    def __init__(self, host: str, authority: Authority, blobs: BlobStore, clock: Clock) -> None:
        self._host = host
        self._authority = authority
        self._blobs = blobs
        self._clock = clock
        self._owners: dict[str, str] = {}
        self._contents: dict[str, Content] = {}
        self._runner: web.AppRunner | None = None
        self._base = ""
        self.port = 0

    async def start(self, *middlewares: Middleware, port: int = 0) -> None:
        """Listen, with what stands before each handler: on ``port`` unless somebody else has it, else on a free one."""
        app = web.Application(client_max_size=BLOCK_SIZE + 1, middlewares=[guard(self._host), *middlewares])
        app.router.add_put("/block/{digest}", self._put_block)
        app.router.add_get("/block/{digest}", self._get_block)
        app.router.add_put("/blob/{blob_id}", self._put_blob)
        app.router.add_get("/blob/{blob_id}", self._get_blob)
        app.router.add_get("/apps/{app_id}", self._get_app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, port).start()
        except OSError:
            if not port:
                raise
            await web.TCPSite(self._runner, self._host, 0).start()
        self.port = self._runner.addresses[0][1]
        self._base = f"http://{url_host(self._host)}:{self.port}"

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    # -- blobs

    def create_blob(self, workspace: str) -> tuple[str, str]:
        """Return the id of a new blob of that workspace, and the address to put it to."""
        blob_id = new_id("bl")
        self._owners[blob_id] = workspace
        return blob_id, self._address("PUT", f"/blob/{blob_id}")

    def blob(self, workspace: str, blob_id: str) -> Content | None:
        """Return an uploaded blob of that workspace; ``None`` if there is none."""
        return self._contents.get(blob_id) if self._owners.get(blob_id) == workspace else None

    def blob_url(self, blob_id: str) -> str:
        """Return the address to get a blob from."""
        return self._address("GET", f"/blob/{blob_id}")

    def app_url(self, app_id: str) -> str:
        """Return the address of a page about an App, which tells nothing but how to ask."""
        return f"{self._base}/apps/{app_id}"

    # -- addresses

    def put_url(self, digest: str) -> str:
        """Return the address to put a block to."""
        return self._address("PUT", f"/block/{digest}")

    def block_url(self, digest: str, low: int, high: int, *, padded: bool = False) -> str:
        """Return the address of a block's bytes from ``low`` to ``high`` (zeros at the end only if ``padded``)."""
        return self._address("GET", f"/block/{digest}", f"{low}-{high}-{int(padded)}")

    def _address(self, method: str, path: str, span: str = "") -> str:
        until = str(int(self._clock.time()) + ADDRESS_SECONDS)
        signature = self._authority.signature(f"{method} {path} {span} {until}")
        return f"{self._base}{path}?span={span}&until={until}&sig={signature}"

    def _check(self, request: web.Request) -> None:
        given = request.query.get("sig", "")
        until = request.query.get("until", "")
        text = f"{request.method} {request.path} {request.query.get('span', '')} {until}"
        if not hmac.compare_digest(given.encode(), self._authority.signature(text).encode()):
            raise web.HTTPForbidden(text="the address is not one that this emulator gave out for this method")
        if int(until) < self._clock.time():
            raise web.HTTPForbidden(text="the address has expired")

    # -- handlers

    async def _get_app(self, request: web.Request) -> web.Response:
        app_id = request.match_info["app_id"]
        return web.Response(text=f"The emulator has no dashboard. Write: modal app info {app_id}, modal app logs {app_id}\n")

    async def _put_block(self, request: web.Request) -> web.Response:
        self._check(request)
        digest = request.match_info["digest"]
        data = await request.read()
        if hashlib.sha256(data).hexdigest() != digest:
            raise web.HTTPBadRequest(text="the content does not match its SHA-256")
        await _written(self._blobs.put, data)
        return web.Response(body=digest.encode())

    async def _get_block(self, request: web.Request) -> web.Response:
        self._check(request)
        digest = request.match_info["digest"]
        low, high, padded = (int(part) for part in request.query["span"].split("-"))
        if not self._blobs.has(digest):
            raise web.HTTPNotFound(text="no such block")
        data = (await asyncio.to_thread(self._blobs.get, digest))[low:high]
        return web.Response(body=data.ljust(high - low, b"\0") if padded else data)

    async def _put_blob(self, request: web.Request) -> web.Response:
        self._check(request)
        blocks: list[str] = []
        size = 0
        md5 = hashlib.md5(usedforsecurity=False)
        while data := await _read_block(request):
            md5.update(data)
            size += len(data)
            if size > MAX_BLOB_BYTES:
                raise web.HTTPRequestEntityTooLarge(max_size=MAX_BLOB_BYTES, actual_size=size)
            found, _ = await _written(self._blobs.put_file, io.BytesIO(data))
            blocks += found
        self._contents[request.match_info["blob_id"]] = (tuple(blocks), size)
        return web.Response(headers={"ETag": f'"{md5.hexdigest()}"'})

    async def _get_blob(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        content = self._contents.get(request.match_info["blob_id"])
        if content is None:
            raise web.HTTPNotFound(text="no such blob")
        blocks, size = content
        response = web.StreamResponse()
        response.content_length = size
        await response.prepare(request)
        for number, digest in enumerate(blocks):
            data = await asyncio.to_thread(self._blobs.get, digest)
            await response.write(data.ljust(min(BLOCK_SIZE, size - number * BLOCK_SIZE), b"\0"))
        return response


async def _written(put: Callable[[Data], Result], data: Data) -> Result:
    """Write in another thread; 507 with the reason if there is no room."""
    try:
        return await asyncio.to_thread(put, data)
    except StateError as error:
        raise web.HTTPInsufficientStorage(text=str(error)) from error


async def _read_block(request: web.Request) -> bytes:
    """Read the next 8 MiB of a body, less at its end."""
    try:
        return await request.content.readexactly(BLOCK_SIZE)
    except asyncio.IncompleteReadError as error:
        return error.partial
