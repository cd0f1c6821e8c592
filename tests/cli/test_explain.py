"""``modalflow explain`` and ``airflow modal explain``: the same command, without a database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modalflow.cli.main import main
from modalflow.provider.explanation import TAKEN_OUT

TEMPLATE = """
apiVersion: modalflow/v1
kind: ModalTask
spec:
  gpu: L4
  memory: 4Gi
  region: us-east
  env: {A: from the template, B: stays}
  secrets: [warehouse]
"""
DAG_FILE = """
from datetime import timedelta

from airflow.sdk import DAG, task

print("a DAG file may print")

with DAG("explained", schedule=None):
    @task(execution_timeout=timedelta(hours=1), executor_config={
        "modal": {"template": "team", "gpu": ["H100", "A100-80GB"], "env": {"A": "1"}, "secrets": []},
        "pod_override": {"spec": {"containers": [{"name": "base", "resources": {"limits": {"cpu": "4", "memory": "8Gi"}}}]}},
    })
    def train(): ...

    @task(executor="LocalExecutor")
    def elsewhere(): ...

    @task
    def each(x): ...

    train(), elsewhere(), each.expand(x=[1, 2])
"""
MISTAKES = """
import pathlib
from airflow.sdk import DAG, task

with DAG("mistakes", schedule=None):
    @task(executor_config={"modal": {"gpuu": "H100"}})
    def typo(): ...

    @task(executor_config={"modal": {"workdir": pathlib.Path("/w")}})
    def path(): ...

    @task
    def fine(): ...

    typo(), path(), fine()
"""
TOO_RICH = 'executor_config["modal"]["workdir"]: a pathlib.PosixPath does not survive storing the DAG; write str(path)'
BROKEN = "from airflow.sdk import DAG\nraise RuntimeError('no such table')\n"


@pytest.fixture
def dags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "dags"
    folder.mkdir()
    bundle = {
        "name": "explained-bundle",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(folder)},
    }
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))
    monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__TEMPLATE_FOLDERS", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "team.yaml").write_text(TEMPLATE)
    (folder / "explained.py").write_text(DAG_FILE)
    (folder / "mistakes.py").write_text(MISTAKES)
    (folder / "broken.py").write_text(BROKEN)
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["explain", *arguments])
    return (code, *capsys.readouterr())


def task(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    _, out, _ = run(capsys, *arguments, "--json")
    (shown,) = json.loads(out)["tasks"]
    assert isinstance(shown, dict)
    return shown


def test_each_field_says_who_decided_it_and_what_it_overrode(dags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = task(capsys, "explained", "train")
    file = dags.parent / "team.yaml"
    told = {
        row["field"]: (row["value"], row["decided_by"], [tuple(weaker.values()) for weaker in row["overrode"]])
        for row in shown["fields"]
    }
    assert told["gpu"] == ("H100, then A100-80GB", 'executor_config["modal"]["gpu"]', [("L4", f"spec.gpu ({file}:5)")])
    assert told["memory"] == (
        "8192 MiB, no more",
        "pod_override.spec.containers[0].resources.limits.memory",
        [("4096 MiB", f"spec.memory ({file}:6)"), ("512 MiB", "[modal_executor] memory")],
    )
    assert told["cpu"] == ("2 cores, no more", "pod_override.spec.containers[0].resources.limits.cpu", [])
    assert told["timeout"] == (
        "4200 s",
        'executor_config["modal"]["execution_timeout"]',
        [("86400 s", "[modal_executor] timeout")],
    )
    assert told["env.A"] == (
        "1",
        'executor_config["modal"]["env"]["A"]',
        [("from the template", f"spec.env.A ({file}:8)")],
    )
    assert told["env.B"] == ("stays", f"spec.env.B ({file}:8)", [])
    assert told["secrets.warehouse"] == (
        TAKEN_OUT,
        'executor_config["modal"]',
        [("its variables", f"spec.secrets ({file}:9)")],
    )


def test_the_price_of_each_candidate(dags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    price = task(capsys, "explained", "train")["price"]
    assert price == {
        "prices_of": "2026-10",
        "usd_an_hour": [
            {"gpu": "H100", "total": 7.7454, "gpu_usd": 3.95, "cpu_usd": 0.2838, "memory_usd": 0.1921, "multiplier": 1.75},
            {"gpu": "A100-80GB", "total": 5.2079, "gpu_usd": 2.5, "cpu_usd": 0.2838, "memory_usd": 0.1921, "multiplier": 1.75},
        ],
    }
    _, out, _ = run(capsys, "explained", "train")
    assert (
        "price: H100: 7.745 USD an hour (GPU 3.95, CPU 0.284, memory 0.192, times 1.75 for the region)\n"
        "price: A100-80GB: 5.208 USD an hour (GPU 2.50, CPU 0.284, memory 0.192, times 1.75 for the region)\n"
        "list prices of 2026-10; Modal bills more where the task uses more than it requests\n"
    ) in out


def test_without_a_task_every_task_is_shown(dags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "explained")
    assert code == 0
    titles = [line for line in out.splitlines() if line.startswith("explained.")]
    assert titles == ["explained.each", "explained.elsewhere", "explained.train"]
    assert "elsewhere runs on another executor (LocalExecutor); on ModalExecutor it would be:" in out


def test_one_task_is_shown_with_its_call(dags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "explained", "train")
    assert "sb = modal.Sandbox.create(\n" in out
    assert "# Without capacity: A100-80GB; all candidates together wait 480 s.\n" in out
    code, source, _ = run(capsys, "explained", "train", "--python")
    assert code == 0
    assert source.startswith("# explained.train\nimport modal\n")
    assert source.removeprefix("# explained.train\n") in out


def test_a_dag_by_its_file_and_in_a_folder(dags: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    expected = task(capsys, "explained", "train")
    assert task(capsys, str(dags / "explained.py"), "train") == expected
    assert task(capsys, "explained", "train", "--dags-folder", str(dags)) == expected
    assert task(capsys, "explained", "train", "--file", str(dags / "explained.py")) == expected
    assert run(capsys, "explained", "--file", str(tmp_path / "none.py"))[::2] == (
        1,
        f"{tmp_path}/none.py: no such file or folder\n",
    )


def test_every_mistake_of_a_dag_is_told_at_once(dags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Airflow's import error would name the first one only, and hide the task that is fine."""
    code, out, _ = run(capsys, "mistakes", "--json")
    shown = json.loads(out)
    assert (code, shown["runs"]) == (1, False)
    assert [(one["task_id"], one["runs"], [found["text"] for found in one["diagnostics"]]) for one in shown["tasks"]] == [
        ("fine", True, []),
        (
            "path",
            False,
            [TOO_RICH],
        ),
        ("typo", False, ['executor_config["modal"]["gpuu"]: unknown key; did you mean "gpu"?']),
    ]
    code, out, err = run(capsys, "mistakes", "typo", "--python")
    assert (code, out) == (1, "# mistakes.typo\n# is refused\n")
    assert 'mistakes.typo: error: executor_config["modal"]["gpuu"]: unknown key; did you mean "gpu"? [unknown-key]\n' in err


