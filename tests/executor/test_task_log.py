"""Asking the executor for a running task's log."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from modalflow.executor import ModalExecutor
from modalflow.executor.task_log import running_task_log

TI: Any = SimpleNamespace(try_number=1, external_executor_id="3f2b0c0e-9f8e-4f0e-9d38-0e1c3f6f2a11")


def reads(ti: Any, try_number: int) -> tuple[list[str], list[str]]:
    return [f"output of {ti.external_executor_id}"], [f"line of try {try_number}"]


def silent(ti: Any, try_number: int) -> tuple[list[str], list[str]]:
    return [], []


def broken(ti: Any, try_number: int) -> tuple[list[str], list[str]]:
    raise ConnectionError("Modal is away")


def test_the_reader_answers() -> None:
    assert running_task_log(TI, 1, reader=f"{__name__}:reads") == (
        ["output of 3f2b0c0e-9f8e-4f0e-9d38-0e1c3f6f2a11"],
        ["line of try 1"],
    )


def test_there_is_always_a_message() -> None:
    # Without one, Airflow adds that its log server on port 8793 refused the connection.
    assert running_task_log(TI, 2, reader=f"{__name__}:silent") == (["modalflow: no live output of try 2 yet."], [])


@pytest.mark.parametrize(
    ("reader", "reason"),
    [
        (f"{__name__}:broken", "ConnectionError: Modal is away"),
        ("no.such.module:reader", "ModuleNotFoundError: No module named 'no'"),
    ],
)
def test_a_log_that_cannot_be_read_is_a_message(reader: str, reason: str) -> None:
    assert running_task_log(TI, 1, reader=reader) == ([f"modalflow could not read this task's log: {reason}"], [])


def test_the_executor_asks_the_provider() -> None:
    messages, logs = ModalExecutor().get_task_log(TI, 1)
    assert messages == [f"modalflow: launch {TI.external_executor_id} has no sandbox yet"]
    assert logs == []
