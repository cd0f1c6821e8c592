"""Laws of translation: total, deterministic, pure, and no leaf of a pod without a consequence."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes.client import models as k8s

from modalflow.settings import read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.diagnostics import Diagnostic, Severity
from modalflow.translation.inputs import TaskContext, TranslationOptions
from modalflow.translation.keys import KEYS
from modalflow.translation.pod_fields import PodReader
from modalflow.translation.pod_merge import take_apart
from modalflow.translation.pods import field_name, read_pod_form
from modalflow.translation.report import Place, Root
from modalflow.translation.result import Translation
from modalflow.translation.translate import check_executor_config, translate

OPTIONS = read_settings({}).translation
TEMPLATES = TemplateFolders()
Path = tuple[str | int, ...]


def run(config: object) -> Translation:
    context = TaskContext(env={"MODALFLOW_LAUNCH_ID": "x"}, tags={"dag_id": "d"})
    return translate(config, context=context, options=OPTIONS, templates=TEMPLATES)


class Hostile:
    """An object that raises whatever is asked of it."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        raise RuntimeError


class HostileDict(dict[str, object]):
    def items(self) -> Any:
        raise RuntimeError

    def get(self, *args: object) -> Any:
        raise RuntimeError


def holding_itself() -> dict[str, object]:
    ring: dict[str, object] = {}
    ring["spec"] = ring
    return ring


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.just("A10G"),
    st.builds(lambda: 10**5000),
)
OBJECTS: st.SearchStrategy[object] = st.builds(Hostile) | st.builds(holding_itself) | st.builds(lambda: HostileDict(a=1))
KEY = st.one_of(
    st.sampled_from([*KEYS, "metadata", "spec", "containers", "limits", "cpu", "memory", "count", "name"]), st.integers()
)
ANYTHING = st.recursive(
    SCALARS | OBJECTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY, inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=12,
)
CONFIGS = ANYTHING | st.fixed_dictionaries(
    {},
    optional={
        "modal": st.dictionaries(st.sampled_from(list(KEYS)), ANYTHING, max_size=4) | ANYTHING,
        "pod_override": ANYTHING | st.fixed_dictionaries({"spec": ANYTHING}),
        "pod_template_file": ANYTHING,
    },
)


