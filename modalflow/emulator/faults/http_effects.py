"""Faults of the block store, done: an error instead of a block, a slow answer, a body that breaks off.

Flows in: HTTP requests of the block store. Flows out: its answers, or what a rule makes of them. ``server`` hands the
middleware to the block store.
"""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from modalflow.emulator.faults.board import Faults
from modalflow.emulator.faults.rules import Fault


def fault_middleware(faults: Faults) -> Middleware:
    """Return what stands in front of every handler of the block store."""

    @web.middleware
    async def stand_in_front(request: web.Request, handler: Handler) -> web.StreamResponse:
        if faults.idle:
            return await handler(request)
        method = f"{request.method} /{request.path.split('/')[1]}"
        await faults.pass_frozen()
        rule = faults.take(method, "", None)
        delay = faults.latency(method) + (rule.seconds() if rule else 0.0)
        if delay:
            await asyncio.sleep(delay)
        if rule is None or (rule.status is None and rule.cut is None):
            return await handler(request)
        if rule.cut is not None:
            return await _cut(request, handler, rule)
        if rule.after_handler:
            await handler(request)
        return web.Response(status=_number(rule), text=rule.message)

    return stand_in_front


def _number(rule: Fault) -> int:
    if isinstance(rule.status, int):
        return rule.status
    raise TypeError(f"{rule.method}: a rule of the block store has a number for its status, not {rule.status}")


async def _cut(request: web.Request, handler: Handler, rule: Fault) -> web.StreamResponse:
    """Begin an answer and close the connection in the middle of it: in the middle of a block's bytes, before those of a blob."""
    body = b""
    uploads = request.method == "PUT"
    if rule.after_handler if uploads else request.path.startswith("/block/"):
        answer = await handler(request)
        body = answer.body if isinstance(answer, web.Response) and isinstance(answer.body, bytes) else b""
    else:
        async for _ in request.content.iter_any():
            pass
    response = web.StreamResponse()
    response.content_length = len(body) + 1
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
