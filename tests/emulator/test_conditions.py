"""Capacity, delays, limits and preemption as the unmodified client meets them, on a clock that the tests drive."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import modal
import modal.exception
import pytest
from modal_proto import api_pb2

from modalflow.emulator import EmulatorThread
from modalflow.emulator.state.conditions import Conditions, ConditionsError
from tests.emulator.conftest import Eventually, Sandboxes, StartEmulator, connect

Status = api_pb2.GenericResult


@pytest.fixture
def emulator(start_emulator: StartEmulator) -> EmulatorThread:
    return start_emulator(frozen_clock=True, isolation="process")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def result(emulator: EmulatorThread, sandbox: modal.Sandbox) -> api_pb2.GenericResult:
    with contextlib.suppress(modal.exception.SandboxTimeoutError):
        sandbox.wait(raise_on_termination=False)
    found = emulator.workspace.sandboxes[sandbox.object_id].result
    assert found is not None
    return found


# -- stock


def test_a_sandbox_waits_for_a_cpu_with_its_id_in_hand(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    emulator.capacity.set(cpus=2, memory_mb=4096)
    first = sandboxes.create("cat", cpu=2.0)
    second = sandboxes.create("echo", "second", cpu=1.0, timeout=30)
    assert emulator.workspace.inventory.queued() == [second.object_id]
    assert second.poll() is None
    emulator.clock.advance(31)  # its time has not begun
    assert second.poll() is None
    first.terminate(wait=True)
    assert second.stdout.read() == "second\n"
    second.wait()
    assert second.returncode == 0


def test_memory_that_comes_later_starts_who_waits_for_it(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    emulator.capacity.set(memory_mb=1024)
    waiting = sandboxes.create("true", memory=2048)
    emulator.capacity.set(memory_mb=2048)
    waiting.wait()
    assert waiting.returncode == 0
    assert emulator.capacity.now.memory_mb == 2048


def test_a_waiting_sandbox_can_be_terminated(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    emulator.capacity.set(cpus=0)
    waiting = sandboxes.create("true")
    assert waiting.terminate(wait=True) == 137
    assert emulator.workspace.inventory.queued() == []


def test_gpus_that_are_bought_while_a_creation_waits(
    sandboxes: Sandboxes, emulator: EmulatorThread, pool: ThreadPoolExecutor, eventually: Eventually
) -> None:
    emulator.capacity.set(gpus={})
    creating = pool.submit(sandboxes.create, "true", gpu="H100:2")
    eventually(lambda: len(emulator.workspace.inventory.queued()) == 1)
    emulator.capacity.set(gpus={"H100": 2})
    creating.result(timeout=20).wait()


def test_a_wait_that_modal_gives_up(
    sandboxes: Sandboxes, emulator: EmulatorThread, pool: ThreadPoolExecutor, eventually: Eventually
) -> None:
    emulator.capacity.set(gpus={"H100": 1}, give_up={"H100": 120, "cpu": 60}, cpus=1)
    creating: Future[modal.Sandbox] = pool.submit(sandboxes.create, "true", gpu="H100:2")
    eventually(lambda: len(emulator.workspace.inventory.queued()) == 1)
    queued = sandboxes.create("true", cpu=2.0)
    emulator.clock.advance(60)
    ended = result(emulator, queued)
    assert (ended.status, ended.exception) == (
        Status.GENERIC_STATUS_INIT_FAILURE,
        "Insufficient capacity to create sandbox: no CPU within 60 s",
    )
    assert not creating.done()
    emulator.clock.advance(60)
    with pytest.raises(modal.exception.ConflictError, match="Insufficient capacity to create sandbox: no H100 within 120 s"):
        creating.result(timeout=20)
    assert emulator.workspace.inventory.queued() == []


def test_a_creation_that_may_not_wait_is_refused(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    emulator.capacity.set(gpus={"H100": 1}, give_up={"*": 0})
    with pytest.raises(modal.exception.ResourceExhaustedError, match="Insufficient capacity to create sandbox"):
        sandboxes.create("true", gpu="B200")
    assert len(emulator.calls("SandboxCreate")) == 1
    assert sandboxes.create("true", gpu="H100").wait() is None


def test_a_region_where_nothing_is_to_be_had(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    emulator.capacity.set(unavailable=["eu-west"])
    waiting = sandboxes.create("true", region="eu-west")
    assert sandboxes.output("echo", "here", region=["eu-west", "us"]) == "here\n"
    assert waiting.poll() is None
    emulator.capacity.set(unavailable=[])
    waiting.wait()


# -- time


def test_scheduling_takes_its_time(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    emulator.capacity.set(scheduling_delay=(10.0, 20.0))
    sandbox = sandboxes.create("true", timeout=60)
    emulator.clock.advance(9)
    assert sandbox.poll() is None
    assert not emulator.workspace.sandboxes[sandbox.object_id].scheduled
    emulator.clock.advance(11)
    sandbox.wait()
    assert sandbox.returncode == 0


def test_a_sandbox_that_is_ended_while_it_is_scheduled_never_starts(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    emulator.capacity.set(scheduling_delay=10.0)
    sandbox = sandboxes.create("true")
    assert sandbox.terminate(wait=True) == 137
    emulator.clock.advance(20)
    assert sandbox.stdout.read() == ""


# -- limits


def test_creations_that_come_too_fast(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    emulator.capacity.set(create_rate_v2=2)
    sandboxes.create("true")
    sandboxes.create("true")
    with pytest.raises(modal.exception.ResourceExhaustedError, match=r"^Sandbox creation rate limit exceeded$"):
        sandboxes.create("true")
    emulator.clock.advance(0.5)
    sandboxes.create("true")
    assert len(emulator.calls("SandboxCreateV2")) == 4


def test_creations_that_are_told_to_come_again_do(
    sandboxes: Sandboxes, emulator: EmulatorThread, pool: ThreadPoolExecutor, eventually: Eventually
) -> None:
    emulator.capacity.set(create_rate_v1=1, retry_after=0.01)
    sandboxes.create("true", gpu="T4")
    creating = pool.submit(sandboxes.create, "true", gpu="T4")
    eventually(lambda: len(emulator.calls("SandboxCreate")) >= 4)
    assert not creating.done()
    emulator.clock.advance(1)
    creating.result(timeout=20)


def test_a_retry_of_a_creation_that_was_done_costs_nothing(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    emulator.capacity.set(create_rate_v2=1)
    emulator.faults.add("SandboxCreateV2", after_handler=True)
    sandboxes.create("true")
    assert len(emulator.calls("SandboxCreateV2")) == 2


def test_no_more_sandboxes_than_allowed(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    emulator.capacity.set(max_sandboxes=1)
    first = sandboxes.create("cat")
    with pytest.raises(modal.exception.ResourceExhaustedError, match="Sandbox limit reached: 1 may run at once"):
        sandboxes.create("true")
    first.terminate(wait=True)
    sandboxes.create("true")


# -- preemption and other ends


GRACEFUL = "trap 'echo saving; exit 0' INT; echo up; while :; do read line || sleep 0.01; done"


@pytest.mark.parametrize("isolation", ["process", "auto"])
def test_a_preempted_sandbox_is_interrupted_and_may_clean_up(start_emulator: StartEmulator, isolation: str) -> None:
    emulator = start_emulator(isolation=isolation)
    client = connect(emulator)
    sandboxes = Sandboxes(modal.App.lookup("tests", create_if_missing=True, client=client), client)
    sandbox = sandboxes.shell(GRACEFUL, gpu="T4")
    lines = iter(sandbox.stdout)
    assert next(lines) == "up\n"
    emulator.preempt(sandbox.object_id)
    assert list(lines) == ["saving\n"]
    with pytest.raises(modal.exception.SandboxTerminatedError):
        sandbox.wait()
    assert sandbox.returncode == 137
    ended = result(emulator, sandbox)
    assert (ended.status, ended.exception) == (Status.GENERIC_STATUS_TERMINATED, "Sandbox was preempted")
    emulator.preempt(sandbox.object_id)  # no effect any more
    client.close()


def test_a_preempted_sandbox_that_goes_on_is_killed_when_its_grace_is_over(
    sandboxes: Sandboxes, emulator: EmulatorThread
) -> None:
    sandbox = sandboxes.shell("trap 'echo no' INT; echo up; while :; do read line || sleep 0.01; done")
    lines = iter(sandbox.stdout)
    assert next(lines) == "up\n"
    emulator.preempt(sandbox.object_id, grace=10)
    assert next(lines) == "no\n"
    emulator.clock.advance(9)
    assert sandbox.poll() is None
    emulator.clock.advance(1)
    assert result(emulator, sandbox).exception == "Sandbox was preempted"
    assert list(lines) == []


def test_preemption_without_grace(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    sandbox = sandboxes.create("cat")
    emulator.preempt(sandbox.object_id, grace=0)
    assert result(emulator, sandbox).exception == "Sandbox was preempted"


def test_gpu_sandboxes_are_preempted_after_a_while_others_are_not(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    emulator.capacity.set(preempt_after=(60.0, 90.0), preempt_grace=0.0)
    gpu, region, plain = (
        sandboxes.create("cat", gpu="T4"),
        sandboxes.create("cat", region="us"),
        sandboxes.create("cat", timeout=600),
    )
    emulator.capacity.set(preempt_probability=0.0)
    spared = sandboxes.create("cat", gpu="T4", timeout=600)
    emulator.clock.advance(59)
    assert gpu.poll() is None
    emulator.clock.advance(31)
    assert [result(emulator, one).exception for one in (gpu, region)] == ["Sandbox was preempted"] * 2
    assert [one.poll() for one in (plain, spared)] == [None, None]


@pytest.mark.parametrize(
    ("status", "exitcode", "exception", "code"),
    [
        ("MEMORY_MANAGER_EVICTION", None, "Sandbox was evicted: its host ran out of memory", 137),
        ("generic_status_internal_failure", 3, "Sandbox failed: internal error", 3),
        ("INIT_FAILURE", None, "Sandbox could not be started", 1),
        ("SUCCESS", None, "", 0),
        ("FAILURE", 42, "", 42),
        ("TERMINATED", None, "Sandbox was terminated", 137),
        ("TIMEOUT", None, "Sandbox timed out", 124),
        ("IDLE_TIMEOUT", None, "Sandbox was idle for longer than its idle timeout", 137),
    ],
)
def test_any_end_can_be_had(
    sandboxes: Sandboxes, emulator: EmulatorThread, status: str, exitcode: int | None, exception: str, code: int
) -> None:
    sandbox = sandboxes.create("cat")
    emulator.end(sandbox.object_id, status, exitcode=exitcode)
    ended = result(emulator, sandbox)
    assert ended.status == Status.GenericStatus.Value(f"GENERIC_STATUS_{status.upper().removeprefix('GENERIC_STATUS_')}")
    assert ended.exception == exception
    assert sandbox.returncode == code


def test_an_end_with_words_of_its_own_also_of_who_waits(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    emulator.capacity.set(cpus=0)
    sandbox = sandboxes.create("true")
    emulator.end(sandbox.object_id, "INIT_FAILURE", exception="volume could not be mounted")
    assert result(emulator, sandbox).exception == "volume could not be mounted"


def test_what_cannot_be_asked_for(emulator: EmulatorThread) -> None:
    with pytest.raises(ValueError, match="no status of a sandbox is called 'EVICTED'; known: SUCCESS, FAILURE, "):
        emulator.end("sb-1", "EVICTED")
    with pytest.raises(KeyError, match="there is no sandbox 'sb-1'"):
        emulator.end("sb-1", "TIMEOUT")
    with pytest.raises(KeyError, match="there is no sandbox 'sb-1'"):
        emulator.preempt("sb-1")
    with pytest.raises(ConditionsError, match="cpus: expected at least 0, got -1"):
        emulator.capacity.set(cpus=-1)
    with pytest.raises(TypeError):
        emulator.capacity.set(cpu=1)
    assert emulator.capacity.now == Conditions()


def test_conditions_from_the_start_hold_for_each_workspace(start_emulator: StartEmulator) -> None:
    emulator = start_emulator(any_token=True, gpus={"T4": 1}, conditions=Conditions(max_sandboxes=1))
    for token in ("ak-one", "ak-two"):
        client = connect(emulator, MODAL_TOKEN_ID=token, MODAL_TOKEN_SECRET="as-x")
        sandboxes = Sandboxes(modal.App.lookup("tests", create_if_missing=True, client=client), client)
        sandboxes.create("cat", gpu="T4")
        with pytest.raises(modal.exception.ResourceExhaustedError):
            sandboxes.create("true")
        client.close()
