"""HTTP beside gRPC: where clients put and get the blocks of Volume files, and whole blobs.

Flows in: signed addresses that the control plane gave out, and bytes. Flows out: bytes. Whoever has no address gets nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import io

from aiohttp import web
from aiohttp.typedefs import Middleware

from modalflow.emulator.auth import Authority
from modalflow.emulator.state.blobs import BLOCK_SIZE, BlobStore


class BlockStore:
    """The HTTP server."""

    def __init__(
        self, host: str, authority: Authority, blobs: BlobStore, blob_contents: dict[str, tuple[tuple[str, ...], int]]
    ) -> None:
        self._host = host
        self._authority = authority
        self._blobs = blobs
        self._blob_contents = blob_contents
        self._runner: web.AppRunner | None = None
        self._base = ""

    async def start(self, *middlewares: Middleware) -> None:
        """Listen on a free port. ``middlewares`` stand in front of every handler."""
        app = web.Application(client_max_size=BLOCK_SIZE + 1, middlewares=middlewares)
        app.router.add_put("/block/{digest}", self._put_block)
        app.router.add_get("/block/{digest}", self._get_block)
        app.router.add_put("/blob/{blob_id}", self._put_blob)
        app.router.add_get("/blob/{blob_id}", self._get_blob)
        app.router.add_get("/apps/{app_id}", self._get_app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, 0)
        await site.start()
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._base = f"http://{host}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    # -- addresses

    def block_url(self, digest: str, low: int = 0, high: int = 0, *, padded: bool = False) -> str:
        """Return the address of a block, or of its bytes from ``low`` to ``high`` (zeros at the end only if ``padded``)."""
        span = f"{low}-{high}-{int(padded)}"
        return f"{self._base}/block/{digest}?span={span}&sig={self._authority.signature(f'block {digest} {span}')}"

    def blob_url(self, blob_id: str) -> str:
        """Return the address of a blob."""
        return f"{self._base}/blob/{blob_id}?sig={self._authority.signature(f'blob {blob_id}')}"

    def app_url(self, app_id: str) -> str:
        """Return the address of a page about an App, which tells nothing but how to ask."""
        return f"{self._base}/apps/{app_id}"

    def _check(self, request: web.Request, text: str) -> None:
        given = request.query.get("sig", "")
        if not hmac.compare_digest(given.encode(), self._authority.signature(text).encode()):
            raise web.HTTPForbidden(text="the address is not one that this emulator gave out")

    # -- handlers

    async def _get_app(self, request: web.Request) -> web.Response:
        app_id = request.match_info["app_id"]
        return web.Response(text=f"The emulator has no dashboard. Write: modal app info {app_id}, modal app logs {app_id}\n")

    async def _put_block(self, request: web.Request) -> web.Response:
        digest = request.match_info["digest"]
        self._check(request, f"block {digest} {request.query.get('span')}")
        data = await request.read()
        if hashlib.sha256(data).hexdigest() != digest:
            raise web.HTTPBadRequest(text="the content does not match its SHA-256")
        await asyncio.to_thread(self._blobs.put, data)
        return web.Response(body=digest.encode())

    async def _get_block(self, request: web.Request) -> web.Response:
        digest = request.match_info["digest"]
        span = request.query.get("span", "")
        self._check(request, f"block {digest} {span}")
        low, high, padded = (int(part) for part in span.split("-"))
        if not self._blobs.has(digest):
            raise web.HTTPNotFound(text="no such block")
        data = (await asyncio.to_thread(self._blobs.get, digest))[low:high]
        return web.Response(body=data.ljust(high - low, b"\0") if padded else data)

    async def _put_blob(self, request: web.Request) -> web.Response:
        blob_id = request.match_info["blob_id"]
        self._check(request, f"blob {blob_id}")
        blocks: list[str] = []
        size = 0
        md5 = hashlib.md5(usedforsecurity=False)
        while data := await _read_block(request):
            md5.update(data)
            size += len(data)
            found, _ = await asyncio.to_thread(self._blobs.put_file, io.BytesIO(data))
            blocks += found
        self._blob_contents[blob_id] = (tuple(blocks), size)
        return web.Response(headers={"ETag": f'"{md5.hexdigest()}"'})

    async def _get_blob(self, request: web.Request) -> web.StreamResponse:
        blob_id = request.match_info["blob_id"]
        self._check(request, f"blob {blob_id}")
        if blob_id not in self._blob_contents:
            raise web.HTTPNotFound(text="no such blob")
        blocks, size = self._blob_contents[blob_id]
        response = web.StreamResponse()
        response.content_length = size
        await response.prepare(request)
        for number, digest in enumerate(blocks):
            data = await asyncio.to_thread(self._blobs.get, digest)
            await response.write(data.ljust(min(BLOCK_SIZE, size - number * BLOCK_SIZE), b"\0"))
        return response


async def _read_block(request: web.Request) -> bytes:
    """Read the next 8 MiB of a body, less at its end."""
    try:
        return await request.content.readexactly(BLOCK_SIZE)
    except asyncio.IncompleteReadError as error:
        return error.partial
