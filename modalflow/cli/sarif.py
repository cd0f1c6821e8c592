"""Findings as SARIF 2.1.0 (docs.oasis-open.org/sarif/sarif/v2.1.0, 2023-08), for code scanning in CI.

In: ``Finding``s. Out: the log as plain data. One run, a rule for each code that occurs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

from modalflow.cli.findings import IMPORT_ERROR, NO_FILE, Finding
from modalflow.translation.codes.table import CODES
from modalflow.translation.diagnostics import Severity

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTICE: "note"}
LINT_ONLY = {IMPORT_ERROR: "Airflow cannot import the DAG file", NO_FILE: "There is no such file or folder"}
"""Rules that are no diagnostic of a task."""


def sarif_log(findings: Sequence[Finding], docs: str) -> dict[str, object]:
    """Return the log. ``docs`` is the address that the pages of the codes are under, if they are anywhere."""
    codes = sorted({finding.code for finding in findings})
    driver = {
        "name": "modalflow",
        "version": version("modalflow"),
        "rules": [_rule(code, docs) for code in codes],
    }
    results = [_result(finding, codes.index(finding.code)) for finding in findings]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(code: str, docs: str) -> dict[str, object]:
    if code not in CODES:
        return {"id": code, "shortDescription": {"text": LINT_ONLY.get(code, code)}}
    row = CODES[code]
    rule: dict[str, object] = {
        "id": code,
        "shortDescription": {"text": row.title},
        "fullDescription": {"text": row.means},
        "help": {"text": f"{row.why} {row.mend}"},
    }
    if docs:
        rule["helpUri"] = f"{docs.rstrip('/')}/{code}.md"
    return rule


def _result(finding: Finding, index: int) -> dict[str, object]:
    result: dict[str, object] = {
        "ruleId": finding.code,
        "ruleIndex": index,
        "level": LEVELS[finding.severity],
        "message": {"text": finding.message},
        "partialFingerprints": {"modalflow/v1": _fingerprint(finding)},
    }
    if finding.file is not None:
        place: dict[str, object] = {"artifactLocation": {"uri": _uri(finding.file)}}
        if finding.line is not None:
            place["region"] = {"startLine": finding.line}
        result["locations"] = [{"physicalLocation": place}]
    return result


def _uri(file: str) -> str:
    return Path(file).as_uri() if Path(file).is_absolute() else quote(Path(file).as_posix())


def _fingerprint(finding: Finding) -> str:
    """Name a finding apart from its line, which moves."""
    return hashlib.sha256(f"{finding.file}\0{finding.code}\0{finding.message}".encode()).hexdigest()[:32]
