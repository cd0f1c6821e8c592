"""The form of Airflow 1.x: every leaf is accounted for under its own name, objects of the client and all."""

from __future__ import annotations

import copy

from kubernetes.client import models as k8s

from modalflow.templates import TemplateFolders
from modalflow.translation.account import Fate, account
from modalflow.translation.inputs import TaskContext, TranslationOptions
from modalflow.translation.pods.legacy import APART, KNOWN, LISTED, PLACES
from modalflow.translation.translate import check_executor_config, translate

CONTEXT, OPTIONS, TEMPLATES = TaskContext(), TranslationOptions(), TemplateFolders([])
EVERY_KEY = {
    **dict.fromkeys(PLACES, "1"),
    **{key: ["x"] for key in ("cmds", "args")},
    **{key: [{"name": "x"}] for key in ("ports", "tolerations", "volumes", "volume_mounts", "init_containers")},
    **{key: {"a": "b"} for key in ("affinity", "security_context", "node_selectors", "labels", "annotations")},
    "hostnetwork": True,
    "resources": {"limits": {"memory": "1Gi"}},
    "envs": {"A": "1"},
    "configmaps": ["cm"],
    "image_pull_secrets": "a,b",
    "gcp_service_account_key": "k",
    "secrets": ["s"],
    "extract_xcom": True,
}


def test_every_leaf_of_every_key_is_accounted_for() -> None:
    assert set(EVERY_KEY) == set(KNOWN) == {*PLACES, *LISTED, *APART}
    for key, value in EVERY_KEY.items():
        leaves = account({"KubernetesExecutor": {key: value}}, context=CONTEXT, options=OPTIONS, templates=TEMPLATES)
        mine = [leaf for leaf in leaves if leaf.origin.path.startswith(f'executor_config["KubernetesExecutor"]["{key}"]')]
        assert mine, key
        assert Fate.UNACCOUNTED not in {leaf.fate for leaf in leaves}, key
        assert {leaf.origin.path for leaf in leaves if leaf not in mine} == set(), key


def test_objects_of_the_client_are_read_and_nothing_is_changed() -> None:
    toleration = k8s.V1Toleration(key="gpu", operator="Exists")
    config = {
        "KubernetesExecutor": {
            "tolerations": [toleration],
            "resources": k8s.V1ResourceRequirements(requests={"memory": "1Gi"}),
            "volumes": [k8s.V1Volume(name="x", empty_dir=k8s.V1EmptyDirVolumeSource())],
            "volume_mounts": [k8s.V1VolumeMount(name="x", mount_path="/x")],
            "envs": [k8s.V1EnvVar(name="A", value="1")],
        }
    }
    before = copy.deepcopy(config)
    result = translate(config, context=CONTEXT, options=OPTIONS, templates=TEMPLATES)
    assert config == before
    assert result.plan is not None
    assert (result.plan.memory, result.plan.env["A"]) == (1024, "1")
    assert result.origins["env.A"].path == 'executor_config["KubernetesExecutor"]["envs"][0]'


def test_no_value_of_a_variable_is_in_a_hint() -> None:
    config = {"KubernetesExecutor": {"envs": {"TOKEN": "hunter2"}, "annotations": {"note": "hunter2"}}}
    result = translate(config, context=CONTEXT, options=OPTIONS, templates=TEMPLATES)
    assert "hunter2" not in "".join(map(str, result.diagnostics))


def test_a_mistake_is_an_import_error_of_the_dag() -> None:
    config = {"KubernetesExecutor": {"imagee": "x"}}
    (found,) = check_executor_config(config, queue="default", options=OPTIONS, templates=TEMPLATES)
    assert str(found).startswith('executor_config["KubernetesExecutor"]["imagee"]: ')
