"""DAGs for the executor's contract, beside LocalExecutor. They run where there is Airflow and nothing of modalflow."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator, dag, setup, task, teardown
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference, SyncCallback

BY_CLASS = {"executor": "ModalExecutor"}
"""The name that Airflow gives no launch ids to, unless it is an alias."""


class Defers(BaseOperator):
    """Runs twice, in two sandboxes: until it defers, and when its trigger has fired."""

    def execute(self, context):
        print(f"before, in {os.environ['MODAL_SANDBOX_ID']}")
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=1)), method_name="resume")

    def resume(self, context, event=None):
        print(f"resumed, in {os.environ['MODAL_SANDBOX_ID']}")


@dag(schedule=None, default_args=BY_CLASS)
def contract_defers():
    Defers(task_id="defers")
    Defers(task_id="defers_by_path", executor="modalflow.executor.ModalExecutor")


@dag(schedule=None, default_args=BY_CLASS, params={"seen": ""})
def contract_sensor():
    @task.sensor(mode="reschedule", poke_interval=1, timeout=120)
    def pokes(params: dict) -> bool:
        seen = Path(params["seen"])
        there = seen.exists()
        seen.touch()
        return there

    pokes()


@dag(schedule=None, default_args=BY_CLASS)
def contract_maps():
    @task
    def numbers() -> list[int]:
        return [3, 4]

    @task
    def square(number: int) -> int:
        return number * number

    @task
    def total(squares) -> None:
        assert sum(squares) == 25

    total(square.expand(number=numbers()))


@dag(schedule=None, default_args=BY_CLASS)
def contract_teardown():
    @setup
    def prepare():
        print("made")

    @task(executor="LocalExecutor")
    def fails():
        raise ValueError(f"in a sandbox: {'MODAL_SANDBOX_ID' in os.environ}")

    @teardown
    def clean_up():
        print("removed")

    prepare() >> fails() >> clean_up()


def tell(word: str) -> None:
    Path(os.environ["TOLD"]).write_text(f"{word}, in {os.environ['MODAL_SANDBOX_ID']}")


def fails_to_tell(context: dict) -> None:
    raise ValueError(f"nobody listens to {context['dag_run']['dag_id']}")


def missed(callback) -> DeadlineAlert:
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(seconds=1),
        callback=SyncCallback(callback, kwargs={"word": "hurry"} if callback is tell else None, executor="ModalExecutor"),
    )


@dag(schedule=None, default_args=BY_CLASS, deadline=[missed(tell), missed(fails_to_tell)])
def contract_deadline():
    Defers(task_id="takes_a_while")


contract_defers()
contract_sensor()
contract_maps()
contract_teardown()
contract_deadline()
