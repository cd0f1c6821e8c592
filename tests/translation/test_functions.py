"""Plans of Functions where the golden table cannot look: what may be called, pools, and fields that are new to the module."""

from __future__ import annotations

import dataclasses

import pytest

from modalflow.settings import SettingsError, read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.functions.lower import EXPRESSED
from modalflow.translation.functions.plan import FunctionPlan
from modalflow.translation.functions.pools import cpu_class, memory_class, timeout_class
from modalflow.translation.inputs import TaskContext
from modalflow.translation.plan import VolumePlan
from modalflow.translation.spec import TaskSpec
from modalflow.translation.translate import translate

OPTIONS = read_settings({"functions": '{"default": {"app": "modalflow", "function": "Runner.run"}}'}).translation
TEMPLATES = TemplateFolders()
LOGS = "/mnt/modalflow/logs"


def function_plan(modal: dict[str, object], context: TaskContext | None = None) -> FunctionPlan:
    config = {"modal": {"backend": "function", **modal}}
    plan = translate(config, context=context or TaskContext(), options=OPTIONS, templates=TEMPLATES).plan
    assert isinstance(plan, FunctionPlan)
    return plan


def test_what_is_one_tasks_own_makes_no_pool() -> None:
    plans = [
        function_plan(
            {"env": {"PART": str(number)}, "timeout": 60 + number},
            TaskContext(
                env={"MODALFLOW_LAUNCH_ID": str(number)},
                tags={"map_index": str(number)},
                volumes=(VolumePlan(mount_path=LOGS, name="logs", sub_path=f"task-{number}"),),
            ),
        )
        for number in range(3)
    ]
    assert {plan.pool_keys for plan in plans} == {('modalflow/Runner.run {"memory":512,"timeout":3600}',)}
    assert [(plan.timeout, plan.env["PART"], plan.own_volumes[0].sub_path) for plan in plans] == [
        (60, "0", "task-0"),
        (61, "1", "task-1"),
        (62, "2", "task-2"),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"gpu": "L4"},
        {"cpu": 2},
        {"memory": "4Gi"},
        {"timeout": "2h"},
        {"region": "us-east"},
        {"cloud": "aws"},
        {"secrets": ["hf"]},
        {"volumes": {"/models": "models"}},
    ],
)
def test_what_modal_tells_containers_apart_by_is_in_the_key(change: dict[str, object]) -> None:
    assert function_plan(change).pool_keys != function_plan({"timeout": "1h"}).pool_keys


def test_a_class_is_never_less_than_asked_and_few() -> None:
    cores = [number / 8 for number in range(1, 64 * 8)]
    assert all(asked <= given for asked in cores if isinstance(given := cpu_class(asked), float))
    assert len({cpu_class(asked) for asked in cores}) == 15
    mib = range(128, 344_064, 1000)
    assert all(asked <= given <= 2 * asked for asked in mib if isinstance(given := memory_class(asked), int))
    assert [timeout_class(seconds) for seconds in (1, 3600, 3601, 86_400)] == [3600, 3600, 21_600, 86_400]
    assert (cpu_class(100.0), memory_class(500_000), cpu_class(None), memory_class(None)) == (100.0, 500_000, None, None)


def test_who_cannot_call_functions_gets_no_plan_of_one() -> None:
    options = dataclasses.replace(OPTIONS, calls_functions=False)
    wanted = translate({"modal": {"backend": "function"}}, context=TaskContext(), options=options, templates=TEMPLATES)
    assert wanted.plan is None
    [error] = wanted.errors
    not_yet = "this version plans calls of deployed Functions and does not make them yet"
    assert str(error) == f'executor_config["modal"]["backend"]: {not_yet}; write "sandbox", or leave backend out'
    auto = translate({"modal": {"backend": "auto"}}, context=TaskContext(), options=options, templates=TEMPLATES)
    assert auto.sandbox is not None
    [notice] = auto.diagnostics
    assert str(notice) == f'executor_config["modal"]["backend"]: becomes a sandbox: {not_yet}'


def test_a_field_of_tasks_that_this_module_does_not_know_has_a_default_to_compare_with() -> None:
    unknown = [field.name for field in dataclasses.fields(TaskSpec) if field.name not in EXPRESSED]
    without = [field.name for field in dataclasses.fields(TaskSpec) if field.default is dataclasses.MISSING]
    assert not set(unknown) & set(without)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": {"app": "m"}}',
        '{"a": {"app": "m", "function": "F", "gpu": "L4"}}',
        '{"a": {"app": "m", "function": "F", "disk": "much"}}',
        '{"a": {"app": "m", "function": "F", "image": "My Image"}}',
        '{"a": "m/F"}',
    ],
)
def test_a_wrong_description_of_a_function_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read_settings({"functions": text})
    assert str(raised.value).startswith(
        "[modal_executor] functions: expected a JSON object of names to objects with app, function and image, e.g. "
    )
