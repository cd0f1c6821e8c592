"""Cluster policy: a wrong ``executor_config`` is an import error of its DAG, with modalflow's text.

Airflow loads this by the entry point group ``airflow.policy`` into every process, so nothing is imported at the top but the
marker. In: tasks as the DAG processor parses them, before they are stored (storing turns what it does not know into text).
Out: ``AirflowClusterPolicyViolation``, or the task with its own time limit written down for ``translation``.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.policies import hookimpl

if TYPE_CHECKING:
    from modalflow.settings import Settings
    from modalflow.translation.diagnostics import Diagnostic
    from modalflow.translation.inputs import TemplateSource

log = logging.getLogger(__name__)

OUR_PATHS = frozenset({"modalflow.executor.ModalExecutor", "modalflow.executor.modal_executor.ModalExecutor"})

POD = "pod_override"


_checking: ContextVar[bool] = ContextVar("modalflow_policy_checking", default=True)


@contextmanager
def unchecked() -> Iterator[None]:
    """Let DAGs be loaded whatever their ``executor_config``: for commands that show every mistake, not the first of each file."""
    token = _checking.set(False)
    try:
        yield
    finally:
        _checking.reset(token)


@hookimpl
def task_policy(task: Any) -> None:
    """Check the ``executor_config`` of a task that ModalExecutor would run. Raises ``AirflowClusterPolicyViolation``."""
    if not runs_on_modal(task):
        return
    config = task.executor_config
    if config is not None and _checking.get():  # a mapped task keeps [] and "" as they are
        _check(task, config)
    _write_time_limit(task)


@hookimpl
def task_instance_mutation_hook(task_instance: Any) -> None:
    """Put a marked dict in the place of an ``executor_config`` that is not one.

    Such a config ends the scheduler when the task is queued (``TaskInstanceDTO.model_validate``, airflow 3.3.2), whichever
    executor runs it. The marked dict lets the executor refuse that one task. A DAG stored before modalflow was installed has
    passed no ``task_policy``. The stored task is mended too: new rows are copied from it, not from the task instance, when
    Airflow takes the hook for unused (``insert_mapping``, 3.3.2).
    """
    config = task_instance.executor_config
    if config is None or isinstance(config, dict) or not runs_on_modal(task_instance):
        return
    from modalflow.executor.refusal import mark_invalid  # noqa: PLC0415 - only for the rare broken task

    marked = mark_invalid(config)
    task_instance.executor_config = marked
    task = getattr(task_instance, "task", None)
    if task is not None:
        set_executor_config(task, marked)


def set_executor_config(task: Any, config: dict[str, object]) -> None:
    """Give ``task`` a config of its own; a mapped task keeps its in ``partial_kwargs``."""
    if hasattr(task, "partial_kwargs"):
        task.partial_kwargs = {**task.partial_kwargs, "executor_config": config}
    else:
        task.executor_config = config


# -- whose task is it -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfiguredNames:
    """What ``[core] executor`` says about ModalExecutor: whether it is the default, and the names that tasks may use."""

    is_default: bool
    names: frozenset[str]


def runs_on_modal(task: Any) -> bool:
    """Whether ModalExecutor runs this task (or task instance): its ``executor``, else the default."""
    from airflow.configuration import conf  # noqa: PLC0415 - airflow.settings, still loading, loads this module

    configured = configured_names(conf.get("core", "executor", fallback=""))
    return task.executor in configured.names if task.executor else configured.is_default


@functools.lru_cache(maxsize=8)
def configured_names(core_executor: str) -> ConfiguredNames:
    """Read ``[core] executor``, e.g. ``LocalExecutor,gpu:modalflow.executor.ModalExecutor;team1=…``.

    Whose team a task belongs to is not known while its DAG is parsed, so ModalExecutor counts as the default only where it
    is everybody's.
    """
    defaults: list[bool] = []
    names: set[str] = set()
    for group in core_executor.split(";"):
        for position, entry in enumerate(group.rpartition("=")[2].split(",")):
            alias, _, path = entry.strip().rpartition(":")
            ours = path in OUR_PATHS
            if position == 0:
                defaults.append(ours)
            if ours:
                names.update({path, path.rpartition(".")[2]} | ({alias} if alias else set()))
    return ConfiguredNames(is_default=all(defaults), names=frozenset(names))


# -- the check --------------------------------------------------------------------------------------------------------


def _check(task: Any, config: object) -> None:
    from airflow.exceptions import AirflowClusterPolicyViolation  # noqa: PLC0415 - as in runs_on_modal

    if not isinstance(config, dict):
        got = type(config).__name__
        text = f'executor_config: expected a dict, got {got}; write e.g. {{"modal": {{"gpu": "A10G"}}}} [bad-config]'
    else:
        text = "\n".join(found.full() for found in _findings(task, config))
    if text:
        from modalflow.provider.task_lines import where  # noqa: PLC0415 - only for a task that is refused

        place = f" ({found})" if (found := where(task)) else ""
        whose = f"Task {task.task_id!r} of DAG {task.dag_id!r}{place}"
        raise AirflowClusterPolicyViolation(f"{whose} cannot run on Modal:\n{text}")


def _findings(task: Any, config: dict[str, object]) -> tuple[Diagnostic, ...]:
    from modalflow.translation.translate import check_executor_config  # noqa: PLC0415 - only where tasks run on Modal

    site = _site()
    if site is None:
        return ()
    settings, templates = site
    found = check_executor_config(config, queue=task.queue, options=settings.translation, templates=templates)
    if not any(finding.origin.layer == POD for finding in found):
        return found
    from modalflow.executor.hooks import has_pod_hook  # noqa: PLC0415 - only for a wrong pod

    # The hook runs where the task does, and may change what is wrong here.
    return tuple(finding for finding in found if finding.origin.layer != POD) if has_pod_hook() else found


@functools.lru_cache(maxsize=1)
def _site() -> tuple[Settings, TemplateSource] | None:
    """Options and templates as this process sees them; ``None``, logged once, if an option cannot be read.

    The scheduler refuses to start on such an option and says which. That is no reason to take every DAG away.
    """
    from airflow.configuration import conf  # noqa: PLC0415 - as in runs_on_modal

    from modalflow.executor.configuration import ConfigurationView, load_settings, without_functions  # noqa: PLC0415
    from modalflow.settings import SettingsError  # noqa: PLC0415
    from modalflow.templates import TemplateFolders  # noqa: PLC0415

    try:
        settings = load_settings(ConfigurationView(conf=conf, environ=os.environ))
    except SettingsError as error:
        log.error("modalflow: executor_config is not checked while DAGs are parsed: %s", error)  # noqa: TRY400 - its text is all
        return None
    return without_functions(settings), TemplateFolders(settings.template_folders)


def _write_time_limit(task: Any) -> None:
    """Tell translation the task's ``execution_timeout``, unless the task says ``timeout`` itself."""
    config = task.executor_config
    limited = with_time_limit(config, task.execution_timeout)
    if limited is not config and isinstance(limited, dict):
        set_executor_config(task, limited)


def with_time_limit(config: object, limit: timedelta | None) -> object:
    """Return ``config`` with a task's ``execution_timeout`` in it; as it is where there is none, or a ``timeout`` of its own."""
    mapping = config or {}
    modal = mapping.get("modal") or {} if isinstance(mapping, dict) else None
    if limit is None or not isinstance(mapping, dict) or not isinstance(modal, dict) or "timeout" in modal:
        return config
    seconds = max(1, round(limit.total_seconds()))
    return {**mapping, "modal": {**modal, "execution_timeout": seconds}}
