"""The soak's judgement."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.soak import Sample, grown

FIRST = Sample(done=1000, memory=100 * 2**20, threads=4, descriptors=13, tasks=4)
LAST = replace(FIRST, done=5000, memory=101 * 2**20)


def test_flat() -> None:
    assert grown([FIRST, LAST]) == []


@pytest.mark.parametrize(
    ("last", "sentence"),
    [
        pytest.param(replace(LAST, threads=5), "threads grew from 4 to 5", id="a thread"),
        pytest.param(replace(LAST, descriptors=14), "descriptors grew from 13 to 14", id="a descriptor"),
        pytest.param(replace(LAST, tasks=4004), "tasks grew from 4 to 4004", id="asyncio tasks"),
        pytest.param(replace(LAST, memory=110 * 2**20), "memory grew by 2621 bytes a task, more than 2048", id="memory"),
    ],
)
def test_what_grows_is_named(last: Sample, sentence: str) -> None:
    assert grown([FIRST, last]) == [sentence]
