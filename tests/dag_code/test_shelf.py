"""Which copies may go. The law that counts: none that a running sandbox, or one that is yet to start, can mount."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalflow.dag_code.shelf import Copy, day_of, old_days, to_remove

DAY = 86_400
TODAY = "2026-03-02"


def before(days: int) -> str:
    return (date.fromisoformat(TODAY) - timedelta(days=days)).isoformat()


def test_a_copy_has_a_place_and_a_tag() -> None:
    copy = Copy("2026-03-02", "0123456789abcdef0123456789abcdef")
    assert copy.folder("prod") == "prod/2026-03-02/0123456789abcdef0123456789abcdef"
    assert copy.tag == "2026-03-02.0123456789abcdef0123456789abcdef"
    assert len(copy.tag) <= 63


def test_the_day_is_that_of_utc() -> None:
    assert [day_of(seconds) for seconds in (0, DAY - 1, DAY)] == ["1970-01-01", "1970-01-01", "1970-01-02"]


def test_days_are_old_by_their_names_alone() -> None:
    names = [before(days) for days in (-1, 0, 1, 2, 3, 9)]
    assert old_days([*names, "notes", "2026-2-1", "2026-13-01", "../x"], today=TODAY, keep=3) == [before(9), before(3)]


def test_a_day_goes_whole_where_nothing_of_it_is_in_use() -> None:
    contents = {"2026-02-01": ["aa", "bb"], "2026-02-02": ["cc", "dd"], "2026-02-03": []}
    assert to_remove("prod", contents, {"2026-02-02.cc"}) == ["prod/2026-02-01", "prod/2026-02-02/dd", "prod/2026-02-03"]


@given(
    launched=st.integers(0, 20 * DAY),
    now=st.integers(0, 20 * DAY),
    keep=st.integers(2, 5),
    skew=st.integers(-3600, 3600),
    wait=st.integers(0, DAY - 3600),
    others=st.sets(st.integers(0, 20), max_size=5),
)
def test_no_scheduler_removes_what_a_sandbox_can_mount(
    launched: int, now: int, keep: int, skew: int, wait: int, others: set[int]
) -> None:
    """One scheduler launches at ``launched``; the sandbox starts within ``wait`` and lives 24 h at most. Another one, whose clock
    is off by ``skew``, tidies up at ``now``, and knows nothing of the launch."""
    copy = Copy(day_of(launched), "aa")
    names = {copy.day, *(day_of(day * DAY) for day in others)}
    removed = to_remove("d", {day: ["aa"] for day in old_days(names, today=day_of(max(now + skew, 0)), keep=keep)}, set())
    may_run = launched <= now <= launched + wait + DAY
    if keep >= 3 and may_run:
        assert f"d/{copy.day}" not in removed
    if now + skew >= launched + (keep + 1) * DAY:
        assert f"d/{copy.day}" in removed, "and nothing stays for ever"


@pytest.mark.parametrize("keep", [2, 3, 7])
def test_what_runs_is_kept_however_old(keep: int) -> None:
    contents = {day: ["aa"] for day in old_days([before(keep + 5)], today=TODAY, keep=keep)}
    assert to_remove("d", contents, {f"{before(keep + 5)}.aa"}) == []
