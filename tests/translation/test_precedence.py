"""The order of the layers, for every key and every field of a pod that says the same: of two neighbours the stronger wins.

Each key has two values, each in up to three ways: a ``modal`` key, an annotation of a pod, a field of a pod. One stands in the
weaker layer, the other in the stronger; what the plan says and where it is said to come from must be the stronger's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import pairwise, product
from typing import Any

import pytest

from modalflow.option_table import OPTIONS
from modalflow.settings import read_settings
from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.inputs import (
    FileContent,
    KubernetesDefaults,
    LoadedTemplate,
    PodMerge,
    TaskContext,
    TranslationOptions,
)
from modalflow.translation.keys import KEYS
from modalflow.translation.origins import Origin
from modalflow.translation.resolve import PLAN_NAMES
from modalflow.translation.result import Translation
from modalflow.translation.translate import translate

LAYERS = (
    "kubernetes",
    "options",
    "site_pod",
    "default_template",
    "queue_templates",
    "pod_template_file",
    "template",
    "pod_override",
    "modal",
)
"""Weakest first. ``site_pod`` is the site's ``pod_template_file``, for which a task's own stands in."""

Container = dict[str, Any]


def pod(container: Container | None = None, **spec: Any) -> dict[str, Any]:
    return {"kind": "Pod", "spec": {**spec, "containers": [{"name": "base", **(container or {})}]}}


def limit(name: str, amount: str) -> dict[str, Any]:
    return pod({"resources": {"requests": {name: amount}}})


def gpu(model: str) -> dict[str, Any]:
    selector = {"cloud.google.com/gke-accelerator": model}
    return pod({"resources": {"limits": {"nvidia.com/gpu": "1"}}}, nodeSelector=selector)


def mounted(claim: str) -> dict[str, Any]:
    volume = {"name": claim, "persistentVolumeClaim": {"claimName": claim}}
    return pod({"volumeMounts": [{"name": claim, "mountPath": "/data"}]}, volumes=[volume])


def variable(value: str) -> dict[str, Any]:
    return pod({"env": [{"name": "A", "value": value}]})


VALUES: Mapping[str, tuple[Any, Any]] = {
    "gpu": ("A10G", "L4"),
    "cpu": (2, 4),
    "memory": ("1Gi", "2Gi"),
    "image": ("me/a:1", "me/b:1"),
    "env": ({"A": "1"}, {"A": "2"}),
    "volumes": ({"/data": "one"}, {"/data": "two"}),
    "timeout": (600, 900),
    "region": ("us-east", "us-west"),
    "cloud": ("aws", "gcp"),
    "workdir": ("/a", "/b"),
    "tags": ({"team": "a"}, {"team": "b"}),
    "entrypoint": (["/bin/a"], ["/bin/b"]),
    "registry_secret": ("a", "b"),
    "force_build": (True, False),
    "oidc": (True, False),
    "keep_on_failure": (600, 0),
    "runtime": ("gvisor", "vm"),
    "namespace": ("a", "b"),
    "conn_id": ("a", "b"),
    "backend": ("function", "sandbox"),
    "gpu_wait": (60, 90),
}
FIELDS: Mapping[str, tuple[dict[str, Any], ...]] = {
    "gpu": (gpu("nvidia-tesla-t4"), gpu("nvidia-l4")),
    "cpu": (limit("cpu", "6"), limit("cpu", "8")),
    "memory": (limit("memory", "3Gi"), limit("memory", "4Gi")),
    "image": (pod({"image": "me/a:1"}), pod({"image": "me/b:1"})),
    "env": (variable("1"), variable("2")),
    "volumes": (mounted("one"), mounted("two")),
    "timeout": (pod(activeDeadlineSeconds=600), pod(activeDeadlineSeconds=900)),
    "region": tuple(pod(nodeSelector={"topology.kubernetes.io/region": name}) for name in ("us-east-1", "us-west-2")),
    "workdir": (pod({"workingDir": "/a"}), pod({"workingDir": "/b"})),
    "tags": tuple({**pod(), "metadata": {"labels": {"team": name}}} for name in "ab"),
    "entrypoint": (pod({"command": ["/bin/a"]}), pod({"command": ["/bin/b"]})),
    "registry_secret": tuple(pod(imagePullSecrets=[{"name": name}]) for name in "ab"),
    "runtime": (pod(runtimeClassName="gvisor"), pod(runtimeClassName="kata")),
    "namespace": tuple({**pod(), "metadata": {"namespace": name}} for name in "ab"),
}
APART = {"secrets", "template", "merge", "execution_timeout", "disk"}
"""Secrets add up; the others choose layers, how pods meet, a limit below ``timeout``, and what no sandbox has a choice of."""
CONFLICTS = {("volumes", "kubernetes_executor", "field", "field")}
"""Ways that refuse: lists of pods are appended, and one path can hold one volume."""

SITE = read_settings(
    {
        "claims": '{"one": "one", "two": "two"}',
        "namespaces": '{"a": "/a", "b": "/b"}',
        "modal_conn_ids": "a,b",
        "registry_secrets": '{"a": "a", "b": "b"}',
        "functions": '{"default": {"app": "a", "function": "f"}}',
        "pull_always": "true",
    }
).translation
TASK_KEYS = {option.name for option in OPTIONS if option.task_key}


class Sources:
    """Templates by the name of the layer that asks for them."""

    def __init__(self, documents: Mapping[str, Mapping[str, object]]) -> None:
        self._documents = documents

    def load(self, name: str, *, asked_by: Origin) -> LoadedTemplate | Diagnostic:
        return LoadedTemplate(name=name, file=name, document=self._documents[name], lines={})

    def config_map(self, path: str) -> Mapping[str, FileContent] | str:
        return path


def said(key: str, way: str, which: int) -> dict[str, Any]:
    """Return the modal keys, or the pod, that say one of the two values."""
    if way == "field":
        return FIELDS[key][which]
    value = VALUES[key][which]
    if way == "native":
        return {key: value}
    return {**pod(), "metadata": {"annotations": {f"modalflow/{key}": value if isinstance(value, str) else json.dumps(value)}}}


def ways(layer: str, key: str) -> list[str]:
    if layer == "kubernetes":
        return ["native"] if key in {"image", "namespace"} else []
    if layer in {"options", "modal"}:
        return ["native"] if layer == "modal" or key in TASK_KEYS else []
    field = ["field"] if key in FIELDS else []
    return ["annotation", *field] if layer in {"pod_override", "site_pod"} else ["native", "annotation", *field]


def translated(layers: Mapping[str, tuple[str, dict[str, Any]]], merge: PodMerge) -> Translation:
    """Translate a task with these layers: by layer the way and what is said."""
    documents = {
        name: content if way != "native" else {"apiVersion": "modalflow/v1", "kind": "ModalTask", "spec": content}
        for name, (way, content) in layers.items()
    }
    config: dict[str, Any] = {"modal": {**layers.get("modal", ("", {}))[1]}}
    if "template" in layers:
        config["modal"]["template"] = "template"
    if "pod_template_file" in layers:
        config["pod_template_file"] = "pod_template_file"
    if "pod_override" in layers:
        config["pod_override"] = layers["pod_override"][1]
    options = TranslationOptions(
        **{
            name: getattr(SITE, name)
            for name in ("claims", "namespaces", "connections", "registry_secrets", "functions", "pull_always")
        },
        merge=merge,
        task_keys=layers.get("options", ("", {}))[1],
        kubernetes=KubernetesDefaults(**layers["kubernetes"][1]) if "kubernetes" in layers else None,
        pod_template_file="site_pod" if "site_pod" in layers else None,
        default_template="default_template" if "default_template" in layers else None,
        queue_templates={"default": "queue_templates"} if "queue_templates" in layers else {},
    )
    return translate(config, context=TaskContext(), options=options, templates=Sources(documents))


def neighbours(key: str) -> Iterator[tuple[str, str]]:
    """Yield the layers that meet: those that can say the key, but the site's pod template beside a task's own."""
    able = [layer for layer in LAYERS if ways(layer, key)]
    yield from pairwise(able)
    yield from pairwise([layer for layer in able if layer not in {"default_template", "queue_templates", "site_pod"}])


def outcome(key: str, found: Translation) -> tuple[object, str]:
    """Return what the plan says of the key, and the layer of it."""
    name = {"namespace": "home.app", "conn_id": "home.conn_id"}.get(key, PLAN_NAMES.get(key, key))
    entry = {"env": "A", "tags": "team", "volumes": "/data"}.get(key)
    plan: Any = found.plan
    assert plan is not None, [str(error) for error in found.errors]
    for part in name.split("."):
        plan = getattr(plan, part, type(plan).__name__)
    origin = found.origins.get(f"{name}.{entry}" if entry else name)
    if isinstance(plan, dict):
        plan = plan[entry]
    elif key == "volumes":
        plan = [volume.name for volume in plan]
    elif key == "image":
        plan = plan.reference
    return plan, "" if origin is None else origin.layer


def test_every_key_is_here() -> None:
    assert set(VALUES) | APART == set(KEYS)
    assert set(FIELDS) <= set(VALUES)


@pytest.mark.parametrize("merge", ["kubernetes_executor", "strategic"])
@pytest.mark.parametrize("key", VALUES)
def test_of_two_neighbours_the_stronger_wins(key: str, merge: PodMerge) -> None:
    pairs = 0
    for weak, strong in neighbours(key):
        for below, above in product(ways(weak, key), ways(strong, key)):
            if (key, merge, below, above) in CONFLICTS:
                continue
            site = {"options": ("native", {"image": "me/site:1"})} if key == "registry_secret" else {}
            for first in (0, 1):
                lower, upper = {weak: (below, said(key, below, first))}, {strong: (above, said(key, above, 1 - first))}
                both = outcome(key, translated({**site, **lower, **upper}, merge))
                alone = outcome(key, translated({**site, **upper}, merge))
                assert both == alone, (weak, below, strong, above)
                assert both[0] != outcome(key, translated({**site, **lower}, merge))[0], (weak, below, strong, above)
                pairs += 1
    assert pairs > 15
