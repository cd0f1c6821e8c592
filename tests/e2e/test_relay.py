"""Airflow whose execution API sandboxes reach by the relay only: networks of their own, the API on this machine's loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from modalflow.demo.deployment import Deployment, airflow_log, airflow_running, copy_dags, environment
from modalflow.emulator import EmulatorConfig
from modalflow.emulator.introspection import SandboxRecord, sandbox_records
from tests.e2e.conftest import DAGS, log_holding, start_run, wait_for, wait_for_state
from tests.emulator.conftest import emulator_where_it_can_be
from tests.relay.conftest import kill_station

pytestmark = [pytest.mark.e2e, pytest.mark.emulated]


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory, worker_python: Path) -> Iterator[Deployment]:
    """Airflow with the DAGs of ``tests/e2e/dags``, its sandboxes each with a network of its own."""
    home = tmp_path_factory.mktemp("apart")
    copy_dags(DAGS, home)
    config = EmulatorConfig(gpus={"A10G": 2}, python=worker_python, network="own", image_builds="record")
    with emulator_where_it_can_be(config) as emulator:
        env = {**environment(home, emulator.environment()), "AIRFLOW__MODAL_EXECUTOR__EXECUTION_API": "relay"}
        with airflow_running(home, env) as airflow:
            yield Deployment(airflow=airflow, env=env, emulator=emulator)


def relays(apart: Deployment) -> list[SandboxRecord]:
    return [record for record in sandbox_records(apart.emulator) if "relay" in record.tags]


def test_a_task_reaches_the_api_by_the_relay_and_by_no_other_way(apart: Deployment) -> None:
    airflow = apart.airflow
    wait_for("e2e_relay is parsed", lambda: "e2e_relay" in airflow.api.dag_ids())
    run_id = airflow.api.trigger("e2e_relay", conf={"direct": apart.env["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"]})
    for task in ("look", "on_gpu"):
        finished = wait_for_state(airflow, "e2e_relay", run_id, task, "success", "failed", "upstream_failed")
        log = log_holding(airflow, "e2e_relay", run_id, task, "the execution API is reached by the relay")
        assert finished["state"] == "success", log
    [relay] = relays(apart)
    assert relay.tags["relay_of"] == "airflow"
    assert "deployment" not in relay.tags, "what looks for tasks must not find it"


def test_no_task_fails_when_the_relay_is_killed(apart: Deployment) -> None:
    airflow = apart.airflow
    run_id = start_run(airflow, "e2e_relay_lost")

    def states() -> list[str]:
        airflow.check_alive()
        return [str(ti["state"]) for ti in airflow.api.task_instances("e2e_relay_lost", run_id)]

    wait_for("all tasks run", lambda: states() == ["running"] * 3)
    [first] = [record for record in relays(apart) if not record.ended]
    kill_station(first.sandbox_id)
    wait_for("all tasks have ended", lambda: all(state in {"success", "failed", "up_for_retry"} for state in states()))
    assert states() == ["success"] * 3, airflow_log(airflow.home).read_text()[-5000:]
    assert [ti["try_number"] for ti in airflow.api.task_instances("e2e_relay_lost", run_id)] == [1, 1, 1]
    assert len(relays(apart)) == 2
    log = airflow_log(airflow.home).read_text()
    assert "a relay was lost; 3 of 3 running sandboxes know the new one" in log
