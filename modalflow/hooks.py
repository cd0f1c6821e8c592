"""What a hook in ``airflow_local_settings`` needs: ``from modalflow.hooks import TaskSpec, TaskFacts``.

Airflow imports that file in every process, so this imports neither Airflow, Modal nor kubernetes. The hook::

    def modal_task_mutation_hook(spec: TaskSpec, task: TaskFacts) -> TaskSpec | None:
        if task.queue == "nightly":
            return dataclasses.replace(spec, region=("us-east",))

``docs/how-to/hooks.md`` has more.
"""

from __future__ import annotations

from modalflow.translation.gpus.catalogue import GpuChoice
from modalflow.translation.hooks.types import TaskFacts
from modalflow.translation.plan import Bucket, BucketPlan, SecretPlan, VolumePlan
from modalflow.translation.spec import TaskSpec

__all__ = ["Bucket", "BucketPlan", "GpuChoice", "SecretPlan", "TaskFacts", "TaskSpec", "VolumePlan"]
