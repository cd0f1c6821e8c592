"""``airflow modal``: explaining a task, and listing what runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from modalflow.launch.gateway import SandboxStatus
from modalflow.provider import command_explain, command_ps
from modalflow.provider.explanation import rows_of
from modalflow.settings import LaunchSettings
from modalflow.translation.diagnostics import Diagnostic, Severity
from modalflow.translation.origins import Origin
from modalflow.translation.plan import ImagePlan, SandboxPlan, SecretPlan, VolumePlan
from modalflow.translation.result import Translation

DAG_FILE = """
from airflow.sdk import DAG, task

with DAG("explained", schedule=None):
    @task(executor_config={"modal": {"gpu": ["H100", "A100-80GB"], "env": {"A": "1"}}})
    def train(): ...

    @task(executor="LocalExecutor")
    def elsewhere(): ...

    train(), elsewhere()
"""
TYPO = """
from airflow.sdk import DAG, task

with DAG("typo", schedule=None):
    @task(executor_config={"modal": {"gpuu": "H100"}})
    def train(): ...

    train()
"""


@pytest.fixture
def dags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    bundle = {
        "name": "explained-bundle",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(tmp_path)},
    }
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))
    monkeypatch.setenv("COLUMNS", "140")
    (tmp_path / "explained.py").write_text(DAG_FILE)
    (tmp_path / "typo.py").write_text(TYPO)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], **args: Any) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``airflow modal explain``."""
    given = {"dag_id": "explained", "task_id": "train", "bundle_name": None, "json": False, "verbose": False} | args
    with pytest.raises(SystemExit) as ended:
        command_explain.explain(Namespace(**given))
    out, err = capsys.readouterr()
    code = ended.value.code
    assert isinstance(code, int)
    return code, out, err


def test_explain_shows_each_field_with_who_decided_it(dags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, json=True)
    assert (code, err) == (0, "")
    shown = json.loads(out)
    fields = {field["field"]: (field["value"], field["decided_by"]) for field in shown["fields"]}
    assert (shown["dag_id"], shown["task_id"], shown["runs"], shown["diagnostics"]) == ("explained", "train", True, [])
    assert fields["backend"] == ("sandbox-v1", "GPU tasks are V1 sandboxes, others V2")
    assert fields["gpu"] == ("H100, then A100-80GB", 'executor_config["modal"]["gpu"]')
    assert fields["gpu_wait"] == ("480 s over all candidates", "[modal_executor] gpu_wait")
    assert fields["cpu"] == ("0.125 cores", "Modal's default")
    assert fields["memory"] == ("512 MiB", "[modal_executor] memory")
    assert fields["env.A"] == ("1", 'executor_config["modal"]["env"]["A"]')
    assert fields["image"][0].startswith("debian_slim, Python 3.")


