"""Strategic merge against ``kubectl patch --local --type=strategic``, where there is a kubectl (1.32.4 when this was written).

Two things that kubectl 1.32 does to a new entry of a list are left out: a directive inside it stays there as a field, and a map
with ``$patch: replace`` that is laid on nothing loses its values. Here directives are obeyed everywhere. The task's container is
moved to the front on both sides.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.pods.form import PlainPod, keep_nulls
from modalflow.translation.pods.strategic import merge_strategically
from modalflow.translation.report import Root

KUBECTL = shutil.which("kubectl")
PAIRS = 60
"""Pairs made by chance, each from its own number; one takes kubectl some 60 ms."""
Pod = dict[str, Any]
WORDS = ("a", "b", "c")

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="no kubectl here")


def root(name: str) -> Root:
    return Root(layer=name, prefix=name, style="dotted")


def ours(*pods: Pod) -> tuple[PlainPod, list[Diagnostic]]:
    findings: list[Diagnostic] = []
    layers = [(keep_nulls(pod), root(f"pod{rank}"), rank) for rank, pod in enumerate(pods)]
    return merge_strategically(layers, findings)[0], findings


def theirs(base: Pod, patch: Pod, folder: Path) -> Pod | None:
    assert KUBECTL is not None
    file = folder / "base.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "Pod", **base}), encoding="utf-8")
    command = [KUBECTL, "patch", "--local", "--type=strategic", "-f", str(file), "-p", json.dumps(patch), "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    pod: Pod = json.loads(done.stdout)
    containers = pod["spec"].get("containers", [])
    containers.sort(key=lambda container: container["name"] != "base")
    return pod


def without_empty(value: Any) -> Any:
    """Drop empty lists and maps, which kubectl keeps or drops by the Go type of the field, and directives that it left."""
    if isinstance(value, dict):
        kept = {key: without_empty(child) for key, child in value.items() if child is not None}
        return {key: child for key, child in kept.items() if child not in ({}, [])}
    if isinstance(value, list):
        return [without_empty(child) for child in value if not (isinstance(child, dict) and "$patch" in child)]
    return value


class Maker:
    """Makes pods, and patches with directives and nulls, of every list that Kubernetes merges by a key."""

    def __init__(self, number: int) -> None:
        source = random.Random(number)
        self.pick: Callable[[Any], Any] = source.choice
        self.chance: Callable[[], float] = source.random

    def entries(self, key: str, names: tuple[Any, ...], make: Callable[[], Pod], *, patch: bool) -> list[Pod]:
        chosen = list(dict.fromkeys(self.pick(names) for _ in range(int(self.chance() * 4))))
        found = [{key: name, **make()} for name in chosen]
        if patch:
            found = [{key: e[key], "$patch": "delete"} if self.chance() < 0.15 else e for e in found]
            if self.chance() < 0.1:
                found.append({"$patch": "replace"})
        return found

    def maybe(self, fields: dict[str, Callable[[], Any]], *, patch: bool, chance: float = 0.4) -> Pod:
        found: Pod = {}
        for name, make in fields.items():
            if self.chance() < chance:
                found[name] = None if patch and self.chance() < 0.15 else make()
        return found

    def words(self, *, patch: bool) -> Pod:
        return {self.pick(WORDS): None if patch and self.chance() < 0.2 else self.pick("123") for _ in range(2)}

    def container(self, *, patch: bool) -> Pod:
        return self.maybe(
            {
                "image": lambda: self.pick(WORDS),
                "command": lambda: [self.pick(WORDS)],
                "env": lambda: self.entries("name", ("A", "B", "C", "D"), lambda: {"value": self.pick("123")}, patch=patch),
                "envFrom": lambda: [{"secretRef": {"name": self.pick(WORDS)}}],
                "ports": lambda: self.entries("containerPort", (80, 81), lambda: {"name": self.pick(WORDS)}, patch=patch),
                "volumeMounts": lambda: self.entries("mountPath", ("/a", "/b"), lambda: {"name": self.pick(WORDS)}, patch=patch),
                "resources": lambda: {self.pick(("limits", "requests")): {self.pick(("cpu", "memory")): self.pick("123")}},
                "securityContext": lambda: {"runAsUser": 1, "capabilities": {"add": [self.pick(WORDS)]}},
            },
            patch=patch,
        )

    def pod(self, *, patch: bool) -> Pod:
        spec = self.maybe(
            {
                "initContainers": lambda: self.entries("name", WORDS, lambda: self.container(patch=patch), patch=patch),
                "volumes": lambda: self.entries("name", WORDS, lambda: {"emptyDir": {"medium": "Memory"}}, patch=patch),
                "imagePullSecrets": lambda: self.entries("name", WORDS, dict, patch=patch),
                "hostAliases": lambda: self.entries("ip", ("1.1.1.1", "2.2.2.2"), lambda: {"hostnames": ["x"]}, patch=patch),
                "tolerations": lambda: [{"key": self.pick(WORDS)}],
                "nodeSelector": lambda: self.words(patch=patch),
                "topologySpreadConstraints": lambda: self.entries(
                    "topologyKey",
                    WORDS,
                    lambda: {"maxSkew": self.pick((1, 2)), "whenUnsatisfiable": "DoNotSchedule"},
                    patch=patch,
                ),
                "hostNetwork": lambda: self.pick((True, False)),
                "activeDeadlineSeconds": lambda: self.pick((1, 60)),
                "dnsConfig": lambda: {"nameservers": [self.pick(WORDS)]},
            },
            patch=patch,
        )
        spec["containers"] = [{"name": "base", **self.container(patch=patch)}]
        if self.chance() < 0.3:
            spec["containers"].append({"name": "side", **self.container(patch=patch)})
        if patch and self.chance() < 0.2:
            spec["$setElementOrder/containers"] = [{"name": "base"}, {"name": "side"}]
        metadata = self.maybe(
            {
                "labels": lambda: self.words(patch=patch),
                "annotations": lambda: self.words(patch=patch),
                "finalizers": lambda: [f"{word}/x" for word in dict.fromkeys((self.pick(WORDS), self.pick(WORDS)))],
            },
            patch=patch,
        )
        if patch and self.chance() < 0.2:
            metadata.pop("finalizers", None)
            metadata["$deleteFromPrimitiveList/finalizers"] = ["a/x"]
        return {"metadata": {"name": "x", **metadata}, "spec": spec}


@pytest.mark.parametrize("number", range(PAIRS))
def test_pairs_made_by_chance(number: int, tmp_path: Path) -> None:
    maker = Maker(number)
    base, patch = maker.pod(patch=False), maker.pod(patch=True)
    expected = theirs(base, patch, tmp_path)
    merged, findings = ours({"apiVersion": "v1", "kind": "Pod", **base}, patch)
    assert expected is not None
    assert {found.code for found in findings} <= {"replaced-list"}
    assert without_empty(merged) == without_empty(expected)
