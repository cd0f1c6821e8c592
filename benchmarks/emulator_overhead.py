"""What a sandbox costs beside the process that it is: create and wait of ``true``, 100 at once, against spawning them directly.

Ours: the modal client's calls (``SandboxCreateV2``, ``SandboxWaitV2``) by its own stubs, from a process beside the emulator's,
from the first request to the last result. The floor, alternating in the same run: the same 100 commands with the same isolation
and nothing else, started by a loop and waited for. With process isolation that is a session, three pipes, an environment, and
a HOME and TMPDIR that are made and removed (``subprocess``).
Run as ``python -m benchmarks.emulator_overhead``.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.light_client import Client, emulator_process
from benchmarks.report import report

SANDBOXES = 100
CLIENTS = 4
ROUNDS = 9
GOAL = 3.0
ARGV = ["true"]


async def _one(client: Client, app_id: str) -> None:
    sandbox = await client.create(app_id, ARGV)
    if code := await client.wait(sandbox.sandbox_id):
        raise RuntimeError(f"{sandbox.sandbox_id} ended with exit code {code}")


async def _ours(clients: list[Client], app_id: str) -> float:
    """Milliseconds until the last of the sandboxes has ended."""
    begun = time.perf_counter()
    await asyncio.gather(*(_one(clients[number % CLIENTS], app_id) for number in range(SANDBOXES)))
    return (time.perf_counter() - begun) * 1000


def _directly(folder: Path) -> float:
    """Milliseconds until the last of the processes has ended, their output read."""
    begun = time.perf_counter()
    running = []
    for number in range(SANDBOXES):
        root = folder / str(number)
        for private in (root, root / "root", root / "tmp"):
            private.mkdir()
        env = {"PATH": "/usr/bin:/bin", "HOME": str(root / "root"), "TMPDIR": str(root / "tmp")}
        pipe = subprocess.PIPE
        process = subprocess.Popen(ARGV, env=env, cwd=root / "root", stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
        running.append((process, root))
    for process, root in running:
        process.communicate()
        shutil.rmtree(root)
    return (time.perf_counter() - begun) * 1000


async def _measure(environment: dict[str, str], folder: Path) -> tuple[list[float], list[float]]:
    clients = [Client(environment) for _ in range(CLIENTS)]
    try:
        app_id = await clients[0].app()
        await _ours(clients, app_id)
        ours, floor = [], []
        for turn in range(ROUNDS):
            if turn % 2:
                ours.append(await _ours(clients, app_id))
                floor.append(_directly(folder))
            else:
                floor.append(_directly(folder))
                ours.append(await _ours(clients, app_id))
        return ours, floor
    finally:
        for client in clients:
            client.close()


def main() -> int:
    """Measure, report, and return 0 if the goal was met."""
    with emulator_process({}) as (_, environment), tempfile.TemporaryDirectory() as folder:
        ours, floor = asyncio.run(_measure(environment, Path(folder)))
    met = report(f"{SANDBOXES} sandboxes at once, process isolation", ours, floor, unit="ms", goal_ratio=GOAL)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
