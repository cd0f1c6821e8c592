"""``modalflow lint``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest

from modalflow.cli.findings import Finding
from modalflow.cli.lint_command import annotation
from modalflow.cli.main import main
from modalflow.cli.sarif import sarif_log
from modalflow.translation.diagnostics import Severity

DAG_FILE = """\
from airflow.sdk import DAG, task

TYPO = {"modal": {"gpuu": "H100"}}

with DAG("first", schedule=None):
    @task(executor_config=TYPO)
    def one(): ...

    @task(executor_config=TYPO)
    def two(x): ...

    @task(executor_config={"modal": {"template": "team"}})
    def three(): ...

    @task(executor="LocalExecutor", executor_config={"KubernetesExecutor": 1})
    def elsewhere(): ...

    @task
    def fine(): ...

    one(), two.expand(x=[1, 2]), three(), elsewhere(), fine()
"""
TOLD = 'executor_config["modal"]["gpuu"]: unknown key; did you mean "gpu"?'
BROKEN = "from airflow.sdk import DAG\n\n\nraise RuntimeError('100% wrong')\n"
TEAM = """\
apiVersion: modalflow/v1
kind: ModalTask
spec:
  gpus: H100
"""
POD = """\
kind: Pod
spec:
  priorityClassName: high
  dnsPolicy: Default
  containers: [{name: base}]
