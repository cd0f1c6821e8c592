"""The hooks of the user's ``airflow_local_settings``, found once at the start.

In: ``airflow.settings``, into which Airflow has loaded that module. Out: ``Settings`` whose ``TranslationOptions`` hold them;
without hooks, the same settings and no cost. Next: ``translation.hooks.task``, ``translation.pods.hook``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from modalflow.settings import Settings, SettingsError

TASK_HOOK = "modal_task_mutation_hook"


def with_hooks(settings: Settings) -> Settings:
    """Return ``settings`` with the site's hooks. Raises ``SettingsError`` for one that is no function."""
    from airflow import settings as airflow_settings  # noqa: PLC0415 - Airflow is imported where it is needed

    task_hook = getattr(airflow_settings, TASK_HOOK, None)
    if task_hook is not None and not callable(task_hook):
        raise SettingsError(
            f"airflow_local_settings.{TASK_HOOK}: expected a function of a TaskSpec and a TaskFacts, got {task_hook!r}"
        )
    pod_hook: Any = None
    if has_pod_hook():
        from modalflow.executor.pod_objects import mutated  # noqa: PLC0415 - few sites have a hook

        pod_hook = mutated
    if task_hook is None and pod_hook is None:
        return settings
    return replace(settings, translation=replace(settings.translation, task_hook=task_hook, pod_hook=pod_hook))


def has_pod_hook() -> bool:
    """Whether ``airflow_local_settings`` or a plugin defines ``pod_mutation_hook``: Airflow itself implements none (3.3.2)."""
    from airflow import settings as airflow_settings  # noqa: PLC0415 - as in with_hooks

    hooks = airflow_settings.get_policy_plugin_manager().hook
    return bool(hooks.pod_mutation_hook.get_hookimpls())
