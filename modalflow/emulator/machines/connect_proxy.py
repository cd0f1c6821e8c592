"""Connect tokens: authenticated HTTP and WebSockets to a port of a sandbox, as Modal's own proxy forwards them.

Flows in: requests of whoever holds a token. Flows out: the same requests to the sandbox, with the token's metadata in
``X-Verified-User-Data`` (Modal's networking guide, read November 2026). Tokens end with the sandbox.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

from modalflow.emulator.config import url_host
from modalflow.emulator.machines.activity import Activity
from modalflow.emulator.machines.networks import LOOPBACKS, Network

TOKEN = "_modal_connect_token"  # noqa: S105 -- the name of a query parameter and cookie
USER_DATA = "X-Verified-User-Data"
_HOP = frozenset(
    name.lower()
    for name in (
        "Connection",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Extensions",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Accept",
    )
)
_CHUNK_BYTES = 64 * 1024
_ADDED_BY_AIOHTTP = (hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What a token opens. ``metadata``: the text for ``X-Verified-User-Data``. ``inbound``: peers that may come, all if
    none. ``activity``: where its use is noted."""

    task_id: str
    network: Network
    port: int
    metadata: str
    activity: Activity
    inbound: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()


Resolve = Callable[[str], Target | None]


class ConnectProxy:
    """The reverse proxy: one HTTPS port for all sandboxes; the token says which is meant."""

    def __init__(self, host: str, context: ssl.SSLContext, resolve: Resolve) -> None:
        self._host = host
        self._context = context
        self._resolve = resolve
        self._runner: web.ServerRunner | None = None
        self._requests: dict[str, set[asyncio.Task[web.StreamResponse]]] = {}
        self.url = ""

    async def start(self) -> None:
        """Listen on a free port."""
        server = web.Server(self._serve, access_log=None, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, 0, ssl_context=self._context).start()
        self.url = f"https://{url_host(self._host)}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening and end every request."""
        for task_id in list(self._requests):
            await self.close(task_id)
        if self._runner is not None:
            await self._runner.cleanup()

    def connections(self, task_id: str) -> int:
        """Return how many requests of a task are on their way: while there are any, the sandbox is not idle."""
        return len(self._requests.get(task_id, ()))

    async def close(self, task_id: str) -> None:
        """End the requests to a task that has ended."""
        requests = self._requests.pop(task_id, set())
        for request in requests:
            request.cancel()
        if requests:
            await asyncio.wait(requests)

    # -- one request

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        target, token, place = self._target(request)
        if target is None:
            reason = "the connect token is invalid, or its sandbox has ended" if token else "a connect token is required"
            return web.Response(status=401, text=f"{reason}\n", headers={hdrs.WWW_AUTHENTICATE: "Bearer"})
        if target.inbound and not any(ipaddress.ip_address(request.remote or "0.0.0.0") in one for one in target.inbound):  # noqa: S104
            return web.Response(status=403, text="this address is not on the sandbox's inbound allow-list\n")
        # A task of its own, to be ended with the sandbox; the one that runs this belongs to the client's connection.
        work = asyncio.create_task(_forward(request, target, place, token))
        running = self._requests.setdefault(target.task_id, set())
        running.add(work)
        work.add_done_callback(running.discard)
        target.activity.enter()
        work.add_done_callback(lambda _: target.activity.leave())
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:  # the client has gone
            work.cancel()
            raise
        if work.cancelled():
            return web.Response(status=502, text="the sandbox has ended\n")
        return work.result()

    def _target(self, request: web.BaseRequest) -> tuple[Target | None, str, str]:
        """Return what the first good token opens, that token, and where it was; the last bad one if there is no good one."""
        token = place = ""
        for place, token in _tokens_of(request):
            target = self._resolve(token)
            if target is not None:
                return target, token, place
        return None, token, place


def _tokens_of(request: web.BaseRequest) -> Iterator[tuple[str, str]]:
    """Yield where there may be a token, and the token: the query comes first, as an application may use the header itself."""
    if token := request.query.get(TOKEN):
        yield "query", token
    kind, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if kind.lower() == "bearer" and token:
        yield "header", token.strip()
    if token := request.cookies.get(TOKEN):
        yield "cookie", token


