"""How long ModalExecutor holds Airflow's scheduler: on launching, on idling, on being imported, and what it keeps per task.

Run as ``python -m benchmarks.heartbeat``. The emulator runs in a process of its own and answers each RPC after 50 ms, so nothing
but the executor's own work is on the measured thread's clock. The peer of the launches is an executor that makes one blocking
call of the Modal client per launch on the heartbeat, as modalflow 0.3.1 did (20 launches at 50 ms hold it 1.01 s).
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

from benchmarks.published_probe import workload
from benchmarks.report import report

LATENCY = 0.05
"""Seconds that each RPC takes."""
LAUNCHES = 100
ROUNDS = 5
RUNNING = 5_000
PEER_RUNNING = 20
HELD_GOAL = 5.0
"""Milliseconds that the heartbeat may be held by all the launches together."""
IDLE_GOAL = 1.0
"""Milliseconds of one heartbeat with ``RUNNING`` tasks none of which has finished."""
IMPORT_GOAL = 30.0
"""Milliseconds."""
MEMORY_GOAL = 20.0
"""KiB a running task."""

EMULATOR = f"""
import json, sys
from modalflow.emulator import EmulatorConfig, EmulatorThread
with EmulatorThread(EmulatorConfig(latency={LATENCY})) as emulator:
    print(json.dumps(emulator.environment()), flush=True)
    sys.stdin.read()
"""

IMPORTING = """
import time
from airflow.executors.base_executor import BaseExecutor
BaseExecutor()
begin = time.perf_counter()
from {module} import {name}
{name}()
print((time.perf_counter() - begin) * 1000)
"""
"""Run in a fresh interpreter: milliseconds beyond Airflow itself."""


@contextmanager
def emulator() -> Iterator[dict[str, str]]:
    """An emulator in a process of its own; yields the environment of its clients."""
    command = [sys.executable, "-c", EMULATOR]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()


def isolate(home: Path) -> None:
    """Point Airflow at an empty folder. Before Airflow is imported."""
    for name in [name for name in os.environ if name.startswith(("AIRFLOW", "MODAL"))]:
        del os.environ[name]
    os.environ |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__EXECUTOR": "modalflow.executor.ModalExecutor",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": str(2 * RUNNING),
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of the benchmarks that is long enough for HS512, which wants 64 bytes",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "AIRFLOW__MODAL_EXECUTOR__IMAGE": "benchmark:1.0.0",
        "AIRFLOW__MODAL_EXECUTOR__LOGS_VOLUME": "",
    }


def our_executor(gateway: Callable[[Any], Any]) -> Any:
    """ModalExecutor, started, on ``gateway``; its sandboxes run ``true`` in the place of a worker."""
    from modalflow.executor import ModalExecutor, launching
    from modalflow.launch.backend import LaunchBackend
    from modalflow.launch.observe import NOBODY

    def build(
        settings: Any, journal: Any, observer: Any = NOBODY, recall: Any = None, claims: Any = None, *_: Any, **__: Any
    ) -> Any:
        return LaunchBackend(
            lambda: gateway(settings.launch), settings.launch, ["true"], journal, observer=observer, recall=recall, claims=claims
        )

    os.environ["AIRFLOW__MODAL_EXECUTOR__EXECUTION_API"] = "direct"
    real, launching.build_backend = launching.build_backend, build
    try:
        executor = ModalExecutor()
        executor.start()
    finally:
        launching.build_backend = real
    return executor


class EndlessGateway:
    """A Modal that creates at once and whose sandboxes never end."""

    def __init__(self, settings: object) -> None:
        del settings
        self._names: dict[str, str] = {}

    async def prepare(self, plan: object) -> None:
        """Nothing to prepare."""

    async def create(self, _: object, *, name: str, **__: object) -> str:
        """Return an id made of the name."""
        self._names[f"sb-{name}"] = name
        return f"sb-{name}"

    async def hand_over(self, sandbox_id: str, payload: bytes) -> None:
        """Nothing to hand over to."""

    async def wait(self, _: str) -> Any:
        """Never return."""
        await asyncio.get_running_loop().create_future()

    async def list_running(self, _: object) -> list[Any]:
        """All of them run."""
        from modalflow.launch.gateway import SandboxStatus

        return [SandboxStatus(sandbox_id=found, name=name, tags={"launch": name}) for found, name in self._names.items()]

    async def running_ids(self, _: object) -> AsyncGenerator[list[str], None]:
        """All of them run."""
        yield list(self._names)

    async def close(self) -> None:
        """Nothing to close."""


def blocking_executor() -> Any:
    """The peer: one blocking call of the Modal client per launch, and one per running task, on the heartbeat."""
    import modal
    from airflow.executors.base_executor import BaseExecutor

    app = modal.App.lookup("benchmark-peer", create_if_missing=True)
    image = modal.Image.from_registry("benchmark:1.0.0")

    class BlockingExecutor(BaseExecutor):
        sandboxes: ClassVar[list[modal.Sandbox]] = []

        def _process_workloads(self, workload_items: Any) -> None:
            for item in workload_items:
                self.queued_tasks.pop(item.key)
                self.running.add(item.key)
                self.sandboxes.append(modal.Sandbox.create("true", app=app, image=image))

        def sync(self) -> None:
            for sandbox in self.sandboxes:
                sandbox.poll()

    return BlockingExecutor()


def launches(executor: Any, count: int) -> float:
    """Seconds that the scheduler's calls took for ``count`` launches: queueing each, and the heartbeat that starts them."""
    held = 0.0
    for item in [workload() for _ in range(count)]:
        begin = time.perf_counter()
        executor.queue_workload(item, session=None)
        held += time.perf_counter() - begin
    begin = time.perf_counter()
    executor.heartbeat()
    return held + time.perf_counter() - begin


