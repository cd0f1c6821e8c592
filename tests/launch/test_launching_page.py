"""The table of transitions, as it is documented."""

from __future__ import annotations

from pathlib import Path

from modalflow.launch import launching_page
from modalflow.launch import messages as m
from modalflow.launch.lifecycle.record import TABLE
from modalflow.launch.transitions import State

PAGE = Path(__file__).parents[2] / "docs/explanation/launching.md"


def test_the_page_is_what_the_table_says() -> None:
    assert PAGE.read_text() == launching_page.page(), "stale: run `make docs`"


def test_every_happening_can_happen_and_says_what_follows() -> None:
    rows = TABLE.rows()
    assert {row.happening for row in rows} == {happening.__name__ for happening in m.Happening.__args__}
    assert all(row.text for row in rows)


def test_every_state_but_the_last_can_be_left() -> None:
    ordinary = {state for row in TABLE.rows() if len(row.states) < len(State) - 1 for state in row.states}
    assert ordinary >= set(State) - {State.ENDED}
