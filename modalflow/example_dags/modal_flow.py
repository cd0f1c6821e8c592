"""Airflow's own features, each task in a sandbox of its own: mapping, XCom, deferral."""

from __future__ import annotations

import datetime

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator, dag, task


class WaitWithoutASandbox(BaseOperator):
    """Defers, so that nothing runs (or costs) while it waits, and resumes in a new sandbox."""

    def execute(self, context):
        print("first sandbox: deferring")
        self.defer(trigger=TimeDeltaTrigger(datetime.timedelta(seconds=2)), method_name="resume")

    def resume(self, context, event=None):
        print("second sandbox: resumed")
        return "resumed"


@dag(schedule=None, catchup=False, tags=["modalflow"])
def modal_flow():
    @task
    def numbers():
        return list(range(1, 9))

    @task(executor_config={"modal": {"cpu": 0.25}})
    def square(n: int):
        return n * n

    @task
    def total(squares: list[int]):
        result = sum(squares)
        print(f"sum of squares: {result}")
        assert result == 204
        return result

    total(square.expand(n=numbers()))
    WaitWithoutASandbox(task_id="deferred")


modal_flow()
