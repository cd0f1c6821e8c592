"""Laws of translation: total, deterministic, pure, and no leaf of a pod without a consequence."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes.client import models as k8s

from modalflow.settings import read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.diagnostics import Diagnostic, Severity
from modalflow.translation.inputs import TaskContext
from modalflow.translation.keys import KEYS
from modalflow.translation.pods.fields import PodReader
from modalflow.translation.pods.form import field_name, read_pod_form
from modalflow.translation.pods.merge import take_apart
from modalflow.translation.report import Place, Root
from modalflow.translation.result import Translation
from modalflow.translation.translate import check_executor_config, translate
from tests.property.pods import OPTIONS as OPTIONS_OF_PODS
from tests.property.pods import WIRED_PODS, Files, any_pods, at, leaves

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


def without(value: Any, path: Path) -> Any:
    """Copy ``value`` with the leaf at ``path`` taken away."""
    found = copy.deepcopy(value)
    inner = found
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return found


def replaced(value: Any, path: Path, other: object) -> Any:
    """Copy ``value`` with ``other`` at ``path``."""
    found = copy.deepcopy(value)
    at(found, path[:-1])[path[-1]] = other
    return found


ROOT = Root(layer="pod", prefix="", style="dotted")


def consequences(pod: dict[str, Any]) -> tuple[object, list[Diagnostic]]:
    """Return what reading ``pod`` leads to: settings with their places, GPUs, findings."""
    findings: list[Diagnostic] = []
    plain = read_pod_form(pod, Place(ROOT, (), findings))
    assert plain is not None
    reader = PodReader(findings, OPTIONS_OF_PODS, Files())
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


ENTRIES = ("env", "envFrom", "volumes", "volumeMounts", "hostAliases", "resourceClaims", "claims")
"""Lists whose entries are read as one: with one field refused, the entry is."""


def goes_with_its_entry(pod: dict[str, Any], path: Path, refused: set[str]) -> bool:
    """Tell a leaf beside something refused in the same entry; a mount also goes with the volume of its very name, and a volume
    with its mounts if not one of them is left.

    Neighbours in a list do not go with each other: of two ``items``, each is accounted for by itself.
    """
    for end in range(1, len(path) - 1):
        if path[end] in ENTRIES and isinstance(path[end + 1], int):
            if any(has_refused_neighbour(path, inner, refused) for inner in range(end + 2, len(path))):
                return True
            entry = path[: end + 2]
            partners = volumes_of(pod, entry) if path[end] == "volumeMounts" else []
            if any(is_below(place, volume) for volume in partners for place in refused):
                return True
            mounts = mounts_of(pod, entry) if path[end] == "volumes" else []
            return bool(mounts) and all(any(is_below(place, mount) for place in refused) for mount in mounts)
    return False


def has_refused_neighbour(path: Path, end: int, refused: set[str]) -> bool:
    """Tell whether another field of the mapping at ``path[:end]`` is refused, or something in it."""
    whole, own = ROOT.render(path[:end]), ROOT.render(path[: end + 1])
    return isinstance(path[end], str) and any(is_below(place, whole) and not is_below(place, own) for place in refused)


def volumes_of(pod: dict[str, Any], mount: Path) -> list[str]:
    """Return the paths of the volumes that the mount at ``mount`` names."""
    name = at(pod, mount).get("name")
    volumes = pod["spec"].get("volumes", [])
    return [
        ROOT.render(("spec", "volumes", index)) for index, volume in enumerate(volumes) if name and volume.get("name") == name
    ]


def mounts_of(pod: dict[str, Any], volume: Path) -> list[str]:
    """Return the paths of the mounts that name the volume at ``volume``."""
    name = at(pod, volume).get("name")
    where: Path = ("spec", "containers", 0, "volumeMounts")
    mounts = pod["spec"]["containers"][0].get("volumeMounts", [])
    return [ROOT.render((*where, index)) for index, mount in enumerate(mounts) if name and mount.get("name") == name]


def is_below(place: str, entry: str) -> bool:
    return place == entry or place.startswith((f"{entry}.", f"{entry}["))


def counterpart(path: Path) -> Path:
    """Return the limit of a request and the other way round: one that cannot be read takes both with it."""
    other = {"limits": "requests", "requests": "limits"}
    return (*path[:-2], other.get(str(path[-2]), ""), path[-1]) if len(path) > 1 else path


def says_what_holds(pod: dict[str, Any], path: Path, observed: object) -> bool:
    """Tell an empty map or list, which asks for nothing, and a value that is read but is the default: another has an effect."""
    value = at(pod, path)
    if value in ({}, []):
        return True
    other = {"": "x", False: True, "1": "1m"}.get(value, value + 1 if isinstance(value, int) else None)
    return other is not None and consequences(replaced(pod, path, other))[0] != observed


@settings(max_examples=150, deadline=None)
@given(pod=any_pods() | WIRED_PODS)
def test_every_leaf_of_a_pod_is_honoured_or_reported(pod: dict[str, Any]) -> None:
    observed, findings = consequences(pod)
    reported = {d.origin.path for d in findings}
    refused = {d.origin.path for d in findings if d.severity is Severity.ERROR}
    for path in leaves(pod):
        told = (
            any(ROOT.render(path[:end]) in reported for end in range(1, len(path) + 1))
            or ROOT.render(counterpart(path)) in reported
            or goes_with_its_entry(pod, path, refused)
        )
        counts = told or is_structure(path) or consequences(without(pod, path))[0] != observed
        assert counts or says_what_holds(pod, path, observed), ROOT.render(path)


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
