"""``modalflow translate FILE…``: what Modal would get for a pod or a task template, and what became of each of its leaves.

In: arguments. Out: text, JSON or YAML on stdout; exit code 0 if everything is translated, 1 if something is refused. Needs no
Airflow and no Modal account.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence

import yaml
from rich.console import Console
from rich.text import Text

from modalflow.cli.documents import read_files
from modalflow.cli.site import site_of
from modalflow.cli.tables import console, print_table
from modalflow.cli.translating import Translated, modal_keys, path_of, translate_documents
from modalflow.provider.explanation import rows_of
from modalflow.settings import SettingsError
from modalflow.translation.account import Leaf
from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.functions.plan import Plan
from modalflow.translation.layers import API_VERSION
from modalflow.translation.origins import Origin
from modalflow.translation.plan import SandboxPlan

STYLES = {"error": "bold red", "warning": "yellow", "notice": "dim"}


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if arguments.json and arguments.yaml:
        sys.stderr.write("translate: --json and --yaml exclude each other\n")
        return 2
    try:
        site = site_of(arguments)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    results = translate_documents(read_files(arguments.files), site.options, site.folders)
    nothing = not any(result.translation.plan or result.refused for result in results)
    refused = nothing or any(result.refused for result in results)
    if arguments.json:
        _write_json(results, refused=refused)
    elif arguments.yaml:
        _write_yaml(results)
    else:
        _write_text(results)
    if nothing:
        sys.stderr.write("no pod and no task template in these files\n")
    return 1 if refused else 0


def as_data(result: Translated) -> dict[str, object]:
    """One document's outcome as plain data."""
    plan, document = result.translation.plan, result.document
    return {
        "file": document.file,
        "kind": document.kind,
        "name": document.name,
        "path": path_of(Origin(layer="", path=_at(result))),
        "translated": plan is not None,
        "spec": None if plan is None else modal_keys(plan),
        "plan": None if plan is None else plan_data(plan),
        "origins": {name: _origin_data(origin) for name, origin in result.translation.origins.items()},
        "diagnostics": [finding_data(found) for found in result.translation.diagnostics],
        "account": [_leaf_data(leaf) for leaf in result.leaves],
    }


def _at(result: Translated) -> str:
    template = result.document.template
    return "" if template is None else ".".join(str(key) for key in template.at)


def plan_data(plan: Plan) -> dict[str, object]:
    """A launch plan as plain data, with what follows from it."""
    data = {**dataclasses.asdict(plan), "backend": plan.backend, "handover": plan.handover}
    return data if isinstance(plan, SandboxPlan) else {**data, "pool_keys": plan.pool_keys}


def _origin_data(origin: Origin) -> dict[str, object]:
    return {"layer": origin.layer, "path": path_of(origin), "file": origin.file, "line": origin.line}


def finding_data(found: Diagnostic) -> dict[str, object]:
    """One finding as plain data."""
    told = {"code": found.code, "severity": str(found.severity), "message": found.message, "hint": found.hint}
    return {**told, **_origin_data(found.origin), "text": str(found), "excerpt": found.excerpt}


def _leaf_data(leaf: Leaf) -> dict[str, object]:
    return {
        "path": path_of(leaf.origin),
        "line": leaf.origin.line,
        "verdict": str(leaf.fate),
        "fields": list(leaf.fields),
        "codes": list(leaf.codes),
        "by": None if leaf.by is None else str(leaf.by),
    }


def _write_json(results: Sequence[Translated], *, refused: bool) -> None:
    json.dump({"translated": not refused, "results": [as_data(result) for result in results]}, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


def _write_yaml(results: Sequence[Translated]) -> None:
    """Write the templates; what is refused, and why, goes to stderr."""
    documents: list[Mapping[str, object]] = []
    for result in results:
        plan = result.translation.plan
        if plan is not None:
            documents.append({"apiVersion": API_VERSION, "kind": "ModalTask", "spec": modal_keys(plan)})
        for found in result.translation.diagnostics:
            sys.stderr.write(f"{found.severity}: {found.full()}\n")
    if documents:
        yaml.safe_dump_all(documents, sys.stdout, sort_keys=False, allow_unicode=True, explicit_start=len(documents) > 1)


def _write_text(results: Sequence[Translated]) -> None:
    out = console()
    for result in results:
        refused = result.refused
        verdict = "refused" if refused else "translated" if result.translation.plan else "nothing to translate"
        out.print(Text(f"{result.document.title}: {verdict}", style="bold red" if refused else "bold"), soft_wrap=True)
        _write_plan(out, result)
        _write_account(out, result)
        for found in result.translation.diagnostics:
            out.print(Text(f"{found.severity}: {found.full()}", style=STYLES[found.severity]), soft_wrap=True)


def _write_plan(out: Console, result: Translated) -> None:
    if result.translation.plan is None:
        return
    rows = [(Text(row.field), Text(row.value), Text(row.decided_by)) for row in rows_of(result.translation)]
    print_table(out, ("Modal gets", "value", "decided by"), rows)


def _write_account(out: Console, result: Translated) -> None:
    if not result.leaves:
        return
    rows = []
    for leaf in result.leaves:
        becomes = ", ".join(leaf.fields or leaf.codes)
        by = f"{becomes} by {leaf.by}" if leaf.by is not None else becomes
        rows.append((Text(path_of(leaf.origin)), Text(str(leaf.fate)), Text(by)))
    print_table(out, ("leaf", "is", "as"), rows)
