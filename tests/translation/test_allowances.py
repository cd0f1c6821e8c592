"""``[modal_executor] allow``: what can be named, what it covers, and that the support matrix says so."""

from __future__ import annotations

import re

import pytest

from modalflow.cli.field_matrix import rows
from modalflow.pod_paths import known_paths, read_allowed
from modalflow.settings import read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.allowances import read_pattern, spelled
from modalflow.translation.diagnostics import Severity
from modalflow.translation.inputs import TaskContext
from modalflow.translation.translate import translate


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("spec.hostNetwork", ("spec", "hostNetwork")),
        ("spec.containers[*].args", ("spec", "containers", None, "args")),
        ("spec.containers[0].args", ("spec", "containers", None, "args")),
        ("spec.containers[].args", ("spec", "containers", None, "args")),
        ('spec.nodeSelector["a.b/c"]', ("spec", "nodeSelector", "a.b/c")),
        ("spec..x", None),
        (".spec", None),
        ("spec.containers[*", None),
        ("spec containers", None),
    ],
)
def test_patterns(text: str, pattern: tuple[str | None, ...] | None) -> None:
    assert read_pattern(text) == pattern


def test_a_path_is_spelled_as_it_can_be_allowed() -> None:
    assert spelled(("spec", "nodeSelector", "a.b/c")) == 'spec.nodeSelector["a.b/c"]'
    assert spelled(("spec", "containers", 3, "args", 0)) == "spec.containers[*].args[*]"


def test_every_field_of_the_matrix_can_be_named() -> None:
    paths = [row.path for row in rows()]
    assert len(paths) > 800
    for path in paths:
        read_allowed(path)
    assert "spec.containers.args" in known_paths()


POD = {"spec": {"hostNetwork": True, "containers": [{"name": "base", "args": ["x"]}]}}
TEMPLATE = "kind: Pod\nspec:\n  hostNetwork: true\n  containers: [{name: base}]\n"


@pytest.mark.parametrize("config", [{"pod_override": POD}, {"pod_template_file": "mine"}], ids=["override", "template"])
def test_a_layer_makes_no_difference(config: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("templates")
    (folder / "mine.yaml").write_text(TEMPLATE, encoding="utf-8")
    options = read_settings({"allow": '["spec.hostNetwork", "spec.containers[*].args"]'}).translation
    result = translate(config, context=TaskContext(), options=options, templates=TemplateFolders([folder]))
    assert result.plan is not None
    assert {found.severity for found in result.diagnostics if found.code == "allowed-field"} == {Severity.WARNING}


def test_a_task_cannot_allow_anything() -> None:
    config = {"pod_override": POD, "modal": {"allow": ["spec.hostNetwork"]}}
    result = translate(config, context=TaskContext(), options=read_settings({}).translation, templates=TemplateFolders([]))
    assert result.plan is None
    assert 'executor_config["modal"]["allow"]: unknown key' in str(result.errors[-1]) + str(result.errors[0])


def test_what_the_matrix_calls_allowed_is_a_warning_once_it_is_allowed() -> None:
    """One field of each kind that the matrix says can be allowed."""
    said = {re.split(r"[.\[]", row.path)[1] for row in rows("spec") if "can be allowed" in f"{row.shown_verdict} {row.told()}"}
    assert {"hostNetwork", "nodeName", "containers", "volumes", "securityContext", "nodeSelector"} <= said
