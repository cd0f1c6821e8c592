"""KubernetesExecutor's form, unchanged: a ``pod_override`` with image, resources, a GPU limit and a GKE accelerator label."""

from __future__ import annotations

import os

from airflow.sdk import dag, task
from kubernetes.client import models as k8s

POD = k8s.V1Pod(
    metadata=k8s.V1ObjectMeta(labels={"team": "ml"}),
    spec=k8s.V1PodSpec(
        node_selector={"cloud.google.com/gke-accelerator": "nvidia-l4"},
        containers=[
            k8s.V1Container(
                name="base",
                image="ghcr.io/acme/train:2026.11",
                env=[k8s.V1EnvVar(name="MODEL", value="resnet50")],
                resources=k8s.V1ResourceRequirements(
                    requests={"cpu": "1", "memory": "1Gi"},
                    limits={"cpu": "4", "memory": "2Gi", "nvidia.com/gpu": "1"},
                ),
            )
        ],
    ),
)


@dag(schedule=None, catchup=False, tags=["modalflow"])
def modal_pod():
    @task(executor_config={"pod_override": POD})
    def pod_override():
        print(f"training {os.environ['MODEL']} on {os.environ.get('MODAL_EMULATOR_GPU', 'a GPU')}")

    pod_override()


modal_pod()