def drained(executor: Any) -> None:
    """Heartbeat, unmeasured, until every launch has ended."""
    while executor.running:
        executor.heartbeat()
        executor.get_event_buffer()
        time.sleep(LATENCY)


def beat(executor: Any) -> float:
    """Milliseconds of one heartbeat."""
    begin = time.perf_counter()
    executor.heartbeat()
    return (time.perf_counter() - begin) * 1000


def absolute(name: str, values: list[float], unit: str, goal: float) -> bool:
    """Print a line without a peer; whether the best round met the goal."""
    met = min(values) <= goal
    print(f"{name} | {median(values):.3g} {unit} (best {min(values):.3g}) | goal {goal:g} {unit} | {'met' if met else 'missed'}")
    return met


def measure_launches(peer: Any) -> bool:
    """100 launches at 50 ms an RPC: the time that the heartbeat is held."""
    from modalflow.modal_gateway import ModalGateway

    ours = our_executor(ModalGateway)
    launches(ours, 1)
    drained(ours)
    launches(peer, 1)
    held, blocked = [], []
    for _ in range(ROUNDS):
        held.append(launches(ours, LAUNCHES) * 1000)
        drained(ours)
        forget_all(peer)
        blocked.append(launches(peer, LAUNCHES) * 1000)
    forget_all(peer)
    ours.end()
    good = absolute(f"heartbeat held by {LAUNCHES} launches", held, "ms", HELD_GOAL)
    return (
        report(f"heartbeat held by {LAUNCHES} launches", held, blocked, unit="ms", goal_ratio=HELD_GOAL / (LAUNCHES * 50))
        and good
    )


def forget_all(peer: Any) -> None:
    """Forget the peer's sandboxes, which have ended."""
    peer.sandboxes.clear()
    peer.running.clear()


def start(executor: Any, count: int) -> None:
    """Launch ``count`` tasks and heartbeat until all of them run."""
    launches(executor, count)
    started = 0
    while started < count:
        time.sleep(LATENCY)
        executor.heartbeat()
        started += len(executor.get_event_buffer())


def measure_idle(peer: Any) -> bool:
    """One heartbeat, none finished: ours with 5,000 running, the peer with 20 and one RPC for each."""
    ours = our_executor(EndlessGateway)
    start(ours, RUNNING)
    launches(peer, PEER_RUNNING)
    idle, blocked = [], []
    for _ in range(ROUNDS):
        idle.append(beat(ours))
        blocked.append(beat(peer))
    forget_all(peer)
    name, goal = f"idle heartbeat, {RUNNING} running", IDLE_GOAL / (PEER_RUNNING * LATENCY * 1000)
    good = [
        absolute(name, idle, "ms", IDLE_GOAL),
        report(f"{name} (peer: {PEER_RUNNING})", idle, blocked, unit="ms", goal_ratio=goal),
        measure_memory(ours),
    ]
    ours.end()
    return all(good)


def measure_memory(executor: Any) -> bool:
    """What 1,000 more running tasks keep, workload included."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    start(executor, 1000)
    gc.collect()
    kept = (tracemalloc.get_traced_memory()[0] - before) / 1000 / 1024
    tracemalloc.stop()
    return absolute("memory a running task", [kept], "KiB", MEMORY_GOAL)


def measure_import() -> bool:
    """Import and construction in fresh interpreters, beyond Airflow itself; the peer is KubernetesExecutor."""
    ours, peer = [], []
    for _ in range(ROUNDS):
        ours.append(import_time("modalflow.executor", "ModalExecutor"))
        peer.append(import_time("airflow.providers.cncf.kubernetes.executors.kubernetes_executor", "KubernetesExecutor"))
    good = absolute("import and construction", ours, "ms", IMPORT_GOAL)
    return report("import and construction", ours, peer, unit="ms", goal_ratio=0.1) and good


def import_time(module: str, name: str) -> float:
    """Milliseconds."""
    code = IMPORTING.format(module=module, name=name)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def main() -> int:
    """Return 0 if every goal was met in its best round, else 1."""
    with tempfile.TemporaryDirectory() as folder:
        isolate(Path(folder))
        with emulator() as environment:
            os.environ |= environment
            peer = blocking_executor()
            good = [measure_launches(peer), measure_idle(peer)]
        good.append(measure_import())
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
