"""What the relay costs: a heartbeat through it against one straight to the same API, and those of 200 tasks at once.

Flows in: an API in a process of its own, which answers at once; a relay sandbox on an emulator; tasks' connections, made as
the sandbox's program makes them. Every request goes: task, TLS, the emulator's tunnel, the relay's program, SSH, TLS, the
tunnel again, the filter, the API. Emulator, filter and tasks share this process and its interpreter lock, which on Modal they
do not: these figures are an upper bound. Needs ``.venv-worker`` (``make setup``), whose Python plays the relay's image.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from importlib.resources import files
from pathlib import Path
from statistics import quantiles
from typing import Any

from benchmarks.report import report

ROUNDS = 3
REQUESTS = 200
TASKS = 200
BEATS = 4
WORKER_PYTHON = Path(__file__).parents[1] / ".venv-worker" / "bin" / "python"
SECRET = b"what the schedulers of this benchmark share"
LAUNCH = "0192f0c1-0000-7000-8000-000000000001"
BODY = b'{"hostname":"sandbox","pid":1}'
GOAL_ONE = 12.0
"""Times a direct request: most of it is the emulator's and this process's own work on TLS, twice."""
GOAL_ALL = 12.0

Connect = Callable[[], Coroutine[Any, Any, tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


def serve_api() -> None:
    """Answer every request with 204, and print the port first."""
    from aiohttp import web

    async def main() -> None:
        async def answer(request: web.Request) -> web.Response:
            await request.read()
            return web.Response(status=204)

        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.to_thread(sys.stdin.read)  # until the benchmark ends
        await runner.cleanup()

    asyncio.run(main())


async def beat(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> float:
    """One heartbeat; milliseconds until its answer."""
    reader, writer = connection
    head = f"PUT /execution/task-instances/x/heartbeat HTTP/1.1\r\nHost: api\r\nContent-Length: {len(BODY)}\r\n\r\n"
    start = time.perf_counter()
    writer.write(head.encode() + BODY)
    answer = await reader.readuntil(b"\r\n\r\n")
    if b" 204 " not in answer.split(b"\r\n", 1)[0]:
        raise RuntimeError(f"expected 204, got {answer!r}")
    return (time.perf_counter() - start) * 1000


async def one_after_another(connect: Connect) -> float:
    """Mean milliseconds of a task's requests on one connection."""
    connection = await connect()
    try:
        await beat(connection)
        return sum([await beat(connection) for _ in range(REQUESTS)]) / REQUESTS
    finally:
        connection[1].close()


async def all_at_once(connect: Connect) -> float:
    """95th percentile, in milliseconds, of ``TASKS`` tasks' heartbeats that all fall on the same moment, ``BEATS`` times."""
    connections = [await connect() for _ in range(TASKS)]
    try:
        found = [took for _ in range(BEATS) for took in await asyncio.gather(*map(beat, connections))]
        return quantiles(found, n=20)[-1]
    finally:
        for _, writer in connections:
            writer.close()


async def measure(port: int) -> bool:
    """Measure direct and through a relay in turns; whether all goals were met."""
    from modalflow.modal_gateway.relays import RelayGateway
    from modalflow.relay.filter import Limits
    from modalflow.relay.keys import Keys
    from modalflow.relay.service import RelayService, RelaySettings
    from modalflow.settings import LaunchSettings
    from modalflow.worker import telling_source
    from modalflow.worker.relay import Way

    service = RelayService(
        lambda: RelayGateway(LaunchSettings()),
        Keys(SECRET, "benchmark"),
        RelaySettings(
            deployment="benchmark",
            api_url=f"http://127.0.0.1:{port}/execution/",
            station=files("modalflow.relay").joinpath("station.py").read_text(encoding="utf-8"),
            tell=("python", "-c", telling_source()),
            listen_host="127.0.0.1",
            limits=Limits(rate=1e6, burst=1e6),
        ),
    )

    async def direct() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", port)

    async def relayed() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        found = await way.reach("http", 30.0)
        if found is None:
            raise RuntimeError("the relay was not reached")
        reader, writer = found
        return reader, writer

    service.start()
    try:
        await service.ready()
        way = Way(service.ticket(LAUNCH, 3600.0))
        ones = [(await one_after_another(relayed), await one_after_another(direct)) for _ in range(ROUNDS)]
        alls = [(await all_at_once(relayed), await all_at_once(direct)) for _ in range(ROUNDS)]
    finally:
        await asyncio.to_thread(service.stop, 10.0)
    met = [
        report("relay: one request after another", [r for r, _ in ones], [d for _, d in ones], unit="ms", goal_ratio=GOAL_ONE),
        report(
            f"relay: {TASKS} heartbeats at once, p95", [r for r, _ in alls], [d for _, d in alls], unit="ms", goal_ratio=GOAL_ALL
        ),
    ]
    return all(met)


def main() -> int:
    """Run emulator, API and relay; 0 if all goals were met."""
    from modalflow.emulator import EmulatorConfig, EmulatorThread

    config = EmulatorConfig(python=WORKER_PYTHON, isolation="process", network="host", image_builds="record")
    command = [sys.executable, "-c", "from benchmarks.relay import serve_api; serve_api()"]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as api,
        EmulatorThread(config) as emulator,
    ):
        os.environ |= emulator.environment()
        if api.stdout is None or api.stdin is None:
            raise RuntimeError("the API has no pipes")
        try:
            return 0 if asyncio.run(measure(int(api.stdout.readline()))) else 1
        finally:
            api.stdin.close()


if __name__ == "__main__":
    sys.exit(main())
