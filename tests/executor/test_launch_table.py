"""Which launch of a task counts."""

from __future__ import annotations

from modalflow.executor.launch_table import EndedLaunch, LaunchTable


def test_the_newest_launch_of_a_task_counts() -> None:
    table = LaunchTable()
    table.add("a", key=("t", 1), task="t")
    table.add("b", key=("t", 2), task="t")
    assert (table.counts("a"), table.counts("b"), table.counts("c")) == (False, True, False)
    assert table.newest(key=("t", 2), task="t") == "b"
    assert table.newest(key=("t", 1), task="t") is None
    assert table.remove("b") == EndedLaunch(key=("t", 2), counts=True)
    assert table.counts("a") is False, "an older launch does not come back"
    assert table.remove("a") == EndedLaunch(key=("t", 1), counts=False)
    assert table.remove("a") is None
    assert len(table) == 0


def test_keys_are_held_while_any_launch_of_them_lives() -> None:
    table = LaunchTable()
    table.add("a", key="k", task="k")
    table.add("b", key="k", task="k")
    table.remove("b")
    assert table.holds("k")
    table.remove("a")
    assert not table.holds("k")


def test_used_ids_are_remembered_up_to_a_bound() -> None:
    table = LaunchTable(remembered=2)
    for launch_id in "abc":
        table.add(launch_id, key=launch_id, task=launch_id)
        table.remove(launch_id)
    assert [table.was_used(launch_id) for launch_id in "abcd"] == [False, True, True, False]
