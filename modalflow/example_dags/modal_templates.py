"""YAML templates: one chosen by name in the DAG, one chosen by the task's queue, one that does not exist.

The demo sets ``[modal_executor] queue_templates``: ``training`` names a template that ships with modalflow, ``misspelt`` one
that nobody wrote. The DAG is right, the deployment is not: the task is refused before launch, with the reason in its log.
"""

from __future__ import annotations

from airflow.sdk import dag, task


@dag(schedule=None, catchup=False, tags=["modalflow"])
def modal_templates():
    @task(executor_config={"modal": {"template": "gpu-inference"}})
    def template_by_name():
        print("shaped by templates/gpu-inference.yaml")

    @task(queue="training")
    def template_by_queue():
        print("shaped by the template of the queue")

    @task(queue="misspelt")
    def template_that_is_not_there():
        print("never printed")

    template_by_name()
    template_by_queue()
    template_that_is_not_there()


modal_templates()
