"""``modalflow diff``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modalflow.cli.main import main

TASK = "apiVersion: modalflow/v1\nkind: ModalTask\nspec: {image: 'me/train:1', memory: 2Gi}\n"
POD = "kind: Pod\nspec: {containers: [{name: base, image: 'me/train:1', resources: {requests: {memory: 4Gi}}}]}\n"


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "a.yaml").write_text(TASK)
    (tmp_path / "b.yaml").write_text(POD)
    return str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")


def test_only_what_differs_is_shown_with_its_origins(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    a, b = files
    assert main(["diff", a, b, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "field": "memory",
            "a": 2048,
            "a_by": f"spec.memory ({a}:3)",
            "b": 4096,
            "b_by": f"spec.containers[0].resources.requests.memory ({b}:2)",
        }
    ]
    assert main(["diff", a, b]) == 0
    assert "memory" in capsys.readouterr().out


def test_a_file_equals_itself(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", files[0], files[0]]) == 0
    assert capsys.readouterr().out == "both ask Modal for the same\n"


def test_what_cannot_be_compared(files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "two.yaml").write_text(f"{POD}---\n{POD}")
    assert main(["diff", files[0], str(tmp_path / "two.yaml")]) == 1
    assert capsys.readouterr().err == f"{tmp_path}/two.yaml: expected one pod or task template, found 2\n"
    (tmp_path / "bad.yaml").write_text("kind: Pod\nspec: {containers: [{image: 3}]}\n")
    assert main(["diff", files[0], str(tmp_path / "bad.yaml")]) == 1
    assert capsys.readouterr().err == (
        f'error: spec.containers[0].image ({tmp_path}/bad.yaml:2): expected "auto" or an image reference, got an int '
        "[bad-image]\n"
    )


DAG_FILE = """
from airflow.sdk import DAG, task

with DAG("d", schedule=None):
    @task(executor_config={"modal": {"image": "me/train:1", "memory": "2Gi"}})
    def small(): ...

    @task(executor_config={"modal": {"image": "me/train:1", "memory": "4Gi"}})
    def large(): ...

    small(), large()
"""


def rows(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[tuple[object, ...]]:
    capsys.readouterr()
    assert main(["diff", *arguments, "--json"]) == 0
    return [tuple(row.values()) for row in json.loads(capsys.readouterr().out)]


def test_two_tasks_and_a_task_with_a_file(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d.py").write_text(DAG_FILE)
    where = ("--dags-folder", str(tmp_path / "d.py"))
    by = 'executor_config["modal"]["memory"]'
    assert rows(capsys, "d.small", "d.large", *where) == [("memory", 2048, by, 4096, by)]
    assert rows(capsys, "d.small", files[0], *where) == []
    assert main(["diff", "d.nosuch", files[0], *where]) == 1
    assert capsys.readouterr().err.endswith(f"d.nosuch: no such file, and no such task in {tmp_path}/d.py\n")


def test_layers(files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rows(capsys, "built-in", "options", "-o", "memory=1Gi") == [
        ("memory", 512, "built-in default of memory", 1024, "[modal_executor] memory")
    ]
    (tmp_path / "team.yaml").write_text(TASK)
    assert rows(capsys, "options", "template:team", "--templates", str(tmp_path)) == [
        ("image.reference", None, "[modal_executor] image", "me/train:1", f"spec.image ({tmp_path}/team.yaml:3)"),
        ("memory", 512, "[modal_executor] memory", 2048, f"spec.memory ({tmp_path}/team.yaml:3)"),
    ]
    assert rows(capsys, "template:team", files[0], "--templates", str(tmp_path)) == []


def test_volumes_and_gpus_are_told_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text("modal: {gpu: [H100, L4], volumes: {/m: {name: models, read_only: true}}}")
    assert rows(capsys, "options", str(tmp_path / "a.yaml"))[:2] == [
        ("gpu_candidates", "not set", "", ["H100", "L4"], f'executor_config["modal"]["gpu"] ({tmp_path}/a.yaml:1)'),
        (
            "volumes./m",
            "not set",
            "",
            {
                "mount_path": "/m",
                "name": "models",
                "read_only": True,
                "sub_path": None,
                "version": None,
                "create_if_missing": False,
                "is_ours": False,
                "code_of": None,
            },
            f'executor_config["modal"]["volumes"]["/m"] ({tmp_path}/a.yaml:1)',
        ),
    ]
    assert main(["diff", "options", str(tmp_path / "a.yaml")]) == 0
    out = capsys.readouterr().out
    assert "models, read-only" in out
    assert "H100, then L4" in out


def test_what_is_none_of_all_that(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "nothing", files[0]]) == 1
    assert capsys.readouterr().err == ("nothing: no such file; expected a file, DAG.TASK, template:NAME, options or built-in\n")