def test_a_function_is_planned_and_refused(
    dags: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__BACKEND", "function")
    monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__FUNCTIONS", '{"default": {"app": "modalflow", "function": "Runner.run"}}')
    code, out, _ = run(capsys, json=True)
    shown = json.loads(out)
    fields = {field["field"]: (field["value"], field["decided_by"]) for field in shown["fields"]}
    assert (code, shown["runs"]) == (1, False)
    assert fields["backend"] == ("function", "[modal_executor] backend")
    assert fields["function"] == ("modalflow/Runner.run", "[modal_executor] functions")
    assert fields["pool"][0] == 'modalflow/Runner.run {"gpu":"A100-80GB","memory":512,"timeout":86400}'
    [found] = shown["diagnostics"]
    not_yet = "this version plans calls of deployed Functions and does not make them yet"
    assert found["text"] == f'[modal_executor] backend: {not_yet}; write "sandbox", or leave backend out'
    monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__BACKEND", "auto")
    code, out, _ = run(capsys, json=True)
    assert (code, json.loads(out)["fields"][0]["value"]) == (0, "sandbox-v1"), "as the scheduler would"


def test_explain_as_a_table(dags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 0
    assert "explained.train" in out
    assert 'executor_config["modal"]["gpu"]' in out


def test_a_task_of_another_executor_is_explained_as_if(dags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, task_id="elsewhere")
    assert code == 0
    assert "elsewhere runs on another executor (LocalExecutor); on ModalExecutor it would be:" in out


def test_an_unknown_task_names_those_there_are(dags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, task_id="trian")[::2] == (1, "DAG 'explained' has no task 'trian'; its tasks: elsewhere, train\n")


def test_a_dag_that_does_not_import_says_why(dags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, dag_id="typo")
    assert code == 1
    assert err.startswith("DAG 'typo' is not in any bundle; files that could not be imported:\n")
    assert 'executor_config["modal"]["gpuu"]: unknown key; did you mean "gpu"?' in err


def test_an_unknown_bundle(dags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, bundle_name=["other"])[::2] == (1, "DAG 'explained' is not in other\n")


def test_a_wrong_option_is_one_sentence(dags: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__GPU_WAIT", "soon")
    assert run(capsys)[::2] == (1, "[modal_executor] gpu_wait: expected seconds; got 'soon'\n")


def test_every_part_of_a_plan_has_its_row() -> None:
    plan = SandboxPlan(
        image=ImagePlan(reference="me/train:1", entrypoint=()),
        cpu=(1.0, 4.0),
        memory=(1024, 2048),
        env={"A": "1"},
        secrets=(SecretPlan(name="hf", required_keys=("HF_TOKEN",)),),
        volumes=(VolumePlan(mount_path="/m", name="models", sub_path="v2", read_only=True),),
        region=("us", "eu"),
        cloud="aws",
        workdir="/w",
        tags={"team": "ml"},
    )
    origin = Origin(layer="template t", path="spec.cpu", file="t.yaml", line=3)
    rows = rows_of(Translation(plan=plan, origins={"cpu": origin}))
    assert [(row.field, row.value, row.decided_by) for row in rows] == [
        ("backend", "sandbox-v2", "GPU tasks are V1 sandboxes, others V2"),
        ("gpu", "none", "Modal's default"),
        ("cpu", "1 to 4 cores", "spec.cpu (t.yaml:3)"),
        ("memory", "1024 to 2048 MiB", "Modal's default"),
        ("timeout", "86400 s", "built-in defaults"),
        ("region", "us, eu", "built-in defaults"),
        ("cloud", "aws", "built-in defaults"),
        ("image", "me/train:1", "built-in defaults"),
        ("entrypoint", "none", "built-in defaults"),
        ("workdir", "/w", "built-in defaults"),
        ("env.A", "1", "built-in defaults"),
        ("secrets.hf", "its variables; must have HF_TOKEN", "built-in defaults"),
        ("volumes./m", "models/v2, read-only", "built-in defaults"),
        ("tags.team", "ml", "built-in defaults"),
    ]


def test_a_refused_task_has_its_findings_and_exit_code_1(
    dags: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Diagnostic(
        code="unknown-gpu",
        severity=Severity.ERROR,
        origin=Origin(layer="[modal_executor]", path="[modal_executor] default_gpu"),
        message="unknown GPU",
    )
    monkeypatch.setattr(command_explain, "explained", lambda task: Translation(plan=None, diagnostics=(found,)))
    code, out, _ = run(capsys)
    assert code == 1
    assert "explained.train is refused:\nerror: [modal_executor] default_gpu: unknown GPU" in out


class TestPs:
    """``airflow modal ps``."""

    def listed(self, monkeypatch: pytest.MonkeyPatch, *statuses: SandboxStatus) -> None:
        async def running(settings: LaunchSettings) -> list[SandboxStatus]:
            assert settings.deployment == "airflow"
            return list(statuses)

        monkeypatch.setattr(command_ps, "running", running)

    def status(self, tags: Mapping[str, str]) -> SandboxStatus:
        return SandboxStatus(sandbox_id="sb-1", name="the-launch", tags={"launch": "the-launch", **tags})

    def test_as_json(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.listed(monkeypatch, self.status({"dag_id": "models", "task_id": "train", "run_id": "r", "try_number": "1"}))
        command_ps.ps(Namespace(json=True, verbose=False))
        assert json.loads(capsys.readouterr().out) == [
            {
                "sandbox": "sb-1",
                "dag_id": "models",
                "task_id": "train",
                "run_id": "r",
                "try_number": "1",
                "map_index": "",
                "launch": "the-launch",
            }
        ]

    def test_as_a_table(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.listed(monkeypatch, self.status({"dag_id": "models"}))
        command_ps.ps(Namespace(json=False, verbose=False))
        out = capsys.readouterr().out
        assert "sb-1" in out
        assert "map_index" not in out

    def test_nothing_runs(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.listed(monkeypatch)
        command_ps.ps(Namespace(json=False, verbose=False))
        assert capsys.readouterr().out == "No sandbox of deployment 'airflow' runs in App 'modalflow'.\n"

    def test_without_credentials_it_says_so(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            command_ps.ps(Namespace(json=False, verbose=False))
        assert ended.value.code == 1
        assert capsys.readouterr().err == (
            "no Modal credentials: set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET in the scheduler's environment, or run "
            "`modal token new` as the user that runs the scheduler\n"
        )


def test_airflow_s_own_command_line_has_the_group(dags: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "modal", "explain", "explained", "train", "--json"],
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"value": "H100, then A100-80GB"' in done.stdout
