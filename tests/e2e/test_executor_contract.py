"""What Airflow may ask of an executor, in a real Airflow: ModalExecutor beside LocalExecutor, and one of a team's own."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modalflow.demo.deployment import Deployment, airflow_running, copy_dags, environment
from modalflow.emulator import EmulatorConfig, EmulatorThread
from modalflow.emulator.introspection import SandboxRecord, sandbox_records
from tests.e2e.conftest import log_holding, start_run, wait_for, wait_for_state

pytestmark = [pytest.mark.e2e, pytest.mark.emulated, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
LOCAL_BUNDLE = "airflow.dag_processing.bundles.local.LocalDagBundle"
ENDED = ("success", "failed", "upstream_failed")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, worker_python: Path) -> Iterator[Deployment]:
    """LocalExecutor is the default, ModalExecutor is named by tasks, and the team ``mlops`` has a ModalExecutor by default."""
    home = tmp_path_factory.mktemp("contract")
    copy_dags(HERE / "contract_dags", home)
    copy_dags(HERE / "team_dags", home / "mlops")
    config = EmulatorConfig(python=worker_python, isolation="process", network="host", image_builds="record")
    with EmulatorThread(config) as emulator:
        env = environment(home, emulator.environment())
        bundles = [
            {"name": "dags-folder", "classpath": LOCAL_BUNDLE, "kwargs": {}},
            {"name": "mlops", "classpath": LOCAL_BUNDLE, "kwargs": {"path": str(home / "mlops/dags")}, "team_name": "mlops"},
        ]
        env |= {
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor,modalflow.executor.ModalExecutor;mlops=modalflow.executor.ModalExecutor",
            "AIRFLOW__CORE__MULTI_TEAM": "True",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
            "AIRFLOW__MODAL_EXECUTOR__ENV": json.dumps({"WHOSE": "everybody's", "TOLD": str(home / "told")}),
            "AIRFLOW__MODAL_EXECUTOR__APP_NAME": "shared",
            "AIRFLOW__MLOPS___MODAL_EXECUTOR__APP_NAME": "ml-tasks",
        }
        for command in (
            ["airflow", "db", "migrate"],
            ["airflow", "teams", "create", "mlops"],
        ):
            done = subprocess.run(
                [sys.executable, "-m", *command], env=env, capture_output=True, text=True, timeout=120, check=False
            )
            assert done.returncode == 0, done.stderr
        with airflow_running(home, env) as airflow:
            yield Deployment(airflow=airflow, env=env, emulator=emulator)


def records(deployment: Deployment, **tags: str) -> list[SandboxRecord]:
    """The sandboxes with all of ``tags``, oldest first."""
    found = [record for record in sandbox_records(deployment.emulator) if tags.items() <= dict(record.tags).items()]
    return sorted(found, key=lambda record: record.created_at)


def rows(deployment: Deployment, query: str, *values: str) -> list[tuple[Any, ...]]:
    """Read Airflow's database, which has more to say of callbacks than its API."""
    with contextlib.closing(sqlite3.connect(deployment.airflow.home / "airflow/airflow.db", timeout=30)) as database:
        return list(database.execute(query, values))


def states(deployment: Deployment, dag_id: str, run_id: str) -> dict[str, list[str]]:
    """Wait for the run's end; states of its instances by task."""
    wait_for(f"{dag_id} has ended", lambda: deployment.airflow.api.run_state(dag_id, run_id) in {"success", "failed"})
    found: dict[str, list[str]] = {}
    for ti in deployment.airflow.api.task_instances(dag_id, run_id):
        found.setdefault(ti["task_id"], []).append(ti["state"])
    return found


def test_a_deferring_task_resumes_in_a_sandbox_of_its_own_however_it_names_us(deployment: Deployment) -> None:
    run_id = start_run(deployment.airflow, "contract_defers")
    for task in ("defers", "defers_by_path"):
        finished = wait_for_state(deployment.airflow, "contract_defers", run_id, task, *ENDED)
        before, after = records(deployment, dag_id="contract_defers", task_id=task)
        assert finished["state"] == "success"
        assert before.tags["launch"] != after.tags["launch"]
        assert finished["hostname"] == f"{after.tags['launch']}/{after.sandbox_id}"
        assert (before.app, after.app) == ("shared", "shared")


def test_a_sensor_is_rescheduled_between_its_pokes(deployment: Deployment, tmp_path: Path) -> None:
    wait_for("contract_sensor is parsed", lambda: "contract_sensor" in deployment.airflow.api.dag_ids())
    run_id = deployment.airflow.api.trigger("contract_sensor", conf={"seen": str(tmp_path / "seen")})
    assert states(deployment, "contract_sensor", run_id) == {"pokes": ["success"]}
    pokes = records(deployment, dag_id="contract_sensor")
    assert [poke.tags["try_number"] for poke in pokes] == ["1", "1"]
    assert len({poke.tags["launch"] for poke in pokes}) == 2


