"""A DAG with three mistakes, for docs/commands.md."""

from airflow.sdk import DAG, task

SMALL = {"modal": {"gpu": "A10G", "memmory": "2Gi"}}

with DAG("mistakes", schedule=None):

    @task(executor_config=SMALL)
    def typo():
        pass

    @task(
        executor_config={
            "modal": {"gpu": "V100"},
        }
    )
    def old_gpu():
        pass

    @task(
        executor_config={
            "pod_override": {
                "spec": {
                    "nodeSelector": {"cloud.google.com/gke-accelerator": "nvidia-tesla-v100"},
                    "containers": [{"name": "base", "resources": {"limits": {"nvidia.com/gpu": 1}}}],
                }
            }
        }
    )
    def pod():
        pass

    typo()
    old_gpu()
    pod()
