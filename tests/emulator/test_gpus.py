"""The inventory alone: who runs and who waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalflow.emulator.state.gpus import MAX_COUNT, GpuInventory, UnknownGpuError, canonical, checked_request


@pytest.mark.parametrize(
    ("spelled", "found"),
    [("a10g", "A10"), ("A10", "A10"), ("A100", "A100-40GB"), ("H100!", "H100"), ("B200+", "B200"), ("l40s", "L40S")],
)
def test_spellings_of_one_type_share_its_stock(spelled: str, found: str) -> None:
    assert canonical(spelled) == found


def test_an_unknown_type_lists_what_is_known() -> None:
    with pytest.raises(UnknownGpuError) as caught:
        canonical("potato")
    assert str(caught.value) == f"Unknown GPU type 'potato'; known: {', '.join(MAX_COUNT)}"


def test_within_a_type_nobody_overtakes() -> None:
    inventory = GpuInventory({"H100": 2})
    assert inventory.acquire("a", checked_request("H100", 1))
    assert not inventory.acquire("b", checked_request("H100", 2))
    assert not inventory.acquire("c", checked_request("H100", 1)), "one is free, but b came first"
    assert inventory.release("a") == ["b"]
    assert inventory.release("b") == ["c"]


def test_leaving_the_queue_lets_the_next_one_start() -> None:
    inventory = GpuInventory({"H100": 2})
    assert inventory.acquire("a", checked_request("H100", 1))
    inventory.acquire("b", checked_request("H100", 2))
    inventory.acquire("c", checked_request("H100", 1))
    assert inventory.release("b") == ["c"]


def test_a_type_that_is_not_in_stock_waits() -> None:
    inventory = GpuInventory({})
    assert not inventory.acquire("a", checked_request("T4", 1))
    assert inventory.queued() == ["a"]


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.integers(1, 4)), max_size=60))
def test_never_more_devices_are_held_than_there_are_and_nobody_waits_needlessly(steps: list[tuple[int, bool, int]]) -> None:
    inventory = GpuInventory({"A10": 4})
    running: dict[str, int] = {}
    waiting: dict[str, int] = {}
    for number, arrives, count in steps:
        holder = str(number)
        if arrives and holder not in running | waiting:
            (running if inventory.acquire(holder, checked_request("A10", count)) else waiting)[holder] = count
        elif not arrives:
            running.pop(holder, None)
            waiting.pop(holder, None)
            for started in inventory.release(holder):
                running[started] = waiting.pop(started)
        assert sum(running.values()) <= 4
        assert inventory.queued() == list(waiting)
        if waiting:
            assert sum(running.values()) + next(iter(waiting.values())) > 4
