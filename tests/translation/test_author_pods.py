"""``pod_override``s of the kind that DAG authors write with the kubernetes client: what each becomes, in one line of the plan."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes.client import models as k8s

from modalflow.settings import read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.account import Fate, account
from modalflow.translation.inputs import TaskContext
from modalflow.translation.translate import translate

OPTIONS = read_settings({"default_gpu": "T4", "claims": '{"models": "models"}'}).translation


def pod(container: dict[str, Any] | None = None, metadata: k8s.V1ObjectMeta | None = None, **spec: Any) -> k8s.V1Pod:
    """A pod of the usual form: the main container called ``base``, and fields beside it."""
    return k8s.V1Pod(
        metadata=metadata, spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="base", **(container or {}))], **spec)
    )


def needs(**limits: str) -> k8s.V1ResourceRequirements:
    """Requests and limits that are the same."""
    return k8s.V1ResourceRequirements(requests=limits, limits=limits)


GPU = k8s.V1ResourceRequirements(limits={"nvidia.com/gpu": "1"})
ON_GPU_NODES = k8s.V1Affinity(
    node_affinity=k8s.V1NodeAffinity(
        required_during_scheduling_ignored_during_execution=k8s.V1NodeSelector(
            node_selector_terms=[
                k8s.V1NodeSelectorTerm(
                    match_expressions=[
                        k8s.V1NodeSelectorRequirement(
                            key="nvidia.com/gpu.product", operator="In", values=["NVIDIA-L4", "NVIDIA-A10G"]
                        )
                    ]
                )
            ]
        )
    )
)
MODELS = k8s.V1Volume(name="m", persistent_volume_claim=k8s.V1PersistentVolumeClaimVolumeSource(claim_name="models"))
TOKEN = k8s.V1EnvVar(name="TOKEN", value_from=k8s.V1EnvVarSource(secret_key_ref=k8s.V1SecretKeySelector(name="hf", key="TOKEN")))

HONOURED: dict[str, tuple[k8s.V1Pod, str, object]] = {
    "an image": (pod({"image": "me/train:1.2"}), "image.reference", "me/train:1.2"),
    "cpu": (pod({"resources": needs(cpu="2", memory="4Gi")}), "cpu", (1.0, 1.0)),
    "memory": (pod({"resources": needs(cpu="2", memory="4Gi")}), "memory", (4096, 4096)),
    "a variable": (pod({"env": [k8s.V1EnvVar(name="MODE", value="fast")]}), "env", {"MODE": "fast"}),
    "a Secret's key": (pod({"env": [TOKEN]}), "secrets.names", ["hf"]),
    "a GPU": (pod({"resources": GPU}), "gpu_candidates", ("T4",)),
    "a GPU by a label": (
        pod({"resources": GPU}, node_selector={"cloud.google.com/gke-accelerator": "nvidia-l4"}),
        "gpu_candidates",
        ("L4",),
    ),
    "a GPU by affinity": (pod({"resources": GPU}, affinity=ON_GPU_NODES), "gpu_candidates", ("L4", "A10")),
    "a claim": (
        pod({"volume_mounts": [k8s.V1VolumeMount(name="m", mount_path="/models")]}, volumes=[MODELS]),
        "volumes.names",
        ["models"],
    ),
    "labels": (pod(metadata=k8s.V1ObjectMeta(labels={"team": "ml"})), "tags", {"team": "ml"}),
    "a timeout": (pod(active_deadline_seconds=3600), "timeout", 3600),
    "a working directory": (pod({"working_dir": "/work"}), "workdir", "/work"),
    "a region": (pod(node_selector={"topology.kubernetes.io/region": "us-east-1"}), "region", ("us-east",)),
    "tolerations": (
        pod(tolerations=[k8s.V1Toleration(key="dedicated", operator="Equal", value="gpu", effect="NoSchedule")]),
        "gpu_candidates",
        (),
    ),
}
REFUSED: dict[str, tuple[k8s.V1Pod, str]] = {
    "a host's folder": (
        pod(
            {"volume_mounts": [k8s.V1VolumeMount(name="d", mount_path="/data")]},
            volumes=[k8s.V1Volume(name="d", host_path=k8s.V1HostPathVolumeSource(path="/data"))],
        ),
        "refused-field",
    ),
    "arguments": (pod({"args": ["--fast"]}), "refused-field"),
    "the host's network": (pod(host_network=True), "refused-field"),
    "a privileged container": (pod({"security_context": k8s.V1SecurityContext(privileged=True)}), "refused-field"),
    "a quantity that is none": (pod({"resources": k8s.V1ResourceRequirements(limits={"memory": "4 gigs"})}), "bad-quantity"),
    "an AMD GPU": (pod({"resources": k8s.V1ResourceRequirements(limits={"amd.com/gpu": "1"})}), "gpu-not-on-modal"),
}


def became(plan: Any, field: str) -> object:
    """Return one field of a plan; ``.names`` are those of its entries."""
    name, _, part = field.partition(".")
    value = getattr(plan, name)
    return [entry.name for entry in value] if part == "names" else getattr(value, part) if part else value


@pytest.mark.parametrize("name", HONOURED)
def test_what_it_becomes(name: str) -> None:
    override, field, expected = HONOURED[name]
    result = translate({"pod_override": override}, context=TaskContext(), options=OPTIONS, templates=TemplateFolders())
    assert [str(error) for error in result.errors] == []
    assert became(result.plan, field) == expected


@pytest.mark.parametrize("name", REFUSED)
def test_why_it_is_refused(name: str) -> None:
    override, code = REFUSED[name]
    result = translate({"pod_override": override}, context=TaskContext(), options=OPTIONS, templates=TemplateFolders())
    assert [error.code for error in result.errors] == [code]


@pytest.mark.parametrize("override", [pod for pod, *_ in (*HONOURED.values(), *REFUSED.values())], ids=[*HONOURED, *REFUSED])
def test_each_of_its_fields_is_accounted_for(override: k8s.V1Pod) -> None:
    told = account({"pod_override": override}, context=TaskContext(), options=OPTIONS, templates=TemplateFolders())
    assert [str(leaf.origin) for leaf in told if leaf.fate is Fate.UNACCOUNTED] == []
