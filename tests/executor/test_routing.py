"""Whether a task that reaches ModalExecutor carries an id of this queueing, by what ``[core] executor`` says."""

from __future__ import annotations

import pytest
from airflow.executors.executor_utils import ExecutorName

from modalflow.executor import ModalExecutor
from modalflow.executor.routing import answer_to_class_name, judge, names_for_workers

OURS = "modalflow.executor.ModalExecutor"


def name(module_path: str = OURS, *, alias: str | None = "ModalExecutor", team: str | None = None) -> ExecutorName:
    return ExecutorName(module_path=module_path, alias=alias, team_name=team)


LOCAL = name("airflow.executors.local_executor.LocalExecutor", alias="LocalExecutor")
OF_ML = name(team="ml")
LOCAL_OF_ML = name("airflow.executors.local_executor.LocalExecutor", alias="LocalExecutor", team="ml")


@pytest.mark.parametrize(
    ("own", "configured", "new"),
    [
        pytest.param(name(), [name()], True, id="alone"),
        pytest.param(name(alias="gpu"), [name(alias="gpu")], True, id="alone, under another alias"),
        pytest.param(name(alias="gpu"), [name(alias="gpu"), name(alias="gpu", team="ml")], True, id="all of them ours"),
        pytest.param(name(), [LOCAL, name()], True, id="second, by class name"),
        pytest.param(name(), [name(), LOCAL], True, id="first, by class name"),
        pytest.param(name(alias="gpu"), [LOCAL, name(alias="gpu")], False, id="a task may name the class beside the alias"),
        pytest.param(OF_ML, [name(), LOCAL, OF_ML], True, id="default of a team below a default of ours"),
        pytest.param(OF_ML, [LOCAL, OF_ML], False, id="default of a team below LocalExecutor"),
        pytest.param(OF_ML, [LOCAL, LOCAL_OF_ML, OF_ML], True, id="a team's second"),
        pytest.param(None, [LOCAL], True, id="built by hand, without a name"),
    ],
)
def test_ids_of_this_queueing(own: ExecutorName | None, configured: list[ExecutorName], new: bool) -> None:
    assert judge(own, configured, lambda name: name.module_path == OURS) is new


def test_the_class_name_is_the_alias_where_there_is_none() -> None:
    executor = ModalExecutor()
    answer_to_class_name(executor)
    assert executor.name is None
    for alias in (None, "gpu"):
        executor.name = name(alias=alias, team="ml")
        answer_to_class_name(executor)
        assert executor.name == name(alias=alias or "ModalExecutor", team="ml")


def test_workers_know_every_name_whatever_its_team() -> None:
    names = names_for_workers([LOCAL, name(alias=None), name(alias="gpu", team="ml"), LOCAL_OF_ML])
    assert names == (
        "LocalExecutor:airflow.executors.local_executor.LocalExecutor,modalflow.executor.ModalExecutor,"
        "gpu:ml.modalflow.executor.ModalExecutor,LocalExecutor:ml.airflow.executors.local_executor.LocalExecutor"
    )
