"""The tasks of DAG files, as the files say now: parsed here, with Airflow's own loader and without its database.

In: a file, a folder, or the configured bundles. Out: ``DagTask``s, and the files that could not be imported. What a DAG prints
goes to stderr. Next: the commands ``explain``, ``lint`` and ``diff``.
"""

from __future__ import annotations

import contextlib
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modalflow.provider.policy import OUR_PATHS, configured_names, unchecked, with_time_limit

OUR_NAMES = frozenset({*OUR_PATHS, "ModalExecutor"})

EXAMPLES = ("example_dags", "-example-dags")
"""Ends of the names of the bundles that Airflow adds by itself where examples are to be loaded (3.3.2)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DagTask:
    """What translation needs of one task. ``config`` is its ``executor_config``, with its ``execution_timeout`` written down.

    ``on_modal``: whether ModalExecutor runs it. Where no executor of that name is configured at all, it is taken for the default.
    """

    dag_id: str
    task_id: str
    file: str
    queue: str
    executor: str | None
    config: object
    on_modal: bool


@dataclass(kw_only=True, slots=True)
class LoadedDags:
    """``errors`` holds what Airflow said of each file that it could not import."""

    tasks: list[DagTask] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)

    def of(self, dag_id: str) -> list[DagTask]:
        """The tasks of one DAG, in the order of their ids."""
        return sorted((task for task in self.tasks if task.dag_id == dag_id), key=lambda task: task.task_id)


def load_path(path: Path, *, verbose: bool = False) -> LoadedDags:
    """Load a file, or all DAG files of a folder. Modules beside it can be imported, as in a bundle.

    A file that is named is loaded even if it does not look like a DAG to Airflow, which skips such files of a folder unread.
    """
    whole = path.resolve()
    folder = whole if whole.is_dir() else whole.parent
    name, named = path.stem or "dags", whole.is_file()
    return _loaded(lambda: [_bag(whole, folder, name, named=named)], verbose=verbose)


def load_bundles(
    names: Sequence[str] | None = None, *, dag_id: str | None = None, with_examples: bool = True, verbose: bool = False
) -> LoadedDags:
    """Load the configured bundles; with ``dag_id`` only until that DAG is found."""

    def bags() -> Iterator[Any]:
        from airflow.dag_processing.bundles.manager import DagBundlesManager  # noqa: PLC0415

        for bundle in DagBundlesManager().get_all_dag_bundles():  # type: ignore[no-untyped-call]
            if (names and bundle.name not in names) or (bundle.name.endswith(EXAMPLES) and not with_examples):
                continue
            bundle.initialize()
            bag = _bag(bundle.path, bundle.path, bundle.name)
            yield bag
            if dag_id in bag.dags:
                return

    return _loaded(bags, dag_id=dag_id, verbose=verbose)


def _bag(path: Path, folder: Path, name: str, *, named: bool = False) -> Any:
    from airflow.dag_processing.dagbag import BundleDagBag  # noqa: PLC0415 - Airflow is imported where it is needed

    further = {"safe_mode": False} if named else {}
    return BundleDagBag(dag_folder=path, bundle_path=folder, bundle_name=name, **further)


def _loaded(bags: Callable[[], Any], *, verbose: bool, dag_id: str | None = None) -> LoadedDags:
    from airflow.sdk.definitions._internal.dag_parsing_context import _airflow_parsing_context_manager  # noqa: PLC0415
    from airflow.utils.cli import suppress_logs_and_warning  # noqa: PLC0415

    found = LoadedDags()

    @suppress_logs_and_warning
    def load(_arguments: Namespace) -> None:
        with contextlib.redirect_stdout(sys.stderr), unchecked(), _airflow_parsing_context_manager(dag_id=dag_id):
            for bag in bags():
                _add(bag, found)

    load(Namespace(verbose=verbose))
    return found


def _add(bag: Any, found: LoadedDags) -> None:
    from airflow.configuration import conf  # noqa: PLC0415

    names = configured_names(conf.get("core", "executor", fallback=""))
    for file, text in bag.import_errors.items():
        found.errors[str(Path(bag.bundle_path) / file)] = text.strip()
    for dag in bag.dags.values():
        for task in dag.tasks:
            executor = task.executor or None
            if names.names:
                ours = executor in names.names if executor else names.is_default
            else:
                ours = executor is None or executor in OUR_NAMES
            found.tasks.append(
                DagTask(
                    dag_id=dag.dag_id,
                    task_id=task.task_id,
                    file=str(dag.fileloc),
                    queue=task.queue,
                    executor=executor,
                    config=with_time_limit(task.executor_config, task.execution_timeout),
                    on_modal=ours,
                )
            )
