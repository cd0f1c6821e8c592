"""Every field of a plan is shown by the commands: who adds one is told where it is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modalflow.cli.translate_command import plan_data
from modalflow.cli.translating import modal_keys
from modalflow.provider.explanation import rows_of
from modalflow.translation.plan import SandboxPlan
from modalflow.translation.result import Translation
from tests.cli.plan_samples import SAMPLES, fields_of_a_plan

NO_ROW = {
    "image.python_version": "told beside the packages",
    "secrets.optional": "a Secret that is not there is left out, which the log tells",
    "setup.hide": "follows from the init containers and the task's variables, which have rows",
    "volumes.is_ours": "says only where modalflow's own Volumes are looked up",
    "volumes.version": "of modalflow's own log Volume only",
    "volumes.code_of": "of the Volume that DAG code is brought to at launch, which no command plans",
    "volumes.create_if_missing": "of modalflow's own log Volume only",
}
"""What no table names, and why; ``--json`` has it."""


def test_every_field_has_a_sample() -> None:
    assert fields_of_a_plan() == set(SAMPLES), "add a sample to tests/cli/plan_samples.py, and show the field"


@pytest.mark.parametrize("field", sorted(set(SAMPLES) - set(NO_ROW)))
def test_a_table_shows_it(field: str) -> None:
    sample = SAMPLES[field]
    assert rows(sample.plan()) != rows(sample.of)


@pytest.mark.parametrize("field", sorted(SAMPLES))
def test_json_shows_it(field: str) -> None:
    sample = SAMPLES[field]
    assert plan_data(sample.plan()) != plan_data(sample.of)


@pytest.mark.parametrize("field", sorted(field for field, sample in SAMPLES.items() if sample.in_words))
def test_a_template_says_it(field: str) -> None:
    sample = SAMPLES[field]
    assert modal_keys(sample.plan()) != modal_keys(sample.of)


def rows(plan: SandboxPlan) -> list[tuple[str, str]]:
    return [(row.field, row.value) for row in rows_of(Translation(plan=replace(plan)))]