async def _forward(request: web.BaseRequest, target: Target, place: str, token: str) -> web.StreamResponse:
    if not request.raw_path.startswith("/"):
        return web.Response(status=400, text="expected a path\n")
    headers = _headers(request, target, place)
    problem: OSError | None = None
    for family, address in LOOPBACKS:
        url = URL(f"http://{url_host(address)}:{target.port}{request.raw_path}", encoded=True)
        try:
            async with await _session(target.network, family) as session:
                if request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
                    return await _websocket(request, session, url, headers)
                return await _http(request, session, url, headers, cookie=token if place == "query" else "")
        except (aiohttp.ClientConnectorError, OSError) as error:
            problem = problem or error
            if request.content.total_bytes:  # some of the body is gone: there is no second try
                break
        except aiohttp.ClientError as error:
            return web.Response(status=502, text=f"the server on port {target.port} of the sandbox failed: {error}\n")
    return web.Response(status=502, text=f"nothing listens on port {target.port} of the sandbox: {problem}\n")


async def _session(network: Network, family: socket.AddressFamily) -> aiohttp.ClientSession:
    """Return a session for one request, whose only connection is made with a socket inside the sandbox's network."""
    inside = await network.socket(family)
    inside.setblocking(False)  # noqa: FBT003
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(socket_factory=lambda _: inside, force_close=True),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def _headers(request: web.BaseRequest, target: Target, place: str) -> CIMultiDict[str]:
    """Return the request's headers as the sandbox's server gets them: without the token and without a forged user."""
    named = {name.strip().lower() for name in request.headers.get(hdrs.CONNECTION, "").split(",")}
    dropped = _HOP | named | {USER_DATA.lower()} | ({"authorization"} if place == "header" else set())
    headers = CIMultiDict((name, value) for name, value in request.headers.items() if name.lower() not in dropped)
    if TOKEN in request.cookies:
        kept = "; ".join(f"{name}={value}" for name, value in request.cookies.items() if name != TOKEN)
        headers.popall(hdrs.COOKIE, None)
        if kept:
            headers[hdrs.COOKIE] = kept
    if target.metadata:
        headers[USER_DATA] = target.metadata
    return headers


async def _http(
    request: web.BaseRequest, session: aiohttp.ClientSession, url: URL, headers: CIMultiDict[str], *, cookie: str
) -> web.StreamResponse:
    body = request.content.iter_chunked(_CHUNK_BYTES) if request.body_exists else None
    async with session.request(
        request.method, url, headers=headers, data=body, allow_redirects=False, skip_auto_headers=_ADDED_BY_AIOHTTP
    ) as answer:
        kept = CIMultiDict((name, value) for name, value in answer.headers.items() if name.lower() not in _HOP)
        response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=kept)
        if cookie:  # what a page loads next has no query of its own
            response.headers.add(hdrs.SET_COOKIE, f"{TOKEN}={cookie}; Path=/; HttpOnly; Secure; SameSite=None")
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
        return response


async def _websocket(
    request: web.BaseRequest, session: aiohttp.ClientSession, url: URL, headers: CIMultiDict[str]
) -> web.StreamResponse:
    wanted = [name.strip() for name in request.headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "").split(",") if name.strip()]
    try:
        inner = await session.ws_connect(url, headers=headers, protocols=wanted, autoping=False, max_msg_size=0)
    except aiohttp.WSServerHandshakeError as error:
        return web.Response(status=error.status, text=f"the sandbox's server refused the WebSocket: {error.message}\n")
    async with inner:
        outer = web.WebSocketResponse(
            protocols=[inner.protocol] if inner.protocol else [], autoping=False, max_msg_size=0, compress=False
        )
        await outer.prepare(request)
        ways = [asyncio.create_task(_messages(outer, inner)), asyncio.create_task(_messages(inner, outer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            # Only now: aiohttp closes in good order only where nobody is receiving.
            await outer.close(code=_code(inner))
            await inner.close(code=_code(outer))
        return outer


Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _messages(source: Socket, sink: Socket) -> None:
    """Carry messages one way until that way is closed."""
    async for message in source:
        if message.type == aiohttp.WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type == aiohttp.WSMsgType.BINARY:
            await sink.send_bytes(message.data)
        elif message.type == aiohttp.WSMsgType.PING:
            await sink.ping(message.data)
        elif message.type == aiohttp.WSMsgType.PONG:
            await sink.pong(message.data)


def _code(closed: Socket) -> int:
    """Return the code that the other side is closed with."""
    code = closed.close_code
    return code if code and code not in (aiohttp.WSCloseCode.ABNORMAL_CLOSURE, 1005) else int(aiohttp.WSCloseCode.OK)
