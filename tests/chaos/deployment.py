"""The processes of a chaos run: Airflow's side, schedulers, the emulator; started, killed, looked at, all ended at the end.

Flows in: a plan and a folder. Flows out: ``Deployment``, which ``run`` and ``faults`` drive.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from modalflow.demo.deployment import free_ports
from tests.chaos.dag_file import scripts_of, text_of
from tests.chaos.emulator_side import EmulatorSide
from tests.chaos.plan import GPUS, Plan
from tests.chaos.planted import VARIABLE
from tests.chaos.verdict import held_for_dead

ROOT = Path(__file__).parents[2]
LIGHT = Path(__file__).parent / "light_client.py"
WORKER = ROOT / ".venv-worker"
"""Airflow, and nothing of ours nor of Modal's (``make setup``): the image of full runs."""
PARTS = ("api-server", "dag-processor", "triggerer")
"""Airflow's commands of a full run, beside the scheduler."""
HELD_FOR_DEAD = 8
"""Seconds of silence after which one scheduler takes over what another one had."""


class Talk:
    """A process that answers a line with a line."""

    def __init__(self, module: str, arguments: Sequence[str], env: dict[str, str], log: IO[bytes]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=env,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
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
        assert self.process.stdout is not None
        self.process.stdout.close()


class Deployment:
    """What runs. ``folder`` holds the logs of all of it."""

    def __init__(
        self, folder: Path, plan: Plan, *, full: bool, database: str | None = None, schedulers: int = 1, plant: str = ""
    ) -> None:
        self.folder = folder
        self.plan = plan
        self.full = full
        self._database = database or f"sqlite:///{folder}/airflow.db"
        self._count = schedulers
        self._plant = plant
        folder.mkdir(parents=True)
        (folder / "dags").mkdir()
        (folder / "scripts.json").write_text(json.dumps(scripts_of(plan)))
        (folder / "ledger.jsonl").touch()
        (folder / "dags" / "chaos.py").write_text(text_of(plan))
        modal_port, self._api_port = free_ports(2)
        self.emulator = EmulatorSide(folder, modal_port, WORKER if full else _light_environment(folder), GPUS)
        self.schedulers: list[int] = []
        self._commands: dict[int, subprocess.Popen[bytes]] = {}
        self.deaths: list[str] = []

    @contextlib.contextmanager
    def up(self) -> Iterator[None]:
        """Start everything but a scheduler; end everything."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.emulator.stop)
            self.emulator.start()
            self._env = environment(self.folder, self._api_port, self.emulator.environment, full=self.full)
            self._env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = self._database
            if self._database.startswith("sqlite"):
                self._env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS"] = "tests.chaos.sqlite.CONNECT"
            log = stack.enter_context((self.folder / "airflow.log").open("ab"))
            self._scheduler_log = stack.enter_context((self.folder / "scheduler.log").open("ab"))
            stack.callback(self.kill_schedulers)
            side = "watch" if self.full else "serve"
            self.airflow = Talk("tests.chaos.airflow_side", [str(self.folder), side], self._env, log)
            stack.callback(self.airflow.end)
            if not self.full:
                planted = {VARIABLE: self._plant} if self._plant else {}
                self._nursery = Talk("tests.chaos.scheduler_nursery", [], self._env | planted, self._scheduler_log)
                stack.callback(self._nursery.end)
                self._nursery.hear()
            self.airflow.hear()
            for part in PARTS if self.full else ():
                stack.callback(_end_group, self._airflow_command(part, log))
            yield

    def _airflow_command(self, name: str, log: IO[bytes]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "airflow", name]
        return subprocess.Popen(
            command, env=self._env, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )

    def start_schedulers(self) -> None:
        """Start as many as there are to be."""
        while len(self.schedulers) < self._count:
            if self.full:
                command = self._airflow_command("scheduler", self._scheduler_log)
                self._commands[command.pid] = command
                self.schedulers.append(command.pid)
            else:
                self.schedulers.append(int(self._nursery.ask(None)))

    def kill_scheduler(self, place: float = 0.0) -> bool:
        """SIGKILL one, chosen by a number in [0, 1); tell whether there was one."""
        if not self.schedulers:
            return False
        pid = self.schedulers.pop(int(place * len(self.schedulers)))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        while _lives(pid):
            time.sleep(0.01)
        if pid in self._commands:
            self._commands.pop(pid).wait()
        return True

    def kill_schedulers(self) -> None:
        """SIGKILL them all."""
        while self.kill_scheduler():
            pass

    def look_after_schedulers(self) -> None:
        """Note and replace those that ended without having been killed, as a supervisor of services would."""
        ended = [pid for pid in self.schedulers if not _lives(pid)]
        for pid in ended:
            self.deaths.append(f"a scheduler ended by itself: {_last_line(self.folder / 'scheduler.log')}")
            self.schedulers.remove(pid)
        if ended:
            self.start_schedulers()

    def silent(self) -> tuple[str, ...]:
        """Sentences on schedulers that lived while another one held them for dead; with one scheduler there is no other."""
        log = (self.folder / "scheduler.log").read_text(errors="replace")
        return held_for_dead(log, HELD_FOR_DEAD) if self._count > 1 else ()

    def ledger(self) -> list[dict[str, Any]]:
        """All lines so far."""
        return [json.loads(line) for line in (self.folder / "ledger.jsonl").read_text().splitlines()]


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a command of Airflow with what it started."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)


def _last_line(path: Path) -> str:
    """The exception of the newest traceback in a log."""
    errors = [line for line in path.read_text(errors="replace").splitlines() if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return errors[-1][:300] if errors else "it said nothing"


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


def environment(folder: Path, api_port: int, modal_environment: dict[str, str], *, full: bool) -> dict[str, str]:
    """Airflow's environment: nothing of the caller's own Airflow or Modal."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MODAL"))}
    modal = {
        name: value
        for name, value in modal_environment.items()
        if name.startswith(("MODAL_", "NO_PROXY", "no_proxy", "SSL", "REQ"))
    }
    own = _full_options(api_port) if full else _light_options()
    return {
        **inherited,
        **modal,
        **own,
        "PYTHONPATH": str(ROOT),
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__EXECUTOR": "modalflow.executor.ModalExecutor",
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "4096",
        "AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT": "4096",
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{api_port}/execution/",
        "AIRFLOW__API__PORT": str(api_port),
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of the chaos runs that is long enough for HS512, which wants sixty-four bytes",
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(folder / "logs"),
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": str(HELD_FOR_DEAD),
        "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "2",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "48",
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "AIRFLOW__MODAL_EXECUTOR__WORKER_ENV": json.dumps({"CHAOS_FOLDER": str(folder)}),
        "AIRFLOW__MODAL_EXECUTOR__HANDOVER_TIMEOUT": "20",
        "AIRFLOW__MODAL_EXECUTOR__CREATE_TIMEOUT": "20",
        "AIRFLOW__MODAL_EXECUTOR__RPC_TIMEOUT": "10",
    }


def _light_options() -> dict[str, str]:
    return {"AIRFLOW__CORE__PARALLELISM": "48", "AIRFLOW__MODAL_EXECUTOR__LOGS_VOLUME": ""}


def _full_options(api_port: int) -> dict[str, str]:
    """What only a whole Airflow needs. Each sandbox begins with seconds of imports, hence few at a time."""
    trigger_port, worker_port = free_ports(2)
    return {
        "AIRFLOW__CORE__PARALLELISM": "8",
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        "AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS": "modalflow.provider.logging_config.LOGGING_CONFIG",
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_port),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_port),
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{api_port}",
        "AIRFLOW__API__WORKERS": "1",
        # Two cores serve all of it: Airflow's own five seconds for an answer are for a network.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "30",
    }
