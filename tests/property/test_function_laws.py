"""What a task asks for is carried by its call of a Function, or named where it was asked for."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from modalflow.settings import read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.functions.plan import FunctionPlan
from modalflow.translation.inputs import TaskContext
from modalflow.translation.plan import SandboxPlan
from modalflow.translation.result import Translation
from modalflow.translation.translate import translate

FUNCTIONS = '{"any": {"app": "m", "function": "Runner.run"}, "own": {"app": "m", "function": "Own.run", "image": "me/train:1"}}'
OPTIONS = read_settings({"functions": FUNCTIONS, "namespaces": '{"ml": "prod/ml-tasks"}'}).translation
CONTEXT = TaskContext(env={"MODALFLOW_LAUNCH_ID": "x"}, tags={"dag_id": "d"})

WORDS: dict[str, Any] = {
    "image": "me/train:1",
    "registry_secret": "ghcr",
    "entrypoint": ["/bin/env"],
    "force_build": True,
    "gpu": ["H100:2", "L4:2"],
    "gpu_wait": 60,
    "cpu": [1.7, 5],
    "memory": ["3Gi", "5Gi"],
    "env": {"A": "1", "B": "two"},
    "secrets": ["hf", {"name": "db", "required_keys": ["URL"]}],
    "volumes": {"/z": "data", "/m": {"name": "models", "read_only": True}, "/b": {"bucket": "raw", "prefix": "in/"}},
    "timeout": "3h",
    "region": ["us-west", "eu"],
    "cloud": "aws",
    "workdir": "/work",
    "oidc": True,
    "keep_on_failure": "10m",
    "runtime": "gvisor",
    "namespace": "ml",
    "tags": {"team": "ml"},
}
CARRIED = ("gpu_candidates", "candidate_regions", "gpu_wait", "timeout", "cloud", "secrets", "setup")
"""Fields that are the same on both."""
UNORDERED = ("volumes", "buckets", "region")
RAISED = ("cpu", "memory")
LOST = ("keep_on_failure", "workdir", "runtime", "namespace", "image.entrypoint", "image.force_build", "tags.team")
"""Fields that no call has."""
BY_ITSELF = {"oidc", "home", "image", "env", "tags"}
"""Every Function has a token; ``home`` goes with ``namespace``; parts of the others are looked at one by one."""


def as_target(words: dict[str, Any], target: str) -> Translation:
    return translate({"modal": {**words, "backend": target}}, context=CONTEXT, options=OPTIONS, templates=TemplateFolders())


def asked(plan: SandboxPlan, name: str) -> object:
    value: Any = plan
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else getattr(value, part)
    return value


def numbers(value: Any) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value or 0.0,)


def check_carried(plan: FunctionPlan, same: SandboxPlan) -> None:
    for name in CARRIED:
        assert getattr(plan, name) == getattr(same, name), name
    for name in UNORDERED:
        assert sorted(getattr(plan, name), key=repr) == sorted(getattr(same, name), key=repr), name
    for name in RAISED:
        given, wanted = numbers(getattr(plan, name)), numbers(getattr(same, name))
        assert all(more >= less for more, less in zip(given, wanted, strict=True)), name
    assert plan.env == same.env
    assert plan.image == same.image
    assert plan.longest >= plan.timeout
    assert plan.tags.items() <= same.tags.items()


def test_every_field_of_a_sandbox_is_looked_at() -> None:
    fields = {field.name for field in dataclasses.fields(SandboxPlan)}
    looked_at = {*CARRIED, *UNORDERED, *RAISED, *(name.partition(".")[0] for name in LOST), *BY_ITSELF}
    assert fields == looked_at


@settings(max_examples=150, deadline=None)
@given(st.sets(st.sampled_from(sorted(WORDS))))
def test_a_call_carries_what_was_asked_for_or_names_where_it_was(names: set[str]) -> None:
    words = {name: WORDS[name] for name in sorted(names)}
    sandbox, function = as_target(words, "sandbox"), as_target(words, "function")
    same = sandbox.plan
    assert isinstance(same, SandboxPlan)
    told = {str(finding.origin) for finding in function.diagnostics if finding.code == "not-on-function"}
    bare = SandboxPlan(image=OPTIONS.auto_image)
    lost = {name for name in LOST if asked(same, name) not in {asked(bare, name), None}}
    assert told == {str(sandbox.origins[name]) for name in lost}
    refused = lost - {"tags.team", "keep_on_failure"}
    assert (function.plan is None) == bool(refused)
    if isinstance(function.plan, FunctionPlan):
        check_carried(function.plan, same)


@settings(max_examples=50, deadline=None)
@given(st.sets(st.sampled_from(sorted(WORDS))))
def test_auto_is_a_function_exactly_where_nothing_is_lost(names: set[str]) -> None:
    words = {name: WORDS[name] for name in sorted(names)}
    auto, function = as_target(words, "auto"), as_target(words, "function")
    is_whole = not any(finding.code == "not-on-function" for finding in function.diagnostics)
    assert isinstance(auto.plan, FunctionPlan if is_whole else SandboxPlan)
    told = [finding.message for finding in auto.diagnostics if finding.code == "sandbox-chosen"]
    assert len(told) == (not is_whole)
    if told:
        assert any(str(finding.origin) in told[0] for finding in function.diagnostics if finding.code == "not-on-function")
