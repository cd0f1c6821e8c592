"""Each difference that the page for KubernetesExecutor's users names has the test that it names."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "coming-from-kubernetes-executor.md").read_text(encoding="utf-8")


def test_every_named_test_and_case_is_there() -> None:
    functions = {name for path in TESTS.rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text("utf-8"))}
    files = (TESTS / "translation" / "cases").glob("*.yaml")
    cases = {case["name"] for path in files for case in yaml.safe_load(path.read_text(encoding="utf-8"))}
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| here")]
    assert len(rows) > 10
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert named - functions == set()
    assert set(re.findall(r"case `([^`]+)`", PAGE)) - cases == set()
    assert [row for row in rows if not re.search(r"(case `|`test_)", row.rsplit("|", 2)[1])] == []
