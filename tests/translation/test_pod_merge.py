"""Our merge of pods against the one it must agree with: ``PodGenerator.reconcile_pods``, by hand and by hypothesis."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes.client import ApiClient, Configuration
from kubernetes.client import models as k8s

from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.pods.form import read_pod_form
from modalflow.translation.pods.merge import ContainerPieces, Fields, PodPieces, reconcile, take_apart
from modalflow.translation.report import Place, Root

CLIENT = ApiClient(configuration=Configuration())
BASE = Root(layer="base", prefix="base", style="dotted")
OVERRIDE = Root(layer="override", prefix="override", style="dotted")
Pod = dict[str, Any]


def as_v1pod(pod: Pod) -> k8s.V1Pod:
    return CLIENT._ApiClient__deserialize_model(copy.deepcopy(pod), k8s.V1Pod)


def oracle(base: Pod, override: Pod) -> object:
    merged = PodGenerator.reconcile_pods(as_v1pod(base), as_v1pod(override))
    return CLIENT.sanitize_for_serialization(merged)


def pieces(pod: object, root: Root, rank: int) -> PodPieces:
    findings: list[Diagnostic] = []
    plain = read_pod_form(pod, Place(root, (), findings))
    assert plain is not None
    taken = take_apart(plain, root, rank, findings)
    assert findings == []
    return taken


def put_together(pod: PodPieces) -> Pod:
    """Undo ``take_apart``, as the JSON of the merged pod."""

    def fields(of: Fields) -> dict[str, Any]:
        return {name: piece.value for name, piece in of.items()}

    def container(of: ContainerPieces) -> dict[str, Any]:
        return {**fields(of.fields), **{name: [piece.value for piece in items] for name, items in of.lists.items()}}

    metadata = {**fields(pod.metadata), "labels": fields(pod.labels), "annotations": fields(pod.annotations)}
    spec = {
        **fields(pod.spec),
        "containers": [container(c) for c in pod.containers],
        "initContainers": [container(c) for c in pod.init_containers],
        "volumes": [piece.value for piece in pod.volumes],
    }
    return {**fields(pod.top), "metadata": metadata, "spec": spec}


def without_empty(value: Any) -> Any:
    """Drop empty lists and maps: the oracle keeps some that mean nothing, and drops others."""
    if isinstance(value, dict):
        kept = {key: without_empty(child) for key, child in value.items()}
        return {key: child for key, child in kept.items() if child not in ({}, [])}
    return [without_empty(child) for child in value] if isinstance(value, list) else value


def assert_agree(base: Pod, override: Pod) -> None:
    findings: list[Diagnostic] = []
    ours = reconcile(pieces(base, BASE, 0), pieces(override, OVERRIDE, 1), findings)
    assert without_empty(put_together(ours)) == without_empty(oracle(base, override))


def pod(**container: Any) -> Pod:
    return {"spec": {"containers": [{"name": "base", **container}]}}


@pytest.mark.parametrize(
    ("base", "override"),
    [
        pytest.param(pod(image="a"), pod(), id="base alone"),
        pytest.param(pod(), pod(image="b"), id="override alone"),
        pytest.param(pod(image="a"), pod(image="b"), id="both"),
        pytest.param(pod(image="a"), pod(image=""), id="a falsy text"),
        pytest.param(pod(env=[{"name": "A", "value": "1"}]), pod(env=[{"name": "A", "value": "2"}]), id="env is appended"),
        pytest.param(
            pod(resources={"limits": {"memory": "4Gi"}}), pod(resources={"limits": {"nvidia.com/gpu": "1"}}), id="resources whole"
        ),
        pytest.param(pod(resources={"limits": {"cpu": "1"}}), pod(resources={}), id="empty resources are set"),
        pytest.param(
            {"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}},
            {"spec": {"containers": [{"name": "b", "image": "3"}]}},
            id="containers meet by position",
        ),
        pytest.param(
            {
                "spec": {
                    "containers": [{"name": "a"}],
                    "initContainers": [{"name": "x", "image": "1"}, {"name": "y", "image": "2"}],
                }
            },
            {"spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "y", "image": "3"}, {"name": "z"}]}},
            id="init containers meet by name",
        ),
        pytest.param(
            {
                "metadata": {"labels": {"a": "1", "b": "1"}},
                "spec": {"containers": [], "hostNetwork": True, "nodeSelector": {"a": "1"}},
            },
            {"metadata": {"labels": {"b": ""}}, "spec": {"containers": [], "hostNetwork": False, "nodeSelector": {}}},
            id="falsy values",
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "a"}], "volumes": [{"name": "x"}]}},
            {
                "spec": {
                    "containers": [{"name": "a", "volumeMounts": [{"name": "y", "mountPath": "/y"}]}],
                    "volumes": [{"name": "y"}],
                }
            },
            id="volumes are appended",
        ),
        pytest.param(pod(ports=[{"containerPort": 1}]), pod(ports=[{"containerPort": 2}]), id="ports are appended"),
        pytest.param({"metadata": {"name": "x"}}, pod(), id="no spec below"),
        pytest.param(pod(image="a"), {"metadata": {"name": "x"}}, id="no spec above"),
    ],
)
def test_agrees_with_the_kubernetes_executor(base: Pod, override: Pod) -> None:
    assert_agree(base, override)


NAMES = st.sampled_from(["a", "b", "c"])
TEXT = st.sampled_from(["", "x", "y"])
MAPS = st.dictionaries(NAMES, TEXT, max_size=2)
ENV = st.lists(st.fixed_dictionaries({"name": NAMES, "value": st.sampled_from(["1", "2"])}), max_size=2)
QUANTITIES = st.dictionaries(st.sampled_from(["cpu", "memory", "nvidia.com/gpu"]), st.sampled_from(["1", "2"]), min_size=1)
CONTAINER = st.fixed_dictionaries(
    {"name": NAMES},
    optional={
        "image": TEXT,
        "command": st.lists(NAMES, max_size=2),
        "args": st.lists(NAMES, max_size=1),
        "workingDir": TEXT,
        "env": ENV,
        "envFrom": st.lists(st.just({"configMapRef": {"name": "x"}}), max_size=1),
        "volumeMounts": st.lists(st.fixed_dictionaries({"name": NAMES, "mountPath": st.just("/x")}), max_size=2),
        "resources": st.fixed_dictionaries({}, optional={"limits": QUANTITIES, "requests": QUANTITIES}),
        "tty": st.booleans(),
    },
)
PODS = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries({}, optional={"name": TEXT, "labels": MAPS, "annotations": MAPS}),
        "spec": st.fixed_dictionaries(
            {"containers": st.lists(CONTAINER, max_size=3)},
            optional={
                "initContainers": st.lists(CONTAINER, max_size=2, unique_by=lambda c: c["name"]),
                "volumes": st.lists(
                    st.fixed_dictionaries({"name": NAMES, "emptyDir": st.just({"sizeLimit": "1Gi"})}), max_size=2
                ),
                "nodeSelector": MAPS,
                "hostNetwork": st.booleans(),
                "activeDeadlineSeconds": st.sampled_from([0, 60, 120]),
                "tolerations": st.lists(st.fixed_dictionaries({"key": NAMES}), max_size=2),
            },
        ),
    },
)


@settings(max_examples=150, deadline=None)
@given(base=PODS, override=PODS)
def test_agrees_on_generated_pods(base: Pod, override: Pod) -> None:
    assert_agree(base, override)


@settings(max_examples=50, deadline=None)
@given(one=PODS)
def test_a_v1pod_and_its_dict_read_alike(one: Pod) -> None:
    def read(form: object) -> object:
        return without_empty(put_together(pieces(form, BASE, 0)))

    assert read(as_v1pod(one)) == read(one)


@settings(max_examples=50, deadline=None)
@given(one=PODS, other=PODS)
def test_merging_leaves_its_inputs_alone_and_has_an_identity(one: Pod, other: Pod) -> None:
    below, above = pieces(one, BASE, 0), pieces(other, OVERRIDE, 1)
    before = copy.deepcopy((put_together(below), put_together(above)))
    reconcile(below, above, [])
    assert (put_together(below), put_together(above)) == before
    assert put_together(reconcile(below, PodPieces(), [])) == put_together(below)
    assert put_together(reconcile(PodPieces(), above, [])) == put_together(above)
