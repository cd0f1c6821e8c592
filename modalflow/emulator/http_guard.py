"""What the block store refuses before it looks at a request; ``control``, which knows its one address, refuses more.

Flows in: an aiohttp request. Flows out: the handler's answer, or 403. A web page that has its own name point at 127.0.0.1 (DNS
rebinding) carries that name as ``Host``, and a page's script its ``Origin``; no Modal client sends either.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from modalflow.emulator.config import LOOPBACK


def guard(host: str) -> Middleware:
    """Return the middleware of a server that listens on ``host``. Off loopback its names are not known: any will do."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        if "Origin" in request.headers:
            raise web.HTTPForbidden(text="not for web pages")
        if host in LOOPBACK and request.url.host not in LOOPBACK:
            raise web.HTTPForbidden(text="Host: expected 127.0.0.1 or localhost")
        return await handler(request)

    return guarded