def test_tasks_are_mapped_over_what_another_returned(deployment: Deployment) -> None:
    run_id = start_run(deployment.airflow, "contract_maps")
    assert states(deployment, "contract_maps", run_id) == {
        "numbers": ["success"],
        "square": ["success", "success"],
        "total": ["success"],
    }
    assert [record.tags["map_index"] for record in records(deployment, dag_id="contract_maps", task_id="total")] == ["-1"]
    squares = records(deployment, dag_id="contract_maps", task_id="square")
    assert sorted(record.tags["map_index"] for record in squares) == ["0", "1"]


def test_teardown_runs_though_the_work_failed_on_the_other_executor(deployment: Deployment) -> None:
    run_id = start_run(deployment.airflow, "contract_teardown")
    found = states(deployment, "contract_teardown", run_id)
    assert found == {"prepare": ["success"], "fails": ["failed"], "clean_up": ["success"]}
    log_holding(deployment.airflow, "contract_teardown", run_id, "fails", "in a sandbox: False")
    on_modal = {record.tags["task_id"] for record in records(deployment, dag_id="contract_teardown")}
    assert on_modal == {"prepare", "clean_up"}


def test_the_callbacks_of_a_missed_deadline_run_in_sandboxes(deployment: Deployment) -> None:
    start_run(deployment.airflow, "contract_deadline")
    query = "SELECT replace(id, '-', ''), state, output FROM callback WHERE data LIKE ?"

    def ended(function: str) -> tuple[Any, ...] | None:
        [row] = rows(deployment, query, f"%.{function}%") or [(None, None, None)]
        return row if row[1] in {"success", "failed"} else None

    told = wait_for("the callback has told", lambda: ended("tell"))
    failed = wait_for("the other callback has failed", lambda: ended("fails_to_tell"))
    sandboxes = {r.tags["callback_id"].replace("-", ""): r for r in records(deployment) if "callback_id" in r.tags}
    assert sorted(sandboxes) == sorted([told[0], failed[0]])
    assert told[1:] == ("success", None)
    assert (deployment.airflow.home / "told").read_text() == f"hurry, in {sandboxes[told[0]].sandbox_id}"
    assert failed[1] == "failed"
    other = sandboxes[failed[0]]
    assert failed[2].startswith(f"the callback failed in the sandbox (exit code 73) (sandbox {other.sandbox_id})")
    assert "the callback fails_to_tell failed (Callback subprocess exited with code 1)" in failed[2]


def test_connections_are_tested_in_sandboxes(deployment: Deployment, tmp_path: Path) -> None:
    client = deployment.airflow.api._client

    def tested(path: Path) -> dict[str, Any]:
        body = {"connection_id": f"disk_{path.name}", "conn_type": "fs", "extra": json.dumps({"path": str(path)})}
        asked = client.post("/api/v2/connections/enqueue-test", json={**body, "executor": "ModalExecutor"})
        asked.raise_for_status()
        headers = {"Airflow-Connection-Test-Token": asked.json()["token"]}

        def done() -> dict[str, Any] | None:
            answer: dict[str, Any] = client.get("/api/v2/connections/enqueue-test", headers=headers).raise_for_status().json()
            return answer if answer["state"] in {"success", "failed"} else None

        return dict(wait_for("the connection is tested", done))

    (tmp_path / "there").mkdir()
    there, missing = tested(tmp_path / "there"), tested(tmp_path / "missing")
    assert (there["state"], there["result_message"]) == ("success", f"Path {tmp_path / 'there'} is existing.")
    assert (missing["state"], missing["result_message"]) == ("failed", f"Path {tmp_path / 'missing'} does not exist.")
    sandboxes = [record for record in records(deployment) if "connection_test_id" in record.tags]
    wait_for("both have ended", lambda: all(r.ended for r in records(deployment) if "connection_test_id" in r.tags))
    assert len(sandboxes) == 2


def test_a_team_has_its_own_executor_and_everybody_s_options(deployment: Deployment) -> None:
    run_id = start_run(deployment.airflow, "contract_team")
    finished = wait_for_state(deployment.airflow, "contract_team", run_id, "of_the_team", *ENDED)
    [record] = records(deployment, dag_id="contract_team")
    log = log_holding(deployment.airflow, "contract_team", run_id, "of_the_team", f"everybody's in {record.sandbox_id}")
    assert finished["state"] == "success", log
    assert record.app == "ml-tasks"
    assert record.volumes["/mnt/modalflow/bundles/mlops"] == "modalflow-dag-code", "an option that the team does not set"
    assert "/mnt/modalflow/bundles/dags-folder" not in record.volumes, "the code of others is not shown"
