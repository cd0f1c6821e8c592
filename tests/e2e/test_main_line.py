"""The main job: a task with ``{"modal": {"gpu": "A10G"}}`` through a real Airflow, the unmodified client and the emulator."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from modalflow.demo.deployment import Deployment, airflow_log
from modalflow.emulator.introspection import SandboxRecord, sandbox_records
from tests.e2e.conftest import log_holding, start_run, wait_for, wait_for_state
from tests.e2e.secret_search import search

pytestmark = [pytest.mark.e2e, pytest.mark.emulated]


def records_of(deployment: Deployment, task_id: str) -> list[SandboxRecord]:
    return [record for record in sandbox_records(deployment.emulator) if record.tags.get("task_id") == task_id]


def test_standalone_runs_a_gpu_task_through_us(deployment: Deployment) -> None:
    airflow = deployment.airflow
    run_id = start_run(airflow, "e2e_gpu")
    finished = wait_for_state(airflow, "e2e_gpu", run_id, "on_a10g", "success", "failed")
    [record] = records_of(deployment, "on_a10g")
    log = log_holding(airflow, "e2e_gpu", run_id, "on_a10g", f"sandbox {record.sandbox_id} has A10G:1")
    assert finished["state"] == "success", log
    assert (record.backend, record.gpu) == ("V1", "A10G:1")
    assert record.name == record.tags["launch"]
    links = airflow.api._get(f"/dags/e2e_gpu/dagRuns/{run_id}/taskInstances/on_a10g/links")
    assert links["extra_links"] == {"Modal sandbox": f"https://modal.com/id/{record.sandbox_id}"}, "the button on the task's page"
    assert finished["hostname"] == f"{record.name}/{record.sandbox_id}", "the worker's hostname names launch and sandbox"
    assert "Forcing executor to LocalExecutor" not in airflow_log(airflow.home).read_text()


def test_sandboxes_have_neither_modalflow_nor_modal(deployment: Deployment) -> None:
    run_id = start_run(deployment.airflow, "e2e_imports")
    finished = wait_for_state(deployment.airflow, "e2e_imports", run_id, "look_for_packages", "success", "failed")
    log = log_holding(
        deployment.airflow, "e2e_imports", run_id, "look_for_packages", "as it should be: No module named 'modalflow'"
    )
    assert finished["state"] == "success", log
    assert "as it should be: No module named 'modal'" in log


def test_a_change_of_code_reaches_the_next_task(deployment: Deployment) -> None:
    """Of a DAG's file and of a module in a subfolder that it imports; nobody runs a command."""
    airflow, dags = deployment.airflow, deployment.airflow.home / "dags"
    first = start_run(airflow, "e2e_code")
    log = log_holding(airflow, "e2e_code", first, "say", "the file as it was, the module as it was")
    assert wait_for_state(airflow, "e2e_code", first, "say", "success", "failed")["state"] == "success", log
    for path in (dags / "e2e_code.py", dags / "e2e_shared/words/greeting.py"):
        path.write_text(path.read_text().replace("as it was", "as it is"))
    second = airflow.api.trigger("e2e_code")
    log_holding(airflow, "e2e_code", second, "say", "the file as it is, the module as it is")
    copies = [record.tags["dag_code"] for record in records_of(deployment, "say")]
    assert len(set(copies)) == 2


def test_a_running_task_shows_its_lines_and_nowhere_its_token(deployment: Deployment, tmp_path: Path) -> None:
    airflow = deployment.airflow
    stop_file = tmp_path / "stop"
    wait_for("e2e_waits is parsed", lambda: "e2e_waits" in airflow.api.dag_ids())
    run_id = airflow.api.trigger("e2e_waits", conf={"stop_file": str(stop_file)})
    instances = [wait_for_state(airflow, "e2e_waits", run_id, task, "running", "failed") for task in ("on_cpu", "on_gpu")]
    assert [ti["state"] for ti in instances] == ["running", "running"]
    for task in ("on_cpu", "on_gpu"):
        wait_for_line(deployment, run_id, task, "a line while running")

    subjects = [ti["id"] for ti in instances]
    assert find_tokens(deployment, subjects) == []
    stop_file.touch()
    for task in ("on_cpu", "on_gpu"):
        assert wait_for_state(airflow, "e2e_waits", run_id, task, "success", "failed")["state"] == "success"
        log_holding(airflow, "e2e_waits", run_id, task, "seen the stop file")
    assert find_tokens(deployment, subjects) == []


def wait_for_line(deployment: Deployment, run_id: str, task: str, line: str) -> None:
    wait_for(f"{task}'s log has {line!r}", lambda: line in deployment.airflow.api.log("e2e_waits", run_id, task, 1))


def find_tokens(deployment: Deployment, subjects: list[str]) -> list[str]:
    records = {
        f"tags and name of {r.sandbox_id}": json.dumps([r.name, dict(r.tags)]) for r in sandbox_records(deployment.emulator)
    }
    working = Path(tempfile.gettempdir()).glob("modal-emulator-*")  # where the emulator keeps running sandboxes
    return search(subjects, folders=[deployment.airflow.home, *working], records=records)


def test_the_search_finds_a_planted_token_everywhere(tmp_path: Path) -> None:
    payload = base64.urlsafe_b64encode(json.dumps({"sub": "planted-canary"}).encode()).rstrip(b"=").decode()
    canary = f"eyJhbGciOiJub25lIn0.{payload}.c2lnbmF0dXJl"
    (tmp_path / "state").write_text(f'{{"token":"{canary}"}}')
    wait = "import sys; print('up', flush=True); sys.stdin.read()"
    in_argv = [sys.executable, "-c", wait, canary]
    with (
        subprocess.Popen(in_argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as argv,
        subprocess.Popen(in_argv[:3], env={"SECRET": canary}, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as env,
    ):
        for process in (argv, env):
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
        found = search(["planted-canary"], folders=[tmp_path], records={"tags": f"x={canary}"})
        for process in (argv, env):
            process.communicate()
    assert found == [f"/proc/{argv.pid}/cmdline", f"/proc/{env.pid}/environ", str(tmp_path / "state"), "tags"]
