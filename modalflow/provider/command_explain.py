"""``airflow modal explain DAG_ID TASK_ID``: what Modal would get, and why.

In: the DAG as its file says now, parsed here. Out: a table or JSON on stdout, exit code 0 if the task can run. Nothing is
sent to Modal and nothing is written to the database.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from airflow.utils.cli import suppress_logs_and_warning
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modalflow.executor.auto_image import describe_auto_image
from modalflow.executor.configuration import ConfigurationView, load_settings, with_longest_gpu_wait, without_functions
from modalflow.provider.explanation import as_json, rows_of
from modalflow.provider.policy import runs_on_modal
from modalflow.settings import SettingsError
from modalflow.templates import TemplateFolders
from modalflow.translation.inputs import TaskContext
from modalflow.translation.result import Translation
from modalflow.translation.translate import translate

STYLES = {"error": "bold red", "warning": "yellow", "notice": "dim"}


class NotLoadedError(Exception):
    """The DAG or task cannot be had; the text says why."""


@suppress_logs_and_warning
def explain(args: Any) -> None:
    """Run the command; ends the process with its exit code."""
    try:
        task = load_task(args.dag_id, args.task_id, args.bundle_name)
        translation = explained(task)
    except (NotLoadedError, SettingsError) as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from error
    if args.json:
        sys.stdout.write(json.dumps(as_json(translation, dag_id=args.dag_id, task_id=args.task_id), indent=2) + "\n")
    else:
        show(Console(soft_wrap=False), task, translation)
    raise SystemExit(1 if translation.errors else 0)


def explained(task: Any) -> Translation:
    """Translate the task as the scheduler would, without what modalflow itself adds to every sandbox.

    A call of a Function, which the scheduler refuses, comes back with its plan and the refusal.
    """
    from airflow.configuration import conf  # noqa: PLC0415 - Airflow is imported where it is needed

    settings = load_settings(ConfigurationView(conf=conf, environ=os.environ), auto_image=describe_auto_image())
    settings = with_longest_gpu_wait(settings, conf.getfloat("scheduler", "task_queued_timeout"))
    templates = TemplateFolders(settings.template_folders)
    context = TaskContext(queue=task.queue)
    options = without_functions(settings).translation
    found = translate(task.executor_config, context=context, options=options, templates=templates)
    refused = tuple(error for error in found.errors if error.code == "function-not-callable")
    if not refused:
        return found
    planned = translate(task.executor_config, context=context, options=settings.translation, templates=templates)
    return replace(planned, diagnostics=(*refused, *planned.diagnostics))


def load_task(dag_id: str, task_id: str, bundle_names: list[str] | None) -> Any:
    """Parse the bundles until the DAG is found. Raises ``NotLoadedError`` with the import errors met on the way."""
    errors: dict[str, str] = {}
    for bag in _bags(dag_id, bundle_names):
        errors.update(bag.import_errors)
        dag = bag.dags.get(dag_id)
        if dag is None:
            continue
        if not dag.has_task(task_id):
            known = ", ".join(sorted(dag.task_ids)) or "none"
            raise NotLoadedError(f"DAG {dag_id!r} has no task {task_id!r}; its tasks: {known}")
        return dag.get_task(task_id)
    told = "".join(f"\n{file}:\n{text.rstrip()}" for file, text in sorted(errors.items()))
    where = ", ".join(bundle_names) if bundle_names else "any bundle"
    raise NotLoadedError(f"DAG {dag_id!r} is not in {where}" + (f"; files that could not be imported:{told}" if told else ""))


def _bags(dag_id: str, bundle_names: list[str] | None) -> Iterator[Any]:
    from airflow.dag_processing.bundles.manager import DagBundlesManager  # noqa: PLC0415
    from airflow.dag_processing.dagbag import BundleDagBag  # noqa: PLC0415
    from airflow.sdk.definitions._internal.dag_parsing_context import (  # noqa: PLC0415
        _airflow_parsing_context_manager,
    )

    for bundle in DagBundlesManager().get_all_dag_bundles():  # type: ignore[no-untyped-call]
        if bundle_names and bundle.name not in bundle_names:
            continue
        bundle.initialize()
        with _airflow_parsing_context_manager(dag_id=dag_id):
            yield BundleDagBag(dag_folder=bundle.path, bundle_path=bundle.path, bundle_name=bundle.name)


def show(console: Console, task: Any, translation: Translation) -> None:
    """Write the table and what translation has to say."""
    if not runs_on_modal(task):
        console.print(
            f"{task.task_id} runs on another executor ({task.executor or 'the default'}); on ModalExecutor it would be:"
        )
    if translation.plan is None:
        console.print(Text(f"{task.dag_id}.{task.task_id} is refused:", style="bold red"))
    else:
        table = Table(title=f"{task.dag_id}.{task.task_id}", title_justify="left", pad_edge=False)
        for heading in ("field", "value", "decided by"):
            table.add_column(heading, overflow="fold")
        for row in rows_of(translation):
            table.add_row(Text(row.field), Text(row.value), Text(row.decided_by))
        console.print(table)
    for found in translation.diagnostics:
        console.print(Text(f"{found.severity}: {found}", style=STYLES[found.severity]))
