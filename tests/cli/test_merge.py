"""``modalflow merge``."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from modalflow.cli.main import main

BASE = "kind: Pod\nspec: {containers: [{name: base, image: 'me/a:1', resources: {limits: {memory: 4Gi}}}]}\n"
ABOVE = "kind: Pod\nspec: {containers: [{name: base, image: null, resources: {limits: {cpu: '2'}}}]}\n"


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "above.yaml").write_text(ABOVE)
    return str(tmp_path / "base.yaml"), str(tmp_path / "above.yaml")


def test_the_pod_that_kubernetes_executor_would_have_sent(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", *files]) == 0
    out, err = capsys.readouterr()
    assert yaml.safe_load(out)["spec"]["containers"] == [
        {"name": "base", "image": "me/a:1", "resources": {"limits": {"cpu": "2"}}}
    ]
    assert err == (
        f"warning: spec.containers[0].resources ({files[1]}:2): replaces spec.containers[0].resources ({files[0]}:2) as a whole, "
        "as in KubernetesExecutor, without limits.memory; repeat it here to keep it\n"
    )


def test_by_strategic_merge(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", *files, "--merge", "strategic"]) == 0
    out, err = capsys.readouterr()
    limits = {"memory": "4Gi", "cpu": "2"}
    assert yaml.safe_load(out)["spec"]["containers"] == [{"name": "base", "resources": {"limits": limits}}]
    assert err == ""


def test_what_cannot_be_merged(tmp_path: Path, files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    two = tmp_path / "two.yaml"
    two.write_text(BASE + "---\n" + ABOVE)
    assert main(["merge", files[0], str(two)]) == 1
    assert capsys.readouterr() == ("", f"{two}: expected one pod, found 2\n")
    assert main(["merge", str(tmp_path / "none.yaml")]) == 1
    assert "cannot be read" in capsys.readouterr().err
    broken = tmp_path / "broken.yaml"
    broken.write_text("kind: Pod\nspec: {containers: [{name: base, env: 3}]}\n")
    assert main(["merge", files[0], str(broken)]) == 1
    told = f"error: spec.containers[0].env ({broken}:2): expected a list, got an int\n"
    assert capsys.readouterr() == ("", told)
