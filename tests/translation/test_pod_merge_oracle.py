"""Every field of a pod merges as ``PodGenerator.reconcile_pods`` does: pairs made of all fields of the client's classes.

The merged dict is compared whole, empty lists and maps included, with the oracle's pod as the client sends it.
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes.client import ApiClient, Configuration
from kubernetes.client import models as k8s

from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.pods.form import FREE_MAPS, field_name, read_pod_form
from modalflow.translation.pods.merge import merge_pods
from modalflow.translation.report import Place, Root

LENIENT = Configuration()
LENIENT.client_side_validation = False  # objects that lack required fields merge by the same rules
CLIENT = ApiClient(configuration=LENIENT)
Pod = dict[str, Any]
WORDS = ("", "a", "b", "c")
KEYS = ("cpu", "memory", "my_team")
PAIRS = 200
"""Pairs made by chance, each from its own number, beside those of hypothesis."""


def as_object(pod: Pod) -> Any:
    return CLIENT._ApiClient__deserialize_model(copy.deepcopy(pod), k8s.V1Pod)


def oracle(base: Pod, override: Pod | None) -> object:
    merged = PodGenerator.reconcile_pods(as_object(base), None if override is None else as_object(override))
    return CLIENT.sanitize_for_serialization(merged)


def plain(pod: object) -> Pod:
    findings: list[Diagnostic] = []
    found = read_pod_form(pod, Place(Root(layer="pod", prefix="", style="dotted"), (), findings))
    assert findings == []
    assert found is not None
    return found


class Maker:
    """Makes pods of arbitrary fields. ``pick`` chooses one of some, ``some`` how many of something."""

    def __init__(self, pick: Callable[[Any], Any], some: Callable[[int], int]) -> None:
        self.pick = pick
        self.some = some

    def value(self, kind: str, depth: int) -> Any:
        """Return a value of a type as the client names it; often one that Python calls false."""
        if match := re.fullmatch(r"list\[(.+)\]", kind):
            return [self.value(match[1], depth - 1) for _ in range(self.some(2))]
        if kind.startswith("dict"):
            return {self.pick(KEYS): self.pick(WORDS) for _ in range(self.some(2))}
        if hasattr(k8s, kind):
            return self.object(getattr(k8s, kind), depth)
        return self.pick({"int": (0, 1, 2), "bool": (True, False), "float": (0.0, 1.5)}.get(kind, WORDS))

    def object(self, kind: Any, depth: int) -> dict[str, Any]:
        """Return a few fields, by their names in JSON. Required ones need no value in the client's reading of JSON."""
        types = {name: inner for name, inner in kind.openapi_types.items() if inner not in {"datetime", "object"}}
        flat = [name for name in types if depth > 0 or not re.search("V1|list|dict", types[name])]
        found = {name: self.value(types[name], depth - 1) for name in self._names(flat)}
        for name in kind.openapi_types:
            if name == "name" and kind in {k8s.V1Container, k8s.V1EnvVar, k8s.V1Volume, k8s.V1VolumeMount}:
                found[name] = self.pick(WORDS[1:])
        return {kind.attribute_map[name]: child for name, child in found.items() if child is not None}

    def _names(self, names: list[str]) -> list[str]:
        return list(dict.fromkeys(self.pick(names) for _ in range(self.some(5)))) if names else []

    def pod(self) -> Pod:
        """Return a pod with containers, and now and then without metadata."""
        spec = self.object(k8s.V1PodSpec, 3)
        spec["containers"] = [self.object(k8s.V1Container, 3) for _ in range(self.some(3))]
        for name in ("initContainers", "volumes"):
            if self.some(1):
                kind = k8s.V1Volume if name == "volumes" else k8s.V1Container
                spec[name] = [self.object(kind, 2) for _ in range(self.some(2))]
        pod: Pod = {"spec": spec}
        if self.some(3):
            pod["metadata"] = self.object(k8s.V1ObjectMeta, 2)
        for name in ("labels", "annotations"):
            if self.some(1):
                pod.setdefault("metadata", {})[name] = {self.pick(KEYS): self.pick(WORDS) for _ in range(self.some(2))}
        if not self.some(8):
            del pod["spec"]
        return pod


def assert_agree(base: Pod, override: Pod) -> None:
    before = copy.deepcopy((base, override))
    ours = merge_pods(base, override)
    assert (base, override) == before
    assert ours == oracle(base, override)


def chance(number: int) -> Maker:
    source = random.Random(number)
    return Maker(source.choice, lambda most: source.randint(0, most))


@pytest.mark.parametrize("number", range(PAIRS))
def test_pairs_made_by_chance(number: int) -> None:
    maker = chance(number)
    assert_agree(maker.pod(), maker.pod())


@pytest.mark.parametrize("number", range(PAIRS, PAIRS + 40))
def test_objects_and_their_to_dict_merge_like_their_yaml(number: int) -> None:
    maker = chance(number)
    base, override = maker.pod(), maker.pod()
    expected = oracle(base, override)
    objects = as_object(base), as_object(override)
    assert merge_pods(*map(plain, objects)) == expected
    assert merge_pods(*(plain(pod.to_dict()) for pod in objects)) == expected


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_pairs_that_hypothesis_makes(data: st.DataObject) -> None:
    maker = Maker(lambda some: data.draw(st.sampled_from(list(some))), lambda most: data.draw(st.integers(0, most)))
    assert_agree(maker.pod(), maker.pod())


def test_every_attribute_of_the_client_is_read_as_its_field() -> None:
    seen: set[str] = set()
    waiting = ["V1Pod"]
    while waiting:
        name = re.sub(r"^(list\[|dict\(str, )?(\w+)[\])]?$", r"\2", waiting.pop())
        kind: Any = getattr(k8s, name, None)
        if kind is None or name in seen:
            continue
        seen.add(name)
        assert {attribute: field_name(attribute) for attribute in kind.attribute_map} == kind.attribute_map, name
        free = {kind.attribute_map[field] for field, of in kind.openapi_types.items() if of.startswith("dict")}
        assert free - {"resources"} <= FREE_MAPS, name  # of a pod's status, and elsewhere an object
        waiting += kind.openapi_types.values()
    assert len(seen) > 120
