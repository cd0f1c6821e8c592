"""Ended sandboxes leave nothing behind: the rounds of ``benchmarks.emulator_leaks``, in small."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.emulator_leaks import Activity, Server, at_once, in_a_row, killed, measure, vanishing


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server({})
    measure(server, at_once, 20)  # whatever is made once is made now
    yield server
    server.stop()


@pytest.mark.parametrize(
    ("activity", "count"),
    [
        pytest.param(in_a_row, 30, id="in a row"),
        pytest.param(at_once, 40, id="at once"),
        pytest.param(killed, 30, id="killed"),
        pytest.param(vanishing, 20, id="clients vanish"),
    ],
)
def test_ended_sandboxes_leave_nothing_behind(server: Server, activity: Activity, count: int) -> None:
    assert measure(server, activity, count).left == {}
