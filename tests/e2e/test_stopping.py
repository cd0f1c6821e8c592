"""How tasks are stopped from outside, in a real Airflow: what each hears of it in its sandbox, and that the sandbox is gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modalflow.demo.deployment import AirflowRunning, Deployment, airflow_log
from modalflow.emulator.introspection import SandboxRecord, sandbox_records
from tests.e2e.conftest import instance, wait_for, wait_for_state

pytestmark = [pytest.mark.e2e, pytest.mark.emulated]


def call(airflow: AirflowRunning, method: str, path: str, body: dict[str, Any]) -> None:
    """One call of Airflow's API as its UI makes it."""
    airflow.api._client.request(method, f"/api/v2{path}", json=body).raise_for_status()


def words_of(folder: Path, task_id: str) -> list[str]:
    """What the task wrote in its sandbox."""
    path = folder / f"{task_id}.txt"
    return path.read_text().splitlines() if path.exists() else []


def records_of(deployment: Deployment, task_id: str) -> list[SandboxRecord]:
    """The sandboxes of a task, oldest first."""
    records = [record for record in sandbox_records(deployment.emulator) if record.tags.get("task_id") == task_id]
    return sorted(records, key=lambda record: record.created_at)


def leave_one(deployment: Deployment, tags: dict[str, str]) -> str:
    """Start a sandbox with these tags that runs by itself; return its id."""
    program = f"""
import modal
app = modal.App.lookup("modalflow", create_if_missing=True)
image = modal.Image.debian_slim()
print(modal.Sandbox.create("python", "-c", "import time; time.sleep(600)", app=app, image=image, tags={tags!r}).object_id)
"""
    argv = [sys.executable, "-c", program]
    return subprocess.run(argv, env=deployment.env, check=True, capture_output=True, text=True).stdout.strip()


def start(airflow: AirflowRunning, dag_id: str, folder: Path) -> str:
    wait_for(f"DAG {dag_id} is parsed", lambda: dag_id in airflow.api.dag_ids())
    return airflow.api.trigger(dag_id, conf={"folder": str(folder)})


def test_what_stops_a_task_and_what_does_not(deployment: Deployment, tmp_path: Path) -> None:
    airflow = deployment.airflow
    run, paused_run = start(airflow, "e2e_stops", tmp_path), start(airflow, "e2e_pauses", tmp_path)
    stopped = ("cleared", "marked_failed", "marked_success")
    for task_id in (*stopped, "goes_on"):
        wait_for(f"{task_id} runs", lambda task_id=task_id: words_of(tmp_path, task_id) == ["begun 1"])  # type: ignore[misc]

    call(airflow, "PATCH", "/dags/e2e_pauses", {"is_paused": True})
    where = f"/dags/e2e_stops/dagRuns/{run}/taskInstances"
    call(airflow, "PATCH", f"{where}/marked_failed", {"new_state": "failed"})
    call(airflow, "PATCH", f"{where}/marked_success", {"new_state": "success"})
    clear = {"dry_run": False, "only_failed": False, "task_ids": ["cleared"], "dag_run_id": run}
    call(airflow, "POST", "/dags/e2e_stops/clearTaskInstances", clear)

    for task_id in (*stopped, "timed_out"):
        wait_for(f"{task_id} hears of it", lambda task_id=task_id: "on_kill" in words_of(tmp_path, task_id))  # type: ignore[misc]
        wait_for(
            f"the sandbox of {task_id} is gone",
            lambda task_id=task_id: records_of(deployment, task_id)[0].ended,  # type: ignore[misc]
        )

    # The cleared one is run again in a sandbox of its own; the others stay as somebody, or their timeout, left them.
    (tmp_path / "go-cleared").touch()
    assert wait_for_state(airflow, "e2e_stops", run, "cleared", "success", "failed")["state"] == "success"
    assert words_of(tmp_path, "cleared") == ["begun 1", "on_kill", "begun 2", "came to its end 2"]
    first, second = records_of(deployment, "cleared")
    assert first.tags["launch"] != second.tags["launch"]
    assert first.tags["task_instance"] != second.tags["task_instance"]
    for task_id, state in (("marked_failed", "failed"), ("marked_success", "success"), ("timed_out", "failed")):
        assert wait_for_state(airflow, "e2e_stops", run, task_id, state)["try_number"] == 1
        assert words_of(tmp_path, task_id) == ["begun 1", "on_kill"]
        assert len(records_of(deployment, task_id)) == 1

    # Two of the supervisor's heartbeats have passed by now: what runs in a paused DAG goes on.
    assert instance(airflow, "e2e_pauses", paused_run, "goes_on")["state"] == "running"
    assert words_of(tmp_path, "goes_on") == ["begun 1"]
    (tmp_path / "go-goes_on").touch()
    assert wait_for_state(airflow, "e2e_pauses", paused_run, "goes_on", "success", "failed")["state"] == "success"
    assert words_of(tmp_path, "goes_on") == ["begun 1", "came to its end 1"]
    # A sandbox that goes on under the launch of the try that was cleared is ended by the scheduler.
    left = leave_one(deployment, dict(first.tags))
    wait_for(
        "the sweep has ended what was left",
        lambda: next(record for record in sandbox_records(deployment.emulator) if record.sandbox_id == left).ended,
    )
    assert f"modalflow: ending sandbox {left} (e2e_stops.cleared, launch" in airflow_log(airflow.home).read_text()
    wait_for("no sandbox runs", lambda: all(record.ended for record in sandbox_records(deployment.emulator)))
