"""The plan of a seed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.faults import DEEDS
from tests.chaos.plan import CHAIN, FAULTS, draw

SEEDS = st.integers(min_value=0, max_value=10_000)


@given(SEEDS, st.integers(min_value=8, max_value=300))
def test_a_seed_always_draws_the_same_and_every_deadly_fault(seed: int, tasks: int) -> None:
    plan = draw(seed, tasks)
    assert plan == draw(seed, tasks)
    named = [strike.what for strike in plan.strikes]
    assert {"kill scheduler", "kill scheduler amid a call", "kill emulator", "preempt", "out of memory", "lost creates"} <= set(
        named
    )
    assert [strike.at for strike in plan.strikes] == sorted(strike.at for strike in plan.strikes)
    assert all(strike.at < tasks for strike in plan.strikes)


@given(SEEDS)
def test_what_fails_for_good_has_nobody_after_it(seed: int) -> None:
    # An upstream_failed task would be one that never ran, and nothing could be said of it.
    plan = draw(seed, 5 * CHAIN + 1)
    waited_for = {script.after for script in plan.scripts}
    assert all(script.task_id not in waited_for for script in plan.scripts if script.expected == "failed")


def test_seeds_differ() -> None:
    assert draw(1, 40) != draw(2, 40)


def test_every_fault_can_be_carried_out() -> None:
    assert set(FAULTS) == set(DEEDS)
