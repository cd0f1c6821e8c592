"""Defects planted into modalflow, to prove that the judge finds such: ``python -m tests.chaos --plant NAME``.

``scheduler_nursery`` plants before it forks the first scheduler; nothing else is changed. A run with one is to come out bad.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

VARIABLE = "CHAOS_PLANT"


def _no_adoption() -> None:
    """What another scheduler left running is handed back to Airflow."""
    from modalflow.executor.modal_executor import ModalExecutor

    ModalExecutor.try_adopt_task_instances = lambda _self, tis: tis  # type: ignore[method-assign, assignment]


MOST_ATTEMPTS = 3
"""A create is repeated so often, and no more: else a server that refuses is asked for ever."""


def _creates_repeated() -> None:
    """A create whose answer was lost is made again under the next name, without a look for the first sandbox."""
    from modalflow.launch.lifecycle import creating

    resolve = creating.resolve

    def again(launch: Any, now: float = 0.0) -> Any:
        if launch.adoption is not None or launch.doom or launch.attempt > MOST_ATTEMPTS:
            return resolve(launch, now)
        launch.attempt += 1
        return creating._create(launch, now)

    creating.resolve = again  # type: ignore[assignment]


def _ends_discarded() -> None:
    """No end of a sandbox reaches Airflow: it hears of a task what the worker tells it, and nothing else."""
    from modalflow.executor.modal_executor import ModalExecutor

    ModalExecutor._ended = lambda self, event: None  # type: ignore[method-assign]


PLANTS: dict[str, Callable[[], None]] = {
    "no-adoption": _no_adoption,
    "creates-repeated": _creates_repeated,
    "ends-discarded": _ends_discarded,
}
