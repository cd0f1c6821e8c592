"""The logging configuration that Airflow imports: what it takes over, what it adds, and that it is light."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from airflow.exceptions import AirflowConfigException

from modalflow.provider.logging_config import AIRFLOWS_OWN, load_base
from modalflow.provider.remote_task_log import ModalTaskLog
from modalflow.provider.task_logs import running_task_log

OURS = "modalflow.provider.logging_config.LOGGING_CONFIG"


class Beside:
    """A deployment's own remote log, in Airflow's older form."""

    processors = ("a processor",)

    def __init__(self) -> None:
        self.uploaded: list[str] = []

    def upload(self, path: str, ti: Any) -> None:
        self.uploaded.append(path)

    def read(self, relative_path: str, ti: Any) -> tuple[list[str], list[str] | None]:
        return [f"Beside: {relative_path}"], ["one\ntwo"]


class StreamingBeside(Beside):
    """Likewise, in the newer form."""

    def stream(self, relative_path: str, ti: Any) -> tuple[list[str], list[Any]]:
        return ["streaming"], [iter(["three"])]


class BrokenBeside(Beside):
    def read(self, relative_path: str, ti: Any) -> tuple[list[str], list[str] | None]:
        raise RuntimeError("no bucket")


@pytest.fixture(autouse=True)
def no_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modal has nothing here: these tests are about the other half."""
    monkeypatch.setattr("modalflow.provider.remote_task_log.volume_log", lambda settings: None)


