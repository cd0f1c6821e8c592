"""By which names tasks reach this executor, and whether Airflow gives each task that reaches it an id of its own.

In: the executors of ``[core] executor``, as Airflow loaded them. Out: the executor's name as the scheduler matches it, and
whether the id that a workload carries was made with its queueing. Asked once, at start. Next: ``modal_executor._prepare_launch``.

Airflow 3.3.2 (``SchedulerJobRunner._executable_task_instances_to_queued``): if all executors want ids, each queued task gets a
new one. Beside an executor that wants none, such as LocalExecutor, only those tasks do that name ours by alias or module path,
or name none while ours is the global default. A task that names it by its class (``executor="ModalExecutor"``), or is its
team's by default, is run by it as well and keeps the id in its row: none, or that of a launch before, when it was deferred.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.executors.base_executor import BaseExecutor
    from airflow.executors.executor_utils import ExecutorName


def configured_executors() -> Sequence[ExecutorName]:
    """All executors of ``[core] executor``, the global default first. The scheduler has read them already."""
    from airflow.executors.executor_loader import ExecutorLoader  # noqa: PLC0415 - Airflow is imported where it is needed

    return ExecutorLoader.get_executor_names()


def names_for_workers(configured: Sequence[ExecutorName]) -> str:
    """Return a ``[core] executor`` in which every name that a task may use is known, whatever its team.

    Airflow refuses a DAG, in a sandbox too, if one of its tasks names an executor that is not configured (3.3.2,
    ``dagbag._validate_executor_fields``). It looks at names only, and takes no path twice.
    """
    paths: set[str] = set()
    names = []
    for name in configured:
        path = f"{name.team_name}.{name.module_path}" if name.module_path in paths else name.module_path
        paths.add(path)
        names.append(f"{name.alias}:{path}" if name.alias else path)
    return ",".join(names)


WantsIds = Callable[["ExecutorName"], bool]
"""Whether the class of that name has ``pre_assigns_external_executor_id``."""


def answer_to_class_name(executor: BaseExecutor) -> None:
    """Make the class's name the executor's alias if the configuration gives it none.

    Tasks reach the executor by that name anyway; as an alias, it has Airflow give such tasks an id.
    """
    from airflow.executors.executor_utils import ExecutorName  # noqa: PLC0415 - Airflow is imported where it is needed

    name = executor.name
    if name is not None and name.alias is None:
        executor.name = ExecutorName(module_path=name.module_path, alias=_class_name(name), team_name=name.team_name)


def ids_are_new(executor: BaseExecutor) -> bool:
    """Whether every task that reaches ``executor`` carries an id that was made when it was queued this time."""
    from airflow.executors.executor_loader import ExecutorLoader  # noqa: PLC0415 - Airflow is imported where it is needed

    def wants_ids(name: ExecutorName) -> bool:
        return bool(getattr(ExecutorLoader.import_executor_cls(name)[0], "pre_assigns_external_executor_id", False))

    return judge(executor.name, configured_executors(), wants_ids)


def judge(own: ExecutorName | None, configured: Sequence[ExecutorName], wants_ids: WantsIds) -> bool:
    """Decide ``ids_are_new`` for the executor called ``own``. ``configured``: all, the global default first."""
    if own is None or all(wants_ids(name) for name in configured):  # without a name, no task is routed to it
        return True
    if own.alias != _class_name(own):
        return False
    return wants_ids(configured[0]) or not _is_default_of_a_team(own, configured)


def _class_name(name: ExecutorName) -> str:
    return name.module_path.rpartition(".")[2]


def _is_default_of_a_team(own: ExecutorName, configured: Sequence[ExecutorName]) -> bool:
    of_team = [name.module_path for name in configured if name.team_name == own.team_name]
    return own.team_name is not None and of_team[:1] == [own.module_path]
