"""``docs/reference/gpus.md`` is what ``python -m modalflow.translation.gpus.page`` prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from modalflow.translation.gpus.catalogue import CATALOGUE
from modalflow.translation.gpus.page import main, render

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "gpus.md"


def test_the_page_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0
    assert capsys.readouterr().out == PAGE.read_text(encoding="utf-8"), "run: make docs"


def test_every_model_has_its_row() -> None:
    rows = [line.split(" | ")[0].removeprefix("| ") for line in render().splitlines()]
    assert [model.name for model in CATALOGUE if f"`{model.name}`" not in rows] == []