@pytest.fixture
def company_logging(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("company_logging")
    vars(module).update(
        CONFIG={"version": 1, "loggers": {}}, REMOTE_TASK_LOG=Beside(), DEFAULT_REMOTE_CONN_ID="company_s3", TEXT="x"
    )
    monkeypatch.setitem(sys.modules, "company_logging", module)
    return module


def test_airflows_own_dictionary_is_copied() -> None:
    from airflow.config_templates.airflow_local_settings import DEFAULT_LOGGING_CONFIG

    found, beside, connection = load_base(AIRFLOWS_OWN)
    assert found == DEFAULT_LOGGING_CONFIG
    assert found is not DEFAULT_LOGGING_CONFIG
    assert (beside, connection) == (None, None)


def test_a_deployments_own_is_taken_over_with_its_remote_log(company_logging: ModuleType) -> None:
    before = copy.deepcopy(company_logging.CONFIG)
    found, beside, connection = load_base("company_logging.CONFIG")
    found["loggers"]["mine"] = {}
    assert before == company_logging.CONFIG
    assert (beside, connection) == (company_logging.REMOTE_TASK_LOG, "company_s3")


@pytest.mark.parametrize(
    ("dotted", "text"),
    [
        pytest.param(
            OURS,
            "[modal_executor] base_logging_config_class: expected the dotted path of another logging configuration, "
            f"e.g. my_company.logging.LOGGING_CONFIG; got '{OURS}'",
            id="itself",
        ),
        pytest.param(
            "CONFIG",
            "[modal_executor] base_logging_config_class: expected the dotted path of another logging configuration, "
            "e.g. my_company.logging.LOGGING_CONFIG; got 'CONFIG'",
            id="no module",
        ),
        pytest.param(
            "no_such_module.CONFIG",
            "[modal_executor] base_logging_config_class: cannot import no_such_module (No module named 'no_such_module')",
            id="not there",
        ),
        pytest.param(
            "company_logging.TEXT",
            "[modal_executor] base_logging_config_class: expected company_logging.TEXT to be a dictionary, got str",
            id="not a dictionary",
        ),
    ],
)
def test_what_cannot_be_extended_names_the_option(company_logging: ModuleType, dotted: str, text: str) -> None:
    with pytest.raises(AirflowConfigException) as error:
        load_base(dotted)
    assert str(error.value) == text


def test_a_remote_log_beside_is_read_uploaded_to_and_asked_for_processors() -> None:
    beside = Beside()
    ours = ModalTaskLog(beside)
    messages, streams = ours.stream("attempt=1.log", None)
    ours.upload("attempt=1.log", None)
    assert messages == ["Beside: attempt=1.log"]
    assert [list(stream) for stream in streams] == [["one", "two"]]
    assert beside.uploaded == ["attempt=1.log"]
    assert ours.processors == ("a processor",)
    assert ModalTaskLog().processors == ()


def test_a_remote_log_beside_that_streams_is_streamed() -> None:
    messages, streams = ModalTaskLog(StreamingBeside()).stream("attempt=1.log", None)
    assert (messages, [list(stream) for stream in streams]) == (["streaming"], [["three"]])


def test_a_remote_log_beside_that_fails_is_a_message() -> None:
    assert ModalTaskLog(BrokenBeside()).stream("attempt=1.log", None) == (["BrokenBeside: RuntimeError: no bucket"], [])


def test_a_volume_that_fails_is_a_message_and_the_other_log_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(settings: object) -> None:
        raise RuntimeError("no Modal credentials")

    monkeypatch.setattr("modalflow.provider.remote_task_log.volume_log", fails)
    messages, streams = ModalTaskLog(Beside()).stream("attempt=1.log", None)
    assert messages == ["modalflow: no Modal credentials", "Beside: attempt=1.log"]
    assert len(streams) == 1


class TI:
    def __init__(self, external_executor_id: str | None) -> None:
        self.try_number = 2
        self.external_executor_id = external_executor_id


@pytest.mark.parametrize(
    ("external_id", "viewed", "message"),
    [
        ("launch", 2, "modalflow: launch launch has no sandbox yet"),
        (None, 2, "modalflow: launch (no id) has no sandbox yet"),
        ("launch/sb-1", 1, "modalflow: try 1 has ended; its log is that on the log Volume"),
    ],
)
def test_without_a_running_sandbox_there_is_a_message(external_id: str | None, viewed: int, message: str) -> None:
    assert running_task_log(TI(external_id), viewed) == ([message], [])


PROBE = """
import json, sys
from airflow.logging_config import get_remote_task_log, get_default_remote_conn_id
log = get_remote_task_log()
heavy = sorted({"modal", "grpclib", "kubernetes"} & set(sys.modules))
print(json.dumps([type(log).__name__, type(log._beside).__name__, get_default_remote_conn_id(), heavy]))
"""


def probe(tmp_path: Path, **options: str) -> list[Any]:
    """What an Airflow process of its own makes of the options."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__LOGGING")}
    env |= {"AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(tmp_path), **options}
    done = subprocess.run([sys.executable, "-c", PROBE], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_airflow_itself_starts_with_it_and_loads_nothing_of_modal(tmp_path: Path) -> None:
    assert probe(tmp_path, AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS=OURS) == ["ModalTaskLog", "NoneType", None, []]


def test_airflow_itself_starts_with_it_around_another(tmp_path: Path) -> None:
    (tmp_path / "company_logs.py").write_text(
        "from airflow.config_templates.airflow_local_settings import DEFAULT_LOGGING_CONFIG as CONFIG\n"
        "class Bucket:\n    processors = ()\nREMOTE_TASK_LOG = Bucket()\nDEFAULT_REMOTE_CONN_ID = 'bucket'\n"
    )
    found = probe(
        tmp_path,
        AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS=OURS,
        AIRFLOW__MODAL_EXECUTOR__BASE_LOGGING_CONFIG_CLASS="company_logs.CONFIG",
    )
    assert found == ["ModalTaskLog", "Bucket", "bucket", []]


def test_remote_logging_to_s3_stays_in_use(tmp_path: Path) -> None:
    # The amazon provider is not installed here: these are the two modules of it that Airflow's own configuration asks for.
    stubs = {
        "log/s3_task_handler.py": "class S3RemoteLogIO:\n    processors = ()\n    def __init__(self, **kwargs): ...\n",
        "hooks/s3.py": "class S3Hook:\n    default_conn_name = 'aws_default'\n",
    }
    for name, text in stubs.items():
        file = tmp_path / "stubs" / "airflow" / "providers" / "amazon" / "aws" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    found = probe(
        tmp_path / "stubs",
        AIRFLOW__LOGGING__REMOTE_LOGGING="True",
        AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER="s3://bucket/logs",
        AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS=OURS,
    )
    assert found == ["ModalTaskLog", "S3RemoteLogIO", "aws_default", []]
