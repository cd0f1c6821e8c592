"""The account of pods like those that people have: no crash, and every leaf is honoured, reported, overridden or empty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from modalflow.settings import read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.account import Fate, account, leaves
from modalflow.translation.inputs import TaskContext
from modalflow.translation.layers import POD_OVERRIDE
from modalflow.translation.translate import translate

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.yaml"))
OPTIONS = read_settings({"default_gpu": "T4"}).translation
TEMPLATES = TemplateFolders()


def fates(pod: Any) -> dict[str, Fate]:
    told = account({"pod_override": pod}, context=TaskContext(), options=OPTIONS, templates=TEMPLATES)
    return {leaf.origin.path: leaf.fate for leaf in told if leaf.origin.layer == POD_OVERRIDE.layer}


def test_the_corpus_is_large_and_says_what_it_is_modelled_on() -> None:
    assert len(CORPUS) >= 100
    assert all(path.read_text(encoding="utf-8").startswith("# Modelled on ") for path in CORPUS)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_every_leaf_is_accounted_for(path: Path) -> None:
    pod = yaml.safe_load(path.read_text(encoding="utf-8"))
    told = fates(pod)
    assert set(told) == {POD_OVERRIDE.render(leaf) for leaf, _ in leaves(pod)}
    assert [where for where, fate in told.items() if fate is Fate.UNACCOUNTED] == []
    result = translate({"pod_override": pod}, context=TaskContext(), options=OPTIONS, templates=TEMPLATES)
    assert "untranslatable" not in {found.code for found in result.diagnostics}
    if "nvidia.com/gpu" in pod["spec"]["containers"][0].get("resources", {}).get("limits", {}):
        assert result.plan is None or result.plan.gpu_candidates


EXPECTED = yaml.safe_load((Path(__file__).parent / "corpus_expected.yaml").read_text(encoding="utf-8"))


def codes_of(name: str, options: dict[str, str]) -> list[str]:
    """Return the codes of the errors of one pod of the corpus."""
    pod = yaml.safe_load((Path(__file__).parent / "corpus" / f"{name}.yaml").read_text(encoding="utf-8"))
    given = read_settings({"default_gpu": "T4", **options}).translation
    result = translate({"pod_override": pod}, context=TaskContext(), options=given, templates=TEMPLATES)
    assert (result.plan is None) == bool(result.errors)
    return sorted({found.code for found in result.errors})


def test_every_pod_of_the_corpus_has_an_expectation() -> None:
    expected = [*EXPECTED["translates"], *EXPECTED["translates_with"], *EXPECTED["refused"]]
    assert sorted(expected) == sorted(path.stem for path in CORPUS)


@pytest.mark.parametrize("name", EXPECTED["translates"])
def test_it_translates(name: str) -> None:
    assert codes_of(name, {}) == []


@pytest.mark.parametrize("name", EXPECTED["translates_with"])
def test_it_translates_once_the_site_says_where_things_are(name: str) -> None:
    expected = EXPECTED["translates_with"][name]
    assert codes_of(name, {}) == expected["codes"]
    assert codes_of(name, expected["options"]) == []


@pytest.mark.parametrize("name", EXPECTED["refused"])
def test_it_is_refused_for_the_right_reason(name: str) -> None:
    assert codes_of(name, {}) == EXPECTED["refused"][name]


NAMES = ("name", "image", "env", "value", "resources", "limits", "cpu", "memory", "volumes", "emptyDir", "restartPolicy", "x_y")
TREES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["1Gi", "x", "Never", "me/train:1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=150, deadline=None)
@given(spec=st.dictionaries(st.sampled_from([*NAMES, "containers", "nodeSelector", "affinity"]), TREES, max_size=4), main=TREES)
def test_the_account_holds_for_any_pod(spec: dict[str, Any], main: Any) -> None:
    pod = {"spec": {"containers": [main], **spec}}
    assert Fate.UNACCOUNTED not in set(fates(pod).values())


def test_a_value_that_a_stronger_layer_replaces_is_overridden() -> None:
    config = {"pod_override": {"spec": {"containers": [{"resources": {"requests": {"cpu": 2}}}]}}, "modal": {"cpu": 4}}
    told = {leaf.origin.path: leaf for leaf in account(config, context=TaskContext(), options=OPTIONS, templates=TEMPLATES)}
    weak = told["pod_override.spec.containers[0].resources.requests.cpu"]
    assert (weak.fate, weak.fields, str(weak.by)) == (Fate.OVERRIDDEN, ("cpu",), 'executor_config["modal"]["cpu"]')
    strong = told['executor_config["modal"]["cpu"]']
    assert (strong.fate, strong.fields) == (Fate.HONOURED, ("cpu",))
