"""A typo in ``executor_config`` is an import error of the DAG, with the correction, before anything runs."""

from __future__ import annotations

from airflow.sdk import dag, task


@dag(schedule=None, catchup=False, tags=["modalflow"])
def modal_typo():
    @task(executor_config={"modal": {"gpu": "A10GG"}})
    def misspelt_gpu():
        print("never printed")

    misspelt_gpu()


modal_typo()
