"""What is left of sandboxes that have ended: 500 in a row, 100 at once, 100 killed at once, and clients that vanish in mid-call.

The emulator is a process of its own. Before and after each round everything that a sandbox can leave behind is counted, from
outside where that is possible: processes, threads, descriptors, asyncio tasks, files, mounts, cgroups, network namespaces, their
links, and memory, of which the record and output of each ended sandbox may keep some. The goal is that nothing is left but that.
Run as ``python -m benchmarks.emulator_leaks``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.light_client import Client
from modalflow.emulator.machines.network_namespaces import PREPARED
from modalflow.emulator.machines.oci_launcher import obstacle

IN_A_ROW = 500
AT_ONCE = 100
MEMORY_KB = 24.0
"""Per ended sandbox: its definition, result, and the objects around its empty output."""
SETTLING_SECONDS = 10.0
_POOL = min(32, (os.cpu_count() or 1) + 4)
"""Threads of asyncio's default executor at most."""

_SERVE = """
import asyncio, gc, json, os, resource, sys
from modalflow.emulator import Emulator, EmulatorConfig
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
async def main():
    async with Emulator(EmulatorConfig(**json.loads(sys.argv[1]))) as emulator:
        loop = asyncio.get_running_loop()
        stdin = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
        print(json.dumps([emulator.environment(), str(emulator.core.folder), emulator.core.networks.host]), flush=True)
        while await stdin.readline():
            gc.collect()
            print(json.dumps(sorted(task.get_name() for task in asyncio.all_tasks())), flush=True)
asyncio.run(main())
"""


@dataclass(frozen=True, kw_only=True)
class Held:
    """What the emulator and its sandboxes hold.

    ``threads``: those beyond asyncio's pool, which fills with use, and the one of networks; ``namespaces``, ``links``: beyond
    those made ahead.
    """

    processes: int
    threads: int
    descriptors: int
    tasks: int
    files: int
    mounts: int
    cgroups: int
    namespaces: int
    links: int

    def more_than(self, other: Held) -> dict[str, int]:
        """What there is more of than in ``other``."""
        before = asdict(other)
        return {name: count - before[name] for name, count in asdict(self).items() if count > before[name]}