@settings(max_examples=300, deadline=None)
@given(config=CONFIGS)
def test_translation_is_total(config: object) -> None:
    result = run(config)
    assert (result.plan is None) == bool(result.errors)
    assert all(str(d) for d in result.diagnostics)
    assert all(str(result.origins[name]) for name in result.origins)
    check_executor_config(config, queue="default", options=OPTIONS, templates=TEMPLATES)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["A10G", "2", "64Gi", "x", "6h", "/x"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["A", "B", "/x", "memory", "count"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(modal=st.dictionaries(st.sampled_from(list(KEYS)), PLAIN, max_size=6))
def test_translation_is_deterministic_and_leaves_its_input_alone(modal: dict[str, object]) -> None:
    config = {"modal": modal}
    before = copy.deepcopy(config)
    first, second = run(config), run(config)
    assert config == before
    assert first == second


WORDS = ("x", "Never", "nvidia-l4", "true", "amd64", "1", "2Gi", "/x", "us-east-1")


def values(kind: str, depth: int) -> st.SearchStrategy[Any]:
    """Generate a value of a type as the kubernetes client names it."""
    if match := re.fullmatch(r"list\[(.+)\]", kind):
        return st.lists(values(match[1], depth - 1), min_size=1, max_size=2)
    if kind.startswith("dict"):
        keys = st.sampled_from(
            ["cpu", "memory", "nvidia.com/gpu", "team", "cloud.google.com/gke-accelerator", "kubernetes.io/arch"]
        )
        return st.dictionaries(keys, st.sampled_from(WORDS), min_size=1, max_size=3)
    if hasattr(k8s, kind):
        return objects(getattr(k8s, kind), depth)
    return {"int": st.integers(1, 9), "bool": st.booleans()}.get(kind, st.sampled_from(WORDS))


@st.composite
def objects(draw: Callable[[Any], Any], kind: Any, depth: int) -> dict[str, Any]:
    """Generate a few fields of one of the kubernetes client's objects, by their JSON names."""
    types = kind.openapi_types
    flat = [name for name, inner in types.items() if depth > 0 or not ("V1" in inner or "list" in inner or "dict" in inner)]
    chosen = draw(st.lists(st.sampled_from(sorted(flat or types)), min_size=1, max_size=4, unique=True))
    return {kind.attribute_map[name]: draw(values(types[name], depth - 1)) for name in chosen}


@st.composite
def pods(draw: Callable[[Any], Any]) -> dict[str, Any]:
    spec = draw(objects(k8s.V1PodSpec, 4))
    spec["containers"] = [
        {"name": "base", **draw(objects(k8s.V1Container, 4))},
        *draw(st.lists(objects(k8s.V1Container, 1), max_size=1)),
    ]
    return {"metadata": draw(objects(k8s.V1ObjectMeta, 2)), "spec": spec}


def leaves(value: object, path: Path = ()) -> Iterator[Path]:
    if isinstance(value, dict) and value:
        for key, child in value.items():
            yield from leaves(child, (*path, key))
    elif isinstance(value, list) and value:
        for index, child in enumerate(value):
            yield from leaves(child, (*path, index))
    else:
        yield path


def without(value: Any, path: Path) -> Any:
    """Copy ``value`` with the leaf at ``path`` taken away."""
    found = copy.deepcopy(value)
    inner = found
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return found


ROOT = Root(layer="pod", prefix="", style="dotted")


def consequences(pod: dict[str, Any]) -> tuple[object, list[Diagnostic]]:
    """Return what reading ``pod`` leads to: settings with their places, GPUs, findings."""
    findings: list[Diagnostic] = []
    plain = read_pod_form(pod, Place(ROOT, (), findings))
    assert plain is not None
    reader = PodReader(findings, TranslationOptions())
    reader.read(take_apart(plain, ROOT, 0, findings))
    found = [(s.key, s.value, s.place.path) for s in reader.settings]
    gpu = reader.gpu
    return (
        found,
        reader.setup,
        gpu.count,
        gpu.models,
        gpu.label.path if gpu.label else None,
        [str(d) for d in findings],
    ), findings


def is_structure(path: Path) -> bool:
    """Tell leaves that say nothing of their own: a container's name, the document's kind, the echo of a GPU limit."""
    if path[-2:] == ("requests", "nvidia.com/gpu"):
        return True
    return path in {("apiVersion",), ("kind",)} or (path[:2] == ("spec", "containers") and path[3:] == ("name",))


def goes_with_its_entry(path: Path, refused: set[str]) -> bool:
    """Tell a field of a variable, volume or alias that is refused as a whole for another field; mounts go with their volume."""
    if "volumeMounts" in path:
        return any("volumes" in place or "volumeMounts" in place for place in refused)
    for end in range(2, len(path)):
        if path[end - 1] in {"env", "envFrom", "volumes", "hostAliases"}:
            entry = ROOT.render(path[: end + 1])
            return any(place.startswith(entry) for place in refused)
    return False


def counterpart(path: Path) -> Path:
    """Return the limit of a request and the other way round: one that cannot be read takes both with it."""
    other = {"limits": "requests", "requests": "limits"}
    return (*path[:-2], other.get(str(path[-2]), ""), path[-1]) if len(path) > 1 else path


@settings(max_examples=150, deadline=None)
@given(pod=pods())
def test_every_leaf_of_a_pod_is_honoured_or_reported(pod: dict[str, Any]) -> None:
    observed, findings = consequences(pod)
    reported = {d.origin.path for d in findings}
    refused = {d.origin.path for d in findings if d.severity is Severity.ERROR}
    for path in leaves(pod):
        told = (
            any(ROOT.render(path[:end]) in reported for end in range(1, len(path) + 1))
            or ROOT.render(counterpart(path)) in reported
            or goes_with_its_entry(path, refused)
        )
        assert told or is_structure(path) or consequences(without(pod, path))[0] != observed, ROOT.render(path)


@pytest.mark.parametrize(
    "kind", [k8s.V1PodSpec, k8s.V1Container, k8s.V1ObjectMeta, k8s.V1SecurityContext, k8s.V1PodSecurityContext]
)
def test_snake_case_of_the_client_is_understood(kind: Any) -> None:
    assert {name: field_name(name) for name in kind.attribute_map} == kind.attribute_map


@pytest.mark.parametrize(
    ("kind", "at"),
    [(k8s.V1PodSpec, "spec"), (k8s.V1Container, "container"), (k8s.V1ObjectMeta, "metadata")],
)
def test_every_field_of_the_client_is_known(kind: Any, at: str) -> None:
    for field in kind.attribute_map.values():
        container = {"name": "base", **({field: "x"} if at == "container" else {})}
        spec = {"containers": [container], **({field: "x"} if at == "spec" else {})}
        _, findings = consequences({"spec": spec, **({"metadata": {field: "x"}} if at == "metadata" else {})})
        assert "unknown-field" not in {d.code for d in findings}, field
