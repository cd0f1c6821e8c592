"""Where each DAG bundle comes from, by ``dag_source`` and what this host has."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from airflow.configuration import conf

from modalflow.executor.configuration import ConfigurationView
from modalflow.executor.dag_bundles import Bundles, mount_of, read_bundles
from modalflow.settings import SettingsError, read_settings
from modalflow.translation.plan import VolumePlan

LOCAL = "airflow.dag_processing.bundles.local.LocalDagBundle"
GIT = {"name": "shared", "classpath": "airflow.providers.git.bundles.git.GitDagBundle", "kwargs": {"repo_url": "x"}}
S3 = {"name": "lake", "classpath": "airflow.providers.amazon.aws.bundles.s3.S3DagBundle", "kwargs": {"bucket_name": "b"}}
OURS = {"name": "ours", "classpath": LOCAL, "kwargs": {"path": "/srv/dags", "refresh_interval": 5}}
DEFAULT = {"name": "dags-folder", "classpath": LOCAL, "kwargs": {}}


@pytest.fixture(autouse=True)
def dags_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", "/opt/airflow/dags")


def configure(monkeypatch: pytest.MonkeyPatch, *bundles: dict[str, Any]) -> None:
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(bundles))


def read(*, there: bool = True, **options: str) -> Bundles:
    view = ConfigurationView(conf=conf, environ=os.environ)
    return read_bundles(view, read_settings(options), is_folder=lambda _: there)


def told(bundles: Bundles) -> Any:
    return json.loads(bundles.env["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])


def test_the_default_bundle_is_brought() -> None:
    bundles = read()
    assert bundles.folders == {"dags-folder": "/opt/airflow/dags"}
    assert bundles.env["AIRFLOW__CORE__DAGS_FOLDER"] == "/mnt/modalflow/bundles/dags-folder"
    assert [(one["name"], one["kwargs"]["path"]) for one in told(bundles)] == [
        ("dags-folder", "/mnt/modalflow/bundles/dags-folder")
    ]
    assert (bundles.volumes, bundles.warnings) == ((), ())
    assert bundles.code == {
        "dags-folder": VolumePlan(
            mount_path="/mnt/modalflow/bundles/dags-folder",
            name="modalflow-dag-code",
            read_only=True,
            version=2,
            is_ours=True,
            code_of="dags-folder",
        )
    }


def test_local_bundles_are_brought_and_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, GIT | {"team_name": "ml"}, OURS, DEFAULT)
    bundles = read(dag_code_volume="code")
    assert told(bundles) == [
        GIT,
        OURS | {"kwargs": {"path": "/mnt/modalflow/bundles/ours", "refresh_interval": 5}},
        DEFAULT | {"kwargs": {"path": "/mnt/modalflow/bundles/dags-folder"}},
    ]
    assert bundles.folders == {"ours": "/srv/dags", "dags-folder": "/opt/airflow/dags"}
    assert {name: volume.name for name, volume in bundles.code.items()} == {"ours": "code", "dags-folder": "code"}


def test_the_dags_folder_is_where_the_bundle_is_that_is_this_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, {"name": "main", "classpath": LOCAL, "kwargs": {"path": "/opt/airflow/dags"}})
    assert read().env["AIRFLOW__CORE__DAGS_FOLDER"] == "/mnt/modalflow/bundles/main"
    configure(monkeypatch, OURS)
    assert read().env["AIRFLOW__CORE__DAGS_FOLDER"] == "/opt/airflow/dags"


def test_a_folder_that_is_not_here_is_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, OURS)
    bundles = read(there=False)
    assert (bundles.folders, told(bundles)) == ({}, [OURS])
    assert bundles.warnings == (
        (
            "bundle 'ours' is /srv/dags, which is no folder of the scheduler's host: tasks have its code only if their image "
            "has it there. Say [modal_executor] dag_source = image if that is meant"
        ),
    )
    said = read(there=False, dag_source="image")
    assert (said.folders, told(said), said.warnings) == ({}, [OURS], ())
    with pytest.raises(SettingsError) as refused:
        read(there=False, dag_source="volume")
    assert str(refused.value) == (
        "[modal_executor] dag_source = volume: bundle 'ours' of [dag_processor] dag_bundle_config_list is /srv/dags, which is no "
        "folder of the scheduler's host. Put the DAGs there, or write dag_source = image if the image has them"
    )


def test_a_volume_of_the_users_own_has_a_folder_for_each_local_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, GIT | {"team_name": "ml"}, OURS)
    bundles = read(dags_volume="airflow-dags")
    assert told(bundles) == [GIT, OURS | {"kwargs": {"path": "/mnt/modalflow/bundles/ours", "refresh_interval": 5}}]
    assert bundles.env["AIRFLOW__CORE__DAGS_FOLDER"] == "/mnt/modalflow/bundles/dags-folder"
    assert bundles.volumes == (
        VolumePlan(mount_path="/mnt/modalflow/bundles", name="airflow-dags", read_only=True, is_ours=True),
    )
    assert (bundles.code, bundles.folders) == ({}, {})
    with pytest.raises(SettingsError) as refused:
        read(dags_volume="airflow-dags", dag_source="volume")
    assert str(refused.value) == (
        "[modal_executor] dag_source = volume, and dags_volume = airflow-dags: only one of them can hold. Leave dags_volume out, "
        "or dag_source = auto"
    )


def test_a_source_that_bundles_are_not_of_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, GIT, S3, OURS)
    with pytest.raises(SettingsError) as refused:
        read(dag_source="git")
    assert str(refused.value) == (
        "[modal_executor] dag_source = git: [dag_processor] dag_bundle_config_list has lake (S3DagBundle), ours "
        "(LocalDagBundle); expected GitDagBundle. Configure such a bundle, or write dag_source = auto"
    )
    configure(monkeypatch, GIT)
    assert told(read(dag_source="git")) == [GIT]
    configure(monkeypatch, S3)
    assert told(read(dag_source="bucket")) == [S3]


def test_bundles_that_are_not_json_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", '{"name": "x"}')
    with pytest.raises(SettingsError, match=r"^\[dag_processor\] dag_bundle_config_list: expected a JSON list of objects"):
        read()


@pytest.mark.parametrize(
    ("name", "folder"), [("etl", "etl"), ("../logs", "..%2Flogs"), ("..", "%2E%2E"), ("my dags", "my%20dags"), ("a.b", "a.b")]
)
def test_any_name_of_a_bundle_is_one_folder(name: str, folder: str) -> None:
    assert mount_of(name) == f"/mnt/modalflow/bundles/{folder}"


def test_a_folder_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    configure(monkeypatch, OURS | {"kwargs": {"path": "dags"}})
    assert read().folders == {"ours": str(tmp_path / "dags")}
