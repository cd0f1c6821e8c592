"""The support matrix: every leaf of a pod has a verdict, also the ones that a newer kubernetes client brings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import models as k8s

from modalflow.cli.field_cases import CASES
from modalflow.cli.field_matrix import VERDICTS, page, pod_leaves, rows
from modalflow.cli.main import main


def leaves_of(kind: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every leaf of one of the client's classes, ``[]`` for the elements of a list."""
    for name, inner in kind.openapi_types.items():
        here = f"{path}.{kind.attribute_map[name]}" if path else kind.attribute_map[name]
        bare = inner
        while match := re.fullmatch(r"list\[(.+)\]", bare):
            here, bare = f"{here}[]", match[1]
        if hasattr(k8s, bare):
            yield from leaves_of(getattr(k8s, bare), here)
        else:
            yield here, bare


def test_the_list_of_leaves_is_the_kubernetes_client_s() -> None:
    expected = {**dict(leaves_of(k8s.V1ObjectMeta, "metadata")), **dict(leaves_of(k8s.V1PodSpec, "spec"))}
    assert pod_leaves() == expected


def test_a_field_that_a_newer_client_brings_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(k8s.V1Container.openapi_types, "new_thing", "list[str]")
    monkeypatch.setitem(k8s.V1Container.attribute_map, "new_thing", "newThing")
    found = {**dict(leaves_of(k8s.V1ObjectMeta, "metadata")), **dict(leaves_of(k8s.V1PodSpec, "spec"))}
    assert found.keys() - pod_leaves().keys() == {
        "spec.containers[].newThing[]",
        "spec.initContainers[].newThing[]",
    }


@pytest.fixture(scope="module")
def matrix() -> list[Any]:
    return list(rows())


def test_every_leaf_has_a_verdict(matrix: list[Any]) -> None:
    assert {row.verdict for row in matrix} <= {"translated", *VERDICTS.values()}
    assert [row.path for row in matrix if row.code == "unknown-field"] == []
    assert [row.path for row in matrix if row.verdict != "translated" and not row.reason] == []


def test_every_field_with_further_values_is_one_and_tells_of_them(matrix: list[Any]) -> None:
    by_path = {row.path: row for row in matrix}
    assert CASES.keys() <= by_path.keys()
    for path, values in CASES.items():
        assert [case.value for case in by_path[path].cases] in ([], list(values)), path
        assert {case.verdict for case in by_path[path].cases} <= {"translated", *VERDICTS.values()}, path


@pytest.mark.parametrize(
    ("path", "verdicts"),
    [
        ("spec.runtimeClassName", {"gvisor": "translated", "kata": "translated", "nvidia": "warned", "x": "warned"}),
        ("spec.restartPolicy", {"Never": "harmless", "Always": "warned", "OnFailure": "warned"}),
        ("spec.hostNetwork", {False: "harmless", True: "refused"}),
        (
            "spec.containers[].imagePullPolicy",
            {"IfNotPresent": "harmless", "Always": "warned", "Never": "refused", "x": "warned"},
        ),
        ("spec.os.name", {"linux": "harmless", "windows": "refused", "x": "refused"}),
        ('spec.nodeSelector["kubernetes.io/arch"]', {"amd64": "harmless", "arm64": "refused"}),
    ],
)
def test_a_verdict_by_the_value(path: str, verdicts: dict[Any, str], matrix: list[Any]) -> None:
    row = next(row for row in matrix if row.path == path)
    assert row.shown_verdict == "by its value"
    assert {case.value: case.verdict for case in (*row.cases, row)} == verdicts


def test_each_value_is_told_of_once(matrix: list[Any]) -> None:
    row = next(row for row in matrix if row.path == "spec.automountServiceAccountToken")
    assert row.told("`") == (
        "`false`: harmless, this is how a sandbox is anyway \u2014 "
        "`true`: warned, is not honoured: a sandbox has no Kubernetes identity; remove it"
    )


def test_one_field_by_its_prefix(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fields", "spec.tolerations", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [row["path"] for row in shown] == [
        f"spec.tolerations[].{name}" for name in ("effect", "key", "operator", "tolerationSeconds", "value")
    ]
    assert {(row["verdict"], row["code"]) for row in shown} == {("harmless", "no-effect")}


def test_a_table_and_an_unknown_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fields", "spec.containers[0].image"]) == 0
    assert "image.reference" in capsys.readouterr().out
    assert main(["fields", "spec.tolerationz"]) == 1
    assert capsys.readouterr().err == 'no field "spec.tolerationz" in a Kubernetes pod; did you mean "spec.tolerations"?\n'


def test_the_page_is_what_make_docs_writes() -> None:
    committed = Path(__file__).parents[2] / "docs" / "reference" / "fields.md"
    assert committed.read_text(encoding="utf-8") == page(), "run make docs"
