"""What Airflow in a sandbox is configured with, and what it never gets."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from airflow.configuration import conf

from modalflow.executor.configuration import ConfigurationView
from modalflow.executor.dag_bundles import read_bundles
from modalflow.executor.worker_environment import build_worker_environment, check_worker_env, execution_api_url
from modalflow.executor.workloads import WorkloadFacts
from modalflow.settings import SettingsError, read_settings
from modalflow.translation.plan import VolumePlan

URL = "https://airflow.example.com/execution/"
FACTS = WorkloadFacts(
    executor_config=None,
    queue="gpu",
    log_path="dag_id=models/run_id=r/task_id=train/attempt=1.log",
    tags={"dag_id": "models"},
)


def view() -> ConfigurationView:
    return ConfigurationView(conf=conf, environ=os.environ)


def built(**options: str) -> Any:
    settings = read_settings(options)
    return build_worker_environment(view(), settings, read_bundles(view(), settings), api_url=URL, airflow_version="3.3.2")


def test_the_allow_list_is_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", "/opt/airflow/dags")
    context = built().context("the-launch", FACTS)
    bundles = context.env["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"]
    assert context.env == {
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": URL,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": "/opt/airflow/dags",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": bundles,
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": "/mnt/modalflow/logs",
        "MODALFLOW_LAUNCH_ID": "the-launch",
        "MODALFLOW_LOG_PATH": "attempt=1.log",
        "MODALFLOW_LOG_SYNC": "10",
        "MODALFLOW_HANDOVER_TIMEOUT": "60",
        "MODALFLOW_STOP_GRACE": "30",
        "MODALFLOW_AIRFLOW_VERSION": "3.3.2",
    }
    assert [bundle["name"] for bundle in json.loads(bundles)] == ["dags-folder"]
    assert context.queue == "gpu"
    assert context.tags == {"deployment": "airflow", "launch": "the-launch", "dag_id": "models"}


def test_explicit_options_of_two_sections_go_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__WORKERS__EXECUTION_API_RETRIES", "9")
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND_KWARGS", '{"a": 1}')
    monkeypatch.setenv("AIRFLOW__CELERY__BROKER_URL", "redis://:password@host")
    env = built().env
    assert env["AIRFLOW__WORKERS__EXECUTION_API_RETRIES"] == "9"
    assert env["AIRFLOW__SECRETS__BACKEND_KWARGS"] == '{"a": 1}'
    assert not [name for name in env if "CELERY" in name or "DATABASE" in name or "FERNET" in name or "JWT" in name]
    assert "password" not in "".join(env.values())


def test_a_task_sees_the_folder_of_its_own_log_only() -> None:
    assert built().context("launch", FACTS).volumes == (
        VolumePlan(
            mount_path="/mnt/modalflow/logs",
            name="modalflow-logs",
            sub_path="dag_id=models/run_id=r/task_id=train",
            version=2,
            create_if_missing=True,
            is_ours=True,
        ),
    )


def test_without_a_log_volume_logs_stay_in_the_sandbox() -> None:
    from dataclasses import replace

    context = replace(built(), logs_volume=None).context("launch", FACTS)
    assert context.volumes == ()
    assert context.env["AIRFLOW__LOGGING__BASE_LOG_FOLDER"] == "/tmp/modalflow/logs"
    assert "MODALFLOW_LOG_PATH" not in context.env


@pytest.mark.parametrize(
    "name",
    [
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD",
        "AIRFLOW__CORE__SQL_ALCHEMY_CONN",
        "AIRFLOW__CORE__FERNET_KEY",
        "AIRFLOW__CORE__FERNET_KEY_SECRET",
        "AIRFLOW__API_AUTH__JWT_SECRET",
        "AIRFLOW__API__SECRET_KEY",
        "AIRFLOW__CORE__EXECUTOR",
        "airflow__core__executor",
        "AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS",
        "MODAL_TOKEN_SECRET",
        "MODALFLOW_LAUNCH_ID",
    ],
)
def test_what_a_worker_never_gets_is_refused_without_its_value(name: str) -> None:
    with pytest.raises(SettingsError) as raised:
        check_worker_env({name: "hunter2"})
    assert str(raised.value) == (
        f"[modal_executor] worker_env: {name} is refused: a task could read it, or Airflow in the sandbox would fail to start "
        "with it; a worker needs neither database, fernet key, signing keys, executor nor logging class. Remove it"
    )


def test_other_worker_env_goes_along() -> None:
    assert built(worker_env='{"AIRFLOW__SECRETS__BACKEND": "x.Y"}').env["AIRFLOW__SECRETS__BACKEND"] == "x.Y"


class TestExecutionApiUrl:
    """Three options, in Airflow's order, each named in its error."""

    def test_ours_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "http://core:1/execution/")
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://api:2")
        assert (
            execution_api_url(view(), read_settings({"execution_api_url": "https://x.io/execution"})) == "https://x.io/execution/"
        )
        assert execution_api_url(view(), read_settings({})) == "http://core:1/execution/"
        monkeypatch.delenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL")
        assert execution_api_url(view(), read_settings({})) == "http://api:2/execution/"
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", "/")
        assert execution_api_url(view(), read_settings({})) == "http://localhost:8080/execution/"

    @pytest.mark.parametrize(
        "url", ["https://x.io", "https://x.io/api/", "x.io/execution/", "ftp://x.io/execution/", "https:///execution/"]
    )
    def test_anything_else_is_refused(self, url: str) -> None:
        with pytest.raises(SettingsError) as raised:
            execution_api_url(view(), read_settings({"execution_api_url": url}))
        assert str(raised.value) == (
            "[modal_executor] execution_api_url: expected an http(s) URL ending in /execution/, "
            f"e.g. https://airflow.example.com/execution/; got {url!r}"
        )
