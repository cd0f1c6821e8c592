"""Modal goes away in the middle of a run and comes back: the scheduler lives, and the affected task says why it failed."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modalflow.demo.deployment import airflow_log, airflow_running, copy_dags, environment, free_ports
from tests.e2e.conftest import DAGS, log_holding, start_run, wait_for, wait_for_state

pytestmark = [pytest.mark.e2e, pytest.mark.emulated]

TOKEN = {"MODALFLOW_EMULATOR_TOKEN_ID": "ak-restarted", "MODALFLOW_EMULATOR_TOKEN_SECRET": "as-restarted"}


@contextlib.contextmanager
def emulator_process(folder: Path, port: int, worker_python: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    """The emulator as users start it; yields the process and the environment that it prints."""
    env_file = folder / "emulator.env"
    env_file.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "modalflow.cli.main",
        "emulator",
        "start",
        "--port",
        str(port),
        "--python",
        str(worker_python),
        "--network",
        "host",  # the tasks report to an API server on this machine's loopback
        "--image-builds",
        "record",
    ]
    command += ["--state-dir", str(folder / "state"), "--env-file", str(env_file)]
    with (folder / "emulator.log").open("ab") as log:
        process = subprocess.Popen(command, env={**os.environ, **TOKEN}, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for("the emulator serves", lambda: env_file.exists() and env_file.read_text().endswith("\n"), timeout=30)
        lines = (
            line.removeprefix("export ").partition("=")
            for line in env_file.read_text().splitlines()
            if line.startswith("export ")
        )
        yield process, {name: shlex.split(value)[0] for name, _, value in lines}
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        process.wait(30)


@pytest.mark.timeout(400)
def test_a_killed_emulator_costs_a_clear_failure_and_nothing_more(tmp_path: Path, worker_python: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "emulator"
    folder.mkdir()
    copy_dags(DAGS, home)
    [port] = free_ports(1)
    with contextlib.ExitStack() as stack:
        first, modal_environment = stack.enter_context(emulator_process(folder, port, worker_python))
        env = environment(home, modal_environment)
        airflow = stack.enter_context(airflow_running(home, env))
        wait_for("e2e_waits is parsed", lambda: "e2e_waits" in airflow.api.dag_ids())
        run_id = airflow.api.trigger("e2e_waits", conf={"stop_file": str(tmp_path / "never")})
        for task in ("on_cpu", "on_gpu"):
            assert wait_for_state(airflow, "e2e_waits", run_id, task, "running", "failed")["state"] == "running"

        first.send_signal(signal.SIGKILL)
        first.wait(10)
        stack.enter_context(emulator_process(folder, port, worker_python))

        for task in ("on_cpu", "on_gpu"):
            wait_for_state(airflow, "e2e_waits", run_id, task, "failed")
            log_holding(airflow, "e2e_waits", run_id, task, "the sandbox was terminated from outside")
        later = start_run(airflow, "e2e_imports")
        assert wait_for_state(airflow, "e2e_imports", later, "look_for_packages", "success", "failed")["state"] == "success"
        assert airflow.api.healthy(), "the scheduler has lived through it"
    assert "Exception when executing SchedulerJob" not in airflow_log(home).read_text()
