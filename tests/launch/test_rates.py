"""The pace of creates: a bucket, what refusals take off it, and how it comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalflow.launch.rates import CUT_INTERVAL, FIRST_LIMIT, FLOOR, AdaptiveRate


def gone_within(rate: AdaptiveRate, begin: float, seconds: float) -> int:
    """How many creates go in that time if each goes as soon as it may."""
    now, count = begin, 0
    while (wait := rate.wait(now)) + now <= begin + seconds:
        now += wait
        rate.take(now)
        count += 1
        if count > 10_000:
            break
    return count


def test_a_second_of_the_rate_may_go_at_once_and_then_one_by_one() -> None:
    rate = AdaptiveRate(5.0)
    for _ in range(5):
        assert rate.wait(100.0) == 0.0
        rate.take(100.0)
    assert rate.wait(100.0) == pytest.approx(0.2)
    assert rate.wait(100.1) == pytest.approx(0.1)
    assert rate.wait(100.21) == 0.0


def test_what_is_not_used_is_kept_for_a_second_only() -> None:
    rate = AdaptiveRate(5.0)
    assert gone_within(rate, 0.0, 10.0) == 5 + 50
    assert gone_within(rate, 1000.0, 0.0) == 5


def test_without_a_limit_nobody_waits() -> None:
    assert gone_within(AdaptiveRate(None), 0.0, 0.0) > 10_000


def test_a_refusal_halves_the_rate_and_those_under_way_with_it_do_not_halve_it_again() -> None:
    rate = AdaptiveRate(20.0)
    for _ in range(20):
        rate.refused(0.5, None)
    assert (rate.rate, rate.is_cut) == (10.0, True)
    assert rate.wait(0.5) == pytest.approx(0.1)
    rate.refused(0.5 + CUT_INTERVAL, None)
    assert rate.rate == 5.0


def test_what_modal_asks_to_wait_is_waited() -> None:
    rate = AdaptiveRate(20.0)
    rate.refused(10.0, 7.0)
    assert rate.wait(10.0) == 7.0
    assert rate.wait(17.0) == 0.0


def test_a_full_quota_is_asked_every_five_seconds() -> None:
    rate, now, asked = AdaptiveRate(20.0), 0.0, []
    for _ in range(40):
        now += rate.wait(now)
        rate.take(now)
        asked.append(now)
        rate.refused(now, None)
    assert rate.rate == FLOOR
    assert asked[-1] - asked[-2] == pytest.approx(1 / FLOOR)


def test_a_limit_below_the_floor_stays_what_it_is() -> None:
    rate = AdaptiveRate(0.1)
    rate.refused(0.0, None)
    assert (rate.rate, rate.is_cut) == (0.1, False)


def test_the_rate_comes_back_to_the_limit_and_no_further() -> None:
    rate = AdaptiveRate(20.0)
    rate.refused(0.0, None)
    for _ in range(50):
        rate.accepted()
    assert rate.rate == pytest.approx(20.0)
    rate.accepted()
    assert (rate.rate, rate.is_cut) == (20.0, False)


def test_without_a_limit_a_refusal_makes_one_that_is_dropped_in_the_end() -> None:
    rate = AdaptiveRate(None)
    rate.refused(0.0, None)
    assert (rate.rate, rate.is_cut) == (FIRST_LIMIT / 2, True)
    for _ in range(500):
        rate.accepted()
    assert (rate.rate, rate.is_cut) == (None, False)


@pytest.mark.parametrize("real", [1.0, 5.0, 13.0])
def test_against_a_server_that_admits_fewer_the_pace_settles_near_what_it_admits(real: float) -> None:
    """The server is a bucket too. Most of what it would admit is used, and few creates are refused."""
    ours, theirs, now, admitted, refused = AdaptiveRate(20.0), AdaptiveRate(real), 0.0, 0, 0
    while now < 300.0:
        now += ours.wait(now) + 1e-9
        ours.take(now)
        if theirs.wait(now) == 0.0:
            theirs.take(now)
            ours.accepted()
            admitted += now > 60.0
        else:
            ours.refused(now, None)
            refused += now > 60.0
    assert admitted >= 0.6 * real * 240
    assert refused <= 0.35 * admitted


@given(st.floats(0.5, 100), st.lists(st.tuples(st.floats(0, 2), st.sampled_from(["take", "ok", "no"])), max_size=200))
def test_never_more_than_the_limit_whatever_is_answered(limit: float, story: list[tuple[float, str]]) -> None:
    rate, now, taken = AdaptiveRate(limit), 0.0, []
    for seconds, what in story:
        now += seconds
        if what == "take" and rate.wait(now) == 0.0:
            rate.take(now)
            taken.append(now)
        elif what == "ok":
            rate.accepted()
        elif what == "no":
            rate.refused(now, None)
        assert rate.rate is not None
        assert min(FLOOR, limit) <= rate.rate <= limit
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 <= (taken[last] - taken[first]) * limit + max(1.0, limit) + 1e-6
