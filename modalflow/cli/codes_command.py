"""``modalflow codes [CODE]``: the list of diagnostic codes, or the page of one."""

from __future__ import annotations

import argparse
import sys

from rich.table import Table
from rich.text import Text

from modalflow.cli.translate_command import STYLES, console
from modalflow.translation.diagnostics import did_you_mean


def run(arguments: argparse.Namespace) -> int:
    """Run the command; exit code 1 if there is no such code."""
    from modalflow.cli.codes_pages import page  # noqa: PLC0415 - the table is read by this command alone
    from modalflow.translation.codes import CODES  # noqa: PLC0415

    code = arguments.code.strip("[]")
    if code in CODES:
        sys.stdout.write(page(CODES[code]))
        return 0
    if code:
        hint = did_you_mean(code, CODES)
        sys.stderr.write(f'no diagnostic has the code "{code}"' + (f"; {hint}" if hint else "") + "\n")
        return 1
    table = Table(pad_edge=False)
    for heading in ("code", "severity", "what it means"):
        table.add_column(heading, overflow="fold")
    for row in sorted(CODES.values(), key=lambda row: row.code):
        table.add_row(Text(row.code), Text(row.severity, style=STYLES.get(row.severity, "")), Text(row.title))
    console().print(table)
    return 0
