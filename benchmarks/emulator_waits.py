"""What 1,000 clients that wait for 1,000 running sandboxes cost the emulator: its share of one core, over half a minute.

The emulator is a process of its own; the sandboxes are processes, ``sleep``. The waits are those of the modal client 1.6.4: long
polls (``SandboxWaitV2``, 10 s each), made here by its own stubs from another process, whose time does not count. Their
connections are those of 20 clients. The floor is the same server with the same sandboxes and no client.
Run as ``python -m benchmarks.emulator_waits``.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from benchmarks.light_client import Client, emulator_process

WAITS = 1_000
CLIENTS = 20
SECONDS = 30.0
POLL_SECONDS = 10.0
GOAL = 0.10
"""Of one core."""


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, its own threads included and its children not."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descriptors(pid: int) -> int:
    """Open file descriptors of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def _share(pid: int, seconds: float) -> float:
    """Share of a core that the process takes from now on."""
    begun, before = time.monotonic(), cpu_seconds(pid)
    await asyncio.sleep(seconds)
    return (cpu_seconds(pid) - before) / (time.monotonic() - begun)


async def _measure(pid: int, environment: dict[str, str]) -> tuple[float, float, int]:
    clients = [Client(environment) for _ in range(CLIENTS)]
    try:
        app_id = await clients[0].app()
        sandboxes = []
        for start in range(0, WAITS, 100):  # as a scheduler would, not all in one instant
            batch = range(start, min(start + 100, WAITS))
            sandboxes += await asyncio.gather(*(clients[n % CLIENTS].create(app_id, ["sleep", "600"]) for n in batch))
        await asyncio.sleep(3.0)  # all have been started
        floor = await _share(pid, SECONDS / 3)
        waits = [
            asyncio.ensure_future(clients[n % CLIENTS].wait(one.sandbox_id, poll_seconds=POLL_SECONDS))
            for n, one in enumerate(sandboxes)
        ]
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
    with emulator_process({"isolation": "process"}) as (pid, environment):
        share, floor, held = asyncio.run(_measure(pid, environment))
    met = share < GOAL
    print(
        f"{WAITS} waits on the emulator | ours {share:.1%} of a core | floor {floor:.1%} (no waits) | {held} descriptors"
        f" | goal {GOAL:.0%} | {'met' if met else 'missed'}"
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
