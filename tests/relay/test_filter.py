"""Strangers and tasks at the gate, over a real socket, with a real API behind; everything an attacker might send."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modalflow.relay.filter import Filter, Limits
from modalflow.relay.gate import MOST_STRANGERS, Gate, listen
from modalflow.relay.handshake import pass_id, proof
from modalflow.relay.keys import Keys
from tests.relay.conftest import LAUNCH, SECRET, Api, answer_of, api_running, until

KEYS = Keys(SECRET, "airflow")
NOW = 1_800_000_000.0
NAME = pass_id(LAUNCH, NOW)
LIMITS = Limits(body=1000, rate=5, burst=20, patience=0.0)


class Scene:
    """A gate with a filter behind it; ``say`` is what a client sends on one connection, once let in."""

    def __init__(self, api: Api, gate: Gate, path: str) -> None:
        self.api, self.gate, self._path = api, gate, path

    async def stranger(self, first: bytes) -> bytes:
        """Send bytes without a pass; return all that comes back."""
        reader, writer = await asyncio.open_unix_connection(self._path)
        writer.write(first)
        try:
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def enter(self, verb: str = "http") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(self._path)
        mac = proof(KEYS.of_pass(NAME), "hello", verb, NAME, "0" * 32)
        writer.write(f"modalflow1 {verb} {NAME} {'0' * 32} {mac}\n".encode())
        assert await reader.readline() == f"ok {proof(KEYS.of_pass(NAME), 'answer', '0' * 32)}\n".encode()
        return reader, writer

    async def say(self, request: bytes) -> bytes:
        """Send bytes with a pass; return all that comes back until the other side closes."""
        reader, writer = await self.enter()
        writer.write(request)
        try:
            return await reader.read()
        finally:
            writer.close()

    async def ask(self, request: bytes) -> tuple[int, dict[str, object]]:
        """One request that closes; status and JSON of the answer."""
        return answer_of(await self.say(request))


def play(tmp_path: Path, scene: Callable[[Scene], Coroutine[Any, Any, None]], limits: Limits = LIMITS, api_url: str = "") -> None:
    async def main() -> None:
        async with api_running() as api:
            told = Filter(api_url or api.url, limits)
            await told.open()
            gate = Gate(KEYS.of_pass, told.handler, lambda: ["a:1"], clock=lambda: NOW)
            path = str(tmp_path / "gate")
            server = await listen(gate, path)
            try:
                await scene(Scene(api, gate, path))
            finally:
                server.close()
                gate.close()
                await told.close()

    asyncio.run(main())


def request(target: str, *headers: str, method: str = "GET", body: str = "") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: h", "Connection: close", *headers, "", body]).encode()


def test_a_request_reaches_the_api_as_one_of_ours(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        sent = ["Authorization: Bearer t", "Content-Length: 2", "X-Forwarded-For: 1.2.3.4", "Cookie: a=b", "Content-Type: x/y"]
        raw = await at.say(request("/execution/a/b%2Fc?d=e%20f", *sent, method="PATCH", body="{}"))
        [(method, path, headers, body)] = at.api.requests
        assert (method, path, body) == ("PATCH", "/execution/a/b%2Fc?d=e%20f", b"{}")
        assert headers.pop("host").startswith("127.0.0.1:")
        assert headers == {"authorization": "Bearer t", "content-type": "x/y", "content-length": "2"}
        head = raw.partition(b"\r\n\r\n")[0].decode()
        assert head.startswith("HTTP/1.1 200 OK")
        names = {line.partition(":")[0] for line in head.splitlines()[1:]}
        assert names == {"Refreshed-API-Token", "Content-Type", "Content-Length", "Date", "Server", "Connection"}
        assert "Server: modalflow" in head

    play(tmp_path, scene)


def test_a_connection_serves_many_requests_and_a_pipelined_one(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        raw = await at.say(
            b"GET /execution/1 HTTP/1.1\r\nHost: h\r\n\r\nGET /execution/2 HTTP/1.1\r\nHost: h\r\n\r\n" + request("/execution/3")
        )
        assert raw.count(b"HTTP/1.1 200 OK") == 3
        assert [path for _, path, _, _ in at.api.requests] == ["/execution/1", "/execution/2", "/execution/3"]

    play(tmp_path, scene)


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b"GET /execution/x HTTP/1.1\r\n\r\n", id="HTTP without a pass"),
        pytest.param(f"modalflow1 http {NAME} {'0' * 32} {'0' * 64}\n".encode(), id="wrong secret"),
        pytest.param(b"\n", id="an empty line"),
        pytest.param(b"x" * 4096, id="no line at all"),
        pytest.param(b"SSH-2.0-x\r\n", id="SSH"),
    ],
)
def test_a_stranger_gets_not_a_byte(tmp_path: Path, first: bytes) -> None:
    async def scene(at: Scene) -> None:
        assert await at.stranger(first) == b""
        assert (at.gate.turned_away, at.gate.strangers, at.api.requests) == (1, 0, [])
        assert await at.ask(request("/execution/x")) == (200, {"path": "/execution/x", "size": 0}), "others are served"

    play(tmp_path, scene)


def test_a_flood_of_strangers_is_cut_off_and_those_that_are_in_stay(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        reader, writer = await at.enter()
        silent = [await asyncio.open_unix_connection(at._path) for _ in range(MOST_STRANGERS)]
        await until("all are there", lambda: at.gate.strangers == MOST_STRANGERS)
        assert await at.stranger(b"") == b""
        assert at.gate.turned_away == 1
        writer.write(request("/execution/x"))
        assert answer_of(await reader.read())[0] == 200
        for _, other in [*silent, (reader, writer)]:
            other.close()
        await until("all are gone", lambda: at.gate.strangers == 0 == len(at.gate.connections))

    play(tmp_path, scene)


def test_a_sandbox_may_ask_where_relays_are(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        reader, writer = await at.enter("relays")
        assert await reader.read() == b'["a:1"]\n'
        writer.close()

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        pytest.param(request("/api/v2/dags"), 404, id="another route"),
        pytest.param(request("/execution/../api/v2/dags"), 404, id="dots"),
        pytest.param(request("/execution/%2e%2e/api/v2/dags"), 404, id="encoded dots"),
        pytest.param(request("/execution/x%2f..%2f..%2fapi"), 404, id="encoded slashes"),
        pytest.param(request("/execution/%252e%252e%252fapi"), 404, id="encoded twice"),
        pytest.param(request("/execution/..\\api"), 400, id="backslash"),
        pytest.param(request("http://evil.example/execution/x"), 404, id="absolute URL"),
        pytest.param(request("//evil.example/execution/x"), 404, id="network path"),
        pytest.param(request("evil.example:443", method="CONNECT"), 405, id="CONNECT"),
        pytest.param(request("/execution/x", method="TRACE"), 405, id="TRACE"),
        pytest.param(request("/execution/x", "Upgrade: websocket", "Connection: Upgrade"), 400, id="WebSocket"),
        pytest.param(request("/execution/x", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"), 400, id="h2c"),
        pytest.param(request("/execution/x", f"Content-Length: {1001}", method="POST", body="x" * 1001), 413, id="oversize"),
        pytest.param(request("/execution/x", "Content-Length: 99999999999999999999"), 400, id="absurd length"),
        pytest.param(request("/execution/x", "Content-Length: -1"), 400, id="negative length"),
        pytest.param(request("/execution/x", "Content-Length: 2", "Content-Length: 3", body="abc"), 400, id="two lengths"),
        pytest.param(
            request("/execution/x", "Content-Length: 3", "Transfer-Encoding: chunked", method="POST", body="0\r\n\r\n"),
            400,
            id="CL and TE",
        ),
        pytest.param(
            request("/execution/x", "Transfer-Encoding: chunked, identity", method="POST", body="0\r\n\r\n"), 400, id="two TEs"
        ),
        pytest.param(request("/execution/x", "Transfer-Encoding : chunked", method="POST", body="0\r\n\r\n"), 400, id="TE space"),
        pytest.param(request("/execution/x", "Transfer-Encoding: xchunked", method="POST", body="0\r\n\r\n"), 400, id="odd TE"),
        pytest.param(
            request("/execution/x", "Transfer-Encoding: chunked", method="POST", body="3\nabc\n0\n\n"), 400, id="bare line feeds"
        ),
        pytest.param(request("/execution/x", " folded: header"), 400, id="folded header"),
        pytest.param(request("/execution/x", "X" * 9000 + ": y"), 400, id="header too long"),
        pytest.param(request("/execution/" + "x" * 9000), 400, id="target too long"),
        pytest.param(b"GET /execution/x HTTP/2.0\r\n\r\n", 400, id="another HTTP"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, id="HTTP/2"),
        pytest.param(b"\x00\x01\x02\r\n\r\n", 400, id="no HTTP"),
    ],
)
def test_an_attack_with_a_pass_reaches_nothing(tmp_path: Path, raw: bytes, status: int) -> None:
    async def scene(at: Scene) -> None:
        got = answer_of(await at.say(raw))[0]
        assert got == status
        assert at.api.requests == []
        assert (await at.ask(request("/execution/x")))[0] == 200

    play(tmp_path, scene)


def test_what_is_smuggled_in_a_body_stays_a_body(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        inner = "GET /api/v2/dags HTTP/1.1\r\nHost: h\r\n\r\n"
        chunked = f"{len(inner):x}\r\n{inner}\r\n0\r\n\r\n"
        raw = await at.say(request("/execution/x", "Transfer-Encoding: chunked", method="POST", body=chunked))
        assert raw.count(b"HTTP/1.1") == 1
        [(method, path, _, body)] = at.api.requests
        assert (method, path, body) == ("POST", "/execution/x", inner.encode())

    play(tmp_path, scene)


def test_a_body_that_grows_too_large_is_cut_off(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        piece = f"{600:x}\r\n{'x' * 600}\r\n"
        raw = await at.say(request("/execution/x", "Transfer-Encoding: chunked", method="POST", body=piece * 2 + "0\r\n\r\n"))
        assert answer_of(raw) == (413, {"detail": "modalflow relay: a request of more than 1000 bytes"})
        assert at.api.requests == []

    play(tmp_path, scene)


def test_another_host_is_not_passed_on(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        await at.say(b"GET /execution/x HTTP/1.1\r\nHost: airflow.internal\r\nConnection: close\r\n\r\n")
        [(_, _, headers, _)] = at.api.requests
        assert headers["host"] == at.api.url.split("/")[2]

    play(tmp_path, scene)


def test_a_redirect_is_not_followed_and_not_told(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        raw = await at.say(request("/execution/redirect"))
        detail = "modalflow relay: the execution API answered with a redirect, which a relay does not follow"
        assert answer_of(raw) == (502, {"detail": detail})
        assert b"secret" not in raw

    play(tmp_path, scene)


def test_too_many_requests_of_one_task_are_refused_for_now_and_another_is_served(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        raw = await at.say(b"GET /execution/x HTTP/1.1\r\nHost: h\r\n\r\n" * 30)
        assert raw.count(b"HTTP/1.1 200 OK") in range(20, 30)
        assert raw.count(b"HTTP/1.1 503 ") == 1, "the connection ends with it"

    play(tmp_path, scene)


def test_an_api_that_is_away_is_something_to_try_again(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        told = await at.ask(request("/execution/x"))
        assert told == (502, {"detail": "modalflow relay: the execution API cannot be reached from the scheduler"})

    play(tmp_path, scene, api_url="http://127.0.0.1:1/execution/")


def test_large_bodies_pass_both_ways_unchanged(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        size = 5_000_000
        raw = await at.say(request("/execution/x", f"Content-Length: {size}", method="POST", body="y" * size))
        assert answer_of(raw) == (200, {"path": "/execution/x", "size": size})

    play(tmp_path, scene, replace(LIMITS, body=10_000_000))
