"""Existing ``pod_mutation_hook``s, called on real ``V1Pod``s: what they see, and what becomes of what they change."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes.client import ApiClient, Configuration
from kubernetes.client import models as k8s

from modalflow.settings import read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.cache import Translator
from modalflow.translation.hooks.types import PodHook, TaskFacts
from modalflow.translation.inputs import TaskContext
from modalflow.translation.result import Translation
from modalflow.translation.translate import translate

TEMPLATES = TemplateFolders()
TASK = TaskFacts(dag_id="etl", task_id="load data", run_id="run", map_index=3, try_number=2)
POD: dict[str, Any] = {
    "metadata": {"labels": {"team": "ml"}},
    "spec": {
        "nodeSelector": {"cloud.google.com/gke-accelerator": "nvidia-l4"},
        "volumes": [{"name": "scratch", "emptyDir": {}}],
        "containers": [
            {
                "name": "base",
                "image": "me/train:1",
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
                "resources": {"limits": {"cpu": 2, "nvidia.com/gpu": 1}},
            }
        ],
    },
}


def mutating(hook: Callable[[k8s.V1Pod], object]) -> PodHook:
    def call(plain: dict[str, Any]) -> tuple[object, object]:
        client = ApiClient(configuration=Configuration())
        before, after = (client._ApiClient__deserialize_model(copy.deepcopy(plain), k8s.V1Pod) for _ in range(2))
        hook(after)
        return before, after

    return call


def hooked(config: object, hook: Callable[[k8s.V1Pod], object], **texts: str) -> Translation:
    options = dataclasses.replace(read_settings(texts).translation, pod_hook=mutating(hook))
    return translate(config, context=TaskContext(task=TASK), options=options, templates=TEMPLATES)


def plain(config: object) -> Translation:
    return translate(config, context=TaskContext(), options=read_settings({}).translation, templates=TEMPLATES)


def spelled(result: Translation) -> dict[str, str]:
    return {name: str(origin) for name, origin in result.origins.items()}


def test_the_hook_sees_what_kubernetes_executor_would_show_it() -> None:
    seen: list[k8s.V1Pod] = []
    hooked({"pod_override": POD}, seen.append)
    [pod] = seen
    assert pod.metadata.labels == {
        "kubernetes_executor": "True",
        "dag_id": "etl",
        "task_id": "load_data-0206f7e1d",
        "try_number": "2",
        "run_id": "run",
        "map_index": "3",
        "team": "ml",
    }
    assert pod.metadata.annotations == {
        "dag_id": "etl",
        "task_id": "load data",
        "try_number": "2",
        "run_id": "run",
        "map_index": "3",
    }
    [base] = pod.spec.containers
    assert [(variable.name, variable.value) for variable in base.env] == [
        ("A", "1"),
        ("B", "2"),
        ("AIRFLOW_IS_K8S_EXECUTOR_POD", "True"),
    ]


def test_a_hook_that_changes_nothing_leaves_no_trace() -> None:
    result, without = hooked({"pod_override": POD}, lambda pod: None), plain({"pod_override": POD})
    assert (result.plan, result.diagnostics, spelled(result)) == (without.plan, without.diagnostics, spelled(without))


def test_what_it_changes_is_its_own_and_the_rest_keeps_its_origin() -> None:
    def hook(pod: k8s.V1Pod) -> None:
        pod.metadata.labels["site"] = "eu"
        base = pod.spec.containers[0]
        base.env[1].value = "changed"
        base.env.append(k8s.V1EnvVar(name="DAG", value=pod.metadata.annotations["dag_id"]))
        pod.spec.node_selector = {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}

    result = hooked({"pod_override": POD}, hook)
    plan = result.sandbox
    assert plan is not None
    assert (plan.gpu_candidates, plan.image.reference, plan.cpu) == (("T4",), "me/train:1", (1.0, 1.0))
    assert {name: plan.env[name] for name in ("A", "B", "DAG")} == {"A": "1", "B": "changed", "DAG": "etl"}
    assert "AIRFLOW_IS_K8S_EXECUTOR_POD" not in plan.env
    assert dict(plan.tags) == {"team": "ml", "site": "eu"}
    container = "pod_override.spec.containers[0]"
    origins = spelled(result)
    assert {name: origins[name] for name in ("image", "cpu", "env.A", "env.B", "env.DAG", "tags.team", "tags.site")} == {
        "image": f"{container}.image",
        "cpu": f"{container}.resources.limits.cpu",
        "env.A": f"{container}.env[0]",
        "env.B": "pod_mutation_hook.spec.containers[0].env[1]",
        "env.DAG": "pod_mutation_hook.spec.containers[0].env[3]",
        "tags.team": "pod_override.metadata.labels.team",
        "tags.site": "pod_mutation_hook.metadata.labels.site",
    }
    assert origins["gpu_candidates"] == 'pod_mutation_hook.spec.nodeSelector["cloud.google.com/gke-accelerator"]'
    assert origins["gpu_candidates.count"] == f'{container}.resources.limits["nvidia.com/gpu"]'
    assert [str(found) for found in result.diagnostics] == [f"{container}.env[1]: removed by pod_mutation_hook"]


def test_what_it_takes_away_is_gone_and_told() -> None:
    def hook(pod: k8s.V1Pod) -> None:
        pod.spec.host_network = None
        pod.spec.volumes = None
        pod.spec.containers[0].volume_mounts = []
        del pod.spec.containers[1]

    config = copy.deepcopy(POD)
    config["spec"]["hostNetwork"] = True
    config["spec"]["containers"].append({"name": "sidecar", "image": "me/sidecar:1"})
    assert len(plain({"pod_override": config}).errors) == 2
    result = hooked({"pod_override": config}, hook)
    assert result.sandbox is not None
    assert not result.sandbox.setup
    assert [f"{found.severity}: {found}" for found in result.diagnostics] == [
        "notice: pod_override.spec.hostNetwork: removed by pod_mutation_hook",
        "notice: pod_override.spec.containers[0].volumeMounts[0]: removed by pod_mutation_hook",
        "notice: pod_override.spec.containers[1]: removed by pod_mutation_hook",
        "notice: pod_override.spec.volumes[0]: removed by pod_mutation_hook",
    ]


def test_what_it_adds_is_judged_by_the_same_rules() -> None:
    def hook(pod: k8s.V1Pod) -> None:
        pod.spec.containers.append(k8s.V1Container(name="proxy", image="me/proxy:1"))
        pod.spec.host_network = True
        pod.metadata.labels["dag_id"] = "other"

    result = hooked({"pod_override": POD}, hook)
    assert result.plan is None
    told = [f"{found.severity}: {found}" for found in result.diagnostics]
    assert any(text.startswith("error: pod_mutation_hook.spec.hostNetwork: ") for text in told)
    assert any(text.startswith("error: pod_mutation_hook.spec.containers[1]") for text in told)
    own = 'warning: pod_mutation_hook.metadata.labels.dag_id: "dag_id" is one of modalflow\'s own tags and keeps its value; use '
    assert any(text.startswith(own) for text in told)


def test_modal_keys_are_stronger_than_the_hook_and_templates_weaker() -> None:
    def hook(pod: k8s.V1Pod) -> None:
        pod.spec.containers[0].image = "me/hook:1"
        pod.spec.containers[0].working_dir = "/hook"

    config = {"pod_override": POD, "modal": {"template": "default", "image": "me/key:1"}}
    plan = hooked(config, hook).sandbox
    assert plan is not None
    assert (plan.image.reference, plan.workdir) == ("me/key:1", "/hook")


def test_a_task_without_a_pod_is_not_shown_to_it() -> None:
    seen: list[object] = []
    assert hooked({"modal": {"gpu": "L4"}}, seen.append).plan is not None
    assert seen == []


@pytest.mark.parametrize(
    "error", [ValueError("no budget"), SystemExit("no more pods"), AttributeError("'NoneType' object has no attribute 'append'")]
)
def test_a_hook_that_fails_fails_the_task(error: BaseException) -> None:
    def hook(pod: k8s.V1Pod) -> None:
        raise error

    result = hooked({"pod_override": POD}, hook)
    assert result.plan is None
    assert [str(found) for found in result.errors] == [
        f"pod_mutation_hook: raised {type(error).__name__}: {error}; the scheduler's log has the traceback"
    ]


def test_an_unknown_field_is_still_an_error_when_the_client_has_dropped_it() -> None:
    config = copy.deepcopy(POD)
    config["spec"]["hostNetwrk"] = True
    result = hooked({"pod_override": config}, lambda pod: pod.metadata.labels.update(site="eu"))
    assert [str(error) for error in result.errors] == [
        'pod_override.spec.hostNetwrk: Kubernetes has no such field; did you mean "hostNetwork"?'
    ]


def test_each_task_is_asked_about_though_their_config_is_the_same() -> None:
    def hook(pod: k8s.V1Pod) -> None:
        pod.spec.containers[0].env.append(k8s.V1EnvVar(name="INDEX", value=pod.metadata.labels["map_index"]))

    options = dataclasses.replace(read_settings({}).translation, pod_hook=mutating(hook))
    translator = Translator(options, TEMPLATES)
    found = []
    for index in (0, 1, 1):
        plan = translator({"pod_override": POD}, TaskContext(task=dataclasses.replace(TASK, map_index=index))).plan
        assert plan is not None
        found.append(plan.env["INDEX"])
    assert found == ["0", "1", "1"]


def test_pods_that_met_by_strategic_merge_are_shown_too() -> None:
    def hook(pod: k8s.V1Pod) -> None:
        pod.spec.containers[0].env.append(k8s.V1EnvVar(name="B", value="2"))

    config = {"pod_override": {"spec": {"containers": [{"name": "base", "env": [{"name": "A", "value": "1"}]}]}}}
    result = hooked({**config, "modal": {"merge": "strategic"}}, hook)
    origins = spelled(result)
    assert (origins["env.A"], origins["env.B"]) == (
        "pod_override.spec.containers[0].env[0]",
        "pod_mutation_hook.spec.containers[0].env[2]",
    )
