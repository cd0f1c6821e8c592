"""Emulator and Airflow as the demo runs them: own home folder, free ports, loopback only.

Flows in: a folder and the Python that plays the sandboxes' image. Flows out: a running deployment that ``run`` drives through
Airflow's API. Everything started here has ended when the context ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modalflow import example_dags
from modalflow.demo.airflow_api import AirflowApi
from modalflow.demo.expectations import INVENTORY
from modalflow.emulator import EmulatorConfig, EmulatorThread

START_TIMEOUT = 180.0
"""Seconds for Airflow's four processes to report; about 25 on two idle cores, most of it imports."""

STOP_TIMEOUT = 20.0


class DeploymentError(RuntimeError):
    """Something did not start; the text says what and where its log is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AirflowRunning:
    """An ``airflow standalone`` that is up, and a logged-in client of its API."""

    home: Path
    url: str
    api: AirflowApi
    process: subprocess.Popen[bytes]

    def check_alive(self) -> None:
        """Raise ``DeploymentError`` if Airflow has ended."""
        code = self.process.poll()
        if code is not None:
            raise DeploymentError(f"airflow standalone ended with exit code {code}; see {airflow_log(self.home)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """Airflow with its environment, and the emulator that its tasks run on."""

    airflow: AirflowRunning
    env: dict[str, str]
    emulator: EmulatorThread


def airflow_log(home: Path) -> Path:
    """Where the output of Airflow's processes goes."""
    return home / "airflow.log"


def password_file(home: Path) -> Path:
    """Where Airflow's simple auth manager writes the generated password."""
    return home / "airflow" / "simple_auth_manager_passwords.json.generated"


def free_ports(count: int) -> list[int]:
    """Ports that are free on loopback now; held together while choosing, so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


def environment(home: Path, modal_environment: dict[str, str]) -> dict[str, str]:
    """Build the environment of Airflow's processes.

    Nothing of the caller's own Airflow or Modal settings leaks in.
    """
    api_port, trigger_port, worker_port = free_ports(3)
    url = f"http://127.0.0.1:{api_port}"
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "MODAL"))}
    return {
        **inherited,
        **modal_environment,
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__EXECUTOR": "modalflow.executor.ModalExecutor",
        "AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS": "modalflow.provider.logging_config.LOGGING_CONFIG",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        # Sandboxes are processes of this machine here, and each begins with seconds of imports.
        "AIRFLOW__CORE__PARALLELISM": "8",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        # A new file is seen at once, not after the five minutes that Airflow's default may take.
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(api_port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(48),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_port),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_port),
        "AIRFLOW__MODAL_EXECUTOR__QUEUE_TEMPLATES": json.dumps({"training": "gpu-training", "misspelt": "no-such-template"}),
    }


def client_environment(env: dict[str, str]) -> dict[str, str]:
    """Of a deployment's environment, what ``airflow`` and ``modal`` in a user's own shell need to reach it (tokens included)."""
    return {k: v for k, v in env.items() if k.startswith(("AIRFLOW", "MODAL")) or k.upper() == "NO_PROXY"}


def copy_dags(source: Path, home: Path) -> None:
    """Copy the DAG files of ``source`` to ``home``'s DAG folder; both folders are made if missing."""
    home.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, home / "dags", ignore=shutil.ignore_patterns("__init__.py", "__pycache__"))


def _wait_until_ready(airflow: AirflowRunning) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while not airflow.api.healthy():
        airflow.check_alive()
        if time.monotonic() > deadline:
            raise DeploymentError(f"Airflow was not ready after {START_TIMEOUT:.0f} s; see {airflow_log(airflow.home)}")
        time.sleep(0.3)
    airflow.api.warm_up()
    airflow.api.log_in()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End Airflow's whole process group: politely, then not."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT)
            if sign is signal.SIGKILL:
                return


@contextlib.contextmanager
def airflow_running(home: Path, env: dict[str, str]) -> Iterator[AirflowRunning]:
    """Run ``airflow standalone`` in ``home`` with ``env`` (see ``environment``) until the context ends.

    Raises ``DeploymentError`` with the place of the log when it does not get ready.
    """
    with airflow_log(home).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "airflow", "standalone"],
            env=env,
            cwd=home,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    url = env["AIRFLOW__API__BASE_URL"]
    api = AirflowApi(url, password_file(home))
    airflow = AirflowRunning(home=home, url=url, api=api, process=process)
    try:
        _wait_until_ready(airflow)
        yield airflow
    finally:
        api.close()
        _stop(process)


@contextlib.contextmanager
def deploy(home: Path, *, worker_python: Path, isolation: str) -> Iterator[Deployment]:
    """Start emulator and Airflow with the example DAGs in ``home`` (created) and stop both at the end.

    Sandboxes are isolated as ``isolation`` says (``auto``: as far as this machine allows), but for the network: they report to
    Airflow's API on this machine's loopback. Builds of images are recorded only: ``worker_python`` plays them, and no build needs
    a network. ``EmulatorConfigError`` if such isolation is not to be had.
    """
    copy_dags(Path(example_dags.__file__).parent, home)
    config = EmulatorConfig(gpus=INVENTORY, python=worker_python, isolation=isolation, network="host", image_builds="record")
    with EmulatorThread(config) as emulator:
        env = environment(home, emulator.environment())
        with airflow_running(home, env) as airflow:
            yield Deployment(airflow=airflow, env=env, emulator=emulator)


def isolation_line(deployment: Deployment) -> str:
    """Say how the sandboxes are kept apart, and that their network is not."""
    isolation, network = deployment.emulator.isolation, deployment.emulator.network
    return f"isolation: {isolation.name}: {isolation.words}; network: {network.name}: {network.words}"
