"""``lint [PATH…]``: every task of every DAG and every template is translated, and all that there is to say is said at once.

In: files and folders, or nothing for what is configured. Out: findings as text, GitHub annotations, SARIF or JSON; exit code 0 if
there is no error (``--strict``: and no warning), else 1. Nothing is sent to Modal, and no database is asked.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from modalflow.cli.findings import Checked, Finding, findings_of
from modalflow.cli.sarif import sarif_log
from modalflow.cli.site import site_of
from modalflow.settings import SettingsError
from modalflow.translation.diagnostics import Severity


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    try:
        site = site_of(arguments, with_airflow=True)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    checked = Checked()
    found = findings_of(arguments.paths, site, verbose=arguments.verbose, checked=checked)
    failing = {Severity.ERROR, Severity.WARNING} if arguments.strict else {Severity.ERROR}
    clean = not any(finding.severity in failing for finding in found)
    if arguments.format == "text":
        _write_text(found, checked)
    elif arguments.format == "github":
        sys.stdout.write("".join(f"{annotation(finding)}\n" for finding in found))
    else:
        data = sarif_log(found, arguments.docs) if arguments.format == "sarif" else _as_data(found, checked, clean=clean)
        json.dump(data, sys.stdout, indent=2)
        sys.stdout.write("\n")
    return 0 if clean else 1


def _as_data(found: Sequence[Finding], checked: Checked, *, clean: bool) -> dict[str, object]:
    rows = [{**dataclasses.asdict(finding), "severity": str(finding.severity)} for finding in found]
    return {"clean": clean, "checked": dataclasses.asdict(checked), "findings": rows}


def _write_text(found: Sequence[Finding], checked: Checked) -> None:
    for finding in found:
        where = f"{finding.file}:" if finding.file is not None else ""
        where += f"{finding.line}:" if finding.line is not None else ""
        sys.stdout.write(f"{where}{' ' if where else ''}{finding.severity}: {finding.message} [{finding.code}]\n")
    counts = [(severity, sum(finding.severity is severity for finding in found)) for severity in Severity]
    told = [f"{count} {severity}{'s' if count > 1 else ''}" for severity, count in counts if count]
    where = f" in {checked}" if checked.tasks or checked.templates or not told else ""
    sys.stdout.write(f"{', '.join(told) or 'no findings'}{where}\n")


def annotation(finding: Finding) -> str:
    """Return a workflow command of GitHub Actions (docs.github.com, workflow commands, 2026-09)."""
    properties = {"file": finding.file, "line": finding.line, "title": finding.code}
    told = ",".join(f"{name}={_property(str(value))}" for name, value in properties.items() if value is not None)
    return f"::{finding.severity} {told}::{_data(finding.message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
