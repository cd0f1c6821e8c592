"""A create that is cut off leaves no sandbox, whatever Modal had answered by then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from modalflow.emulator import EmulatorConfig
from modalflow.launch.events import LaunchEnded
from modalflow.modal_gateway.given_up import leaving_nothing
from tests.contract.test_launching import OURS, StartEmulator, plan, scheduler, start_emulator
from tests.launch.plans import LAUNCH, request
from tests.launch.scripted_gateway import until

__all__ = ["start_emulator"]


class Create:
    """A create call: Modal answers at ``answered``, the client ends what was made when it is cut off after that."""

    def __init__(self) -> None:
        self.story: list[str] = []
        self.answered = False
        self.scheduled = asyncio.Event()
        self.begun = asyncio.Event()

    async def call(self) -> str:
        self.begun.set()
        try:
            await self.scheduled.wait()
        except asyncio.CancelledError:
            self.story.append("ended" if self.answered else "cut off unanswered")
            raise
        return "sb-1"

    async def is_known(self) -> bool:
        self.story.append("known" if self.answered else "unknown")
        known, self.answered = self.answered, True
        return known


def scene(act: Callable[[Create], Awaitable[None]]) -> list[str]:
    async def main() -> list[str]:
        create = Create()
        await act(create)
        return create.story

    return asyncio.run(main())


async def given_up(create: Create, *, longest: float = 60.0) -> asyncio.Task[str]:
    task = asyncio.create_task(leaving_nothing(create.call(), create.is_known, longest=longest, between=0.0))
    await create.begun.wait()
    task.cancel()
    return task


def test_it_is_cut_off_once_modal_knows_the_name() -> None:
    async def act(create: Create) -> None:
        with pytest.raises(asyncio.CancelledError):
            await (await given_up(create))

    assert scene(act) == ["unknown", "known", "ended"]


def test_a_modal_that_never_knows_it_is_not_waited_for_for_ever() -> None:
    async def act(create: Create) -> None:
        async def never() -> bool:
            await asyncio.Event().wait()
            return False

        create.is_known = never  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await (await given_up(create, longest=0.0))

    assert scene(act) == ["cut off unanswered"]


def test_a_second_cancellation_is_heeded_at_once() -> None:
    async def act(create: Create) -> None:
        asked = asyncio.Event()

        async def never() -> bool:
            asked.set()
            await asyncio.Event().wait()
            return False

        create.is_known = never  # type: ignore[method-assign]
        task = await given_up(create)
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)

    assert scene(act) == ["cut off unanswered"]


def test_what_is_scheduled_meanwhile_is_left_to_whoever_looks_for_it() -> None:
    async def act(create: Create) -> None:
        async def known() -> bool:
            create.scheduled.set()
            return False

        create.is_known = known  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await (await given_up(create))

    assert scene(act) == []


def test_an_uncut_create_returns_and_raises_as_it_does() -> None:
    async def act(create: Create) -> None:
        create.scheduled.set()
        assert await leaving_nothing(create.call(), create.is_known) == "sb-1"

        async def broken() -> str:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await leaving_nothing(broken(), create.is_known)

    assert scene(act) == []


@pytest.mark.emulated
def test_a_create_that_modal_answers_too_late_is_ended_before_the_next_candidate(start_emulator: StartEmulator) -> None:
    """Without the wait, the first sandbox is made after it was looked for, and stays."""
    emulator = start_emulator(EmulatorConfig(gpus={"A10G": 1, "H100": 0}, record_calls=True))
    emulator.faults.add("SandboxCreate", delay=1.5, times=1)
    with scheduler() as airflow:
        asked = plan(gpu_candidates=("H100", "A10G"), gpu_wait=2.0, tags={**OURS, "launch": LAUNCH})
        airflow.backend.submit(request(plan=asked))
        until(lambda: airflow.heard(LaunchEnded), "the end")
        assert airflow.ends() == {LAUNCH: ""}
    assert [call.definition.name for call in emulator.calls("SandboxCreate")] == [LAUNCH, f"{LAUNCH}.2"]  # type: ignore[attr-defined]
    assert emulator.calls("SandboxTerminate"), "the first was made, and ended"
