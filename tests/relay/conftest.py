"""An execution API that tells what reached it, and relays on an emulator; its sandboxes run in ``.venv-worker``."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from aiohttp import web

from modalflow.emulator import EmulatorConfig, EmulatorThread
from modalflow.modal_gateway.relays import RelayGateway
from modalflow.relay import station
from modalflow.relay.keys import Keys
from modalflow.relay.service import RelayService, RelaySettings
from modalflow.settings import LaunchSettings
from modalflow.worker import telling_source

ROOT = Path(__file__).parents[2]
WORKER_PYTHON = Path(os.environ.get("MODALFLOW_TEST_WORKER_PYTHON", ROOT / ".venv-worker" / "bin" / "python"))
SECRET = b"a secret that all schedulers of the tests share"
LAUNCH = "0192f0c1-0000-7000-8000-000000000001"
DEADLINE = 30.0


@dataclass
class Api:
    """Stands for Airflow's API server: answers under every path, and keeps what came."""

    url: str = ""
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): text for name, text in request.headers.items()}
        self.requests.append((request.method, request.raw_path, headers, body))
        if request.path == "/execution/redirect":
            raise web.HTTPFound("http://127.0.0.1:1/secret")
        told = {"path": request.raw_path, "size": len(body)}
        return web.json_response(told, headers={"Refreshed-API-Token": "new", "Server": "inside", "X-Internal": "host"})


@asynccontextmanager
async def api_running() -> AsyncIterator[Api]:
    api = Api()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{rest:.*}", api.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    api.url = f"http://127.0.0.1:{runner.addresses[0][1]}/execution/"
    try:
        yield api
    finally:
        await runner.cleanup()


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[EmulatorThread]:
    """An emulator whose sandboxes have asyncssh, and share this machine's network."""
    assert WORKER_PYTHON.exists(), f"{WORKER_PYTHON} is missing: run `make setup`"
    config = EmulatorConfig(python=WORKER_PYTHON, isolation="process", network="host", image_builds="record", record_calls=True)
    with EmulatorThread(config) as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        yield emulator


def settings(api_url: str, **changes: object) -> RelaySettings:
    told = RelaySettings(
        deployment="airflow",
        api_url=api_url,
        station=Path(station.__file__).read_text(),
        tell=("python", "-c", telling_source()),
        listen_host="127.0.0.1",
    )
    return replace(told, **changes)  # type: ignore[arg-type]


def service(api_url: str, *, secret: bytes = SECRET, clock: Callable[[], float] = time.time, **changes: object) -> RelayService:
    """A scheduler's half of the relay."""
    launch = LaunchSettings(rpc_timeout=10.0, create_timeout=20.0)
    return RelayService(lambda: RelayGateway(launch), Keys(secret, "airflow"), settings(api_url, **changes), clock=clock)


def kill_station(sandbox_id: str) -> None:
    """Kill -9 the program of a relay's sandbox."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = f"MODAL_SANDBOX_ID={sandbox_id}".encode() in (process / "environ").read_bytes().split(b"\0")
            if ours and b"class Station" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:  # it has ended meanwhile
            continue
    assert found, f"no program of {sandbox_id} runs"
    for pid in found:
        os.kill(pid, signal.SIGKILL)


async def until(what: str, condition: Callable[[], object]) -> None:
    """Wait until ``condition`` holds; fail naming ``what`` otherwise."""
    try:
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110 - what is waited for is in other threads and processes
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"not within {DEADLINE:g} s: {what}")


def answer_of(raw: bytes) -> tuple[int, dict[str, object]]:
    """Status and JSON of an HTTP answer."""
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body.startswith(b"{") else {}
