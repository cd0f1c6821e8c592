"""A failed task's sandbox is kept, in a real Airflow: Airflow goes on at once, and the sandbox can be entered."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from modalflow.demo.deployment import Deployment
from modalflow.emulator.introspection import SandboxRecord, sandbox_records
from tests.e2e.conftest import log_holding, start_run, wait_for, wait_for_state

pytestmark = [pytest.mark.e2e, pytest.mark.emulated]

DAG, TASK = "e2e_keeps", "breaks_once"
BIN = Path(sys.executable).parent


def records(deployment: Deployment) -> list[SandboxRecord]:
    """The sandboxes of the task, oldest first."""
    found = [record for record in sandbox_records(deployment.emulator) if record.tags.get("task_id") == TASK]
    return sorted(found, key=lambda record: record.created_at)


def modal_command(deployment: Deployment, *words: str) -> str:
    """What ``airflow modal WORDS`` prints."""
    argv = [str(BIN / "airflow"), "modal", *words]
    done = subprocess.run(argv, env=deployment.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_failed_try_is_kept_while_the_next_runs(deployment: Deployment) -> None:
    airflow = deployment.airflow
    run = start_run(airflow, DAG)
    assert wait_for_state(airflow, DAG, run, TASK, "success", "failed")["try_number"] == 2, "the retry did not wait"
    first, second = records(deployment)
    assert not first.ended
    wait_for("a success is not kept", lambda: records(deployment)[1].ended)
    # The scheduler lets the launch go; it says so in the log only, for a newer launch speaks for the task's events.
    log_holding(airflow, DAG, run, TASK, f"its sandbox {first.sandbox_id} is kept for 3600 s from then on (keep_on_failure)")

    which = ["--run-id", run, "--try-number", "1"]
    assert (
        modal_command(deployment, "shell", *which, DAG, TASK, "--", "sh", "-c", "echo $MODAL_SANDBOX_ID")
        == f"{first.sandbox_id}\n"
    )
    kept = {row["sandbox"]: row for row in json.loads(modal_command(deployment, "ps", "--json"))}[first.sandbox_id]
    assert (kept["state"], kept["try_number"], kept["task_id"]) == ("kept", "1", TASK)
    decided = {row["sandbox"]: row for row in json.loads(modal_command(deployment, "cleanup", "--json"))}[first.sandbox_id]
    assert decided["action"] == "keep"

    # The sweep looks every 3 s here, and has left it alone.
    assert not records(deployment)[0].ended
    end = f"import modal; modal.Sandbox.from_id({first.sandbox_id!r}).terminate()"
    subprocess.run([sys.executable, "-c", end], env=deployment.env, check=True, capture_output=True)
    wait_for("it is gone", lambda: records(deployment)[0].ended)
    assert second.tags["launch"] != first.tags["launch"]
    # The emulator commits a Volume when its sandbox ends.
    told = "look into it: "
    line = next(one for one in log_holding(airflow, DAG, run, TASK, told).splitlines() if told in one)
    assert "the task failed; its sandbox is kept for 3600 s" in line
    assert shlex.split(line.split(told)[1].split(";")[0]) == ["airflow", "modal", "shell", DAG, TASK, *which]
