"""A whole Airflow on the emulator, shared by the tests of this folder.

Sandboxes run in ``.venv-worker`` (made by ``make setup``): Airflow, and neither modalflow nor modal.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modalflow.demo.deployment import AirflowRunning, Deployment, airflow_running, copy_dags, environment
from modalflow.emulator import EmulatorConfig, EmulatorThread

ROOT = Path(__file__).parents[2]
DAGS = Path(__file__).parent / "dags"
WORKER_PYTHON = Path(os.environ.get("MODALFLOW_TEST_WORKER_PYTHON", ROOT / ".venv-worker" / "bin" / "python"))
"""``make matrix`` names another one, with another Airflow."""
RUN_TIMEOUT = 180.0


@pytest.fixture(scope="session")
def worker_python() -> Path:
    assert WORKER_PYTHON.exists(), f"{WORKER_PYTHON} is missing: run `make setup`"
    return WORKER_PYTHON


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, worker_python: Path) -> Iterator[Deployment]:
    """Airflow with the DAGs of ``tests/e2e/dags`` on an emulator with two A10Gs."""
    home = tmp_path_factory.mktemp("deployment")
    copy_dags(DAGS, home)
    state = home / "emulator-state"
    with EmulatorThread(
        EmulatorConfig(
            gpus={"A10G": 2}, python=worker_python, state_dir=state, isolation="process", network="host", image_builds="record"
        )
    ) as emulator:
        env = {**environment(home, emulator.environment()), "AIRFLOW__MODAL_EXECUTOR__SWEEP_INTERVAL": "3"}
        with airflow_running(home, env) as airflow:
            yield Deployment(airflow=airflow, env=env, emulator=emulator)


def wait_for(what: str, condition: Callable[[], Any], *, timeout: float = RUN_TIMEOUT) -> Any:
    """Poll until ``condition`` returns something true and return that; fail naming ``what`` after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {timeout:.0f} s: {what}"
        time.sleep(0.3)
    return found


def start_run(airflow: AirflowRunning, dag_id: str) -> str:
    """Wait until the DAG is parsed, then start a run."""
    wait_for(f"DAG {dag_id} is parsed", lambda: dag_id in airflow.api.dag_ids())
    return airflow.api.trigger(dag_id)


def instance(airflow: AirflowRunning, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
    """The task instance as Airflow's API shows it."""
    return next(ti for ti in airflow.api.task_instances(dag_id, run_id) if ti["task_id"] == task_id)


def wait_for_state(airflow: AirflowRunning, dag_id: str, run_id: str, task_id: str, *states: str) -> dict[str, Any]:
    """Wait until the task is in one of ``states``; return the instance."""

    def reached() -> dict[str, Any] | None:
        airflow.check_alive()
        found = instance(airflow, dag_id, run_id, task_id)
        return found if found["state"] in states else None

    found: dict[str, Any] = wait_for(f"{dag_id}.{task_id} is {' or '.join(states)}", reached)
    return found


def log_holding(airflow: AirflowRunning, dag_id: str, run_id: str, task_id: str, line: str) -> str:
    """Return the first try's log once it has ``line``; the archive is there once the sandbox has ended, after the task."""
    shown = ""

    def there() -> bool:
        nonlocal shown
        shown = airflow.api.log(dag_id, run_id, task_id, 1)
        return line in shown

    wait_for(f"the log of {dag_id}.{task_id} has {line!r}", there, timeout=60)
    return shown
