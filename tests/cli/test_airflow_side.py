"""``airflow modal …`` in this process, through Airflow's own parser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.cli.cli_parser import get_parser

from modalflow.cli import airflow_side
from modalflow.cli.main import main

POD = "kind: Pod\nspec: {containers: [{name: base, resources: {limits: {nvidia.com/gpu: 1}}}]}\n"


def airflow(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    parsed = get_parser().parse_args(["modal", *arguments])
    with pytest.raises(SystemExit) as ended:
        parsed.func(parsed)
    code = ended.value.code
    assert isinstance(code, int)
    return (code, *capsys.readouterr())


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__DEFAULT_GPU", "L4")
    (tmp_path / "pod.yaml").write_text(POD)
    return str(tmp_path / "pod.yaml")


def test_translate_has_the_options_of_this_airflow(pod: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = airflow(capsys, "translate", pod, "--json")
    assert (code, gpu(out)) == (0, ["L4"])
    code, out, _ = airflow(capsys, "translate", pod, "--json", "-o", "default_gpu=A10G")
    assert (code, gpu(out)) == (0, ["A10G"])
    assert main(["translate", pod]) == 1, "standalone, nobody says which GPU"


def gpu(out: str) -> Any:
    return json.loads(out)["results"][0]["plan"]["gpu_candidates"]


def test_diff_lint_and_codes(pod: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = airflow(capsys, "diff", "options", pod, "--json")
    assert (code, json.loads(out)[0]["b"]) == (0, ["L4"])
    assert airflow(capsys, "lint", pod)[:2] == (0, "no findings in 1 template\n")
    assert airflow(capsys, "codes", "unknown-gpu")[0] == 0
    assert airflow(capsys, "codes", "unknown-gqu")[::2] == (
        1,
        'no diagnostic has the code "unknown-gqu"; did you mean "unknown-gpu"?\n',
    )


def test_a_wrong_option_is_one_sentence(pod: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__GPU_WAIT", "soon")
    told = "[modal_executor] gpu_wait: expected seconds; got 'soon'\n"
    for command in (("translate", pod), ("lint", pod), ("diff", pod, pod)):
        assert airflow(capsys, *command)[::2] == (1, told)


def test_there_is_no_other_command() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'deploy'"):
        airflow_side.deploy  # noqa: B018
