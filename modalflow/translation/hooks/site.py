"""The two hooks of a site, as ``translate`` calls them: on the merged pod, and on the resolved task."""

from __future__ import annotations

from modalflow.translation.hooks.task import apply_task_hook
from modalflow.translation.pods.hook import apply_pod_hook

__all__ = ["apply_pod_hook", "apply_task_hook"]
