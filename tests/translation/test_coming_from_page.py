"""Each difference that the page for KubernetesExecutor's users names has the test that it names."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from modalflow.executor.kubernetes_options import READ, WITHOUT_EFFECT
from modalflow.settings import read_settings

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "coming-from-kubernetes-executor.md").read_text(encoding="utf-8")


def test_every_named_test_and_case_is_there() -> None:
    functions = {name for path in TESTS.rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text("utf-8"))}
    files = (TESTS / "translation" / "cases").glob("*.yaml")
    cases = {case["name"] for path in files for case in yaml.safe_load(path.read_text(encoding="utf-8"))}
    tables = re.findall(r"^\| here \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    rows = [line for table in tables for line in table.splitlines()]
    assert len(rows) > 40
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert named - functions == set()
    assert set(re.findall(r"case `([^`]+)`", PAGE)) - cases == set()
    assert [row for row in rows if not re.search(r"(case `|`test_)", row.rsplit("|", 2)[1])] == []


def test_every_option_of_the_provider_is_named() -> None:
    section = PAGE.split("## A migrated")[1]
    patterns = [re.compile(name.replace("*", ".*")) for name in re.findall(r"`(\w+\*?)`", section)]
    told = [name for name in (*READ, *WITHOUT_EFFECT) if WITHOUT_EFFECT.get(name) != "there is no cluster to call"]
    assert [name for name in told if not any(pattern.fullmatch(name) for pattern in patterns)] == []


def test_options_that_are_to_be_written_parse() -> None:
    """The first table's ``NAME = VALUE`` are what ``[modal_executor]`` takes."""
    first = PAGE.split("## If you have this")[1].split("## Step by step")[0]
    written = dict(re.findall(r"`(?:\[modal_executor\] )?([a-z_]+) = ([^`]+)`", first))
    assert len(written) > 8
    read_settings(written)
