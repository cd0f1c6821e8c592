"""What objects in an ``executor_config`` raise never leaves translation; what the process is told by a signal does."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any, NoReturn

import pytest

from modalflow.settings import read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.account import Fate, account
from modalflow.translation.cache import Translator
from modalflow.translation.inputs import TaskContext
from modalflow.translation.translate import check_executor_config, translate

OPTIONS = read_settings({}).translation
TEMPLATES = TemplateFolders()


class Leaving(dict[str, Any]):
    """A dict whose keys raise what it was made with."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(gpu="T4")
        self._error = error

    def items(self) -> NoReturn:
        raise self._error

    def values(self) -> NoReturn:
        raise self._error


class Stray(BaseException):
    pass


@pytest.mark.parametrize("error", [SystemExit(1), GeneratorExit(), Stray(), RuntimeError()])
@pytest.mark.parametrize("where", ["modal", "pod_override"])
def test_nothing_that_an_object_raises_gets_out(error: BaseException, where: str) -> None:
    config = {where: Leaving(error)}
    result = translate(config, context=TaskContext(), options=OPTIONS, templates=TEMPLATES)
    assert [str(d) for d in result.errors] == [f"executor_config: reading it raised {type(error).__name__}; write plain data"]
    assert Translator(OPTIONS, TEMPLATES)(config, TaskContext()).diagnostics == result.diagnostics
    assert {d.code for d in check_executor_config(config, queue="default", options=OPTIONS, templates=TEMPLATES)} == {
        "untranslatable"
    }
    told = account(config, context=TaskContext(), options=OPTIONS, templates=TEMPLATES)
    assert [(leaf.fate, leaf.codes) for leaf in told] == [(Fate.REPORTED, ("untranslatable",))]


class Secretive:
    """What cannot even be asked for its class."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise SystemExit(name)


@pytest.mark.parametrize(
    "config", [{"modal": Secretive()}, {"modal": {"env": {"A": Secretive()}}}, {"pod_override": [Secretive()]}]
)
def test_an_object_that_answers_nothing_refuses_its_task_alone(config: dict[str, Any]) -> None:
    result = Translator(OPTIONS, TEMPLATES)(config, TaskContext())
    assert result.plan is None
    assert result.diagnostics == translate(config, context=TaskContext(), options=OPTIONS, templates=TEMPLATES).diagnostics


class Ender:
    """A handler of signals that is an object."""

    def __call__(self, *_: object) -> NoReturn:
        sys.exit(0)


@pytest.fixture(params=[lambda *_: sys.exit(0), Ender(), Ender().__call__, partial(lambda *_: sys.exit(0), 1)])
def sigterm_exits(request: pytest.FixtureRequest) -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, request.param)
    yield
    signal.signal(signal.SIGTERM, before)


class Killing(Leaving):
    """A dict during whose reading the process is told to end, as the scheduler may be at any moment."""

    def items(self) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return super().items()

    values = items


@pytest.mark.usefixtures("sigterm_exits")
def test_the_end_of_the_scheduler_is_not_held_up() -> None:
    with pytest.raises(SystemExit):
        translate({"modal": Killing(RuntimeError())}, context=TaskContext(), options=OPTIONS, templates=TEMPLATES)


def test_ctrl_c_goes_on() -> None:
    with pytest.raises(KeyboardInterrupt):
        translate({"modal": Leaving(KeyboardInterrupt())}, context=TaskContext(), options=OPTIONS, templates=TEMPLATES)


class Word(str):
    """A text that cannot be compared."""

    __slots__ = ()

    def __eq__(self, _other: object) -> bool:
        raise SystemExit

    __hash__ = str.__hash__


def test_a_text_of_a_class_of_its_own_is_text_in_a_pod_and_refused_at_worst_elsewhere() -> None:
    pod = {"spec": {"containers": [{"name": Word("base"), "image": Word("me/train:1")}]}}
    found = translate({"pod_override": pod}, context=TaskContext(), options=OPTIONS, templates=TEMPLATES)
    assert found.plan is not None
    assert found.plan.image.reference == "me/train:1"
    native = translate({"modal": {"image": Word("me/train:1")}}, context=TaskContext(), options=OPTIONS, templates=TEMPLATES)
    assert {d.code for d in native.errors} <= {"untranslatable"}
