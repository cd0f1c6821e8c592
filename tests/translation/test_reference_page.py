"""``docs/reference/executor-config.md`` says what the tables say."""

from __future__ import annotations

from pathlib import Path

import pytest

from modalflow.translation.gpus.catalogue import CATALOGUE
from modalflow.translation.keys import KEYS
from modalflow.translation.pods import verdicts as pod_verdicts

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "executor-config.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", KEYS)
def test_every_key_has_its_row(name: str) -> None:
    key = KEYS[name]
    assert f"| `{name}` | {key.meaning} | `{key.example}` | {key.merge} |" in PAGE.splitlines()


@pytest.mark.parametrize(
    ("verdict", "begin", "end"),
    [
        (pod_verdicts.Loss.NONE, "### Nothing is lost", "### Little is lost"),
        (pod_verdicts.Loss.SMALL, "### Little is lost", "### Data, hardware"),
        (pod_verdicts.Loss.REFUSED, "### Data, hardware", "### What a site does without"),
    ],
)
def test_every_field_stands_with_its_verdict(verdict: pod_verdicts.Loss, begin: str, end: str) -> None:
    section = PAGE.split(begin)[1].split(end)[0]
    tables = (
        pod_verdicts.METADATA,
        pod_verdicts.SPEC,
        pod_verdicts.AFFINITY,
        pod_verdicts.CONTAINER,
        pod_verdicts.SECURITY_CONTEXT,
        pod_verdicts.CAPABILITIES,
    )
    fields = [name for table in tables for name, found in table.items() if found.loss is verdict]
    assert fields
    assert [name for name in fields if f"`{name}`" not in section] == []


def test_every_model_is_named() -> None:
    assert [model.name for model in CATALOGUE if model.name not in PAGE] == []
