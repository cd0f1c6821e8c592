"""``diff A B``: what two things would ask of Modal, field by field, where it differs.

In: two of these: a file with one pod, template or ``executor_config``; a task (``DAG.TASK``); ``template:NAME``; ``options``
(what holds where a task says nothing) and ``built-in`` (without the site's options too). Out: text or JSON on stdout. Airflow is
needed for tasks only.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from modalflow.cli.documents import STDIN, read_files
from modalflow.cli.site import Site, site_of
from modalflow.cli.tables import console, print_table
from modalflow.cli.translating import translate_document, translate_task
from modalflow.provider.explanation import Row, rows_of
from modalflow.settings import SettingsError
from modalflow.translation.account import plan_fields
from modalflow.translation.inputs import TaskContext, TranslationOptions
from modalflow.translation.result import Translation
from modalflow.translation.translate import translate

NOT_SET = "not set"
BUILT_IN, OPTIONS, TEMPLATE = "built-in", "options", "template:"
FILES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One of the two, and what it becomes."""

    name: str
    translation: Translation


def run_diff(arguments: argparse.Namespace) -> int:
    """Run ``diff``; exit code 0 if both can be translated, equal or not, else 1 with the findings on stderr."""
    try:
        site = site_of(arguments, with_airflow=any(_is_task(name) for name in (arguments.a, arguments.b)))
        first, second = (_side(name, site, arguments) for name in (arguments.a, arguments.b))
    except (SettingsError, LookupError) as error:
        sys.stderr.write(f"{error.args[0]}\n")
        return 1
    refused = [found for side in (first, second) for found in side.translation.errors]
    for found in refused:
        sys.stderr.write(f"{found.severity}: {found.full()}\n")
    if refused:
        return 1
    rows = differences(first.translation, second.translation)
    if arguments.json:
        json.dump(rows, sys.stdout, indent=2, default=str)
        sys.stdout.write("\n")
    elif not rows:
        sys.stdout.write("both ask Modal for the same\n")
    else:
        print_table(console(), ("field", first.name, "by", second.name, "by"), _shown(first, second), titled=1)
    return 0


def _shown(first: Side, second: Side) -> list[tuple[Text, ...]]:
    """Return the rows that people read, where they differ."""
    rows: list[tuple[Text, ...]] = []
    a, b = ({row.field: row for row in rows_of(side.translation)} for side in (first, second))
    for name in dict.fromkeys((*a, *b)):
        left, right = a.get(name), b.get(name)
        if left is None or right is None or left.value != right.value:
            rows.append((Text(name), *_cells(left), *_cells(right)))
    return rows


def _cells(row: Row | None) -> tuple[Text, Text]:
    return (Text(NOT_SET, style="dim"), Text("")) if row is None else (Text(row.value), Text(row.decided_by))


def _is_file(name: str) -> bool:
    return name == STDIN or name.endswith(FILES) or Path(name).exists()


def _is_task(name: str) -> bool:
    return not (name in {BUILT_IN, OPTIONS} or name.startswith(TEMPLATE) or _is_file(name))


def _side(name: str, site: Site, arguments: argparse.Namespace) -> Side:
    """Translate what ``name`` stands for. Raises ``LookupError`` whose text says why it cannot be had."""
    if name == BUILT_IN:
        alone = TranslationOptions(auto_image=site.options.auto_image)
        translation = translate({}, context=TaskContext(), options=alone, templates=site.templates())
    elif name == OPTIONS:
        translation = translate({}, context=TaskContext(), options=site.options, templates=site.templates())
    elif name.startswith(TEMPLATE):
        config = {"modal": {"template": name.removeprefix(TEMPLATE)}}
        translation = translate(config, context=TaskContext(), options=site.options, templates=site.templates())
    elif _is_file(name):
        translation = _of_file(name, site)
    else:
        translation = _of_task(name, site, arguments)
    return Side(name=name, translation=translation)


def _of_file(path: str, site: Site) -> Translation:
    results = [translate_document(document, site.options, site.folders) for document in read_files([path])]
    broken = [found for result in results for found in result.translation.errors if not result.document.is_translatable]
    if broken:
        raise LookupError("\n".join(found.full() for found in broken))
    wanted = [result for result in results if result.document.is_translatable]
    if len(wanted) != 1:
        raise LookupError(f"{path}: expected one pod or task template, found {len(wanted)}")
    return wanted[0].translation


def _of_task(name: str, site: Site, arguments: argparse.Namespace) -> Translation:
    from modalflow.provider.dag_files import load_bundles, load_path  # noqa: PLC0415 - imports Airflow

    if "." not in name:
        kinds = f"a file, DAG.TASK, {TEMPLATE}NAME, {OPTIONS} or {BUILT_IN}"
        raise LookupError(f"{name}: no such file; expected {kinds}")
    path = arguments.dags_path
    loaded = load_bundles(arguments.bundle_name) if path is None else load_path(Path(path))
    found = next((task for task in loaded.tasks if f"{task.dag_id}.{task.task_id}" == name), None)
    if found is None:
        raise LookupError(f"{name}: no such file, and no such task in {path or 'any bundle'}")
    return translate_task(found, site)


def differences(first: Translation, second: Translation) -> list[dict[str, object]]:
    """Return each plan field that differs, with both values and who set them."""
    a, b = (_fields(one) for one in (first, second))
    return [
        {
            "field": name,
            "a": a.get(name, NOT_SET),
            "a_by": _origin(first, name),
            "b": b.get(name, NOT_SET),
            "b_by": _origin(second, name),
        }
        for name in dict.fromkeys((*a, *b))
        if a.get(name, NOT_SET) != b.get(name, NOT_SET)
    ]


def _fields(result: Translation) -> dict[str, object]:
    """The fields of a plan as plain data, without those that hold nothing."""
    fields = {} if result.plan is None else plan_fields(result.plan)
    return {
        name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
        for name, value in fields.items()
        if value != ()
    }


def _origin(result: Translation, field: str) -> str:
    origin = result.origins.get("image" if field == "image.reference" else field)
    return "" if origin is None else str(origin)
