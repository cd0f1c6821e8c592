"""``python -m tests.chaos.soak``: thousands of short tasks through one executor, and what is left of them in its process.

The executor alone, with the unmodified client, against an emulator in a process of its own whose image's ``python`` ends at once:
Airflow's scheduler would be the limit, and its own memory would hide ours. The heartbeat is called as the scheduler calls it.

Flows out: a line for each sample (memory, threads, descriptors, unfinished asyncio tasks of all loops), and exit code 1 if one of
them grew from the first fifth to the end.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modalflow.demo.deployment import free_ports
from tests.chaos.emulator_side import EmulatorSide

if TYPE_CHECKING:
    from modalflow.executor.modal_executor import ModalExecutor

IN_FLIGHT = 48
SAMPLES = 10
BYTES_PER_TASK = 2048
"""What a finished task may leave: its launch id is remembered (some 200 bytes, of up to 100,000), and allocators are coarse."""
QUIET = 30.0
"""Seconds for the last connection to close before a sample counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """The executor's process with nothing in flight after ``done`` tasks. ``memory``: resident bytes."""

    done: int
    memory: int
    threads: int
    descriptors: int
    tasks: int

    def __str__(self) -> str:
        counts = f"{self.threads} threads, {self.descriptors} descriptors, {self.tasks} unfinished asyncio tasks"
        return f"{self.done:6d} tasks: {self.memory / 2**20:7.1f} MiB, {counts}"


def take_sample(done: int) -> Sample:
    """Look at this process."""
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    unfinished = sum(isinstance(one, asyncio.Task) and not one.done() for one in gc.get_objects())
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - no objects per entry while counting
    return Sample(done=done, memory=resident, threads=threading.active_count(), descriptors=descriptors, tasks=unfinished)


def grown(samples: list[Sample]) -> list[str]:
    """What grew from the first sample to the last, as sentences."""
    first, last = samples[0], samples[-1]
    found = [
        f"{name} grew from {getattr(first, name)} to {getattr(last, name)}"
        for name in ("threads", "descriptors", "tasks")
        if getattr(last, name) > getattr(first, name)
    ]
    each = (last.memory - first.memory) / (last.done - first.done)
    return found + ([f"memory grew by {each:.0f} bytes a task, more than {BYTES_PER_TASK}"] if each > BYTES_PER_TASK else [])


@contextmanager
def executor_on_emulator(folder: Path) -> Iterator[ModalExecutor]:
    """A started executor in this process, whose sandboxes end at once."""
    image = folder / "image" / "bin"
    image.mkdir(parents=True)
    (image / "python").write_text("#!/bin/sh\nexit 0\n")
    (image / "python").chmod(0o755)
    emulator = EmulatorSide(folder, free_ports(1)[0], folder / "image", {})
    emulator.start()
    try:
        os.environ |= {name: value for name, value in emulator.environment.items() if name.startswith("MODAL_")}
        os.environ |= {
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": "http://127.0.0.1:9/execution/",
            "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of the soak that is long enough for HS512, which wants sixty-four bytes",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(folder / "logs"),
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "AIRFLOW__MODAL_EXECUTOR__LOGS_VOLUME": "",
            "AIRFLOW__MODAL_EXECUTOR__CPU_CREATE_RATE": "0",  # the emulator has no limit
        }
        from modalflow.executor import ModalExecutor

        executor = ModalExecutor(parallelism=IN_FLIGHT)
        executor.start()
        try:
            yield executor
        finally:
            executor.end()
    finally:
        emulator.stop()


def run_tasks(executor: ModalExecutor, count: int) -> list[str]:
    """Run ``count`` tasks to their ends; return what ended otherwise than well."""
    from tests.executor.recording import execute_task

    queued, ended, wrong = 0, 0, []
    while ended < count:
        while queued < count and queued - ended < IN_FLIGHT:
            executor.queue_workload(execute_task(task_id=f"t{queued}"), session=None)  # type: ignore[arg-type]
            queued += 1
        executor.heartbeat()
        executor._task_event_logs.clear()  # as the scheduler does in each of its loops
        for key, (state, info) in executor.get_event_buffer().items():
            if str(state) in ("success", "failed"):
                ended += 1
                wrong += [] if str(state) == "success" else [f"{key}: {info}"]
        time.sleep(0.005)
    return wrong


def settled(done: int) -> Sample:
    """Sample until two looks a second apart agree, for ``QUIET`` seconds at most: connections take a while to close."""
    deadline = time.monotonic() + QUIET
    before = take_sample(done)
    while time.monotonic() < deadline:
        time.sleep(1)
        now = take_sample(done)
        if (now.threads, now.descriptors, now.tasks) == (before.threads, before.descriptors, before.tasks):
            return now
        before = now
    return before


def soak(folder: Path, tasks: int) -> list[str]:
    """Run ``tasks`` tasks; return sentences on what is wrong."""
    samples: list[Sample] = []
    wrong: list[str] = []
    with executor_on_emulator(folder) as executor:
        began = time.monotonic()
        for part in range(SAMPLES):
            wrong += run_tasks(executor, tasks // SAMPLES)
            samples.append(settled((part + 1) * (tasks // SAMPLES)))
            print(samples[-1], flush=True)
        if executor.running:
            wrong.append(f"{len(executor.running)} slots are still held")
        print(f"{samples[-1].done} tasks in {time.monotonic() - began:.0f} s, pauses for samples included")
    return wrong + grown(samples[1:])  # the first fifth warms up: pools, caches, the client


def main() -> int:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--tasks", type=int, default=5000, help="how many (default: 5000)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modalflow-soak-") as folder:
        wrong = soak(Path(folder), arguments.tasks)
    print("\n".join(wrong) or "flat: nothing leaked")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
