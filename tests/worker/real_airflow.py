"""A real Airflow for tests and benchmarks of the worker: start it, mint workloads, ask for a task's state.

``airflow_host.py`` is the process behind it; ``conftest.py`` shares one for the session.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

HOST = Path(__file__).parent / "airflow_host.py"
WARM_UP = 120.0
"""Seconds for the first call; about two on an idle machine."""
DAGS = '''
"""DAGs of the worker's tests."""
from airflow.sdk import DAG, BaseOperator, task

with DAG("plain", schedule=None):
    @task
    def empty():
        pass

    @task
    def prints():
        print("hello from the task")

    @task
    def fails():
        raise RuntimeError("this task fails")

    @task
    def waits():
        """Run until the file named by the environment appears."""
        import os, pathlib, time
        gate = pathlib.Path(os.environ["TEST_GATE"])
        gate.with_suffix(".started").touch()
        while not gate.exists():
            time.sleep(0.02)

    class Watched(BaseOperator):
        """Waits as ``waits`` does; ``on_kill`` opens the gate."""
        def gate(self):
            import os, pathlib
            return pathlib.Path(os.environ["TEST_GATE"])

        def execute(self, context):
            import time
            self.gate().with_suffix(".started").touch()
            while not self.gate().exists():
                time.sleep(0.02)

        def on_kill(self):
            print("on_kill")
            self.gate().touch()

    class BreaksOff(Watched):
        """Fails when it is told to stop."""
        def execute(self, context):
            super().execute(context)
            raise RuntimeError("broken off")

    empty(), prints(), fails(), waits(), Watched(task_id="watched"), BreaksOff(task_id="breaks_off")
'''

CALLBACKS = '''
"""Callbacks of the worker's tests; not a DAG file."""
def greets(**context):
    print("hello from the callback")

def fails(**context):
    raise RuntimeError("this callback fails")
'''


@dataclass(frozen=True, kw_only=True)
class RealAirflow:
    """The running Airflow. ``worker_env`` is what a sandbox of it would get."""

    process: subprocess.Popen[str]
    home: Path
    url: str

    def _ask(self, request: object) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        # Airflow's own errors are on stdout too.
        return next(json.loads(line) for line in self.process.stdout if line.startswith(("{", "[{")))

    def mint(self, task_id: str, *, dag_id: str = "plain", count: int = 1) -> list[dict[str, Any]]:
        """Return workloads of ``count`` queued task instances, each of a DAG run of its own."""
        made: list[dict[str, Any]] = self._ask({"mint": {"dag_id": dag_id, "task_id": task_id, "count": count}})
        return made

    def state(self, workload: dict[str, Any]) -> dict[str, Any]:
        """What the database says of a workload's task instance: state, hostname, pid."""
        answer: dict[str, Any] = self._ask({"state": workload["ti"]["id"]})
        return answer

    def change(self, workload: dict[str, Any], state: str | None) -> None:
        """Set the state of a workload's task instance, as somebody does who marks it; ``None`` removes the instance."""
        self._ask({"change": {"ti_id": workload["ti"]["id"], "state": state}})

    def worker_env(self, home: Path) -> dict[str, str]:
        """The environment of a sandbox whose own folder is ``home``."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "AIRFLOW_HOME": str(home / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.home / "dags"),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": self.url,
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "30",  # for a busy machine; Airflow's 5 s are for a network
        }


@contextmanager
def real_airflow(home: Path) -> Iterator[RealAirflow]:
    """Start Airflow in ``home``; it ends with the block."""
    (home / "dags").mkdir(parents=True)
    (home / "dags" / "plain.py").write_text(DAGS)
    (home / "dags" / "callbacks.py").write_text(CALLBACKS)
    (home / "dags" / ".airflowignore").write_text("callbacks.py\n")
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of the tests that is long enough for HS512, which wants sixty-four bytes",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
    }
    log = (home / "host.log").open("w")
    with (
        log,
        subprocess.Popen(
            [sys.executable, str(HOST), str(home)], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        first = process.stdout.readline()
        if not first.startswith("{"):
            process.kill()
            raise RuntimeError(f"Airflow did not start: {first}{(home / 'host.log').read_text()[-3000:]}")
        url = f"http://127.0.0.1:{json.loads(first)['port']}/execution/"
        # The first call builds the versions of the API, for seconds where the machine is busy; no task shall wait for it.
        httpx.get(f"{url}health", timeout=WARM_UP, trust_env=False).raise_for_status()
        yield RealAirflow(process=process, home=home, url=url)
        process.stdin.close()
        process.terminate()
