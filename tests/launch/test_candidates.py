"""Whose turn it is among the GPUs of one task, and for how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalflow.launch.candidates import SHORTEST_TRY, Candidates, Try


def following(candidates: Candidates, now: float) -> Try | None:
    """The first of the choices, taken at once."""
    choices = candidates.choices(now)
    return candidates.take(choices[0], now) if choices else None


def test_a_single_one_gets_all() -> None:
    assert following(Candidates(("A10G",), 480.0), 0.0) == Try(gpu="A10G", bound=480.0)


def test_what_one_does_not_use_the_others_share() -> None:
    candidates = Candidates(("H100", "A100", "L40S"), 90.0)
    assert following(candidates, 0.0) == Try(gpu="H100", bound=30.0)
    assert following(candidates, 10.0) == Try(gpu="A100", bound=40.0)
    assert following(candidates, 50.0) == Try(gpu="L40S", bound=40.0)
    assert following(candidates, 90.0) is None


def test_each_is_tried_at_least_once() -> None:
    candidates = Candidates(("H100", "A100"), 0.0)
    assert [following(candidates, 5.0 * n) for n in range(3)] == [
        Try(gpu="H100", bound=SHORTEST_TRY),
        Try(gpu="A100", bound=SHORTEST_TRY),
        None,
    ]


def test_round_again_until_the_budget_is_used_up() -> None:
    candidates = Candidates(("H100", "A100"), 100.0)
    tried = [taken.gpu for n in range(20) if (taken := following(candidates, 10.0 * n))]
    assert tried == ["H100", "A100"] * 5
    assert candidates.rounds == 5


def test_one_that_is_passed_over_is_tried_later_in_the_same_round() -> None:
    candidates = Candidates(("H100", "A100", "L4"), 90.0)
    assert candidates.choices(0.0) == ("H100", "A100", "L4")
    assert candidates.take("A100", 0.0) == Try(gpu="A100", bound=30.0)
    assert candidates.choices(10.0) == ("H100", "L4")


def test_time_in_line_is_not_time_at_modal() -> None:
    candidates = Candidates(("H100", "A100"), 100.0)
    candidates.choices(0.0)
    assert candidates.waited(3000.0) == 0.0
    assert candidates.take("H100", 3000.0) == Try(gpu="H100", bound=50.0)
    candidates.choices(3020.0)
    assert candidates.waited(9000.0) == 20.0
    assert candidates.take("A100", 9000.0) == Try(gpu="A100", bound=80.0)
    assert candidates.waited(9030.0) == 50.0


def test_again_is_the_same_one_for_the_rest_of_its_share() -> None:
    candidates = Candidates(("H100", "A100"), 100.0)
    following(candidates, 0.0)
    assert candidates.again(20.0) == Try(gpu="H100", bound=30.0)
    assert candidates.again(49.5) is None


@pytest.mark.parametrize("gpus", [("H100",), ("H100", "A100")])
def test_one_that_modal_would_not_hear_of_comes_first_again(gpus: tuple[str, ...]) -> None:
    candidates = Candidates(gpus, 100.0)
    for _ in range(3):
        taken = following(candidates, 0.0)
        assert taken is not None
        candidates.put_back()
        assert candidates.choices(0.0) == gpus
        assert candidates.rounds == 0


def test_the_last_of_a_round_is_put_back_into_that_round() -> None:
    candidates = Candidates(("H100", "A100"), 100.0)
    following(candidates, 0.0)
    following(candidates, 0.0)
    candidates.put_back()
    assert (candidates.choices(0.0), candidates.rounds) == (("A100",), 0)


def test_what_can_never_be_had_is_left_out() -> None:
    candidates = Candidates(("H100:8", "A100"), 100.0)
    candidates.choices(0.0)
    candidates.take("A100", 0.0)
    assert candidates.drop(("H100:8",))
    assert candidates.choices(10.0) == ("A100",)
    assert not candidates.drop(("A100",))


@given(
    st.floats(0, 1e4), st.lists(st.tuples(st.floats(0, 1e3), st.floats(0, 1e4), st.booleans()), max_size=50), st.integers(1, 5)
)
def test_tries_never_outlast_the_budget_by_more_than_the_shortest_try_each(
    budget: float, used: list[tuple[float, float, bool]], count: int
) -> None:
    candidates, now, spent = Candidates(tuple(f"G{n}" for n in range(count)), budget), 0.0, 0.0
    for seconds, in_line, refused in used:
        choices = candidates.choices(now)
        if not choices:
            break
        now += in_line
        taken = candidates.take(choices[-1], now)
        now += min(seconds, taken.bound)
        spent += min(seconds, taken.bound)
        if refused:
            candidates.put_back()
            break
    assert spent <= budget + count * SHORTEST_TRY + 1e-6
    assert candidates.waited(now) == pytest.approx(spent, abs=1e-6)
