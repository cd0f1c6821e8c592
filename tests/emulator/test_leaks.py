"""Ended sandboxes leave nothing behind: the rounds of ``benchmarks.emulator_leaks``, in small."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.emulator_leaks import Activity, Server, at_once, in_a_row, killed, measure, vanishing
from modalflow.emulator.machines.oci_launcher import obstacle


@pytest.fixture(scope="module", params=["process", "container"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.param == "container" and (missing := obstacle()):
        pytest.skip(missing)
    server = Server({"isolation": request.param})
    measure(server, at_once, 20)  # whatever is made once is made now
    yield server
    server.stop()


@pytest.mark.parametrize(
    ("activity", "count"),
    [
        pytest.param(in_a_row, 20, id="in a row"),
        pytest.param(at_once, 30, id="at once"),
        pytest.param(killed, 20, id="killed"),
        pytest.param(vanishing, 12, id="clients vanish"),
    ],
)
def test_ended_sandboxes_leave_nothing_behind(server: Server, activity: Activity, count: int) -> None:
    assert measure(server, activity, count).left == {}
