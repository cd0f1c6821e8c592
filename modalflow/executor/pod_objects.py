"""Calls ``pod_mutation_hook`` with a real ``V1Pod``. The only place that imports kubernetes, when the first such pod comes.

In: a pod as plain data. Out: the pod as it was handed to the hook and as the hook left it, for ``translation.pods.hook``.
Called by the loop's thread, never by the scheduler's.
"""

from __future__ import annotations

import copy
from typing import Any


def mutated(pod: dict[str, Any]) -> tuple[object, object]:
    """Build the ``V1Pod`` twice and have the hook change the second, in place. Raises what the hook raises."""
    from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator  # noqa: PLC0415 - takes a second to import
    from airflow.settings import pod_mutation_hook  # noqa: PLC0415 - Airflow is imported where it is needed

    before, after = (PodGenerator.deserialize_model_dict(copy.deepcopy(pod)) for _ in range(2))
    pod_mutation_hook(after)  # type: ignore[no-untyped-call]
    return before, after
