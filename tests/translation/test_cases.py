"""Golden tables: what an input becomes, whole texts included. Each ``cases/*.yaml`` is a list of cases.

A pod_override written as a mapping is run twice, as the dict and as the ``V1Pod`` that the kubernetes client makes of it (unless
``only: dict`` says that the client would lose the point of the case). ``plan`` and ``origins`` name the fields to compare;
``diagnostics`` are compared whole. ``TMP`` in an option is the folder of ``files``. ``setup`` is what the sandbox reads.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import ApiClient, Configuration
from kubernetes.client import models as k8s

from modalflow.settings import read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.inputs import TaskContext
from modalflow.translation.plan import VolumePlan
from modalflow.translation.translate import translate

CASES = Path(__file__).parent / "cases"
Case = dict[str, Any]


def _cases() -> list[Any]:
    found = []
    for path in sorted(CASES.glob("*.yaml")):
        for case in yaml.safe_load(path.read_text(encoding="utf-8")):
            name = f"{path.stem}: {case['name']}"
            found.append(pytest.param(case, case.get("config"), id=name))
            override = case["config"].get("pod_override") if isinstance(case.get("config"), dict) else None
            if isinstance(override, dict) and case.get("only") != "dict":
                found.append(pytest.param(case, {**case["config"], "pod_override": as_v1pod(override)}, id=f"{name} (V1Pod)"))
    return found


def as_v1pod(pod: dict[str, Any]) -> k8s.V1Pod:
    client = ApiClient(configuration=Configuration())
    return client._ApiClient__deserialize_model(copy.deepcopy(pod), k8s.V1Pod)


def plain(value: object) -> object:
    """Bring a plan's value into the shape that YAML gives."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        defaults = {f.name: f.default for f in dataclasses.fields(value)}
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {name: plain(v) for name, v in fields.items() if v != defaults[name]}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return dict(value) if isinstance(value, dict) else value


@pytest.mark.parametrize(("case", "config"), _cases())
def test_case(case: Case, config: object, tmp_path: Path) -> None:
    for name, document in case.get("templates", {}).items():
        (tmp_path / f"{name}.yaml").write_text(document, encoding="utf-8")
    for name, content in case.get("files", {}).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    texts = {name: text.replace("TMP", str(tmp_path)) for name, text in case.get("options", {}).items()}
    options = read_settings(texts).translation
    context = TaskContext(
        queue=case.get("queue", "default"),
        env=case.get("context", {}).get("env", {}),
        tags=case.get("context", {}).get("tags", {}),
        volumes=tuple(
            VolumePlan(mount_path=path, name=name) for path, name in case.get("context", {}).get("volumes", {}).items()
        ),
    )
    result = translate(config, context=context, options=options, templates=TemplateFolders([tmp_path]))
    told = [f"{d.severity}: {d}".replace(f"{tmp_path}/", "") for d in result.diagnostics]
    if isinstance(config, dict) and isinstance(config.get("pod_override"), k8s.V1Pod):
        # The client's objects list their fields in an order of their own.
        assert sorted(told) == sorted(case.get("diagnostics", []))
    else:
        assert told == case.get("diagnostics", [])
    if "plan" in case:
        assert result.plan is not None
        expected = case["plan"]
        found = {name: plain(getattr(result.plan, name)) for name in expected}
        if "env" in found and "setup" in case:
            found["env"] = {name: text for name, text in result.plan.env.items() if name != "MODALFLOW_SETUP"}
        assert found == expected
    else:
        assert result.plan is None
    if "setup" in case:
        assert result.plan is not None
        assert json.loads(result.plan.env["MODALFLOW_SETUP"]) == case["setup"]
    for name, text in case.get("origins", {}).items():
        assert str(result.origins[name]).replace(f"{tmp_path}/", "") == text
