"""The processes of a chaos run: Airflow's side, schedulers, the emulator; started, killed, looked at, all ended at the end.

Flows in: a plan and a folder. Flows out: ``Deployment``, which ``run`` and ``faults`` drive.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from modalflow.demo.deployment import free_ports
from tests.chaos.emulator_side import EmulatorSide
from tests.chaos.plan import GPUS, Plan

ROOT = Path(__file__).parents[2]
LIGHT = Path(__file__).parent / "light_client.py"
RETRIES = 30
"""More tries than faults can kill: what is lost is lost for another reason."""

DAG = '''
"""The tasks of a chaos run; what they do is in the light client."""
import datetime
from airflow.sdk import DAG, BaseOperator

SCRIPTS = {scripts!r}

class Chaos(BaseOperator):
    def execute(self, context):
        raise RuntimeError("the light client runs this")

with DAG("chaos", schedule=None, max_active_tasks=4096, catchup=False):
    tasks = {{
        name: Chaos(task_id=name, retries={retries}, retry_delay=datetime.timedelta(seconds=0.2),
                    executor_config={{"modal": {{"gpu": ["A10G", "L4"]}}}} if one["gpu"] else {{}})
        for name, one in SCRIPTS.items()
    }}
    for name, one in SCRIPTS.items():
        if one["after"]:
            tasks[one["after"]] >> tasks[name]
'''


class Talk:
    """A process that answers a line with a line."""

    def __init__(self, module: str, arguments: Sequence[str], env: dict[str, str], log: IO[bytes]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], env=env, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        )

    def hear(self) -> Any:
        """Return what it answers next."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        if not line:
            raise RuntimeError(f"{self.process.args!r} ended with {self.process.wait()}")
        return json.loads(line)

    def ask(self, question: object) -> Any:
        """Send a line and return the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(question).encode() + b"\n")
        self.process.stdin.flush()
        return self.hear()

    def end(self) -> None:
        """Close its stdin; kill it if that is not enough."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Deployment:
    """What runs. ``folder`` holds the logs of all of it."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan
        folder.mkdir(parents=True)
        (folder / "dags").mkdir()
        scripts = {one.task_id: {"kind": one.kind, "seconds": one.seconds, "gpu": one.gpu, "after": one.after} for one in plan.scripts}
        (folder / "scripts.json").write_text(json.dumps(scripts))
        (folder / "ledger.jsonl").touch()
        (folder / "dags" / "chaos.py").write_text(DAG.format(scripts=scripts, retries=RETRIES))
        modal_port, self._api_port = free_ports(2)
        self.emulator = EmulatorSide(folder, modal_port, _light_environment(folder), GPUS)
        self.scheduler: int | None = None
        self.deaths: list[str] = []

    @contextlib.contextmanager
    def up(self) -> Iterator[None]:
        """Start everything; end everything."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.emulator.stop)
            self.emulator.start()
            env = environment(self.folder, self._api_port, self.emulator.environment)
            log = stack.enter_context((self.folder / "airflow.log").open("ab"))
            self.airflow = Talk("tests.chaos.airflow_side", [str(self.folder)], env, log)
            stack.callback(self.airflow.end)
            schedulers = stack.enter_context((self.folder / "scheduler.log").open("ab"))
            self._nursery = Talk("tests.chaos.scheduler_nursery", [], env, schedulers)
            stack.callback(self._nursery.end)
            stack.callback(self.kill_scheduler)
            self.airflow.hear()
            self._nursery.hear()
            yield

    def start_scheduler(self) -> None:
        """Start one, unless it lives."""
        if self.scheduler is None:
            self.scheduler = int(self._nursery.ask(None))

    def kill_scheduler(self) -> bool:
        """SIGKILL it; tell whether there was one."""
        if self.scheduler is None:
            return False
        pid, self.scheduler = self.scheduler, None
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        while _lives(pid):
            time.sleep(0.01)
        return True

    def look_after_scheduler(self) -> None:
        """Note and replace a scheduler that ended without having been killed, as a supervisor of services would."""
        if self.scheduler is not None and not _lives(self.scheduler):
            self.deaths.append(f"the scheduler {self.scheduler} ended by itself")
            self.scheduler = None
            self.start_scheduler()

    def ledger(self) -> list[dict[str, Any]]:
        """All lines so far."""
        return [json.loads(line) for line in (self.folder / "ledger.jsonl").read_text().splitlines()]


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


def _light_environment(folder: Path) -> Path:
    """A folder whose ``bin/python`` is the light client."""
    place = folder / "image" / "bin"
    place.mkdir(parents=True)
    for name in ("python", "python3"):
        (place / name).write_text(f"#!{os.path.realpath(sys.executable)} -IS\n" + LIGHT.read_text())
        (place / name).chmod(0o755)
    return folder / "image"


def environment(folder: Path, api_port: int, modal_environment: dict[str, str]) -> dict[str, str]:
    """Airflow's environment: nothing of the caller's own Airflow or Modal."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MODAL"))}
    modal = {name: value for name, value in modal_environment.items() if name.startswith(("MODAL_", "NO_PROXY", "no_proxy", "SSL", "REQ"))}
    return {
        **inherited,
        **modal,
        "PYTHONPATH": str(ROOT),
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__EXECUTOR": "modalflow.executor.ModalExecutor",
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__PARALLELISM": "48",
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "4096",
        "AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT": "4096",
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{api_port}/execution/",
        "AIRFLOW__API__PORT": str(api_port),
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of the chaos runs that is long enough for HS512, which wants sixty-four bytes",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(folder / "logs"),
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "4",
        "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "2",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "48",
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "AIRFLOW__MODAL_EXECUTOR__WORKER_ENV": json.dumps({"CHAOS_FOLDER": str(folder)}),
        "AIRFLOW__MODAL_EXECUTOR__LOGS_VOLUME": "",
        "AIRFLOW__MODAL_EXECUTOR__HANDOVER_TIMEOUT": "20",
        "AIRFLOW__MODAL_EXECUTOR__CREATE_TIMEOUT": "20",
        "AIRFLOW__MODAL_EXECUTOR__RPC_TIMEOUT": "10",
    }
