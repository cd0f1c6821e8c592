"""Following output: every line once, whatever the chunks it came in; and the end of one that has none."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalflow.emulator.machines.output import STDERR, STDOUT, Output
from modalflow.emulator.services.log_following import Follower


def texts(follower: Follower, output: Output) -> list[str]:
    return [line.text for line in follower.fresh("sb-1", output)]


def test_each_look_tells_what_is_new() -> None:
    output, follower = Output(), Follower((STDOUT, STDERR), 0)
    assert texts(follower, output) == []
    output.streams[STDOUT].write(b"one\ntw")
    assert texts(follower, output) == ["one\n"]
    output.streams[STDERR].write(b"error\n")
    output.streams[STDOUT].write(b"o\nthree")
    assert texts(follower, output) == ["error\n", "two\n"]
    assert texts(follower, output) == []
    output.end()
    assert texts(follower, output) == ["three"]
    assert texts(follower, output) == []


def test_one_stream_only_and_from_a_time_on() -> None:
    output = Output()
    output.streams[STDOUT].write(b"old\n")
    (old,) = Follower((STDOUT,), 0).fresh("sb-1", output)
    output.streams[STDOUT].write(b"new\n")
    output.streams[STDERR].write(b"other\n")
    assert texts(Follower((STDOUT,), old.time_ns), output) == ["new\n"]


@given(data=st.binary(max_size=60), cuts=st.lists(st.integers(0, 60), max_size=6), looks=st.sets(st.integers(0, 7)))
def test_the_text_is_the_same_however_it_is_cut(data: bytes, cuts: list[int], looks: set[int]) -> None:
    output, follower = Output(), Follower((STDOUT,), 0)
    found: list[str] = []
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for number, (low, high) in enumerate(pairwise(places)):
        if low < high:
            output.streams[STDOUT].write(data[low:high])
        if number in looks:
            found += texts(follower, output)
    output.end()
    found += texts(follower, output)
    assert "".join(found) == data.decode("utf-8", "replace")
    assert all(text.endswith("\n") for text in found[:-1])


@pytest.mark.parametrize("ended", [False, True])
def test_what_is_older_than_what_is_kept_is_passed_over(ended: bool) -> None:
    output, follower = Output(), Follower((STDOUT,), 0)
    output.streams[STDOUT].write(b"gone\n")
    output.streams[STDOUT].drop()
    output.streams[STDOUT].write(b"kept\n")
    if ended:
        output.end()
    assert texts(follower, output) == ["kept\n"]
