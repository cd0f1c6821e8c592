"""A DAG of the team ``mlops``, whose default executor is a ModalExecutor of its own."""

from __future__ import annotations

import os

from airflow.sdk import dag, task


@dag(schedule=None)
def contract_team():
    @task
    def of_the_team():
        print(f"{os.environ['WHOSE']} in {os.environ['MODAL_SANDBOX_ID']}")

    of_the_team()


contract_team()
