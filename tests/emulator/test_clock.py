"""The emulator's time, driven: by itself, and as a client sees it."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine

import modal
import modal.exception
import pytest

from modalflow.emulator import EmulatorThread
from modalflow.emulator.clock import Clock
from tests.emulator.conftest import Eventually, Sandboxes, StartEmulator, connect

HOUR = 3600.0


def in_a_loop(test: Callable[[], Coroutine[None, None, None]]) -> Callable[[], None]:
    """Run a test in a loop of its own."""

    @functools.wraps(test)
    def run() -> None:
        asyncio.run(test())

    return run


@in_a_loop
async def test_timers_of_a_frozen_clock_fire_when_it_is_advanced_and_in_order() -> None:
    clock = Clock(frozen=True)
    seen: list[str] = []
    start = clock.monotonic()
    clock.call_at(start + 20, lambda: seen.append("20"))
    clock.call_at(start + 10, lambda: seen.append("10"))
    cancelled = clock.call_at(start + 10, lambda: seen.append("cancelled"))
    clock.call_at(start, lambda: seen.append("now"))
    assert seen == []
    cancelled.cancel()
    clock.advance(9.5)
    await asyncio.sleep(0)
    assert seen == ["now"]
    clock.advance(10.5)
    await asyncio.sleep(0)
    assert seen == ["now", "10", "20"]


@in_a_loop
async def test_advance_from_another_thread_returns_when_what_was_due_is_done() -> None:
    clock = Clock(frozen=True)
    seen: list[float] = []
    clock.call_at(clock.monotonic() + 5, lambda: seen.append(clock.time()))
    before = clock.time()
    await asyncio.to_thread(clock.advance, 5)
    assert seen == [before + 5]


@in_a_loop
async def test_a_running_clock_runs_and_jumps() -> None:
    clock = Clock()
    await clock.sleep(0.001)
    await clock.sleep(-1)
    never: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    assert not await clock.done_by(never, clock.monotonic() + 0.001)
    asyncio.get_running_loop().call_soon(clock.advance, HOUR)
    await clock.sleep(HOUR)
    assert clock.time() - time.time() > HOUR - 1
    never.set_result(None)
    assert await clock.done_by(never, None)


@in_a_loop
async def test_a_clock_stops_and_goes_on_from_there() -> None:
    clock = Clock()
    clock.freeze()
    clock.freeze()
    stands = (clock.time(), clock.monotonic())
    sleeping = asyncio.ensure_future(clock.sleep(0.001))
    await asyncio.sleep(0.01)
    assert (clock.time(), clock.monotonic()) == stands
    assert not sleeping.done()
    clock.resume()
    await sleeping
    assert clock.monotonic() > stands[1]
    assert clock.monotonic() < stands[1] + HOUR


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_time_does_not_go_back_nor_astray(seconds: float) -> None:
    with pytest.raises(ValueError, match=f"advance: expected seconds of at least 0, got {seconds}; time does not go back"):
        Clock().advance(seconds)


def test_the_timeout_of_a_sandbox_follows_the_clock(start_emulator: StartEmulator) -> None:
    emulator = start_emulator(frozen_clock=True)
    client = connect(emulator)
    sandboxes = Sandboxes(modal.App.lookup("tests", create_if_missing=True, client=client), client)
    sandbox = sandboxes.create("cat", timeout=300)
    emulator.clock.advance(299.0)
    assert sandbox.poll() is None
    emulator.clock.advance(1.0)
    with pytest.raises(modal.exception.SandboxTimeoutError):
        sandbox.wait()
    assert sandbox.returncode == 124
    (info,) = emulator.workspace.sandboxes.values()
    assert info.finished_at - info.created_at == pytest.approx(300.0, abs=0.01)
    client.close()


def test_the_timeout_of_an_exec_follows_the_clock(start_emulator: StartEmulator, eventually: Eventually) -> None:
    emulator = start_emulator(frozen_clock=True)
    client = connect(emulator)
    sandboxes = Sandboxes(modal.App.lookup("tests", create_if_missing=True, client=client), client)
    sandbox = sandboxes.create("cat", timeout=3600)
    process = sandbox.exec("sh", "-c", "echo up; cat", timeout=30)
    assert next(iter(process.stdout)) == "up\n"
    assert process.poll() is None
    emulator.clock.advance(30.0)
    eventually(lambda: process.poll() is not None)
    assert sandbox.poll() is None
    client.close()


def test_a_jump_leaves_the_tokens_alone_that_the_client_judges_by_its_own_clock(
    sandboxes: Sandboxes, emulator: EmulatorThread
) -> None:
    sandbox = sandboxes.create("cat", timeout=86_400)
    emulator.clock.advance(2 * HOUR)
    assert sandbox.exec("true").wait() == 0
    assert sandbox.poll() is None
