"""What the executor costs at 50,000 running tasks and 100 ends a second: CPU by thread, calls to Modal, memory, latency.

Run as ``python -m benchmarks.scale_model [running] [seconds]``. The real executor and the unmodified client talk to
``control_plane`` in a process of its own, which starts no processes. The tasks are taken over from an earlier scheduler, since to
launch them all would take longer than all else; then each end is followed by a launch, so the number stays. There is no peer: the
goals are Modal's documented limits and a share of one core. docs/explanation/scale.md carries the figures on.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.control_plane import ControlPlaneProcess, launch_of
from benchmarks.heartbeat import isolate, our_executor
from benchmarks.published_probe import workload

RUNNING = 50_000
ENDS = 100.0
"""A second."""
SECONDS = 120.0
LATENCY = 0.02
"""Seconds before each answer of the control plane."""
BEAT = 1.0
"""Seconds between two heartbeats."""
CPU_GOAL = 60.0
"""Per cent of a core for the loop and the client together."""
BEAT_GOAL = 50.0
"""Milliseconds of a heartbeat that hands over 100 ends and takes 100 launches, at the 95th percentile."""
READS_GOAL = 20.0
"""Listing pages a second."""
MEMORY_GOAL = 20.0
"""KiB a held task."""
LATENCY_GOAL = 60.0
"""Seconds from an end to its event, on average."""


@dataclass(kw_only=True)
class Progress:
    """What the heartbeats saw."""

    started: int = 0
    ended: int = 0
    beats: list[float] = field(default_factory=list)


def cpu_seconds() -> dict[str, float]:
    """CPU seconds by thread of this process."""
    tick = os.sysconf("SC_CLK_TCK")
    spent = {}
    for thread in threading.enumerate():
        stat = Path(f"/proc/self/task/{thread.native_id}/stat")
        fields = stat.read_text().rpartition(")")[2].split()
        spent[thread.name] = (int(fields[11]) + int(fields[12])) / tick
    return spent


def resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def beat(executor: Any, progress: Progress, launches: int) -> None:
    """Queue ``launches`` tasks, heartbeat, and take what came out of it."""
    items = [workload() for _ in range(launches)]
    begin = time.perf_counter()
    for item in items:
        executor.queue_workload(item, session=None)
    executor.heartbeat()
    progress.beats.append((time.perf_counter() - begin) * 1000)
    for state, info in executor.get_event_buffer().values():
        progress.started += state == "running"
        progress.ended += state == "success"
        if state not in ("running", "success"):
            raise RuntimeError(f"a launch is {state}: {info}")


def take_over(executor: Any, running: int) -> None:
    """Adopt that many tasks of an earlier scheduler, and heartbeat until all of them are watched."""
    from airflow.models.taskinstancekey import TaskInstanceKey

    from modalflow.launch.events import AdoptRequest

    requests = []
    for number in range(2, running + 2):  # the first was launched
        launch_id, sandbox_id = launch_of(number)
        key = TaskInstanceKey("bench", f"t{number}", "manual", 1, -1)
        requests.append(
            AdoptRequest(
                launch_id=launch_id,
                key=key,
                label=f"bench.t{number} manual",
                sandbox_id=sandbox_id,
                log_path=f"dag_id=bench/run_id=manual/task_id=t{number}/attempt=1.log",
                relaunch=None,
            )
        )
    executor._adopt(requests, executor._launching)  # what try_adopt_task_instances does with what it read from the database
    backend = executor._launching.backend
    while backend._watch.figures.watched < running:
        executor.heartbeat()
        time.sleep(BEAT / 4)


def hold(executor: Any, seconds: float) -> Progress:
    """Heartbeat for ``seconds``, each end followed by a launch."""
    progress = Progress()
    end, launched = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        launches, launched = progress.ended - launched, progress.ended
        beat(executor, progress, launches)
        time.sleep(BEAT)
    return progress


def line(name: str, value: float, unit: str, goal: float | None = None) -> bool:
    """Print a line; whether the goal was met."""
    met = goal is None or value <= goal
    told = "" if goal is None else f" | goal {goal:g} {unit} | {'met' if met else 'missed'}"
    print(f"{name} | {value:.3g} {unit}{told}", flush=True)
    return met


def measure(plane: ControlPlaneProcess, running: int, seconds: float) -> bool:
    """Start, hold, and tell."""
    from modalflow.modal_gateway import ModalGateway

    executor = our_executor(ModalGateway)
    launched = Progress()
    while not launched.started:  # connected, image built
        beat(executor, launched, 0 if launched.beats else 1)
        time.sleep(BEAT / 4)
    plane.tell(end_all=True)
    hold(executor, 2.0)
    gc.collect()
    before, begin = resident(), time.monotonic()
    plane.tell(create=running)
    take_over(executor, running)
    took = time.monotonic() - begin
    gc.collect()
    memory = (resident() - before) / running / 1024
    print(f"{running} tasks of an earlier scheduler are watched after {took:.0f} s", flush=True)
    plane.tell(end_per_second=ENDS)
    hold(executor, seconds / 3)  # to a steady state
    calls, spent = plane.tell()["rpcs"], cpu_seconds()
    begin = time.monotonic()
    progress = hold(executor, seconds)
    took = time.monotonic() - begin
    now, spent_now = plane.tell(), cpu_seconds()
    plane.tell(end_per_second=0)
    rates = {name: (count - calls.get(name, 0)) / took for name, count in now["rpcs"].items()}
    cpu = {name: (value - spent.get(name, 0.0)) / took * 100 for name, value in spent_now.items()}
    ends = progress.ended / took
    behind = (len(executor.running) - now["running"]) / ends if ends else float("inf")
    print(f"{len(executor.running)} held, {ends:.0f} ends and {progress.started / took:.0f} starts a second")
    for name, rate in sorted(rates.items(), key=lambda item: -item[1]):
        if rate >= 0.05:
            line(f"calls: {name}", rate, "a second")
    for name, share in sorted(cpu.items(), key=lambda item: -item[1]):
        if share >= 0.5:
            line(f"CPU: {name}", share, "% of a core")
    beats = sorted(progress.beats)
    theirs = sum(share for name, share in cpu.items() if name != "MainThread")
    good = [
        line("listing pages", rates.get("SandboxListV2", 0.0), "a second", READS_GOAL),
        line("calls in all", sum(rates.values()), "a second"),
        line("CPU of loop and client", theirs, "% of a core", CPU_GOAL),
        line("heartbeat, 95th percentile", beats[int(len(beats) * 0.95)], "ms", BEAT_GOAL),
        line("heartbeat, median", beats[len(beats) // 2], "ms"),
        line("memory a held task", memory, "KiB", MEMORY_GOAL),
        line("from an end to its event, on average", behind, "s", LATENCY_GOAL),
    ]
    executor.end()
    return all(good)


def main(arguments: list[str]) -> int:
    """Return 0 if every goal was met, else 1."""
    running = int(arguments[0]) if arguments else RUNNING
    seconds = float(arguments[1]) if len(arguments) > 1 else SECONDS
    with tempfile.TemporaryDirectory() as folder:
        isolate(Path(folder))
        os.environ["AIRFLOW__CORE__PARALLELISM"] = str(2 * running)
        os.environ["AIRFLOW__MODAL_EXECUTOR__CPU_CREATE_RATE"] = "1000"
        del os.environ["AIRFLOW__MODAL_EXECUTOR__IMAGE"]  # the automatic one, whose workload travels in the create call
        with ControlPlaneProcess({"latency": LATENCY}) as plane:
            os.environ |= plane.environment
            good = measure(plane, running, seconds)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
