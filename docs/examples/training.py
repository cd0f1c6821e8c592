"""The DAG of docs/commands.md."""

from airflow.sdk import DAG, task

with DAG("training", schedule=None):

    @task(executor_config={"modal": {"image": "ghcr.io/me/train:1.2", "memory": "2Gi"}})
    def prepare():
        pass

    @task(
        executor_config={
            "modal": {"template": "team", "gpu": ["H100", "A100-80GB"], "image": "ghcr.io/me/train:1.2"},
            "pod_override": {"spec": {"containers": [{"name": "base", "resources": {"requests": {"memory": "32Gi"}}}]}},
        }
    )
    def train():
        pass

    prepare() >> train()
