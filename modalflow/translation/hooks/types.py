"""What hooks are told and what they are: types that ``inputs`` hands through to ``hooks.task`` and ``pods.hook``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modalflow.translation.spec import TaskSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskFacts:
    """The task that a hook is asked about.

    ``map_index`` is -1 for a task that is not mapped; ``run_id`` is ``None`` where there is no run (``airflow modal explain``).
    """

    dag_id: str
    task_id: str
    run_id: str | None = None
    map_index: int = -1
    try_number: int = 1
    queue: str = "default"


TaskHook = Callable[["TaskSpec", TaskFacts], "TaskSpec | None"]
"""``modal_task_mutation_hook``: returns the task as it shall be, ``None`` for no change."""
PodHook = Callable[[dict[str, Any]], tuple[object, object]]
"""Takes a pod as plain data and returns it as it was handed to ``pod_mutation_hook``, and as the hook left it. May raise."""
