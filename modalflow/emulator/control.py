"""The control endpoint: what a test does to an emulator in code, done to one that runs elsewhere. HTTP and JSON on loopback.

Flows in: requests with the endpoint's own token, which is not Modal's. Flows out: faults, conditions, time, sandboxes and
connections of the emulator, changed or told. It listens on 127.0.0.1 wherever the emulator does. ``modalflow emulator status``
and its neighbours (``cli.emulator_control``) are its client. A web page in a browser of this machine cannot use it: it does
not know the token, and a request with another ``Host`` or any ``Origin`` is refused.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from modalflow.emulator.conditions_data import parse_conditions, plain_conditions
from modalflow.emulator.faults.documents import described, parse_fault
from modalflow.emulator.plain_data import DataError, flag, mapping, number, only, text, whole

if TYPE_CHECKING:
    from modalflow.emulator.server import Emulator

VARIABLE = "MODALFLOW_EMULATOR_CONTROL"
"""``http://TOKEN@127.0.0.1:PORT``: where the endpoint is and what opens it."""

_BODY_BYTES = 1 << 20
Answer = Callable[[web.Request, dict[str, Any]], Awaitable[object]]


class Control:
    """The endpoint of one emulator. It outlives restarts."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._token = secrets.token_urlsafe(32)
        self._runner: web.AppRunner | None = None
        self._host = ""
        self._turn = asyncio.Lock()
        """One command at a time: there is nothing to be told or changed in the middle of a restart."""

    @property
    def address(self) -> str:
        """The value of ``MODALFLOW_EMULATOR_CONTROL``. It is a secret."""
        return f"http://{self._token}@{self._host}"

    async def start(self) -> None:
        """Listen on a free port of 127.0.0.1."""
        app = web.Application(middlewares=[self._guarded], client_max_size=_BODY_BYTES)
        for method, path, answer in (
            ("GET", "/status", self._status),
            ("GET", "/faults", self._list_faults),
            ("POST", "/faults", self._add_fault),
            ("DELETE", "/faults", self._clear_faults),
            ("DELETE", "/faults/{number}", self._remove_fault),
            ("POST", "/capacity", self._set_capacity),
            ("POST", "/clock", self._drive_clock),
            ("POST", "/sandboxes/{sandbox_id}/preempt", self._preempt),
            ("POST", "/sandboxes/{sandbox_id}/end", self._end),
            ("POST", "/connections", self._connections),
            ("POST", "/restart", self._restart),
        ):
            app.router.add_route(method, path, _handler(answer))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._host = f"127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guarded(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if request.host != self._host or "Origin" in request.headers:
            return _refused(403, f"only programs that ask for http://{self._host} are answered, and no web pages")
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(errors="surrogateescape"), self._token.encode()):
            return _refused(401, f"the token is wrong or missing; it is in {VARIABLE}")
        async with self._turn:
            return await handler(request)

    # -- answers; each gets the request and its JSON body

    async def _status(self, _request: web.Request, _body: dict[str, Any]) -> object:
        emulator, core = self._emulator, self._emulator.core
        workspaces = list(core.store.workspaces.values())
        sandboxes = [one for workspace in workspaces for one in workspace.sandboxes.values()]
        return {
            "url": emulator.url,
            "isolation": {"name": emulator.isolation.name, "words": emulator.isolation.words},
            "network": {"name": emulator.network.name, "words": emulator.network.words},
            "clock": {"time": emulator.clock.time(), "runs": emulator.clock.runs},
            "capacity": plain_conditions(emulator.capacity.now),
            "workspaces": {
                workspace.name: {
                    "used": workspace.inventory.used(),
                    "queued": workspace.inventory.queued(),
                    "running": [one.sandbox_id for one in workspace.sandboxes.values() if one.scheduled and one.result is None],
                }
                for workspace in workspaces
            },
            "sandboxes": {"alive": sum(one.result is None for one in sandboxes), "remembered": len(sandboxes)},
            "faults": [described(rule) for rule in emulator.faults.rules()],
            "latency": emulator.faults.latencies(),
            "frozen": emulator.faults.frozen,
            "recorded_calls": len(core.recorder.calls),
        }

    async def _list_faults(self, _request: web.Request, _body: dict[str, Any]) -> object:
        return [described(rule) for rule in self._emulator.faults.rules()]

    async def _add_fault(self, _request: web.Request, body: dict[str, Any]) -> object:
        return described(self._emulator.faults.put(parse_fault(body)))

    async def _clear_faults(self, _request: web.Request, _body: dict[str, Any]) -> object:
        self._emulator.faults.clear()
        return []

    async def _remove_fault(self, request: web.Request, _body: dict[str, Any]) -> object:
        asked = request.match_info["number"]
        if not asked.isdecimal():
            raise DataError(f"expected the number of a fault, got {asked!r}")
        self._emulator.faults.remove(int(asked))
        return [described(rule) for rule in self._emulator.faults.rules()]

    async def _set_capacity(self, _request: web.Request, body: dict[str, Any]) -> object:
        self._emulator.capacity.set(**parse_conditions(body))
        return plain_conditions(self._emulator.capacity.now)

    async def _drive_clock(self, _request: web.Request, body: dict[str, Any]) -> object:
        only(body, ("do", "seconds"), "")
        clock, what = self._emulator.clock, _one_of("do", body.get("do"), "advance", "freeze", "resume")
        if what == "advance":
            clock.advance(number("seconds", body.get("seconds")))
        elif what == "freeze":
            clock.freeze()
        else:
            clock.resume()
        return {"time": clock.time(), "runs": clock.runs}

    async def _preempt(self, request: web.Request, body: dict[str, Any]) -> object:
        only(body, ("grace",), "")
        grace = body.get("grace")
        self._emulator.preempt(request.match_info["sandbox_id"], grace=None if grace is None else number("grace", grace))
        return {}

    async def _end(self, request: web.Request, body: dict[str, Any]) -> object:
        only(body, ("status", "exitcode", "exception"), "")
        exitcode, exception = body.get("exitcode"), body.get("exception")
        self._emulator.end(
            request.match_info["sandbox_id"],
            text("status", body.get("status")),
            exitcode=None if exitcode is None else whole("exitcode", exitcode),
            exception=None if exception is None else text("exception", exception),
        )
        return {}

    async def _connections(self, _request: web.Request, body: dict[str, Any]) -> object:
        only(body, ("do",), "")
        what = _one_of("do", body.get("do"), "close", "refuse", "accept", "freeze", "thaw")
        server, faults = self._emulator.grpc_server, self._emulator.faults
        if what == "close":
            server.disconnect()
        elif what == "refuse":
            await server.refuse()
        elif what == "accept":
            await server.accept()
        elif what == "freeze":
            faults.freeze()
        else:
            faults.thaw()
        return {}

    async def _restart(self, _request: web.Request, body: dict[str, Any]) -> object:
        only(body, ("keep_state",), "")
        await self._emulator.restart(keep_state=flag("keep_state", body.get("keep_state", True)))
        return {"url": self._emulator.url}


def _one_of(path: str, value: object, *choices: str) -> str:
    if value not in choices:
        raise DataError(f"{path}: expected {', '.join(choices[:-1])} or {choices[-1]}, got {value!r}")
    return str(value)


def _refused(status: int, reason: str) -> web.Response:
    return web.json_response({"error": reason}, status=status)


def _handler(answer: Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            given = mapping(await request.json(), "the body") if request.can_read_body else {}
            body = {str(key): value for key, value in given.items()}
            return web.json_response(await answer(request, body))
        except KeyError as error:
            return _refused(404, str(error.args[0]))
        except ValueError as error:  # also of JSON that is none
            return _refused(400, str(error))
        except OSError as error:
            return _refused(500, str(error))

    return handle
