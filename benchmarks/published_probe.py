"""Measures one ModalExecutor, whichever is installed: run by ``published`` in the environment of each, by path.

In: the arguments as JSON (``Task``). Out: the figures as one line of JSON, seconds. It imports Airflow and ``modalflow.executor``
and nothing of this repository, so that the published package is measured where that is installed.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from typing import Any, TypedDict


class Task(TypedDict):
    """What is measured: with ``running``, ``beats`` heartbeats at each of these numbers; else ``rounds`` of ``launches``."""

    launches: int
    rounds: int
    running: list[int]
    beats: int


def workload() -> Any:
    """A task as the scheduler queues it."""
    from airflow.executors.workloads import ExecuteTask

    task_id = f"t{uuid.uuid4().hex[:8]}"
    return ExecuteTask.model_validate(
        {
            "token": "t",
            "dag_rel_path": "bench.py",
            "bundle_info": {"name": "dags-folder"},
            "log_path": f"dag_id=bench/run_id=manual/task_id={task_id}/attempt=1.log",
            "ti": {
                "id": uuid.uuid4(),
                "dag_version_id": uuid.UUID(int=7),
                "dag_id": "bench",
                "task_id": task_id,
                "run_id": "manual",
                "try_number": 1,
                "map_index": -1,
                "queue": "default",
                "pool_slots": 1,
                "priority_weight": 1,
                "external_executor_id": str(uuid.uuid4()),
                "executor_config": {"modal": {"cpu": 0.25, "env": {"A": "1"}}},  # 0.3.1 does not read it
            },
        }
    )


def launch(executor: Any, count: int) -> tuple[float, float]:
    """Seconds that the scheduler's calls took for ``count`` launches, and seconds until all of them were launched."""
    held = 0.0
    begin = time.perf_counter()
    for item in [workload() for _ in range(count)]:
        at = time.perf_counter()
        executor.queue_workload(item, session=None)
        held += time.perf_counter() - at
    at = time.perf_counter()
    executor.heartbeat()
    held += time.perf_counter() - at
    if hasattr(executor, "active_tasks"):  # 0.3.1: each was launched within the heartbeat
        return held, time.perf_counter() - begin
    started = 0
    while started < count:
        time.sleep(0.002)
        executor.sync()
        started += len(executor.get_event_buffer())
    return held, time.perf_counter() - begin


def beat(executor: Any) -> float:
    """Seconds of one heartbeat in which nothing ended."""
    begin = time.perf_counter()
    executor.heartbeat()
    return time.perf_counter() - begin


def forget(executor: Any) -> None:
    """Have nothing running: ours ends by itself in the control plane of the launches, 0.3.1 is made to forget."""
    if hasattr(executor, "active_tasks"):
        executor.active_tasks.clear()
        executor.running.clear()
    while executor.running:
        time.sleep(0.05)
        executor.sync()
        executor.get_event_buffer()


def measure_launches(executor: Any, task: Task) -> dict[str, list[float]]:
    """Rounds of launches, each with nothing else running."""
    rounds = []
    for _ in range(task["rounds"]):
        rounds.append(launch(executor, task["launches"]))
        forget(executor)
    return {"held": [held for held, _ in rounds], "launched": [seconds for _, seconds in rounds]}


def measure_beats(executor: Any, task: Task) -> dict[int, list[float]]:
    """Heartbeats with more and more tasks running."""
    beats: dict[int, list[float]] = {}
    already = 0
    for count in task["running"]:
        launch(executor, count - already)
        already = count
        time.sleep(2.0)  # ours looks its sandboxes up on a thread of its own: not while a heartbeat is timed
        beats[count] = [beat(executor) for _ in range(task["beats"])]
    return beats


def main(task: Task) -> None:
    """Start the executor, measure, print."""
    from modalflow.executor import ModalExecutor

    executor = ModalExecutor()
    executor.parallelism = 2 * max([task["launches"], *task["running"]])  # 0.3.1 allows 100
    executor.start()
    launch(executor, 1)
    forget(executor)
    print(json.dumps(measure_beats(executor, task) if task["running"] else measure_launches(executor, task)))
    executor.end()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
