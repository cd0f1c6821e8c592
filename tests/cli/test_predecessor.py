"""The commands, variables and names of modalflow 0.3.1: accepted, or told what to write instead."""

from __future__ import annotations

import logging
import re
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from modalflow.cli.console_blocks import refreshed
from modalflow.cli.main import main
from modalflow.cli.predecessor_page import renewed
from modalflow.option_table import OPTIONS
from modalflow.predecessor import DEPLOY_FLAGS, OBJECTS, SYNC_FLAGS, VARIABLES, bundle_of, notices
from modalflow.settings import read_settings

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorThread

PAGE = Path(__file__).parents[2] / "docs" / "coming-from-modalflow-0.3.md"


@pytest.fixture
def dags(tmp_path: Path) -> Path:
    folder = tmp_path / "dags"
    for name in ("one.py", "lib/two.py", "lib/__pycache__/two.pyc"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def volume(name: str) -> Any:
    import modal

    return modal.Volume.from_name(name, create_if_missing=True)


def files(name: str) -> dict[str, str]:
    opened = volume(name)
    return {
        entry.path: b"".join(opened.read_file(entry.path)).decode()
        for entry in opened.listdir("/", recursive=True)
        if entry.type.name == "FILE"
    }


@pytest.fixture
def client_of_this_test(modal_emulator: EmulatorThread) -> Any:
    """The process's own client, of this emulator."""
    import modal

    modal.Client._set_env_client(None)
    yield
    modal.Client._set_env_client(None)


@pytest.mark.emulated
def test_sync_brings_the_dags_and_takes_away_what_is_gone(
    dags: Path, client_of_this_test: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with volume("my-dags").batch_upload() as batch:
        for path in ("/old.py", "/dags-folder/gone.py", "/other-bundle/kept.py"):
            batch.put_file(dags / "one.py", path)
    assert main(["sync", "--dags-path", str(dags), "--dags-volume", "my-dags"]) == 0
    assert files("my-dags") == {
        "old.py": "one.py",
        "dags-folder/one.py": "one.py",
        "dags-folder/lib/two.py": "lib/two.py",
        "other-bundle/kept.py": "one.py",
    }
    assert capsys.readouterr().out == (
        f"2 files of {dags} are in the folder dags-folder of Volume 'my-dags'; 1 that are gone here were removed there.\n"
        "Tasks read them with [modal_executor] dags_volume = my-dags.\n"
        "At the root of the Volume are 1 files (/old.py), where modalflow 0.3.1 looked for DAGs. Nothing here reads them; `modal "
        "volume rm my-dags PATH` removes one.\n"
    )


@pytest.mark.emulated
def test_sync_says_whose_token_was_refused(
    dags: Path, modal_emulator: EmulatorThread, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-very-secret")
    assert main(["sync", "--dags-path", str(dags), "--dags-volume", "my-dags"]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"could not bring {dags} to Volume my-dags: Modal refused the credentials: ")
    assert "; they are those of MODAL_TOKEN_ID of this process's environment with MODAL_TOKEN_SECRET" in told
    assert "as-very-secret" not in told


@pytest.mark.emulated
def test_deploy_with_a_volume_uploads_and_says_what_to_write(
    dags: Path, client_of_this_test: None, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--env", "prod", "--dags-source", "volume", "--dags-path", str(dags), "--dags-volume", "v"]
    assert main(["deploy", *given, "--airflow-version", "3.1.8"]) == 0
    assert set(files("v")) == {"dags-folder/one.py", "dags-folder/lib/two.py"}
    assert capsys.readouterr().out == (
        "modalflow deploys nothing any more: its App, image and Volumes are made when the first task needs them.\n"
        "Write this into airflow.cfg, for the scheduler and the API server:\n"
        "\n"
        "    [core]\n"
        "    executor = modalflow.executor.ModalExecutor\n"
        "    [logging]\n"
        "    logging_config_class = modalflow.provider.logging_config.LOGGING_CONFIG\n"
        "    [modal_executor]\n"
        "    app_name = modalflow-prod\n"
        "    dags_volume = v\n"
        "\n"
        "No longer needed:\n"
        "  --env prod: it only named things. app_name keeps the App; a Modal environment is the option `environment`.\n"
        "  --dags-volume, with modalflow sync: without dags_volume, the scheduler brings its folder of DAGs to Modal whenever "
        "that changes.\n"
        f"  --airflow-version 3.1.8: tasks run the scheduler's Airflow, which is {version('apache-airflow-core')} here.\n"
        "  MODALFLOW_ENV and the other MODALFLOW_… variables: the scheduler's log says at start which it finds.\n"
        "\n"
        "When the last task of modalflow 0.3.1 has ended, remove what it made:\n"
        "  modal app stop modalflow-prod\n"
        "  modal dict delete airflow-state-prod\n"
        "  modal volume delete airflow-logs-prod    (its logs, which are not read any more)\n"
        f"2 files of {dags} are in the folder dags-folder of Volume 'v'; 0 that are gone here were removed there.\n"
        "Tasks read them with [modal_executor] dags_volume = v.\n"
    )


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (["--dags-source", "local", "--dags-path", "DAGS"], {"app_name": "modalflow-main"}),
        (
            ["--dags-source", "cloud-bucket", "--dags-bucket", "s3://b/a/dags/", "--dags-bucket-secret", "aws"],
            {"app_name": "modalflow-main", "secrets": "aws"},
        ),
    ],
)
def test_deploy_without_a_volume_talks_to_nobody(
    given: list[str], written: dict[str, str], dags: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODAL_SERVER_URL", "http://127.0.0.1:9")
    assert main(["deploy", *[str(dags) if text == "DAGS" else text for text in given]]) == 0
    out = capsys.readouterr().out
    section = out.split("    [modal_executor]\n")[1].split("\n\n")[0]
    found = dict(line.strip().split(" = ") for line in section.splitlines())
    assert found == written
    read_settings(found)
    if "cloud-bucket" in given:
        assert (
            "    dag_bundle_config_list = "
            '[{"name": "dags-folder", "classpath": "airflow.providers.amazon.aws.bundles.s3.S3DagBundle", '
            '"kwargs": {"bucket_name": "b", "prefix": "a/dags"}}]\n'
        ) in out


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["local"], "--dags-path is required when --dags-source is 'local'\n"),
        (["volume", "--dags-path", "DAGS"], "--dags-volume is required when --dags-source is 'volume'\n"),
        (["cloud-bucket"], "--dags-bucket is required when --dags-source is 'cloud-bucket'\n"),
        (
            ["cloud-bucket", "--dags-bucket", "s3://b"],
            "--dags-bucket-secret is required when --dags-source is 'cloud-bucket'\n",
        ),
    ],
)
def test_deploy_asks_for_the_flags_that_it_asked_for(
    given: list[str], sentence: str, dags: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["deploy", "--dags-source", *[str(dags) if text == "DAGS" else text for text in given]]) == 2
    assert capsys.readouterr().err == sentence