class Server:
    """An emulator process that is asked what it holds."""

    def __init__(self, settings: Mapping[str, object]) -> None:
        """Start it; ``settings`` are those of ``EmulatorConfig`` that JSON can hold."""
        self._popen = subprocess.Popen(
            [sys.executable, "-c", _SERVE, json.dumps(settings)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._popen.pid
        self.environment, folder, host = self._read()
        self.folder = Path(folder)
        self.network = _network_of(host)

    def _read(self) -> Any:
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        if not line:
            raise RuntimeError(f"the emulator has ended with exit code {self._popen.wait()}")
        return json.loads(line)

    def _tasks(self) -> list[str]:
        assert self._popen.stdin is not None
        self._popen.stdin.write("tasks\n")
        self._popen.stdin.flush()
        tasks: list[str] = self._read()
        return tasks

    def held(self) -> Held:
        """Count everything now."""
        tree = [self.pid, *_descendants(self.pid)]
        return Held(
            processes=len(tree),
            threads=max(0, len(list(Path(f"/proc/{self.pid}/task").iterdir())) - _POOL - 2),
            descriptors=sum(_descriptors(pid) for pid in tree),
            tasks=len(self._tasks()),
            files=sum(len(names) + len(folders) for _, folders, names in os.walk(self.folder)),
            mounts=sum(str(self.folder) in line for line in Path("/proc/self/mountinfo").read_text().splitlines()),
            cgroups=sum(1 for _ in _cgroups(self.folder.name)),
            namespaces=max(0, _named(Path("/run/netns"), f"{self.network}-") - PREPARED),
            links=max(0, _named(Path("/sys/class/net"), f"{self.network}x") - PREPARED),
        )

    def memory_kb(self) -> float:
        """Resident memory of the emulator's own process, in KB."""
        self._tasks()  # collects its garbage
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1024

    def settled(self, before: Held) -> dict[str, int]:
        """Return what is left over once that is nothing, or the time is up."""
        deadline = time.monotonic() + SETTLING_SECONDS
        while (left := self.held().more_than(before)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def stop(self) -> None:
        """End it in good order."""
        self._popen.communicate(timeout=60)


def _descendants(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, children.read_text().split()):
                found += [child, *_descendants(child)]
    return found


def _descriptors(pid: int) -> int:
    with contextlib.suppress(OSError):
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return 0


def _cgroups(mark: str) -> Iterator[Path]:
    """Cgroups that carry the emulator's own name, under every controller."""
    for path, folders, _ in os.walk("/sys/fs/cgroup"):
        yield from (Path(path, folder) for folder in folders if mark in f"{path}/{folder}")


def _network_of(host: str) -> str:
    """How the names of an emulator's network namespaces begin: the label of the address where its tunnels are."""
    from pyroute2 import IPRoute

    with IPRoute() as routes:
        labels = [str(one.get_attr("IFA_LABEL")) for one in routes.get_addr(address=host)]
    return labels[0].removeprefix("lo:")


def _named(folder: Path, beginning: str) -> int:
    with contextlib.suppress(FileNotFoundError):
        return sum(path.name.startswith(beginning) for path in folder.iterdir())
    return 0


# -- what clients do


async def run_one(client: Client, app_id: str) -> None:
    """Create a sandbox that writes a line, and wait for its end."""
    sandbox = await client.create(app_id, ["echo", "line"])
    if code := await client.wait(sandbox.sandbox_id):
        raise RuntimeError(f"{sandbox.sandbox_id} ended with exit code {code}")


async def in_a_row(client: Client, app_id: str, count: int) -> None:
    """One after the other."""
    for _ in range(count):
        await run_one(client, app_id)


async def at_once(client: Client, app_id: str, count: int) -> None:
    """All at the same time."""
    await asyncio.gather(*(run_one(client, app_id) for _ in range(count)))


async def killed(client: Client, app_id: str, count: int) -> None:
    """All at the same time, each with a daemon, and terminated while some start and some run."""

    async def one(number: int) -> None:
        sandbox = await client.create(app_id, ["sh", "-c", "setsid sleep 600 & exec sleep 600"])
        await asyncio.sleep(number % 10 * 0.02)
        await client.terminate(sandbox.sandbox_id)
        await client.wait(sandbox.sandbox_id)

    await asyncio.gather(*(one(number) for number in range(count)))


async def vanishing(client: Client, app_id: str, count: int) -> None:
    """Clients that hang up in the middle of a create, a wait, a read of output and an exec; then all sandboxes are terminated."""
    for number, sandbox in enumerate(await asyncio.gather(*(client.create(app_id, ["sleep", "600"]) for _ in range(count)))):
        leaves = client.another()
        calls = [
            asyncio.ensure_future(call)
            for call in (
                leaves.wait(sandbox.sandbox_id),
                leaves.create(app_id, ["sleep", "600"]),
                leaves.read_output(sandbox),
                leaves.execute(sandbox, "exec", ["sleep", "600"]),
            )
        ]
        for _ in range(number % 5 * 4):
            await asyncio.sleep(0.001)
        leaves.close()
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    while running := await client.running(app_id):
        for sandbox_id in running:
            await client.terminate(sandbox_id)
            await client.wait(sandbox_id)


Activity = Callable[[Client, str, int], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one round left behind: nothing, if all is well. ``memory_kb``: what the emulator grew by."""

    sandboxes: int
    left: Mapping[str, int]
    memory_kb: float


def measure(server: Server, activity: Activity, count: int, *, sandboxes: int | None = None) -> Round:
    """Do it and count before and after. ``sandboxes``: how many it makes, if not ``count``."""

    async def act() -> None:
        client = Client(server.environment)
        try:
            await activity(client, await client.app(), count)
        finally:
            client.close()

    before, memory = server.held(), server.memory_kb()
    asyncio.run(act())
    left = server.settled(before)
    return Round(sandboxes=sandboxes or count, left=left, memory_kb=server.memory_kb() - memory)


def _measured(isolation: str) -> bool:
    server = Server({"isolation": isolation})  # as containers with networks of their own, where the machine allows it
    try:
        measure(server, at_once, AT_ONCE)  # whatever is made once is made now
        rounds = {
            f"{IN_A_ROW} in a row": measure(server, in_a_row, IN_A_ROW),
            f"{AT_ONCE} at once": measure(server, at_once, AT_ONCE),
            f"{AT_ONCE} killed": measure(server, killed, AT_ONCE),
            f"{AT_ONCE} clients vanish": measure(server, vanishing, AT_ONCE, sandboxes=2 * AT_ONCE),
        }
    finally:
        server.stop()
    for name, one in rounds.items():
        left = ", ".join(f"{count} {what}" for what, count in one.left.items()) or "nothing"
        print(f"{isolation} isolation, {name} | left {left} | goal nothing | {'missed' if one.left else 'met'}")
    sandboxes = sum(one.sandboxes for one in rounds.values())
    memory = sum(one.memory_kb for one in rounds.values()) / sandboxes
    fits = memory < MEMORY_KB
    print(
        f"{isolation} isolation, memory of {sandboxes} ended sandboxes | {memory:.1f} KB each | goal {MEMORY_KB:.0f} KB"
        f" | {'met' if fits else 'missed'}"
    )
    return fits and not any(one.left for one in rounds.values())


def main() -> int:
    """Measure, report, and return 0 if nothing was left."""
    met = [_measured("process")]
    if missing := obstacle():
        print(f"container isolation | not measured: {missing}")
    else:
        met.append(_measured("container"))
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