"""
SERVICE = "kind: Service\nmetadata: {name: web}\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in {"first.py": DAG_FILE, "broken.py": BROKEN}.items():
        (tmp_path / "dags" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "dags" / name).write_text(text)
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "team.yaml").write_text(TEAM)
    (tmp_path / "templates" / "service.yaml").write_text(SERVICE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__TEMPLATE_FOLDERS", str(tmp_path / "templates"))
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["lint", *arguments])
    return code, capsys.readouterr().out


def found(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    code, out = run(capsys, *arguments, "--format", "json")
    document = json.loads(out)
    assert document["clean"] is (code == 0)
    findings: list[dict[str, Any]] = document["findings"]
    return code, findings


def test_all_findings_of_all_files_come_at_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, "dags", "templates")
    assert code == 1
    lines = out.splitlines()
    assert lines[0] == "dags/broken.py:4: error: Traceback (most recent call last):"
    assert [line for line in lines if line.startswith(("dags/first", "templates"))] == [
        f"dags/first.py:3: error: first.one, first.two: {TOLD} [unknown-key]",
        'templates/team.yaml:4: error: first.three: spec.gpus: unknown key; did you mean "gpu"? [unknown-key]',
    ]
    assert lines[-1] == "3 errors in 4 tasks and 1 template"


def test_a_finding_as_data(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, findings = found(capsys, "dags/first.py")
    assert code == 1
    assert findings[0] == {
        "file": "dags/first.py",
        "line": 3,
        "severity": "error",
        "code": "unknown-key",
        "text": TOLD,
        "subjects": ["first.one", "first.two"],
    }


def test_what_is_configured_is_looked_at_without_paths(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = {"name": "mine", "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle"}
    bundles = [{**bundle, "kwargs": {"path": str(project / "dags")}}]
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(bundles))
    assert found(capsys)[1] == found(capsys, "dags", "templates")[1]


def test_warnings_fail_where_that_is_asked_for(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "pod.yaml").write_text(POD)
    code, findings = found(capsys, "pod.yaml")
    assert code == 0
    assert "warning" in {finding["severity"] for finding in findings}
    assert found(capsys, "pod.yaml", "--strict")[0] == 1


def test_clean_files(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "templates" / "team.yaml").write_text(TEAM.replace("gpus", "gpu"))
    assert run(capsys, "templates") == (0, "no findings in 1 template\n")
    code, findings = found(capsys, "templates/service.yaml")
    assert (code, [finding["code"] for finding in findings]) == (0, ["no-pod"]), "it was named, so it is told of"


def test_a_path_that_is_not_there(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "nowhere") == (1, "nowhere: error: no such file or folder [no-such-file]\n1 error\n")


def test_options_have_no_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, findings = found(capsys, "dags/first.py", "-o", "default_template=nosuch")
    site = [finding for finding in findings if finding["code"] == "template-not-found"]
    assert (code, [(finding["file"], finding["line"]) for finding in site]) == (1, [(None, None)])
    assert site[0]["subjects"] == ["first.fine", "first.one", "first.three", "first.two"]
    text = run(capsys, "dags/first.py", "-o", "default_template=nosuch")[1]
    assert text.startswith(
        'error: first.fine, first.one, first.three and 1 more: [modal_executor] default_template: no template "nosuch"; known: '
    )


def test_annotations_are_escaped() -> None:
    finding = Finding(file="a,b: c%.py", line=3, severity=Severity.NOTICE, code="x-y", text="50% of\r\nit, all: so")
    assert annotation(finding) == "::notice file=a%2Cb%3A c%25.py,line=3,title=x-y::50%25 of%0D%0Ait, all: so"
    site = Finding(file=None, line=None, severity=Severity.WARNING, code="x-y", text="t", subjects=("d.t",))
    assert annotation(site) == "::warning title=x-y::d.t: t"


def test_annotations_are_one_line_each(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, "dags", "--format", "github")
    assert code == 1
    lines = out.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("::error file=") for line in lines)
    assert lines[0].endswith("RuntimeError: 100%25 wrong")


SARIF_PARTS = {
    "type": "object",
    "required": ["$schema", "version", "runs"],
    "properties": {
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["tool", "results"],
                "additionalProperties": False,
                "properties": {
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "tool": {
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "required": ["name", "rules"],
                                "properties": {
                                    "rules": {
                                        "uniqueItems": True,
                                        "items": {
                                            "required": ["id"],
                                            "additionalProperties": False,
                                            "properties": {
                                                "id": {"type": "string"},
                                                "shortDescription": {"required": ["text"]},
                                                "fullDescription": {"required": ["text"]},
                                                "help": {"required": ["text"]},
                                                "helpUri": {"type": "string"},
                                            },
                                        },
                                    }
                                },
                            }
                        },
                    },
                    "results": {
                        "items": {
                            "required": ["message", "ruleId", "ruleIndex", "level"],
                            "additionalProperties": False,
                            "properties": {
                                "ruleId": {"type": "string"},
                                "ruleIndex": {"type": "integer", "minimum": 0},
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "message": {"required": ["text"], "properties": {"text": {"type": "string"}}},
                                "partialFingerprints": {"additionalProperties": {"type": "string"}},
                                "locations": {
                                    "items": {
                                        "required": ["physicalLocation"],
                                        "properties": {
                                            "physicalLocation": {
                                                "required": ["artifactLocation"],
                                                "properties": {
                                                    "artifactLocation": {"required": ["uri"]},
                                                    "region": {
                                                        "required": ["startLine"],
                                                        "properties": {"startLine": {"type": "integer", "minimum": 1}},
                                                    },
                                                },
                                            }
                                        },
                                    }
                                },
                            },
                        }
                    },
                },
            },
        },
    },
}
"""The parts of the SARIF 2.1.0 schema that we write, from the specification."""


def test_sarif(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(
        capsys, "dags", "-o", "default_template=nosuch", "--format", "sarif", "--docs", "https://example.com/diagnostics/"
    )
    assert code == 1
    log = json.loads(out)
    jsonschema.validate(log, SARIF_PARTS)
    (shown,) = log["runs"]
    rules = shown["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["import-error", "template-not-found", "unknown-key"]
    assert rules[2]["helpUri"] == "https://example.com/diagnostics/unknown-key.md"
    for result in shown["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    places = [
        (place["artifactLocation"]["uri"], place["region"]["startLine"])
        for result in shown["results"]
        for place in (location["physicalLocation"] for location in result.get("locations", []))
    ]
    assert places == [("dags/broken.py", 4), ("dags/first.py", 3), ("templates/team.yaml", 4)]


def test_sarif_addresses_and_fingerprints() -> None:
    here = Finding(file="a b/ü.py", line=1, severity=Severity.NOTICE, code="unknown-key", text="t")
    away = Finding(file="/far/a b.py", line=None, severity=Severity.ERROR, code="unknown-key", text="t")
    log = sarif_log([here, away], "")
    jsonschema.validate(log, SARIF_PARTS)
    first, second = log["runs"][0]["results"]  # type: ignore[index]
    assert first["level"] == "note"
    uris = [result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in (first, second)]
    assert uris == ["a%20b/%C3%BC.py", "file:///far/a%20b.py"]
    assert urlsplit(uris[1]).scheme == "file"
    assert first["partialFingerprints"] != second["partialFingerprints"]


def test_airflow_s_twin_in_a_fresh_home(project: Path) -> None:
    home = project / "fresh home"
    environ = {**os.environ, "AIRFLOW_HOME": str(home), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db"}
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "modal", "lint", "dags/first.py"],
        capture_output=True,
        text=True,
        env=environ,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.endswith("2 errors in 4 tasks\n")
    assert not (home / "airflow.db").exists()


def test_a_named_file_is_read_whatever_it_looks_like(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Airflow skips Python files without the words "dag" and "airflow"; the mistake is most likely what keeps them out."""
    (project / "half.py").write_text("def (\n")
    code, out = run(capsys, "half.py")
    assert code == 1
    assert out.startswith("half.py:1: error: Traceback (most recent call last):")
    assert out.endswith("SyntaxError: invalid syntax [import-error]\n1 error\n")


def test_nothing_that_was_looked_at_is_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "empty").mkdir()
    assert run(capsys, "empty") == (0, "no findings in no task and no template\n")


def test_a_folder_of_templates_that_is_not_there(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "templates", "--templates", "nowhere"]) == 1
    assert capsys.readouterr().err == "--templates nowhere: no such folder\n"
