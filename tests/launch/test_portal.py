"""The way into the loop's thread: order, and calls that leave the caller its interpreter."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from modalflow.launch.portal import LoopThread

PATIENCE = 30.0
"""Seconds after which a thread that should have answered has not."""


class Room:
    """A loop's thread, and what ran on it in which order."""

    def __init__(self) -> None:
        self.thread = LoopThread("room")
        self.ran: list[str] = []
        self.stop = asyncio.Event()
        self.thread.start(self.main)

    async def main(self) -> None:
        await self.stop.wait()

    def note(self, what: str) -> Callable[[], None]:
        return partial(self.ran.append, what)

    def fail(self) -> None:
        raise RuntimeError("as it was asked to")

    def wait(self) -> None:
        """Return when everything posted so far has run."""
        done = threading.Event()
        self.thread.post(done.set)
        assert done.wait(PATIENCE)


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room()
    yield room
    room.thread.post(room.stop.set)
    assert room.thread.join(PATIENCE)


def soon(call: Callable[[], None]) -> None:
    """Run ``call`` in the loop's next turn."""
    asyncio.get_running_loop().call_soon(call)


def test_calls_that_wait_keep_their_order_among_others(room: Room) -> None:
    room.thread.post(room.note("first"))
    room.thread.post_later([room.note("second"), room.note("third")])
    room.thread.post(room.note("fourth"))
    room.wait()
    assert room.ran == ["first", "second", "third", "fourth"]


def test_what_may_wait_lets_the_loop_rest_first(room: Room) -> None:
    done = threading.Event()

    def from_within() -> None:
        loop = asyncio.get_running_loop()
        room.thread.post_later([room.note("later"), done.set])
        loop.call_soon(loop.call_soon, room.note("two turns of the loop"))

    room.thread.post(lambda: soon(from_within))
    assert done.wait(PATIENCE)
    assert room.ran == ["two turns of the loop", "later"]


def test_a_call_that_fails_costs_the_others_nothing(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    room.thread.post_later([room.fail, room.note("next")])
    room.wait()
    assert room.ran == ["next"]
    assert [record.getMessage() for record in caplog.records] == ["modalflow: a call into room failed"]


def test_what_was_posted_before_the_start_runs_at_once() -> None:
    thread, ran, stop = LoopThread("early"), threading.Event(), asyncio.Event()
    thread.post_later([ran.set])

    async def main() -> None:
        await stop.wait()

    thread.start(main)
    assert ran.wait(PATIENCE)
    thread.post(stop.set)
    assert thread.join(PATIENCE)
