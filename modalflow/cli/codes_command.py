"""``modalflow codes [CODE]``: the list of diagnostic codes, or the page of one."""

from __future__ import annotations

import argparse
import sys

from rich.text import Text

from modalflow.cli.tables import console, print_table
from modalflow.cli.translate_command import STYLES
from modalflow.translation.diagnostics import did_you_mean


def run(arguments: argparse.Namespace) -> int:
    """Run the command; exit code 1 if there is no such code."""
    from modalflow.cli.codes_pages import page  # noqa: PLC0415 - the table is read by this command alone
    from modalflow.translation.codes.table import CODES  # noqa: PLC0415

    code = arguments.code.strip("[]")
    if code in CODES:
        sys.stdout.write(page(CODES[code]))
        return 0
    if code:
        hint = did_you_mean(code, CODES)
        sys.stderr.write(f'no diagnostic has the code "{code}"' + (f"; {hint}" if hint else "") + "\n")
        return 1
    listed = sorted(CODES.values(), key=lambda row: row.code)
    rows = [(Text(row.code), Text(row.severity, style=STYLES.get(row.severity, "")), Text(row.title)) for row in listed]
    print_table(console(), ("code", "severity", "what it means"), rows)
    return 0
