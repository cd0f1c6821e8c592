"""Airflow's side: the executor class, kept light because every Airflow process imports it.

``modalflow.executor.ModalExecutor`` is what ``[core] executor`` names. It is found on first use, so that importing a
neighbour (``executor.journal``, say) does not import Airflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modalflow.executor.modal_executor import ModalExecutor

__all__ = ["ModalExecutor"]


def __getattr__(name: str) -> object:
    if name == "ModalExecutor":
        from modalflow.executor.modal_executor import ModalExecutor  # noqa: PLC0415 - the laziness is the point

        return ModalExecutor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
