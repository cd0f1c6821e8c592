"""The account as a law: leaves written = leaves accounted for, once each, with what it decides or what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from modalflow.translation.account import Fate, Leaf, account
from modalflow.translation.diagnostics import Diagnostic, Severity
from modalflow.translation.inputs import FileContent, LoadedTemplate, TaskContext
from modalflow.translation.layers import CONFIG, MODAL, POD_OVERRIDE
from modalflow.translation.origins import Origin
from modalflow.translation.translate import translate
from tests.property.pods import OPTIONS, WIRED_PODS, Files, any_pods, at, having, leaves, some

CONTEXT = TaskContext(env={"MODALFLOW_LAUNCH_ID": "x"}, tags={"dag_id": "d"})
TEMPLATE = "mine"


class OneTemplate(Files):
    """Also knows the template ``mine``."""

    def __init__(self, document: Mapping[str, object]) -> None:
        self._document = document

    def load(self, name: str, *, asked_by: Origin) -> LoadedTemplate | Diagnostic:
        if name != TEMPLATE:
            return super().load(name, asked_by=asked_by)
        return LoadedTemplate(name=name, file="mine.yaml", document=self._document, lines={(): 1})

    def config_map(self, path: str) -> Mapping[str, FileContent] | str:
        return super().config_map(path)


MODAL_KEYS = having(
    None,
    gpu=some("T4", "L4", "T4:99", ["H100", "A100"], {"model": "L4", "count": 2}, "x", 1),
    cpu=some(1, [1, 2], {"request": 1}, "2", "x"),
    memory=some(512, "1Gi", [512, 1024], {"request": "1Gi", "limit": "2Gi"}, "128m"),
    image=some("me/train:1", "auto", "not an image"),
    env=having(None, **{"A": some("x", "$(B)"), "B": some("y", 1), "1bad": some("x")}),
    secrets=st.lists(some("open-on-modal", "m", "other", 3), min_size=1, max_size=2),
    volumes=having(None, **{"/a": some("data", {"name": "data", "sub_path": "x", "read_only": False}), "relative": some("data")}),
    timeout=some("6h", 60, 99999999),
    region=some("us-east", ["us-east-1", "eu"], "nowhere"),
    workdir=some("/work", "relative"),
    tags=having(team=some("ml", "a b"), dag_id=some("x")),
    unheard=some(1, {"a": 1}),
)
POD_LAYERS = WIRED_PODS | any_pods()


def accounted(config: Mapping[str, Any], document: Mapping[str, object]) -> tuple[tuple[Leaf, ...], tuple[Diagnostic, ...]]:
    templates = OneTemplate(document)
    told = account(config, context=CONTEXT, options=OPTIONS, templates=templates)
    return told, translate(config, context=CONTEXT, options=OPTIONS, templates=templates).diagnostics


def check(told: tuple[Leaf, ...], findings: tuple[Diagnostic, ...]) -> None:
    places = [(leaf.origin.layer, leaf.origin.path) for leaf in told]
    assert len(set(places)) == len(places), "a leaf has two fates"
    refused = {(d.origin.layer, d.origin.path) for d in findings if d.severity is Severity.ERROR}
    codes = {d.code for d in findings}
    for leaf in told:
        where = str(leaf.origin)
        assert leaf.fate is not Fate.UNACCOUNTED, where
        assert leaf.fields or leaf.fate is not Fate.HONOURED, f"{where} is {leaf.fate} as nothing"
        assert leaf.codes or leaf.fate is not Fate.REPORTED, f"{where} is reported by nothing"
        assert set(leaf.codes) <= codes, f"{where}: {leaf.codes} are said nowhere"
        assert leaf.fate is not Fate.HONOURED or (leaf.origin.layer, leaf.origin.path) not in refused, f"{where} is refused too"


def check_empty(told: tuple[Leaf, ...], layer: str, written: dict[str, tuple[tuple[str | int, ...], Any]]) -> None:
    for leaf in told:
        if leaf.origin.layer == layer and leaf.fate is Fate.EMPTY:
            assert written[leaf.origin.path][1] in (None, {}, []), str(leaf.origin)


@settings(max_examples=40, deadline=None)
@given(pod=POD_LAYERS)
def test_of_a_pod(pod: dict[str, Any]) -> None:
    told, findings = accounted({"pod_override": pod}, {})
    written = {POD_OVERRIDE.render(path): (path, at(pod, path)) for path in leaves(pod)}
    assert {leaf.origin.path for leaf in told} == set(written)
    check(told, findings)
    check_empty(told, POD_OVERRIDE.layer, written)


@settings(max_examples=40, deadline=None)
@given(keys=MODAL_KEYS)
def test_of_a_task_template(keys: dict[str, Any]) -> None:
    document = {"apiVersion": "modalflow/v1", "kind": "ModalTask", "spec": keys}
    told, findings = accounted({"modal": {"template": TEMPLATE}}, document)
    own = {leaf.origin.path for leaf in told if leaf.origin.file == "mine.yaml"}
    expected = {_dotted(("spec", *path)) for path in leaves(keys)} if keys else {"spec"}
    assert own == expected
    check(told, findings)


@settings(max_examples=25, deadline=None)
@given(below=POD_LAYERS, above=POD_LAYERS, keys=MODAL_KEYS)
def test_of_all_layers_at_once(below: dict[str, Any], above: dict[str, Any], keys: dict[str, Any]) -> None:
    config = {"pod_template_file": TEMPLATE, "pod_override": above, "modal": keys}
    told, findings = accounted(config, {"kind": "Pod", **below})
    written = {POD_OVERRIDE.render(path) for path in leaves(above)} | {MODAL.render(path) for path in leaves(keys)}
    written |= {_dotted(path) for path in leaves({"kind": "Pod", **below})} | {CONFIG.render(("pod_template_file",))}
    assert {leaf.origin.path for leaf in told} == written
    check(told, findings)


def test_of_a_claim_that_an_override_takes_away() -> None:
    """What the template says would be heard of without the override: the claim is known to nobody."""
    claimed = {
        "resourceClaims": [{"name": "gpu", "resourceClaimName": "mine"}],
        "containers": [{"name": "base", "resources": {"claims": [{"name": "gpu"}]}}],
    }
    above = {"spec": {"containers": [{"name": "base", "resources": {}}]}}
    told, findings = accounted({"pod_template_file": TEMPLATE, "pod_override": above}, {"kind": "Pod", "spec": claimed})
    check(told, findings)
    fates = {leaf.origin.path: leaf.fate for leaf in told}
    assert fates["spec.containers[0].resources.claims[0].name"] is Fate.OVERRIDDEN


def _dotted(path: tuple[str | int, ...]) -> str:
    return POD_OVERRIDE.render(path).removeprefix(f"{POD_OVERRIDE.prefix}.").removeprefix(POD_OVERRIDE.prefix)


def test_of_a_wish_without_effect_that_an_override_repeats() -> None:
    """A preference for nothing is read and changes nothing; the override takes its place all the same."""
    term = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1}]}}
    pod = {"spec": {"affinity": term, "containers": [{"name": "base"}]}}
    told, findings = accounted({"pod_template_file": TEMPLATE, "pod_override": pod}, {"kind": "Pod", **pod})
    check(told, findings)
    fates = {leaf.origin.layer: leaf.fate for leaf in told if leaf.origin.path.endswith("[0].weight")}
    assert fates == {"template mine": Fate.OVERRIDDEN, "pod_override": Fate.HONOURED}