def test_an_unknown_task_names_those_there_are(dags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "explained", "trian")
    assert code == 1
    assert err.endswith("DAG 'explained' has no task 'trian'; its tasks: each, elsewhere, train\n")


def test_a_dag_that_is_not_there_names_the_files_that_do_not_import(dags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "brokn")
    assert code == 1
    assert f"DAG 'brokn' is not in any bundle, or has no task; files that could not be imported:\n{dags}/broken.py:\n" in err
    assert "RuntimeError: no such table\n" in err


def test_an_unknown_bundle(dags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "explained", "--bundle-name", "other")
    assert (code, err) == (1, "DAG 'explained' is not in other, or has no task\n")


def test_options_for_this_run(dags: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = task(capsys, "explained", "each", "-o", "memory=2Gi")
    assert shown["plan"]["memory"] == 2048
    assert run(capsys, "explained", "each", "-o", "gpu_wait=soon")[2].endswith(
        "[modal_executor] gpu_wait: expected seconds; got 'soon'\n"
    )
    monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__MEMORY", "1Gi")
    assert task(capsys, "explained", "each")["plan"]["memory"] == 1024


def test_a_function_is_planned_and_refused(
    dags: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__BACKEND", "function")
    monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__FUNCTIONS", '{"default": {"app": "modalflow", "function": "Runner.run"}}')
    code, out, _ = run(capsys, "explained", "elsewhere", "--json")
    (shown,) = json.loads(out)["tasks"]
    fields = {field["field"]: (field["value"], field["decided_by"]) for field in shown["fields"]}
    assert (code, shown["runs"], shown["python"]) == (1, False, None)
    assert fields["backend"] == ("function", "[modal_executor] backend")
    assert fields["function"] == ("modalflow/Runner.run", "[modal_executor] functions")
    assert fields["pool"][0] == 'modalflow/Runner.run {"memory":512,"timeout":86400}'
    [found] = shown["diagnostics"]
    not_yet = "this version plans calls of deployed Functions and does not make them yet"
    assert found["text"] == f'[modal_executor] backend: {not_yet}; write "sandbox", or leave backend out'
    assert shown["price"]["usd_an_hour"][0]["memory_usd"] == 0.004
    monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__BACKEND", "auto")
    assert task(capsys, "explained", "elsewhere")["fields"][0]["value"] == "sandbox-v2", "as the scheduler would"


def test_it_needs_no_database_and_airflow_s_twin_says_the_same(dags: Path, tmp_path: Path) -> None:
    home = tmp_path / "fresh home"
    environ = {**os.environ, "AIRFLOW_HOME": str(home), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db"}
    outputs = []
    for command in (["modalflow.cli.main"], ["airflow", "modal"]):
        done = subprocess.run(
            [sys.executable, "-m", *command, "explain", "explained", "--json"],
            capture_output=True,
            text=True,
            env=environ,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(json.loads(done.stdout))
    assert outputs[0] == outputs[1]
    assert not (home / "airflow.db").exists()
