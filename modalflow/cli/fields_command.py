"""``modalflow fields [PREFIX]``: the support matrix, whole or one part of it, as a table or as JSON."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys

from rich.text import Text

from modalflow.cli.tables import console, print_table
from modalflow.translation.diagnostics import did_you_mean

COLOURS = {"translated": "green", "harmless": "dim", "warned": "yellow", "refused": "bold red"}


def run(arguments: argparse.Namespace) -> int:
    """Run the command; exit code 1 if there is no such field."""
    from modalflow.cli.field_matrix import folded, pod_leaves, rows  # noqa: PLC0415 - reads the list of leaves

    found = list(rows(arguments.prefix))
    if not found:
        known = {".".join(path.replace("[]", "").split(".")[:end]) for path in pod_leaves() for end in range(1, 9)}
        hint = did_you_mean(re.sub(r"\[\d*\]", "", arguments.prefix), known)
        sys.stderr.write(f'no field "{arguments.prefix}" in a Kubernetes pod' + (f"; {hint}" if hint else "") + "\n")
        return 1
    if arguments.json:
        json.dump([dataclasses.asdict(row) for row in found], sys.stdout, indent=2)
        sys.stdout.write("\n")
        return 0
    lines = []
    for row in folded(found) if not arguments.prefix else found:
        colour = "" if row.cases else COLOURS.get(row.verdict, "")
        lines.append((Text(row.path), Text(row.shown_verdict, style=colour), Text(row.told())))
    print_table(console(), ("field", "verdict", "what becomes of it"), lines)
    return 0
