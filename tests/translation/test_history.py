"""What a plan overrode, layer by layer; and that the scheduler pays nothing for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from modalflow.provider.explanation import TAKEN_OUT, rows_with_history
from modalflow.settings import read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.history import history
from modalflow.translation.inputs import TaskContext
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
