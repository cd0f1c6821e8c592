"""Requests of proved callers, each made anew to the execution API: nothing that a sandbox wrote reaches it as it came.

In: HTTP/1.1 of a sandbox, parsed by aiohttp. Out: a request of our own to the API with the allowed path, method, headers and
body; its answer, streamed back. So there is no second reading of what came that could differ from ours (request smuggling), no
other route, no redirect that leads elsewhere. Bodies are not kept in memory.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial

import aiohttp
import certifi
from aiohttp import HttpVersion10, HttpVersion11, web
from multidict import CIMultiDict
from yarl import URL

from modalflow.relay.flow import Buckets
from modalflow.relay.handshake import Caller
from modalflow.relay.paths import Refused, below, check_upgrade, comes_back, passes

log = logging.getLogger(__name__)

_NOBODY = logging.getLogger("modalflow.relay.http")
"""aiohttp's own log quotes what it cannot parse, and that may be a token."""
_NOBODY.setLevel(logging.CRITICAL + 1)

MIB = 1024 * 1024
PIECE = 64 * 1024
REDIRECTS = range(300, 400)
NOT_MODIFIED = 304
SERVER = "modalflow"
"""Instead of name and version of the library."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """``body``: bytes of one request. ``rate``, ``burst``: requests of one launch, a second and at once. ``patience``: seconds
    that a request may be held back for it. ``at_once``: requests to the API at the same time, all launches together.
    ``seconds``: for one request; the task SDK itself gives up after ``[workers] execution_api_timeout``."""

    body: int = 64 * MIB
    rate: float = 50.0
    burst: float = 200.0
    patience: float = 3.0
    at_once: int = 128
    seconds: float = 120.0


def trusting(certificate: str | None) -> ssl.SSLContext:
    """Return TLS settings that trust what Airflow's own client does: this machine, certifi, ``[api] ssl_cert``. ``OSError``."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    if certificate:
        context.load_verify_locations(certificate)
    return context


class Filter:
    """Serves proved connections. ``open`` first, ``close`` at the end; used on one loop."""

    def __init__(
        self,
        api_url: str,
        limits: Limits,
        *,
        certificate: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``api_url``: the execution API as this machine reaches it, with ``/execution/`` at the end."""
        self._api_url = api_url
        self._limits = limits
        self._certificate = certificate
        self._clock = clock
        self._buckets = Buckets(rate=limits.rate, burst=limits.burst)
        self._session: aiohttp.ClientSession | None = None
        self._at_once = asyncio.Semaphore(limits.at_once)
        self.served = 0
        self.refused = 0

    async def open(self) -> None:
        """Make the client of the API; nothing is connected yet. ``OSError`` for a certificate that cannot be read."""
        secure = self._api_url.startswith("https:")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._limits.at_once, ssl=trusting(self._certificate) if secure else True, keepalive_timeout=30
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._limits.seconds, connect=10),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    async def close(self) -> None:
        """Close the connections to the API."""
        if self._session is not None:
            await self._session.close()

    def handler(self, caller: Caller) -> asyncio.Protocol:
        """Return what serves one connection of ``caller``."""
        server = web.Server(
            partial(self._answer, caller),
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=300,
            lingering_time=1.0,
            logger=_NOBODY,
        )
        return server()

    async def _answer(self, caller: Caller, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._pass_on(caller, request)
        except Refused as refused:
            self.refused += 1
            log.warning("modalflow: relay: a request of launch %s was refused: %s", caller.launch_id, refused)
            return _said(refused.status, str(refused))
        except TimeoutError:
            return _said(504, "the execution API did not answer in time")
        except aiohttp.ClientError as error:
            log.warning("modalflow: relay: the execution API cannot be reached: %s", type(error).__name__)
            return _said(502, "the execution API cannot be reached from the scheduler")
        except Exception:
            log.exception("modalflow: relay: a request of launch %s met a defect", caller.launch_id)
            return _said(500, "an error of the relay; the scheduler's log has it")

    async def _pass_on(self, caller: Caller, request: web.BaseRequest) -> web.StreamResponse:
        if self._session is None:
            raise Refused(503, "this scheduler is not ready")
        rest = below(request.method, request.raw_path)
        check_upgrade(request.headers)
        if request.version not in (HttpVersion10, HttpVersion11):
            raise Refused(400, "the execution API speaks HTTP/1.1")
        wait = self._buckets.take(caller.launch_id, self._clock(), patience=self._limits.patience)
        if wait is None:
            raise Refused(503, f"more than {self._limits.rate:g} requests a second of one task")
        if wait:
            await asyncio.sleep(wait)
        body = _Body(request, self._limits.body) if request.can_read_body else None
        headers = CIMultiDict((name, text) for name, text in request.headers.items() if passes(name))
        if body is not None and request.content_length is not None:
            headers["Content-Length"] = str(request.content_length)
        async with self._at_once:
            try:
                async with self._session.request(
                    request.method,
                    URL(self._api_url + rest, encoded=True),
                    headers=headers,
                    data=body.pieces() if body is not None else None,
                    allow_redirects=False,
                ) as answer:
                    return await self._hand_back(request, answer)
            except aiohttp.ClientError:
                if body is not None and body.too_large:
                    raise body.refusal() from None
                raise

    async def _hand_back(self, request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        if answer.status in REDIRECTS and answer.status != NOT_MODIFIED:
            raise Refused(502, "the execution API answered with a redirect, which a relay does not follow")
        response = web.StreamResponse(status=answer.status, reason=answer.reason, headers={"Server": SERVER})
        for name, text in answer.headers.items():
            if comes_back(name):
                response.headers.add(name, text)
        if answer.content_length is not None and request.method != "HEAD":
            response.content_length = answer.content_length
        await response.prepare(request)
        self.served += 1
        try:
            if request.method != "HEAD":
                async for piece in answer.content.iter_any():
                    await response.write(piece)
            await response.write_eof()
        except (aiohttp.ClientError, TimeoutError) as error:  # half an answer cannot become another one
            log.warning("modalflow: relay: an answer of the execution API broke off: %s", type(error).__name__)
            if request.transport is not None:
                request.transport.abort()
        return response


class _Body:
    """The body of a request, counted as it passes."""

    def __init__(self, request: web.BaseRequest, limit: int) -> None:
        self._request = request
        self._limit = limit
        self.too_large = False
        if (request.content_length or 0) > limit:
            raise self.refusal()

    def refusal(self) -> Refused:
        return Refused(413, f"a request of more than {self._limit} bytes")

    async def pieces(self) -> AsyncIterator[bytes]:
        size = 0
        async for piece in self._request.content.iter_chunked(PIECE):
            size += len(piece)
            if size > self._limit:
                self.too_large = True
                raise self.refusal()
            yield piece


def _said(status: int, why: str) -> web.Response:
    """Return an answer in the form of the API's own errors, after which the connection ends: its body may be unread."""
    response = web.json_response({"detail": f"modalflow relay: {why}"}, status=status, headers={"Server": SERVER})
    response.force_close()
    return response