@pytest.mark.parametrize(
    "given", [["deploy"], ["deploy", "--dags-source", "git"], ["sync", "--dags-path", "/nowhere", "--dags-volume", "v"]]
)
def test_a_wrong_flag_is_a_usage_error(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(given)
    assert caught.value.code == 2
    assert f"usage: modalflow {given[0]}" in capsys.readouterr().err


PUBLISHED = {
    "deploy": {
        "--env",
        "--dags-source",
        "--dags-path",
        "--dags-volume",
        "--dags-bucket",
        "--dags-bucket-secret",
        "--airflow-version",
    },
    "sync": {"--dags-path", "--dags-volume"},
}
"""Flags of the published wheel (0.3.1, ``modalflow/cli.py``)."""


@pytest.mark.parametrize(("command", "rows"), [("deploy", DEPLOY_FLAGS), ("sync", SYNC_FLAGS)])
def test_every_flag_is_there_and_in_the_table(command: str, rows: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = set(re.findall(r"^  (--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    assert shown == PUBLISHED[command]
    assert {row.name for row in rows} == PUBLISHED[command]


READ_BY_THE_PUBLISHED = {
    "MODALFLOW_ENV",
    "MODALFLOW_DAGS_DIR",
    "MODALFLOW_DAGS_VOLUME",
    "MODALFLOW_DAGS_BUCKET",
    "MODALFLOW_DAGS_BUCKET_SECRET",
    "MODALFLOW_AIRFLOW_VERSION",
}
"""Variables of the published wheel (0.3.1, ``cli.py``, ``modal_app.py``, ``executor/modal_executor.py``)."""


def test_every_variable_is_in_the_table_and_reported() -> None:
    table = {row.name for row in VARIABLES}
    assert table - READ_BY_THE_PUBLISHED == {"AIRFLOW__CORE__EXECUTION_API_SERVER_URL"}
    told = list(notices(dict.fromkeys(READ_BY_THE_PUBLISHED, "x")))
    assert {sentence.split(" ")[0] for sentence in told} == READ_BY_THE_PUBLISHED


@pytest.mark.parametrize(
    ("name", "value", "instead"),
    [
        (
            "MODALFLOW_ENV",
            "prod",
            (
                "it named the App modalflow-prod, the Dict airflow-state-prod and the Volume airflow-logs-prod. To keep the App, "
                "write [modal_executor] app_name = modalflow-prod; a Modal environment is [modal_executor] environment"
            ),
        ),
        (
            "MODALFLOW_DAGS_DIR",
            "/dags",
            (
                "the scheduler brings its own folder of DAGs to Modal whenever that changes; if that is not /dags, write [core] "
                "dags_folder = /dags"
            ),
        ),
        (
            "MODALFLOW_DAGS_VOLUME",
            "my-dags",
            (
                "the scheduler brings its folder of DAGs to Modal whenever that changes. To go on filling a Volume yourself, "
                "write [modal_executor] dags_volume = my-dags and run `modalflow sync --dags-path FOLDER --dags-volume my-dags`: "
                "the DAGs are in its folder dags-folder now"
            ),
        ),
        (
            "MODALFLOW_DAGS_BUCKET",
            "s3://b",
            (
                'write [dag_processor] dag_bundle_config_list = [{"name": "dags-folder", "classpath": '
                '"airflow.providers.amazon.aws.bundles.s3.S3DagBundle", "kwargs": {"bucket_name": "b"}}]'
            ),
        ),
        ("MODALFLOW_DAGS_BUCKET_SECRET", "aws", "write [modal_executor] secrets = aws, by which every task has its keys"),
        ("MODALFLOW_AIRFLOW_VERSION", "3.1.8", "tasks run the scheduler's Airflow ([modal_executor] image = auto)"),
    ],
)
def test_a_variable_that_is_set_is_told_what_to_write(name: str, value: str, instead: str) -> None:
    assert list(notices({name: value, "MODALFLOW_EMULATOR_TOKEN_ID": "ours", "PATH": "/bin"})) == [
        f"{name} = {value} is of modalflow 0.3.1 and has no effect here: {instead}. Then remove the variable"
    ]


def test_options_that_name_objects_of_the_predecessor() -> None:
    assert list(notices({}, logs_volume="airflow-logs-main", functions=["execute_modal_task"])) == [
        (
            "[modal_executor] logs_volume = airflow-logs-main is called as modalflow 0.3.1 called its Volume of logs, which is "
            "of version 1 and not made for many writers: write another name, such as modalflow-logs"
        ),
        (
            "[modal_executor] functions names execute_modal_task, the Function of modalflow 0.3.1: it cannot run the tasks of "
            "this release. Remove it from the option"
        ),
    ]
    assert list(notices({}, logs_volume="modalflow-logs", functions=["Runner.run"])) == []


def test_the_scheduler_says_it_at_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, airflow_database: None
) -> None:
    from modalflow.executor import ModalExecutor, launching

    class Idle:
        def start(self) -> None:
            return

        def stop(self, timeout: float) -> None:
            return

    monkeypatch.setenv("MODALFLOW_AIRFLOW_VERSION", "3.1.8")
    monkeypatch.setattr(launching, "build_backend", lambda *_, **__: Idle())
    executor = ModalExecutor(parallelism=1)
    with caplog.at_level(logging.WARNING):
        executor.start()
    executor.end()
    assert (
        "modalflow: MODALFLOW_AIRFLOW_VERSION = 3.1.8 is of modalflow 0.3.1 and has no effect here: tasks run the scheduler's "
        "Airflow ([modal_executor] image = auto). Then remove the variable"
    ) in caplog.messages


def test_both_names_of_the_executor_are_importable() -> None:
    import modalflow.executor
    import modalflow.executor.modal_executor

    assert modalflow.executor.ModalExecutor is modalflow.executor.modal_executor.ModalExecutor


def test_what_modal_deploy_was_given_says_that_there_is_nothing_to_deploy() -> None:
    with pytest.raises(ImportError, match=r"^modalflow deploys nothing any more: "):
        import modalflow.modal_app  # noqa: F401


def test_a_bucket_without_a_folder() -> None:
    assert '"kwargs": {"bucket_name": "b"}' in bundle_of("s3://b/")


def test_the_page_is_up_to_date() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert renewed(text) == text, "run `make docs`"
    assert refreshed(text) == text, "run `make docs`"


def test_options_that_the_tables_name_exist() -> None:
    known = {option.name for option in OPTIONS}
    told = " ".join(row.here for row in (*DEPLOY_FLAGS, *SYNC_FLAGS, *VARIABLES, *OBJECTS))
    named = set(re.findall(r"`([a-z_]+)(?: = [^`]+)?`", told))
    assert named - known == {"__file__", "local", "sync", "volume"}
