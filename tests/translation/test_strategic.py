"""Strategic merge: pairs that read like documentation, its laws, and the origin of every value."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.pods.form import NULL, keep_nulls
from modalflow.translation.pods.strategic import DIRECTIVES, KINDS, MergedRoot, merge_strategically
from modalflow.translation.report import Root

PAIRS = yaml.safe_load((Path(__file__).parent / "merges" / "strategic.yaml").read_text(encoding="utf-8"))
Pod = dict[str, Any]


def merged(*pods: Pod) -> tuple[Pod, MergedRoot]:
    findings: list[Diagnostic] = []
    layers = [(keep_nulls(pod), Root(layer=str(n), prefix=f"pod{n}", style="dotted"), n) for n, pod in enumerate(pods)]
    pod, root, rank = merge_strategically(layers, findings)
    assert {found.code for found in findings} <= {"replaced-list"}
    assert rank == len(pods) - 1
    return pod, root


def pod_of(part: str, value: Pod) -> Pod:
    if part == "container":
        return {"spec": {"containers": [{"name": "base", **value}]}}
    if part == "spec":
        return {"spec": value if "containers" in value else {"containers": [{"name": "base"}], **value}}
    return {"metadata": value, "spec": {"containers": [{"name": "base"}]}}


@pytest.mark.parametrize("pair", [pytest.param(pair, id=pair["name"]) for pair in PAIRS])
def test_pair(pair: Pod) -> None:
    base, patch = pod_of(pair["of"], pair["base"]), pod_of(pair["of"], pair["patch"])
    before = copy.deepcopy((base, patch))
    assert merged(base, patch)[0] == pod_of(pair["of"], pair["merged"])
    assert (base, patch) == before


def test_there_are_pairs_for_every_list_that_is_merged_and_every_directive() -> None:
    assert len(PAIRS) >= 60
    patches = repr([pair["patch"] for pair in PAIRS])
    for directive in DIRECTIVES:
        assert f"'{directive}" in patches
    lists = {name for fields in KINDS.values() for name, rule in fields.items() if not isinstance(rule, str)}
    assert {name for name in lists if f"'{name}'" not in patches} == {"ephemeralContainers"}


NAMES = st.sampled_from(["a", "b", "c"])
MAPS = st.dictionaries(NAMES, st.sampled_from(["1", "2"]), max_size=2)


def keyed(key: str, value: st.SearchStrategy[Pod]) -> st.SearchStrategy[list[Pod]]:
    entries = st.builds(lambda name, rest: {key: name, **rest}, NAMES, value)
    return st.lists(entries, max_size=2, unique_by=lambda entry: entry[key])


CONTAINER = st.fixed_dictionaries(
    {},
    optional={
        "image": NAMES,
        "command": st.lists(NAMES, max_size=2),
        "env": keyed("name", st.fixed_dictionaries({"value": NAMES})),
        "volumeMounts": keyed("mountPath", st.fixed_dictionaries({"name": NAMES})),
        "resources": st.fixed_dictionaries({}, optional={"limits": MAPS, "requests": MAPS}),
        "tty": st.booleans(),
    },
)
PODS = st.fixed_dictionaries(
    {
        "spec": st.fixed_dictionaries(
            {"containers": keyed("name", CONTAINER)},
            optional={
                "nodeSelector": MAPS,
                "tolerations": st.lists(st.fixed_dictionaries({"key": NAMES}), max_size=2),
                "volumes": keyed("name", st.fixed_dictionaries({"emptyDir": MAPS})),
            },
        )
    },
    optional={"metadata": st.fixed_dictionaries({}, optional={"labels": MAPS, "finalizers": st.lists(NAMES, unique=True)})},
)


def unordered(value: Any) -> Any:
    """Sort the lists that are merged by a key: their order is not part of what is associative."""
    if isinstance(value, dict):
        return {key: unordered(child) for key, child in value.items()}
    if isinstance(value, list):
        entries = [unordered(child) for child in value]
        return sorted(entries, key=repr) if all(isinstance(entry, dict) for entry in entries) else entries
    return value


def without_finalizers(pod: Pod) -> Pod:
    return {**pod, "metadata": {k: v for k, v in pod.get("metadata", {}).items() if k != "finalizers"}}


@settings(max_examples=100, deadline=None)
@given(pod=PODS, patch=PODS, more=PODS)
def test_laws(pod: Pod, patch: Pod, more: Pod) -> None:
    alone = merged(pod)[0]
    assert unordered(alone) == unordered(pod)
    assert merged(pod, {})[0] == alone, "nothing changes nothing"
    assert merged({}, pod)[0] == alone
    once = merged(pod, patch)[0]
    assert merged(pod, patch, patch)[0] == once, "the same patch again changes nothing"
    left = without_finalizers(merged(once, more)[0])
    right = without_finalizers(merged(pod, merged(patch, more)[0])[0])
    assert unordered(left) == unordered(right), "patches without nulls and directives are associative, but for order"


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Any:
    if isinstance(value, (dict, list)) and value:
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(child, (*path, key))
    else:
        yield path, value


@settings(max_examples=100, deadline=None)
@given(pods=st.lists(PODS, min_size=1, max_size=4))
def test_every_leaf_knows_the_layer_and_path_it_was_written_at(pods: list[Pod]) -> None:
    pod, root = merged(*pods)
    for path, value in leaves(pod):
        source = root.source(path)
        if value not in ({}, []):
            assert at(pods[source.rank], source.path) == value
        assert root.origin(path).path == source.root.render(source.path)


def told(*pods: Pod) -> list[str]:
    findings: list[Diagnostic] = []
    layers = [(keep_nulls(pod), Root(layer=str(n), prefix=f"pod{n}", style="dotted"), n) for n, pod in enumerate(pods)]
    merge_strategically(layers, findings)
    return [f"{d.code}: {d}" for d in findings]


@pytest.mark.parametrize(
    ("container", "text"),
    [
        ({"resources": {"$patch": "merge"}}, '.resources["$patch"]: expected replace or delete, got "merge"'),
        ({"env": [{"name": "A", "$patch": "x"}]}, '.env[0]["$patch"]: expected replace or delete, got "x"'),
        ({"env": [{"value": "1"}]}, ".env[0]: has no name, by which this list is merged; write name"),
        ({"env": [{"$patch": "delete"}]}, ".env[0]: has no name, by which this list is merged; write name"),
        ({"env": ["A"]}, ".env[0]: has no name, by which this list is merged; write name"),
        ({"$retain": ["a"]}, '["$retain"]: there is no such directive; did you mean "$retainKeys"?'),
        ({"$retainKeys": "name"}, '["$retainKeys"]: expected a list of fields, got text'),
        (
            {"$retainKeys": ["name"], "image": "a"},
            '["$retainKeys"]: does not name "image", which stands beside it; add "image"',
        ),
        (
            {"$deleteFromPrimitiveList/env": ["A"]},
            '["$deleteFromPrimitiveList/env"]: "env" is not a list of words that Kubernetes merges',
        ),
        (
            {"$setElementOrder/command": ["a"]},
            '["$setElementOrder/command"]: "command" is not a list that Kubernetes merges',
        ),
        ({"$setElementOrder/env": 1}, '["$setElementOrder/env"]: expected a list'),
        (
            {"$setElementOrder/env": [{"name": "B"}], "env": [{"name": "A"}]},
            '["$setElementOrder/env"]: does not name the entries of "env" beside it in their order',
        ),
    ],
)
def test_misused_directives_are_named(container: Pod, text: str) -> None:
    override = pod_of("container", container)
    base = pod_of("container", {"image": "x"})
    assert told(base, override) == [f"bad-directive: pod1.spec.containers[0]{text}"]


def test_a_pod_without_an_end_is_cut_off() -> None:
    endless: Pod = {}
    endless["spec"] = endless
    assert keep_nulls(endless) is not endless
    assert repr(NULL) == "null"
