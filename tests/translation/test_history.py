"""What a plan overrode, layer by layer; and that the scheduler pays nothing for it."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modalflow.provider.explanation import TAKEN_OUT, rows_with_history
from modalflow.settings import read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.history import history
from modalflow.translation.hooks.types import TaskFacts
from modalflow.translation.inputs import TaskContext
from modalflow.translation.spec import TaskSpec
from modalflow.translation.translate import translate

OPTIONS = read_settings({"memory": "1Gi", "env": '{"SITE": "1", "A": "site"}', "default_template": "gpu-training"}).translation
TEMPLATES = TemplateFolders()
POD: dict[str, Any] = {"spec": {"containers": [{"name": "base", "resources": {"limits": {"cpu": "2", "nvidia.com/gpu": 1}}}]}}
CONFIGS: list[Any] = [
    None,
    {"modal": {"gpu": [], "memory": "2Gi", "env": {"A": "task"}}},
    {"modal": {"template": "cpu", "gpu": "L4"}, "pod_override": POD},
    {"pod_override": POD},
]


class Raising(dict[str, Any]):
    """What a user's object may do."""

    def items(self) -> Any:
        raise RuntimeError

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError


def steps_of(config: object) -> Any:
    return history(config, context=TaskContext(), options=OPTIONS, templates=TEMPLATES)


@pytest.mark.parametrize("config", CONFIGS)
def test_the_last_step_is_what_translate_returns(config: object) -> None:
    result = translate(config, context=TaskContext(), options=OPTIONS, templates=TEMPLATES)
    last = steps_of(config)[-1].translation
    assert last.plan == result.plan
    assert dict(last.origins) == dict(result.origins)


def test_each_step_adds_one_layer() -> None:
    steps = steps_of(CONFIGS[2])
    assert [step.layer for step in steps] == [
        "built-in defaults",
        "[modal_executor]",
        "template default",
        "template gpu-training",
        "template default",
        "template cpu",
        "pod_override",
        'executor_config["modal"]',
    ]
    assert [step.translation.plan.memory for step in steps[:4]] == [None, 1024, 1024, 65536]


def test_rows_have_the_values_they_override_the_strongest_first() -> None:
    config = {"modal": {"gpu": [], "memory": "2Gi", "env": {"A": "task"}}}
    result = translate(config, context=TaskContext(), options=OPTIONS, templates=TEMPLATES)
    rows = {row.field: row for row in rows_with_history(result, steps_of(config))}
    assert [(weaker.value, weaker.decided_by.partition(" (")[0]) for weaker in rows["memory"].overrode] == [
        ("65536 MiB", "spec.memory"),
        ("1024 MiB", "spec.memory"),
        ("1024 MiB", "[modal_executor] memory"),
    ]
    assert [weaker.value for weaker in rows["gpu"].overrode] == ["H100, then A100-80GB"]
    assert [weaker.value for weaker in rows["env.A"].overrode] == ["site"]
    assert rows["env.SITE"].overrode == ()


def test_what_an_empty_list_takes_out_is_told() -> None:
    options = read_settings({"secrets": "warehouse"}).translation
    config: dict[str, Any] = {"modal": {"secrets": []}}
    result = translate(config, context=TaskContext(), options=options, templates=TEMPLATES)
    steps = history(config, context=TaskContext(), options=options, templates=TEMPLATES)
    (row,) = [row for row in rows_with_history(result, steps) if row.field == "secrets.warehouse"]
    assert (row.value, row.decided_by) == (TAKEN_OUT, 'executor_config["modal"]')
    assert [(weaker.value, weaker.decided_by) for weaker in row.overrode] == [("its variables", "[modal_executor] secrets")]


UNREADABLE: list[object] = ["text", Raising(modal=None)]


@pytest.mark.parametrize("config", UNREADABLE)
def test_what_cannot_be_read_has_no_history(config: object) -> None:
    assert steps_of(config) == ()


def test_the_scheduler_does_not_even_import_it() -> None:
    script = (
        "import sys; import modalflow.executor.modal_executor; "
        "shown = ('translation.history', 'translation.prices', 'modal_gateway.source'); "
        "print([name for name in shown if f'modalflow.{name}' in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_hooks_are_the_last_steps_and_what_they_overrode_is_told() -> None:
    def pod_hook(given: dict[str, Any]) -> tuple[Any, Any]:
        left = copy.deepcopy(given)
        left["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "8"
        left["spec"]["containers"][0]["env"] = []
        return given, left

    def task_hook(spec: TaskSpec, task: TaskFacts) -> TaskSpec:
        return replace(spec, memory=(4096, 8192), env={})

    options = replace(OPTIONS, pod_hook=pod_hook, task_hook=task_hook)
    context = TaskContext(task=TaskFacts(dag_id="d", task_id="t"))
    pod = copy.deepcopy(POD)
    pod["spec"]["containers"][0]["env"] = [{"name": "MINE", "value": "1"}]
    config = {"pod_override": pod}
    steps = history(config, context=context, options=options, templates=TEMPLATES)
    result = translate(config, context=context, options=options, templates=TEMPLATES)
    assert result.errors == ()
    assert [step.layer for step in steps[-3:]] == [
        'executor_config["modal"]',
        "pod_mutation_hook",
        "airflow_local_settings.modal_task_mutation_hook",
    ]
    assert steps[-1].translation.plan == result.plan
    rows = {
        row.field: (row.decided_by, [weaker.decided_by for weaker in row.overrode][:1])
        for row in rows_with_history(result, steps)
    }
    task_hooked = "airflow_local_settings.modal_task_mutation_hook"
    assert rows["cpu"] == (
        "pod_mutation_hook.spec.containers[0].resources.limits.cpu",
        ["pod_override.spec.containers[0].resources.limits.cpu"],
    )
    assert rows["memory"][0] == f"{task_hooked} memory"
    assert rows["env.MINE"] == ("pod_mutation_hook", ["pod_override.spec.containers[0].env[0]"])
    assert rows["env.SITE"] == (task_hooked, ['[modal_executor] env["SITE"]'])


@pytest.mark.parametrize(
    ("modal", "expected"),
    [
        ({}, ("pods meet by KubernetesExecutor's rule", "[modal_executor] merge")),
        ({"merge": "strategic"}, ("pods meet as kubectl patch merges them", 'executor_config["modal"]')),
    ],
)
def test_the_rule_by_which_pods_meet_is_told_where_there_are_two(
    modal: dict[str, Any], expected: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "site.yaml").write_text("{kind: Pod, spec: {containers: [{name: base}]}}")
    options, templates = replace(OPTIONS, pod_template_file="site"), TemplateFolders([tmp_path])

    def merge_rows(config: object) -> list[tuple[str, str]]:
        result = translate(config, context=TaskContext(), options=options, templates=templates)
        steps = history(config, context=TaskContext(), options=options, templates=templates)
        return [(row.value, row.decided_by) for row in rows_with_history(result, steps) if row.field == "merge"]

    assert merge_rows({"modal": modal}) == []
    assert merge_rows({"modal": modal, "pod_override": POD}) == [expected]


def test_an_object_that_ends_the_process_ends_nothing() -> None:
    class Ending(dict[str, Any]):
        def items(self) -> Any:
            raise SystemExit

    assert history({"modal": Ending(gpu="L4")}, context=TaskContext(), options=OPTIONS, templates=TEMPLATES) == ()
