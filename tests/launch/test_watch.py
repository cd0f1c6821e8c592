"""How ends are noticed: on a loop with a scripted gateway, and time that passes only by sleeping."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from modalflow.launch import watch as module
from modalflow.launch.gateway import (
    EndKind,
    GatewayError,
    InvalidRequest,
    NotFound,
    RateLimited,
    SandboxEnd,
    SandboxStatus,
    Unavailable,
)
from modalflow.launch.watch import Watch
from tests.launch.scripted_gateway import ScriptedGateway

SUCCESS = SandboxEnd(kind=EndKind.SUCCESS, exit_code=0)
TAGS = {"deployment": "airflow"}
TURNS = 2_000
"""Turns of the loop within which what is waited for has happened, or never will."""


class Scene:
    """A watch, its gateway, its time, and who waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.gateway = ScriptedGateway()
        self.slept: list[float] = []
        self.waiting: dict[str, asyncio.Task[SandboxEnd]] = {}
        self.watch = Watch(lambda: self.gateway, TAGS, clock=lambda: self.now, sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    def run(self, *numbers: int) -> None:
        """Sandboxes that run, and somebody who waits for each."""
        for number in numbers:
            sandbox_id = f"sb-{number}"
            status = SandboxStatus(sandbox_id=sandbox_id, name="", tags=TAGS)
            self.gateway.running.append(status)
            self.gateway.known[sandbox_id] = status
            self.waiting[sandbox_id] = asyncio.create_task(self.watch.end(sandbox_id))

    def end(self, number: int, end: SandboxEnd | None = SUCCESS) -> None:
        """A sandbox leaves the listing; Modal knows its end, or with ``None`` forgets it."""
        sandbox_id = f"sb-{number}"
        self.gateway.running = [status for status in self.gateway.running if status.sandbox_id != sandbox_id]
        if end is None:
            del self.gateway.known[sandbox_id]
        else:
            self.gateway.known[sandbox_id] = SandboxStatus(sandbox_id=sandbox_id, name="", tags=TAGS, end=end)

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(TURNS):
            if condition():
                return
            await asyncio.sleep(0)
        raise AssertionError("it did not happen")

    async def passes(self, count: int = 1) -> None:
        """Let that many whole listings go by."""
        enough = self.watch.figures.passes + count + 1
        await self.until(lambda: self.watch.figures.passes >= enough)

    async def close(self) -> None:
        await self.watch.stop()
        for task in self.waiting.values():
            task.cancel()
        await asyncio.gather(*self.waiting.values(), return_exceptions=True)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONG_POLLS", 3)
    monkeypatch.setattr(module, "FEW_AGAIN", 2)


def play(scene: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        stage = Scene()
        try:
            await scene(stage)
        finally:
            await stage.close()

    asyncio.run(main())


class TestFew:
    def test_each_is_polled_and_nothing_is_listed(self) -> None:
        async def scene(stage: Scene) -> None:
            stage.run(1, 2, 3)
            await stage.until(lambda: stage.watch.figures.polls == 3)
            stage.gateway.end("sb-2", EndKind.FAILURE, 4)
            assert await stage.waiting["sb-2"] == SandboxEnd(kind=EndKind.FAILURE, exit_code=4)
            assert stage.watch.figures.polls == 2
            assert stage.gateway.listed == []

        play(scene)

    def test_what_ends_a_poll_is_raised(self) -> None:
        def away(_: str) -> SandboxEnd:
            raise Unavailable("Modal did not answer")

        async def scene(stage: Scene) -> None:
            stage.gateway.on_wait = away
            stage.run(1)
            with pytest.raises(Unavailable, match=r"^Modal did not answer$"):
                await stage.waiting["sb-1"]
            assert stage.watch.figures.watched == 0

        play(scene)

    def test_who_no_longer_wants_to_know_leaves_no_poll(self) -> None:
        async def scene(stage: Scene) -> None:
            stage.run(1)
            await stage.until(lambda: stage.watch.figures.polls == 1)
            (poll,) = stage.watch._polls.values()
            stage.waiting["sb-1"].cancel()
            await asyncio.wait([stage.waiting["sb-1"], poll])
            assert poll.cancelled()
            assert stage.watch.figures.watched == stage.watch.figures.polls == 0

        play(scene)

    def test_a_wait_that_the_client_lost_is_begun_anew(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "LONGEST_POLL", 0.0)
        asked: list[str] = []

        async def deaf_once(sandbox_id: str) -> SandboxEnd:
            asked.append(sandbox_id)
            if len(asked) == 1:
                await asyncio.Event().wait()
            monkeypatch.setattr(module, "LONGEST_POLL", 60.0)
            return SUCCESS

        async def scene(stage: Scene) -> None:
            stage.gateway.wait = deaf_once  # type: ignore[method-assign]
            stage.run(1)
            assert await stage.waiting["sb-1"] == SUCCESS
            assert asked == ["sb-1", "sb-1"]

        play(scene)


class TestMany:
    def test_one_listing_takes_the_place_of_all_polls(self) -> None:
        async def scene(stage: Scene) -> None:
            stage.run(1, 2, 3, 4, 5)
            await stage.passes()
            assert stage.watch.figures.polls == 0
            assert stage.gateway.listed[0] == TAGS
            stage.end(4, SandboxEnd(kind=EndKind.OUT_OF_MEMORY, exit_code=137))
            assert await stage.waiting["sb-4"] == SandboxEnd(kind=EndKind.OUT_OF_MEMORY, exit_code=137)
            assert stage.watch.figures.checks == 1, "asked for nobody but the one that was missing"
            assert not any(task.done() for name, task in stage.waiting.items() if name != "sb-4")

        play(scene)

    def test_an_absence_is_no_end(self) -> None:
        async def scene(stage: Scene) -> None:
            stage.run(1, 2, 3, 4)
            stage.gateway.running = stage.gateway.running[1:]
            await stage.until(lambda: stage.watch.figures.checks == 3)
            assert not stage.waiting["sb-1"].done()
            stage.end(1)
            assert await stage.waiting["sb-1"] == SUCCESS

        play(scene)

    def test_who_comes_while_a_listing_is_read_is_not_judged_by_it(self) -> None:
        async def scene(stage: Scene) -> None:
            stage.run(1, 2, 3, 4)
            await stage.passes()

            def come() -> None:
                stage.gateway.on_list = None
                stage.run(5)
                stage.gateway.running.pop()  # the page was made before it

            stage.gateway.on_list = come
            await stage.until(lambda: "sb-5" in stage.waiting)
            passes = stage.watch.figures.passes
            await stage.until(lambda: stage.watch.figures.passes > passes)
            assert stage.watch.figures.checks == 0

        play(scene)

    def test_one_that_modal_does_not_know(self) -> None:
        async def scene(stage: Scene) -> None:
            stage.run(1, 2, 3, 4)
            stage.end(3, None)
            with pytest.raises(NotFound, match=r"^could not wait for the sandbox sb-3: Modal does not know it$"):
                await stage.waiting["sb-3"]

        play(scene)

    def test_listings_keep_their_distance_and_pages_theirs(self) -> None:
        async def scene(stage: Scene) -> None:
            begun: list[float] = []
            stage.gateway.on_list = lambda: begun.append(stage.now)
            stage.run(1, 2, 3, 4, 5)  # three pages
            await stage.passes(3)
            assert begun[:3] == [0.0, 5.0, 10.0]
            assert stage.slept[:4] == [0.05, 0.05, 0.05, pytest.approx(4.85)]
            assert stage.watch.figures.latest_pass == pytest.approx(0.15)

        play(scene)

    def test_when_few_are_left_each_is_polled_again(self) -> None:
        async def scene(stage: Scene) -> None:
            stage.run(1, 2, 3, 4)
            await stage.passes()
            stage.end(1)
            stage.end(2)
            await asyncio.gather(stage.waiting["sb-1"], stage.waiting["sb-2"])
            await stage.until(lambda: stage.watch.figures.polls == 2)
            listed = len(stage.gateway.listed)
            stage.gateway.end("sb-3")
            assert await stage.waiting["sb-3"] == SUCCESS
            assert len(stage.gateway.listed) == listed

        play(scene)


def failing(times: int, error: Exception) -> Callable[[], None]:
    left = [times]

    def fail() -> None:
        if left[0]:
            left[0] -= 1
            raise error

    return fail


class TestTrouble:
    @pytest.mark.parametrize("error", [Unavailable("Modal did not answer"), RateLimited("slow down", 30.0)])
    def test_an_outage_harms_nobody_and_is_told_once(self, caplog: pytest.LogCaptureFixture, error: GatewayError) -> None:
        caplog.set_level(logging.INFO)

        async def scene(stage: Scene) -> None:
            stage.gateway.on_list = failing(7, error)
            stage.run(1, 2, 3, 4)
            stage.end(2)
            assert await stage.waiting["sb-2"] == SUCCESS
            assert stage.now >= (7 * 30 if isinstance(error, RateLimited) else 7 * 5)
            assert stage.watch.figures.checks == 1

        play(scene)
        told = [record.getMessage() for record in caplog.records if record.name == module.__name__]
        assert told[1:3] == [
            f"modalflow: the running sandboxes cannot be listed, which is tried again and again: {error}",
            "modalflow: the running sandboxes are listed again",
        ]

    @pytest.mark.parametrize("error", [InvalidRequest("Modal does not permit it"), KeyError("defect")], ids=["refused", "defect"])
    def test_where_listings_are_refused_each_is_asked_for_by_its_id(self, error: Exception) -> None:
        async def scene(stage: Scene) -> None:
            stage.gateway.on_list = failing(1_000, error)
            stage.run(1, 2, 3, 4)
            stage.end(2)
            assert await stage.waiting["sb-2"] == SUCCESS
            assert stage.watch.figures.passes == module.REFUSALS + 1
            listed = len(stage.gateway.listed)
            await stage.passes(2)
            assert len(stage.gateway.listed) > listed, "and the listing is tried again"

        play(scene)

    def test_one_that_modal_does_not_answer_for_comes_up_again(self, caplog: pytest.LogCaptureFixture) -> None:
        async def scene(stage: Scene) -> None:
            known, asked = stage.gateway.status, []

            async def once_away(sandbox_id: str) -> SandboxStatus | None:
                asked.append(sandbox_id)
                if len(asked) == 1:
                    raise Unavailable("Modal did not answer")
                return await known(sandbox_id)

            stage.gateway.status = once_away  # type: ignore[method-assign]
            stage.run(1, 2, 3, 4)
            stage.end(2)
            assert await stage.waiting["sb-2"] == SUCCESS
            assert asked == ["sb-2", "sb-2"]

        play(scene)
        assert "Modal did not answer for 1 sandboxes, which are asked for again: Modal did not answer" in caplog.text


def test_after_the_stop_nothing_is_asked() -> None:
    async def scene(stage: Scene) -> None:
        stage.run(1, 2, 3, 4)
        await stage.passes()
        await stage.watch.stop()
        passes = stage.watch.figures.passes
        for _ in range(20):
            await asyncio.sleep(0)
        assert stage.watch.figures.passes == passes

    play(scene)
