"""``explain DAG [TASK]``: what Modal would get for the tasks of a DAG, why, what that costs, and the call that asks for it.

In: a DAG id or a DAG file, parsed now. Out: a table, JSON or Python on stdout; exit code 0 if every task can run. Nothing is
sent to Modal, and no database is asked.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from modalflow.cli.site import Site, site_of
from modalflow.cli.tables import console, print_table
from modalflow.cli.translate_command import STYLES, finding_data, plan_data
from modalflow.cli.translating import modal_keys, translate_task
from modalflow.modal_gateway.source import python_source
from modalflow.provider.dag_files import DagTask, LoadedDags, load_bundles, load_path
from modalflow.provider.explanation import Row, price_data, price_text, rows_with_history
from modalflow.settings import SettingsError
from modalflow.translation.gpus.catalogue import PRICES_OF
from modalflow.translation.history import history
from modalflow.translation.hooks.types import TaskFacts
from modalflow.translation.inputs import TaskContext
from modalflow.translation.prices import prices_of
from modalflow.translation.result import Translation


class NotLoadedError(Exception):
    """The DAG or task cannot be had; the text says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Explained:
    """One task: what becomes of it, and each field with its history."""

    task: DagTask
    translation: Translation
    rows: tuple[Row, ...]
    python: str | None

    @property
    def title(self) -> str:
        """``dag_id.task_id``."""
        return f"{self.task.dag_id}.{self.task.task_id}"

    @property
    def runs(self) -> bool:
        """Whether the scheduler would start it."""
        return not self.translation.errors


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if arguments.json and arguments.python:
        sys.stderr.write("explain: --json and --python exclude each other\n")
        return 2
    try:
        tasks = _asked_for(arguments)
        site = site_of(arguments, with_airflow=True)
    except (NotLoadedError, SettingsError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    results = [explained(task, site) for task in tasks]
    if arguments.json:
        _write_json(results)
    elif arguments.python:
        _write_python(results)
    else:
        for result in results:
            show(console(), result, with_python=arguments.task is not None)
    return 0 if all(result.runs for result in results) else 1


def configured_site() -> Site:
    """Return the site of this Airflow. Raises ``SettingsError``."""
    return site_of(argparse.Namespace(option=[], templates=[], airflow=True))


def explained(task: DagTask, site: Site) -> Explained:
    """Translate the task as the scheduler would, without what modalflow itself adds to every sandbox."""
    translation = translate_task(task, site)
    plan = translation.plan
    if plan is None:
        return Explained(task=task, translation=translation, rows=(), python=None)
    facts = TaskFacts(dag_id=task.dag_id, task_id=task.task_id, queue=task.queue)
    context = TaskContext(queue=task.queue, task=facts)
    steps = history(task.config, context=context, options=site.options, templates=site.templates())
    launch, sandbox = site.settings.launch, translation.sandbox
    return Explained(
        task=task,
        translation=translation,
        rows=tuple(rows_with_history(translation, steps)),
        python=None if sandbox is None else python_source(sandbox, app_name=launch.app_name, environment=launch.environment),
    )


# -- loading ----------------------------------------------------------------------------------------------------------


def _asked_for(arguments: argparse.Namespace) -> list[DagTask]:
    path = arguments.dags_path
    if arguments.dag.endswith((".py", ".zip")) or Path(arguments.dag).is_file():
        if path is not None:
            raise NotLoadedError(f"{arguments.dag} is a file: leave --dags-folder out, or give a DAG id")
        return _of_file(Path(arguments.dag), arguments.task, verbose=arguments.verbose)
    return load_tasks(arguments.dag, arguments.task, path, arguments.bundle_name, verbose=arguments.verbose)


def load_tasks(
    dag_id: str,
    task_id: str | None = None,
    path: str | None = None,
    bundle_names: Sequence[str] | None = None,
    *,
    verbose: bool = False,
) -> list[DagTask]:
    """Return the tasks, from a file or folder if ``path`` is given, else from the bundles. Raises ``NotLoadedError``."""
    if path is None:
        loaded = load_bundles(bundle_names, dag_id=dag_id, verbose=verbose)
        where = ", ".join(bundle_names) if bundle_names else "any bundle"
    else:
        loaded = load_path(_existing(Path(path)), verbose=verbose)
        where = path
    tasks = loaded.of(dag_id)
    if not tasks:
        raise NotLoadedError(f"DAG {dag_id!r} is not in {where}, or has no task{_told(loaded)}")
    return tasks if task_id is None else [_one(tasks, task_id, f"DAG {dag_id!r}")]


def _of_file(path: Path, task_id: str | None, *, verbose: bool) -> list[DagTask]:
    loaded = load_path(_existing(path), verbose=verbose)
    if not loaded.tasks:
        raise NotLoadedError(f"{path} holds no DAG with tasks{_told(loaded)}")
    tasks = [task for dag_id in dict.fromkeys(task.dag_id for task in loaded.tasks) for task in loaded.of(dag_id)]
    return tasks if task_id is None else [_one(tasks, task_id, str(path))]


def _existing(path: Path) -> Path:
    if not path.exists():
        raise NotLoadedError(f"{path}: no such file or folder")
    return path


def _one(tasks: Sequence[DagTask], task_id: str, holder: str) -> DagTask:
    found = next((task for task in tasks if task.task_id == task_id), None)
    if found is None:
        raise NotLoadedError(f"{holder} has no task {task_id!r}; its tasks: {', '.join(task.task_id for task in tasks)}")
    return found


def _told(loaded: LoadedDags) -> str:
    told = "".join(f"\n{file}:\n{text}" for file, text in sorted(loaded.errors.items()))
    return f"; files that could not be imported:{told}" if told else ""


# -- showing ----------------------------------------------------------------------------------------------------------


def as_data(result: Explained) -> dict[str, object]:
    """One task as plain data."""
    plan = result.translation.plan
    return {
        "dag_id": result.task.dag_id,
        "task_id": result.task.task_id,
        "file": result.task.file,
        "on_modal": result.task.on_modal,
        "runs": result.runs,
        "fields": [_row_data(row) for row in result.rows],
        "price": None if plan is None else price_data(plan),
        "spec": None if plan is None else modal_keys(plan),
        "plan": None if plan is None else plan_data(plan),
        "python": result.python,
        "diagnostics": [finding_data(found) for found in result.translation.diagnostics],
    }


def _row_data(row: Row) -> dict[str, object]:
    overrode = [{"value": weaker.value, "decided_by": weaker.decided_by} for weaker in row.overrode]
    return {"field": row.field, "value": row.value, "decided_by": row.decided_by, "overrode": overrode}


def _write_json(results: Sequence[Explained]) -> None:
    runs = all(result.runs for result in results)
    json.dump({"runs": runs, "tasks": [as_data(result) for result in results]}, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


def _write_python(results: Sequence[Explained]) -> None:
    """Write the sources; what is refused, and why, goes to stderr."""
    parts = []
    for result in results:
        parts.append(f"# {result.title}\n" + (result.python or "# is refused\n"))
        for found in result.translation.diagnostics:
            sys.stderr.write(f"{result.title}: {found.severity}: {found.full()}\n")
    sys.stdout.write("\n\n".join(parts))


def show(out: Console, result: Explained, *, with_python: bool) -> None:
    """Write the table, the price and what translation has to say."""
    task, plan = result.task, result.translation.plan
    if not task.on_modal:
        out.print(f"{task.task_id} runs on another executor ({task.executor or 'the default'}); on ModalExecutor it would be:")
    if result.runs:
        out.print(Text(result.title, style="bold"))
    else:
        out.print(Text(f"{result.title} is refused:", style="bold red"))
    if plan is not None:
        print_table(out, ("field", "value", "decided by", "in the place of"), [_cells(row) for row in result.rows])
        for price in prices_of(plan):
            out.print(Text(f"price: {price_text(price)}"), soft_wrap=True)
        out.print(Text(f"list prices of {PRICES_OF}; Modal bills more where the task uses more than it requests", style="dim"))
    for found in result.translation.diagnostics:
        out.print(Text(f"{found.severity}: {found.full()}", style=STYLES[found.severity]), soft_wrap=True)
    if with_python and result.python is not None:
        out.print()
        out.print(Text(result.python), soft_wrap=True)


def _cells(row: Row) -> tuple[Text, ...]:
    overrode = "\n".join(f"{weaker.value}: {weaker.decided_by}" for weaker in row.overrode)
    return Text(row.field), Text(row.value), Text(row.decided_by), Text(overrode)
