"""A DAG whose code changes between two runs, with a module of its own in a subfolder."""

from airflow.sdk import dag, task

SAID = "the file as it was"


@dag(schedule=None, catchup=False)
def e2e_code():
    @task
    def say():
        from e2e_shared.words.greeting import GREETING

        print(f"{SAID}, {GREETING}")

    say()


e2e_code()
