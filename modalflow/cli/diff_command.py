"""``modalflow diff A B``: what two files would ask of Modal, field by field, where it differs.

In: arguments. Out: text or JSON on stdout. Needs no Airflow.
"""

from __future__ import annotations

import argparse
import json
import sys

from rich.table import Table
from rich.text import Text

from modalflow.cli.documents import read_files
from modalflow.cli.site import Site, site_of
from modalflow.cli.translate_command import console
from modalflow.cli.translating import Translated, translate_document
from modalflow.settings import SettingsError
from modalflow.translation.account import plan_fields

NOT_SET = "not set"


def run_diff(arguments: argparse.Namespace) -> int:
    """Run ``diff``; exit code 0 if both can be translated, equal or not, else 1 with the findings on stderr."""
    try:
        site = site_of(arguments)
        first, second = (_only(path, site) for path in (arguments.a, arguments.b))
    except (SettingsError, LookupError) as error:
        sys.stderr.write(f"{error.args[0]}\n")
        return 1
    refused = [found for result in (first, second) for found in result.translation.errors]
    for found in refused:
        sys.stderr.write(f"{found.severity}: {found}\n")
    if refused:
        return 1
    rows = differences(first, second)
    if arguments.json:
        json.dump(rows, sys.stdout, indent=2, default=str)
        sys.stdout.write("\n")
    elif not rows:
        sys.stdout.write("both ask Modal for the same\n")
    else:
        table = Table(pad_edge=False)
        for heading in ("field", arguments.a, "by", arguments.b, "by"):
            table.add_column(heading, overflow="fold")
        for row in rows:
            table.add_row(*(Text(str(row[key])) for key in ("field", "a", "a_by", "b", "b_by")))
        console().print(table)
    return 0


def _only(path: str, site: Site) -> Translated:
    """Translate the one pod or template of a file. Raises ``LookupError`` if it holds another number of them."""
    results = [translate_document(document, site.options, site.folders) for document in read_files([path])]
    broken = [found for result in results for found in result.translation.errors if result.document.template is None]
    if broken:
        raise LookupError("\n".join(str(found) for found in broken))
    wanted = [result for result in results if result.document.template is not None]
    if len(wanted) != 1:
        raise LookupError(f"{path}: expected one pod or task template, found {len(wanted)}")
    return wanted[0]


def differences(first: Translated, second: Translated) -> list[dict[str, object]]:
    """Return each plan field that differs, with both values and who set them."""
    plans = (first.translation.plan, second.translation.plan)
    a, b = ({} if plan is None else plan_fields(plan) for plan in plans)
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


def _origin(result: Translated, field: str) -> str:
    origin = result.translation.origins.get("image" if field == "image.reference" else field)
    return "" if origin is None else str(origin)
