"""What the scheduler does with tasks that want to be calls of Functions: it cannot make them yet, and says so."""

from __future__ import annotations

import pytest

from modalflow.executor import ModalExecutor
from modalflow.executor.configuration import without_functions
from modalflow.executor.launching import build_translate
from modalflow.settings import read_settings
from modalflow.translation.functions.plan import FunctionPlan
from tests.executor.recording import RecordingBackend, execute_task, queue

SETTINGS = read_settings({"functions": '{"default": {"app": "modalflow", "function": "Runner.run"}}'})


def translating(executor: ModalExecutor, *, functions: bool) -> None:
    assert executor._launching is not None
    settings = SETTINGS if functions else without_functions(SETTINGS)
    object.__setattr__(executor._launching, "translate", build_translate(settings))


@pytest.mark.parametrize("functions", [True, False])
def test_a_task_that_wants_a_function_is_refused_in_one_sentence(
    executor: ModalExecutor, backend: RecordingBackend, functions: bool
) -> None:
    translating(executor, functions=functions)
    queue(executor, execute_task(executor_config={"modal": {"backend": "function"}}))
    translation = backend.submitted[0].translate()
    assert translation.plan is None
    assert str(translation.errors[0]) == (
        "executor_config: planned as a function, and this version runs sandboxes only; "
        'write {"modal": {"backend": "sandbox"}}, or leave backend out'
        if functions
        else 'executor_config["modal"]["backend"]: this version plans calls of deployed Functions and does not make them yet; '
        'write "sandbox", or leave backend out'
    )


def test_auto_is_a_sandbox(executor: ModalExecutor, backend: RecordingBackend) -> None:
    translating(executor, functions=False)
    queue(executor, execute_task(executor_config={"modal": {"backend": "auto"}}))
    translation = backend.submitted[0].translate()
    assert translation.sandbox is not None
    assert not isinstance(translation.plan, FunctionPlan)
