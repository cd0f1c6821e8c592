"""What 1,000 clients that wait for 1,000 running sandboxes cost the emulator: its share of one core, over half a minute.

The emulator is a process of its own; the sandboxes are ``sleep``. The waits are those of the modal client 1.6.4: long polls
(``SandboxWaitV2``, 10 s each), made here by its own stubs from another process, whose time does not count. Their connections are
those of 20 clients. The floor is the same server answering nothing: its share of a core with the sandboxes and no client.
Run as ``python -m benchmarks.emulator_waits``.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WAITS = 1_000
CLIENTS = 20
SECONDS = 30.0
POLL_SECONDS = 10.0
GOAL = 0.10
"""Of one core."""

SERVE = """
import json, os, sys, resource
from modalflow.emulator import EmulatorConfig, EmulatorThread
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
with EmulatorThread(EmulatorConfig()) as emulator:
    print(json.dumps([os.getpid(), emulator.environment()]), flush=True)
    sys.stdin.read()
"""


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, its own threads included and its children not."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descriptors(pid: int) -> int:
    """Open file descriptors of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def headers(environment: dict[str, str]) -> dict[str, str]:
    """What the modal client puts on every call."""
    return {
        "x-modal-client-version": "1.6.4",
        "x-modal-client-type": "1",
        "x-modal-token-id": environment["MODAL_TOKEN_ID"],
        "x-modal-token-secret": environment["MODAL_TOKEN_SECRET"],
    }


class Client:
    """One connection with the control plane's stub."""

    def __init__(self, environment: dict[str, str]) -> None:
        """Connect on first use."""
        from grpclib.client import Channel
        from modal_proto.api_grpc import ModalClientStub

        host, _, port = environment["MODAL_SERVER_URL"].rpartition("/")[2].rpartition(":")
        self._metadata = headers(environment)
        self._channel = Channel(host, int(port))
        self._stub: Any = ModalClientStub(self._channel)

    async def call(self, method: str, request: Any) -> Any:
        """Make one unary call."""
        return await getattr(self._stub, method)(request, metadata=self._metadata)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


async def app_of(client: Client) -> str:
    """Return the id of the App that the sandboxes belong to."""
    from modal_proto import api_pb2

    reply = await client.call(
        "AppGetOrCreate",
        api_pb2.AppGetOrCreateRequest(app_name="bench", object_creation_type=api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING),
    )
    return str(reply.app_id)


async def create(client: Client, app_id: str, argv: list[str]) -> str:
    """Create a V2 sandbox and return its id."""
    from modal_proto import api_pb2

    definition = api_pb2.Sandbox(entrypoint_args=argv, timeout_secs=600)
    reply = await client.call("SandboxCreateV2", api_pb2.SandboxCreateV2Request(app_id=app_id, definition=definition))
    return str(reply.sandbox_id)


async def _wait_for_ever(client: Client, sandbox_id: str) -> None:
    from modal_proto import api_pb2

    while True:
        await client.call("SandboxWaitV2", api_pb2.SandboxWaitRequest(sandbox_id=sandbox_id, timeout=POLL_SECONDS))


async def _share(pid: int, seconds: float) -> float:
    """Share of a core that the process takes from now on."""
    begun, before = time.monotonic(), cpu_seconds(pid)
    await asyncio.sleep(seconds)
    return (cpu_seconds(pid) - before) / (time.monotonic() - begun)


async def _measure(pid: int, environment: dict[str, str]) -> tuple[float, float, int]:
    clients = [Client(environment) for _ in range(CLIENTS)]
    try:
        app_id = await app_of(clients[0])
        sandboxes = []
        for start in range(0, WAITS, 100):  # as a scheduler would, not all in one instant
            batch = range(start, min(start + 100, WAITS))
            sandboxes += await asyncio.gather(*(create(clients[n % CLIENTS], app_id, ["sleep", "600"]) for n in batch))
        await asyncio.sleep(3.0)  # all have been started
        floor = await _share(pid, SECONDS / 3)
        waits = [asyncio.ensure_future(_wait_for_ever(clients[n % CLIENTS], one)) for n, one in enumerate(sandboxes)]
        await asyncio.sleep(POLL_SECONDS)  # the first polls come all at once; later ones as well, so all are in what is measured
        share = await _share(pid, SECONDS)
        failed = [wait for wait in waits if wait.done()]
        if failed:
            raise RuntimeError(f"{len(failed)} waits failed: {failed[0].exception()!r}")
        held = descriptors(pid)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        return share, floor, held
    finally:
        for client in clients:
            client.close()


def main() -> int:
    """Measure, report, and return 0 if the goal was met."""
    server = subprocess.Popen([sys.executable, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        pid, environment = json.loads(server.stdout.readline())
        share, floor, held = asyncio.run(_measure(pid, environment))
    finally:
        server.communicate(timeout=60)
    met = share < GOAL
    print(
        f"{WAITS} waits on the emulator | ours {share:.1%} of a core | floor {floor:.1%} (no waits) | {held} descriptors"
        f" | goal {GOAL:.0%} | {'met' if met else 'missed'}"
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
