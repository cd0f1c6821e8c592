"""The backend with its thread, its loop and a scripted gateway."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping
from dataclasses import replace

import pytest

from modalflow.launch import messages as m
from modalflow.launch.backend import LaunchBackend
from modalflow.launch.events import AdoptRequest, LaunchEnded, LaunchEvent, LaunchNotice, LaunchRequest, LaunchStarted
from modalflow.launch.failures import FailureClass
from modalflow.launch.gateway import (
    CapacityExhausted,
    EndKind,
    Gateway,
    RateLimited,
    SandboxEnd,
    SandboxStatus,
    Unauthenticated,
    Unavailable,
)
from modalflow.launch.lifecycle import Lifecycle
from modalflow.launch.observe import Track
from modalflow.launch.pools import Pools
from modalflow.launch.sights import Sights
from modalflow.launch.sweep import Claims
from modalflow.settings import LaunchSettings
from modalflow.translation.gpus.caps import GpuCaps
from modalflow.translation.result import Translation
from tests.launch.plans import CPU, CPU_STDIN, GPU, GPUS, LAUNCH, PATIENT, WORKLOAD, refused, request
from tests.launch.scripted_gateway import CreateCall, Gate, ScriptedGateway, until

SETTINGS = LaunchSettings(launch_concurrency=2, launch_retries=2)
ARGV = ["python", "-c", "source"]


def launch_id(number: int) -> str:
    return f"0199c5b2-5f0e-7a53-9d0c-{number:012d}"


async def no_time(_seconds: float) -> None:
    await asyncio.sleep(0)


def adopted(number: int, *, sandbox_id: str | None = None, again: bool = False) -> AdoptRequest:
    name = launch_id(number)
    return AdoptRequest(
        launch_id=name,
        key=("key", name),
        label="t",
        sandbox_id=sandbox_id,
        log_path=None,
        relaunch=(lambda: request(name)) if again else None,
    )


class Room:
    """A backend, its gateway, and what came out of it."""

    def __init__(self) -> None:
        self.gateway = ScriptedGateway()
        self.events: list[LaunchEvent] = []
        self.journal: list[tuple[str, dict[str, str]]] = []
        self.made: list[str] = []
        self.factory: Callable[[], Gateway] = self.make_gateway
        self.backend = self.build(SETTINGS)

    def build(
        self,
        settings: LaunchSettings,
        sleep: Callable[[float], Awaitable[None]] = no_time,
        claims: Claims | None = None,
    ) -> LaunchBackend:
        self.backend = LaunchBackend(self.connect, settings, ARGV, self.write, claims=claims, sleep=sleep, jitter=lambda: 0.0)
        return self.backend

    def connect(self) -> Gateway:
        return self.factory()

    def make_gateway(self) -> Gateway:
        self.made.append(threading.current_thread().name)
        return self.gateway

    def write(self, path: str, line: str) -> None:
        self.journal.append((path, json.loads(line)))

    def take(self, kind: type[LaunchEvent], count: int = 1) -> list[LaunchEvent]:
        """Wait for ``count`` events of a kind in all."""

        def there() -> bool:
            self.events += self.backend.drain()
            return sum(isinstance(event, kind) for event in self.events) >= count

        until(there, f"{count} × {kind.__name__}")
        return [event for event in self.events if isinstance(event, kind)]

    def run(self, launch: LaunchRequest) -> None:
        self.backend.start()
        self.backend.submit(launch)


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room()
    yield room
    room.backend.stop(5.0)
    assert not any(thread.name == "modalflow-launch" for thread in threading.enumerate())


class TestOneLaunch:
    def test_a_cpu_task_from_request_to_end(self, room: Room) -> None:
        room.run(request())
        (started,) = room.take(LaunchStarted)
        assert started == LaunchStarted(launch_id=LAUNCH, key=("key", LAUNCH), sandbox_id="sb-1")
        assert room.gateway.creates == [
            CreateCall(plan=CPU, name=LAUNCH, gpu=None, argv=tuple(ARGV), secret_env={"MODALFLOW_WORKLOAD": WORKLOAD})
        ]
        assert room.gateway.handed_over == []
        room.gateway.end("sb-1")
        assert room.take(LaunchEnded) == [LaunchEnded(launch_id=LAUNCH, key=("key", LAUNCH), success=True, reason="")]

    def test_a_workload_on_stdin_is_minted_once_the_sandbox_exists(self, room: Room) -> None:
        order: list[str] = []

        async def creating(_call: CreateCall) -> None:
            order.append("created")

        def mint() -> str:
            order.append("minted")
            return WORKLOAD

        room.gateway.before_create = creating
        room.run(request(plan=CPU_STDIN, mint=mint))
        room.take(LaunchStarted)
        assert order == ["created", "minted"]
        assert room.gateway.handed_over == [("sb-1", WORKLOAD.encode())]
        assert room.gateway.creates[0].secret_env == {}

    def test_what_is_submitted_before_the_start_is_launched_after_it(self, room: Room) -> None:
        room.backend.submit(request())
        assert room.made == []
        room.backend.start()
        room.take(LaunchStarted)
        assert room.made == ["modalflow-launch"], "the gateway is made on the loop's thread"

    def test_a_refused_task_never_reaches_modal_and_its_log_says_why(self, room: Room) -> None:
        room.run(request(translate=lambda: refused("unknown GPU 'H1000'", "unknown key 'cpus'")))
        (ended,) = room.take(LaunchEnded)
        assert ended == LaunchEnded(
            launch_id=LAUNCH,
            key=("key", LAUNCH),
            success=False,
            reason="executor_config.modal.gpu: unknown GPU 'H1000' [x] (and 1 more error in the task's log)",
            failure=FailureClass.REFUSED,
        )
        assert room.gateway.creates == []
        lines = [(path, line["level"], line["event"], line["logger"]) for path, line in room.journal]
        path = "dag_id=d/attempt=1.log"
        assert lines == [
            (path, "error", "executor_config.modal.gpu: unknown GPU 'H1000' [x]", "modalflow"),
            (path, "error", "executor_config.modal.gpu: unknown key 'cpus' [x]", "modalflow"),
        ]
        until(lambda: sum(text.count("\n") for _, _, text in room.gateway.logged) == 2, "both lines on the Volume")
        assert {(volume, where) for volume, where, _ in room.gateway.logged} == {("modalflow-logs", f"{path}.modalflow.log")}

    def test_an_unexpected_exception_while_waiting_does_not_end_the_sandbox(
        self, room: Room, caplog: pytest.LogCaptureFixture
    ) -> None:
        waits: list[str] = []

        def breaks_once(sandbox_id: str) -> SandboxEnd:
            waits.append(sandbox_id)
            if len(waits) == 1:
                raise KeyError("x")
            return _success()

        room.gateway.on_wait = breaks_once
        room.gateway.known["sb-1"] = SandboxStatus(sandbox_id="sb-1", name=LAUNCH, tags={})
        room.run(request())
        (ended,) = room.take(LaunchEnded)
        assert isinstance(ended, LaunchEnded)
        assert (ended.success, waits, room.gateway.terminated) == (True, ["sb-1", "sb-1"], [])
        assert "failed at Wait" in caplog.text

    def test_a_task_whose_sandbox_was_lost_before_it_began_is_launched_again(self, room: Room) -> None:
        asked: list[tuple[str, object, str]] = []

        def recall(launch_id: str, key: Hashable) -> LaunchRequest:
            asked.append((launch_id, key, threading.current_thread().name))
            return request()

        room.backend = LaunchBackend(room.connect, SETTINGS, ARGV, room.write, sleep=no_time, recall=recall)
        room.run(request())
        room.take(LaunchStarted)
        room.gateway.end("sb-1", EndKind.EVICTED, 137)
        room.take(LaunchStarted)
        room.gateway.end("sb-2")
        (ended,) = room.take(LaunchEnded)
        assert isinstance(ended, LaunchEnded)
        assert ended.success
        assert asked == [(LAUNCH, ("key", LAUNCH), f"modalflow-recall-{LAUNCH}")]
        assert [call.name for call in room.gateway.creates] == [LAUNCH, f"{LAUNCH}.2"]

    def test_an_airflow_that_does_not_say_leaves_the_failure_as_it_is(self, room: Room, caplog: pytest.LogCaptureFixture) -> None:
        def recall(_launch_id: str, _key: Hashable) -> LaunchRequest:
            raise RuntimeError("no database")

        room.backend = LaunchBackend(room.connect, SETTINGS, ARGV, room.write, sleep=no_time, recall=recall)
        room.run(request())
        room.take(LaunchStarted)
        room.gateway.end("sb-1", EndKind.EVICTED, 137)
        (ended,) = room.take(LaunchEnded)
        assert isinstance(ended, LaunchEnded)
        assert (ended.success, ended.failure, len(room.gateway.creates)) == (False, FailureClass.PREEMPTED, 1)
        assert "failed at Recall" in caplog.text

    def test_a_failed_sandbox_is_explained(self, room: Room) -> None:
        room.gateway.tail = "ModuleNotFoundError: No module named 'airflow'\n"
        room.run(request())
        room.take(LaunchStarted)
        room.gateway.end("sb-1", EndKind.FAILURE, 1)
        (ended,) = room.take(LaunchEnded)
        assert isinstance(ended, LaunchEnded)
        assert ended.reason == (
            "the task's process in the sandbox failed before it could report to Airflow (exit code 1) (sandbox sb-1); its last "
            "output was: ModuleNotFoundError: No module named 'airflow'"
        )
        assert room.journal[-1][1]["event"] == ended.reason

    def test_a_workload_is_neither_logged_nor_told(self, room: Room, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)

        def mint() -> str:
            raise RuntimeError(f"cannot send {WORKLOAD}")

        room.run(request(mint=mint))
        room.take(LaunchEnded)
        assert "RuntimeError: cannot send" in caplog.text
        told = f"{caplog.text} {room.events} {room.journal} {room.gateway.logged} {room.backend.describe()}"
        assert "eyJ" not in told
        assert "internal error: RuntimeError: cannot send" in told


class TestGpus:
    def test_waiting_is_told_and_the_next_candidate_follows(self, room: Room) -> None:
        async def none_free(call: CreateCall) -> None:
            if call.gpu == "H100:2":
                raise CapacityExhausted("Insufficient capacity")

        room.gateway.before_create = none_free
        room.run(request(plan=GPUS))
        room.take(LaunchStarted)
        assert [(call.name, call.gpu) for call in room.gateway.creates] == [(LAUNCH, "H100:2"), (f"{LAUNCH}.2", "A100-80GB:2")]
        messages = [event.message for event in room.take(LaunchNotice) if isinstance(event, LaunchNotice)]
        assert re.fullmatch(r"waiting for A100-80GB:2 since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", messages[0])
        assert room.gateway.handed_over == [("sb-1", WORKLOAD.encode())]

    def test_a_bounded_wait_ends_with_what_to_do(self, room: Room) -> None:
        async def never(_call: CreateCall) -> None:
            await asyncio.Event().wait()

        room.gateway.before_create = never
        room.run(request(plan=replace(GPU, gpu_wait=0.0)))
        (ended,) = room.take(LaunchEnded)
        assert isinstance(ended, LaunchEnded)
        assert ended.reason == (
            "Modal had no free A10G within 1 s; add another GPU to executor_config "
            '{"modal": {"gpu": [...]}}, raise [modal_executor] gpu_wait, or try again later'
        )
        assert room.gateway.looked_for == [LAUNCH]
        assert any(line["event"].startswith("waiting for A10G since ") for _, line in room.journal)

    def test_gpu_creates_take_no_cpu_slot(self, room: Room) -> None:
        gate = Gate()

        async def blocked(call: CreateCall) -> None:
            if call.gpu:
                await gate.passed()

        room.gateway.before_create = blocked
        room.backend.start()
        for number in range(10):
            room.backend.submit(request(launch_id(number), GPU))
        until(lambda: len(room.gateway.creates) == 10, "all GPU creates under way")
        room.backend.submit(request(launch_id(99)))
        room.take(LaunchStarted)
        gate.open()
        room.take(LaunchStarted, 11)


class TestSlots:
    def test_no_more_creates_than_slots_and_the_most_urgent_first(self, room: Room) -> None:
        gate = Gate()

        async def blocked(_call: CreateCall) -> None:
            await gate.passed()

        room.gateway.before_create = blocked
        for number, priority in enumerate([1, 5, 3, 9, 3]):
            room.backend.submit(request(launch_id(number), priority=priority))
        room.backend.start()
        until(lambda: room.backend.describe().count(": queued") == 3, "three in line")
        assert len(room.gateway.creates) == 2
        gate.open()
        room.take(LaunchStarted, 5)
        assert [int(call.name[-2:]) for call in room.gateway.creates] == [3, 1, 2, 4, 0]
        assert "2 of 2 CPU slots free" in room.backend.describe()

    def test_waiting_for_ends_makes_way_to_creates_but_not_for_long(self, room: Room) -> None:
        gate = Gate()
        waited: list[str] = []

        async def second_blocked(call: CreateCall) -> None:
            if call.name == launch_id(2):
                await gate.passed()

        def ended_at_once(sandbox_id: str) -> SandboxEnd:
            waited.append(sandbox_id)
            return _success()

        room.gateway.before_create = second_blocked
        room.gateway.on_wait = ended_at_once
        room.backend.start()
        room.backend.submit(request(launch_id(2)))
        room.backend.submit(request(launch_id(1)))
        room.take(LaunchStarted)
        assert waited == [], "a create is under way"
        room.take(LaunchEnded)
        assert len(room.gateway.creates) == 2, "the other one still is"
        gate.open()
        room.take(LaunchEnded, 2)

    def test_a_revoked_launch_leaves_the_line(self, room: Room) -> None:
        gate = Gate()

        async def blocked(_call: CreateCall) -> None:
            await gate.passed()

        room.gateway.before_create = blocked
        room.backend.start()
        for number in range(4):
            room.backend.submit(request(launch_id(number)))
        until(lambda: room.backend.describe().count(": queued") == 2, "two in line")
        room.backend.revoke(launch_id(2), "cleared")
        gate.open()
        room.take(LaunchStarted, 3)
        assert {int(call.name[-2:]) for call in room.gateway.creates} == {0, 1, 3}


class TestCapacity:
    """Lines, caps and refusals with the real loop; who goes when is ``test_pools``'s."""

    FAST = LaunchSettings(launch_concurrency=2, launch_retries=0, cpu_create_rate=None, gpu_create_rate=None)

    def test_a_create_that_modal_refuses_for_now_is_made_again_under_its_name_and_uses_no_retry_up(self, room: Room) -> None:
        async def three_times(_call: CreateCall) -> None:
            if len(room.gateway.creates) <= 3:
                raise RateLimited("could not create the sandbox: Sandbox creation rate limit exceeded", 0.01)

        room.gateway.before_create = three_times
        room.build(replace(self.FAST, cpu_create_rate=1000.0))
        room.run(request())
        room.take(LaunchStarted)
        assert [call.name for call in room.gateway.creates] == [LAUNCH] * 4

    def test_no_more_gpus_at_once_than_the_site_allows_running_ones_included(self, room: Room) -> None:
        room.build(replace(self.FAST, max_gpus=GpuCaps(total=2)))
        for number, priority in enumerate([1, 2, 3, 4]):
            room.backend.submit(request(launch_id(number), GPU, priority=priority))
        room.backend.submit(request(launch_id(9)))
        room.backend.start()
        room.take(LaunchStarted, 3)
        until(lambda: room.backend.describe().count(": queued") == 2, "the others in line")
        assert "GPUs in flight: 2 A10" in room.backend.describe()
        first = [call.name for call in room.gateway.creates if call.gpu]
        started = {event.launch_id: event.sandbox_id for event in room.events if isinstance(event, LaunchStarted)}
        room.gateway.end(started[first[0]])
        room.take(LaunchStarted, 4)
        assert [call.name for call in room.gateway.creates if call.gpu][2:] == [launch_id(1)], "the more urgent one"

    def test_the_token_is_minted_after_the_wait_in_line(self, room: Room) -> None:
        minted: list[int] = []

        def mint() -> str:
            minted.append(len(room.gateway.creates))
            return WORKLOAD

        gate = Gate()

        async def blocked(_call: CreateCall) -> None:
            await gate.passed()

        room.gateway.before_create = blocked
        room.build(replace(self.FAST, launch_concurrency=1))
        room.backend.start()
        room.backend.submit(request(launch_id(1), priority=9))
        until(lambda: len(room.gateway.creates) == 1, "the first create")
        room.backend.submit(request(launch_id(2), mint=mint))
        until(lambda: ": queued" in room.backend.describe(), "the second in line")
        assert minted == []
        gate.open()
        room.take(LaunchStarted, 2)
        assert minted == [1]

    def test_gpus_of_an_earlier_scheduler_are_counted(self, room: Room) -> None:
        room.gateway.running = [
            SandboxStatus(sandbox_id="sb-old", name="", tags={"deployment": "airflow", "launch": launch_id(1), "gpu": "A10.2"})
        ]
        room.build(replace(self.FAST, max_gpus=GpuCaps(total=2)))
        room.backend.start()
        room.backend.adopt([adopted(1, sandbox_id="sb-old")])
        room.backend.submit(request(launch_id(2), GPU))
        until(lambda: ": queued" in room.backend.describe(), "the new one in line")
        assert room.gateway.creates == []
        assert "GPUs in flight: 2 A10" in room.backend.describe()
        room.gateway.end("sb-old")
        room.take(LaunchStarted)

    def test_one_that_asks_for_more_than_the_site_allows_fails_with_what_to_do(self, room: Room) -> None:
        room.build(replace(self.FAST, max_gpus=GpuCaps(models={"A10": 0})))
        room.run(request(plan=GPU))
        (ended,) = room.take(LaunchEnded)
        assert isinstance(ended, LaunchEnded)
        assert ended.reason == (
            "the task asks for more GPUs than [modal_executor] max_gpus allows: A10G (at most 0); "
            "ask for fewer, or raise max_gpus"
        )
        assert ended.failure is FailureClass.REFUSED

    def test_a_revoked_launch_leaves_the_line_for_gpus(self, room: Room) -> None:
        room.build(replace(self.FAST, max_gpus=GpuCaps(total=1)))
        room.backend.start()
        for number in range(3):
            room.backend.submit(request(launch_id(number), GPU))
        room.take(LaunchStarted)
        until(lambda: room.backend.describe().count(": queued") == 2, "two in line")
        room.backend.revoke(launch_id(1), "cleared")
        room.backend.revoke(launch_id(0), "cleared")
        room.take(LaunchStarted, 2)
        assert [call.name for call in room.gateway.creates] == [launch_id(0), launch_id(2)]
        assert room.gateway.terminated == ["sb-1"]

    def test_who_waits_long_says_so_and_is_warned_before_airflow_takes_it_back(self, room: Room) -> None:
        now = [0.0]
        room.backend = LaunchBackend(
            room.connect,
            replace(self.FAST, max_gpus=GpuCaps(total=1), queued_timeout=600.0),
            ARGV,
            room.write,
            clock=lambda: now[0],
        )
        room.backend.start()
        room.backend.submit(replace(request(launch_id(1), GPU, priority=9), queue_limit=600.0))
        room.take(LaunchStarted)
        room.backend.submit(replace(request(launch_id(2), GPU), queue_limit=600.0))
        until(lambda: ": queued" in room.backend.describe(), "the second in line")
        now[0] = 11.0
        room.backend._thread.post(room.backend._look)
        (waits,) = room.take(LaunchNotice)
        now[0] = 481.0
        room.backend._thread.post(room.backend._look)
        _, warned = room.take(LaunchNotice, 2)
        assert isinstance(waits, LaunchNotice)
        assert isinstance(warned, LaunchNotice)
        assert (waits.launch_id, waits.event) == (launch_id(2), "waiting-for-gpu")
        assert re.fullmatch(
            r"waiting for A10G since [-\d]+ [:\d]+ UTC: 1 of 1 GPUs are in flight \(\[modal_executor\] max_gpus\)", waits.message
        )
        assert (warned.launch_id, warned.event) == (launch_id(2), "queued-for-long")
        assert "not running after 480 s in Airflow's queue: waiting in line since" in warned.message


class TestTrouble:
    def test_a_create_whose_outcome_is_unknown_is_looked_for_not_repeated(self, room: Room) -> None:
        async def lost(_call: CreateCall) -> None:
            raise Unavailable("could not create the sandbox: Modal did not answer")

        room.gateway.before_create = lost
        room.gateway.known[LAUNCH] = SandboxStatus(sandbox_id="sb-made", name=LAUNCH, tags={})
        room.run(request())
        (started,) = room.take(LaunchStarted)
        assert isinstance(started, LaunchStarted)
        assert started.sandbox_id == "sb-made"
        assert len(room.gateway.creates) == 1

    def test_a_defect_ends_one_launch_and_the_others_go_on(self, room: Room, caplog: pytest.LogCaptureFixture) -> None:
        def broken() -> Translation:
            raise KeyError("gpu")

        room.backend.start()
        room.backend.submit(request(launch_id(1), translate=broken))
        room.backend.submit(request(launch_id(2)))
        (ended,) = room.take(LaunchEnded)
        assert isinstance(ended, LaunchEnded)
        assert (ended.launch_id, ended.reason) == (launch_id(1), "modalflow: internal error: KeyError: 'gpu'")
        (started,) = room.take(LaunchStarted)
        assert started.launch_id == launch_id(2)
        assert "KeyError" in caplog.text, "the traceback is in the scheduler's log"

    def test_a_defect_in_the_account_of_a_launch_does_not_stop_it(
        self, room: Room, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(*_: object) -> None:
            raise OverflowError("int too large to convert to float")

        monkeypatch.setattr("modalflow.launch.sights.Sights.note", broken)
        room.run(request())
        room.take(LaunchStarted)
        room.gateway.end("sb-1")
        (ended,) = room.take(LaunchEnded)
        assert isinstance(ended, LaunchEnded)
        assert ended.success
        assert "cannot be accounted for" in caplog.text

    def test_a_defect_in_a_command_ends_the_launch_and_gives_its_slot_back(
        self, room: Room, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ask = Pools.ask

        def broken(pools: Pools, name: str, *, priority: int, gpus: tuple[str, ...] = ()) -> str | None:
            if name == launch_id(1):
                raise KeyError("gpu")
            return ask(pools, name, priority=priority, gpus=gpus)

        monkeypatch.setattr(Pools, "ask", broken)
        room.backend.start()
        room.backend.submit(request(launch_id(1)))
        room.backend.submit(request(launch_id(2)))
        (ended,) = room.take(LaunchEnded)
        assert isinstance(ended, LaunchEnded)
        assert (ended.launch_id, ended.reason) == (launch_id(1), "modalflow: internal error: KeyError: 'gpu'")
        (started,) = room.take(LaunchStarted)
        assert started.launch_id == launch_id(2)

    def test_a_journal_that_fails_harms_nobody(self, room: Room, caplog: pytest.LogCaptureFixture) -> None:
        def full(_path: str, _line: str) -> None:
            raise OSError("No space left on device")

        room.backend = LaunchBackend(room.make_gateway, SETTINGS, ARGV, full, sleep=no_time)
        room.run(request(translate=lambda: refused("no")))
        room.take(LaunchEnded)
        assert "No space left on device" in caplog.text

    def test_missing_credentials_end_the_launch_and_are_asked_for_again(self, room: Room) -> None:
        def missing() -> Gateway:
            raise Unauthenticated("no Modal credentials: set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET")

        room.factory = missing
        room.run(request(launch_id(1)))
        (ended,) = room.take(LaunchEnded)
        assert isinstance(ended, LaunchEnded)
        assert ended.reason == "no Modal credentials: set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET"
        room.factory = room.make_gateway
        room.backend.submit(request(launch_id(2)))
        room.take(LaunchStarted)

    def test_a_second_request_for_a_launch_under_way_is_ignored(self, room: Room, caplog: pytest.LogCaptureFixture) -> None:
        room.run(request())
        room.take(LaunchStarted)
        room.backend.submit(request())
        room.backend.submit(request(launch_id(2)))
        room.take(LaunchStarted, 2)
        assert [call.name for call in room.gateway.creates] == [LAUNCH, launch_id(2)]
        assert "is under way already" in caplog.text

    @pytest.mark.parametrize("broken_one", [1, 2])
    def test_a_defect_when_a_launch_is_taken_fails_that_one(
        self, room: Room, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken_one: int
    ) -> None:
        accept = Sights.accept

        def broken(sights: Sights, name: str, label: str, lifecycle: Lifecycle, trace: Mapping[str, str]) -> Track:
            if name == launch_id(broken_one):
                raise KeyError("eyJhbGciOiJIUzUxMiJ9.c2VjcmV0.c2ln")
            return accept(sights, name, label, lifecycle, trace)

        monkeypatch.setattr(Sights, "accept", broken)
        room.backend.start()
        room.backend.submit(request(launch_id(1)))
        room.backend.adopt([adopted(2, again=True), adopted(3, again=True)])
        (ended,) = room.take(LaunchEnded)
        assert ended == LaunchEnded(
            launch_id=launch_id(broken_one),
            key=("key", launch_id(broken_one)),
            success=False,
            reason="modalflow: internal error: KeyError: '***'",
            failure=FailureClass.INTERNAL,
        )
        others = {launch_id(number) for number in (1, 2, 3)} - {launch_id(broken_one)}
        assert {event.launch_id for event in room.take(LaunchStarted, 2)} == others
        assert "met a defect when it was taken" in caplog.text
        assert "eyJ" not in caplog.text


class TestTheSameIdAgain:
    """A launch that is wanted again while the sandbox of before is still being ended."""

    def winding_down(self, room: Room) -> Gate:
        """A launch that was revoked while its create is under way, which returns when the gate opens."""
        gate, creating = Gate(), threading.Event()

        async def held(call: CreateCall) -> None:
            if len(room.gateway.creates) == 1:
                creating.set()
                await gate.passed()

        room.gateway.before_create = held
        room.run(request())
        assert creating.wait(10.0)
        room.backend.revoke(LAUNCH, "cleared")
        return gate

    def test_it_begins_under_the_next_name_when_that_one_is_gone(self, room: Room) -> None:
        gate = self.winding_down(room)
        room.backend.submit(request())
        gate.open()
        room.take(LaunchStarted)
        assert [call.name for call in room.gateway.creates] == [LAUNCH, f"{LAUNCH}.2"]
        assert room.gateway.terminated == ["sb-1"]
        room.gateway.end("sb-2")
        assert room.take(LaunchEnded) == [LaunchEnded(launch_id=LAUNCH, key=("key", LAUNCH), success=True, reason="")]

    def test_also_one_that_is_taken_over(self, room: Room) -> None:
        gate = self.winding_down(room)
        room.backend.adopt([replace(adopted(1, again=True), launch_id=LAUNCH, relaunch=request)])
        gate.open()
        room.take(LaunchStarted)
        assert room.gateway.terminated == ["sb-1"]

    def test_taken_back_again_it_does_not_begin(self, room: Room) -> None:
        gate = self.winding_down(room)
        room.backend.submit(request())
        room.backend.revoke(LAUNCH, "cleared")
        gate.open()
        until(lambda: room.gateway.terminated == ["sb-1"], "the end of the first")
        room.backend.submit(request(launch_id(2)))
        room.take(LaunchStarted)
        assert [call.name for call in room.gateway.creates] == [LAUNCH, launch_id(2)]

    def test_taken_back_between_the_end_of_the_first_and_its_own_beginning(self, room: Room) -> None:
        gate = self.winding_down(room)

        async def terminate(sandbox_id: str) -> None:
            room.gateway.terminated.append(sandbox_id)
            room.backend.revoke(LAUNCH, "cleared")  # the loop comes to it right after the end

        room.gateway.terminate = terminate  # type: ignore[method-assign]
        room.backend.submit(request())
        gate.open()
        until(lambda: room.gateway.terminated == ["sb-1"], "the end of the first")
        room.backend.submit(request(launch_id(2)))
        room.take(LaunchStarted)
        assert [call.name for call in room.gateway.creates] == [LAUNCH, launch_id(2)]


class TestMany:
    def test_beyond_the_long_polls_one_listing_tells_of_all_ends(self, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("modalflow.launch.watch.LONG_POLLS", 2)
        monkeypatch.setattr("modalflow.launch.watch.FEW_AGAIN", 1)
        names = [f"sb-{number}" for number in range(1, 6)]
        room.gateway.running = [SandboxStatus(sandbox_id=name, name="", tags={}) for name in names]
        room.backend.start()
        for number in range(5):
            room.backend.submit(request(launch_id(number)))
        room.take(LaunchStarted, 5)
        until(lambda: bool(room.gateway.listed), "a listing")
        assert room.gateway.listed[0] == {"deployment": "airflow"}
        for name in names:
            room.gateway.known[name] = SandboxStatus(sandbox_id=name, name="", tags={}, end=_success())
        room.gateway.running = []
        assert all(ended.success for ended in room.take(LaunchEnded, 5) if isinstance(ended, LaunchEnded))


class TestRevoke:
    def test_a_running_sandbox_is_terminated_and_nothing_more_is_heard(self, room: Room) -> None:
        room.run(request())
        room.take(LaunchStarted)
        room.backend.revoke(LAUNCH, "cleared")
        until(lambda: "no launches" in room.backend.describe(), "the launch forgotten")
        assert room.gateway.terminated == ["sb-1"]
        room.gateway.end("sb-1", EndKind.TERMINATED, 137)
        assert room.backend.drain() == []

    def test_a_sandbox_with_a_grace_period_is_asked_to_stop(self, room: Room) -> None:
        room.backend = LaunchBackend(room.connect, SETTINGS, ARGV, room.write, stop_argv=["python", "-c", "stop"])
        room.gateway.on_start_in = room.gateway.end
        room.run(request(plan=PATIENT))
        room.take(LaunchStarted)
        room.backend.revoke(LAUNCH, "cleared")
        until(lambda: "no launches" in room.backend.describe(), "the launch forgotten")
        assert room.gateway.started_in == [("sb-1", ("python", "-c", "stop"))]
        assert room.gateway.terminated == []
        assert {"level": "info", "event": "cleared; the sandbox is asked to stop and has 30 s for it"}.items() <= room.journal[
            -1
        ][1].items()

    def test_one_that_does_not_stop_is_terminated_and_holds_nobody_up(self, room: Room) -> None:
        over = Gate()

        async def until_over(_seconds: float) -> None:
            await over.passed()

        room.build(SETTINGS, until_over)
        room.run(request(plan=PATIENT))
        room.take(LaunchStarted)
        room.backend.revoke(LAUNCH, "cleared")
        until(lambda: ": stopping" in room.backend.describe(), "its time to run")
        room.backend.submit(request(launch_id(2)))
        room.take(LaunchStarted, 2)
        assert room.gateway.terminated == []
        over.open()
        until(lambda: room.gateway.terminated == ["sb-1"], "its end")

    def test_an_unknown_launch_is_ignored(self, room: Room) -> None:
        room.backend.start()
        room.backend.revoke(launch_id(7), "cleared")
        room.run(request())
        room.take(LaunchStarted)


class TestAdoption:
    def test_one_listing_sorts_all(self, room: Room) -> None:
        ours = {"deployment": "airflow"}
        room.gateway.running = [
            SandboxStatus(sandbox_id=f"sb-r{n}", name="", tags={**ours, "launch": launch_id(n)}) for n in (1, 2, 77)
        ]
        ended = SandboxStatus(sandbox_id="sb-r3", name="", tags={}, end=None)
        room.gateway.known["sb-r3"] = replace(ended, end=_success())
        room.backend.start()
        room.backend.adopt(
            [
                adopted(1, sandbox_id="sb-r1"),
                adopted(2),
                adopted(3, sandbox_id="sb-r3"),
                adopted(4, sandbox_id="sb-r4"),
                adopted(5, again=True),
            ]
        )
        started = room.take(LaunchStarted, 2)
        assert {(s.launch_id, s.sandbox_id) for s in started if isinstance(s, LaunchStarted)} == {
            (launch_id(2), "sb-r2"),
            (launch_id(5), "sb-1"),
        }
        reasons = {e.launch_id: e.reason for e in room.take(LaunchEnded, 2) if isinstance(e, LaunchEnded)}
        assert reasons == {
            launch_id(3): "",
            launch_id(4): "the sandbox sb-r4 is gone: Modal does not know it any more; whether the task finished is unknown",
        }
        assert room.gateway.listed == [ours]
        assert [call.name for call in room.gateway.creates] == [launch_id(5)]
        room.gateway.end("sb-r1")
        until(lambda: len(room.take(LaunchEnded, 3)) == 3, "the end of an adopted launch")

    def test_a_listing_that_fails_leaves_each_to_ask_for_itself(self, room: Room, caplog: pytest.LogCaptureFixture) -> None:
        async def down(_tags: object) -> list[SandboxStatus]:
            raise Unavailable("Modal did not answer")

        room.gateway.list_running = down  # type: ignore[method-assign,assignment]
        room.gateway.known["sb-r1"] = SandboxStatus(sandbox_id="sb-r1", name="", tags={})
        room.backend.start()
        room.backend.adopt([adopted(1, sandbox_id="sb-r1")])
        room.gateway.end("sb-r1")
        assert room.take(LaunchEnded) == [LaunchEnded(launch_id=launch_id(1), key=("key", launch_id(1)), success=True, reason="")]
        assert "cannot list running sandboxes" in caplog.text


class TestStop:
    def test_running_sandboxes_are_left_alone_and_the_connection_is_closed(self, room: Room) -> None:
        room.run(request())
        room.take(LaunchStarted)
        room.backend.stop(5.0)
        assert room.gateway.terminated == []
        assert room.gateway.closed
        assert room.backend.drain() == []

    def test_a_create_that_soon_returns_is_waited_for(self, room: Room) -> None:
        gate = Gate()

        async def blocked(_call: CreateCall) -> None:
            await gate.passed()

        room.gateway.before_create = blocked
        room.run(request())
        until(lambda: len(room.gateway.creates) == 1, "the create")
        threading.Timer(0.05, gate.open).start()
        room.backend.stop(5.0)
        assert [type(event) for event in room.backend.drain()] == [LaunchStarted]

    def test_a_create_that_does_not_return_does_not_hold_the_process(self, room: Room) -> None:
        async def never(_call: CreateCall) -> None:
            await asyncio.Event().wait()

        room.gateway.before_create = never
        room.run(request())
        until(lambda: len(room.gateway.creates) == 1, "the create")
        before = time.monotonic()
        room.backend.stop(0.4)
        assert time.monotonic() - before < 2.0
        assert room.gateway.terminated == []

    def test_calls_after_the_stop_and_without_a_start_are_harmless(self, room: Room) -> None:
        room.backend.stop(0.1)
        room.run(request())
        room.take(LaunchStarted)
        room.backend.stop(5.0)
        room.backend.submit(request(launch_id(2)))
        room.backend.revoke(launch_id(2), "x")
        assert room.backend.drain() == []


class TestCost:
    def test_a_hundred_submits_hold_the_caller_for_less_than_a_heartbeat_may(self, room: Room) -> None:
        room.backend.start()
        requests = [request(launch_id(n)) for n in range(100)]
        before = time.perf_counter()
        for launch in requests:
            room.backend.submit(launch)
        assert time.perf_counter() - before < 0.1
        room.take(LaunchStarted, 100)

    def test_importing_the_backend_loads_neither_modal_nor_airflow(self) -> None:
        import subprocess

        heavy = ("modal", "airflow", "grpclib", "kubernetes")
        code = f"import sys, modalflow.launch.backend; print([m for m in {heavy} if m in sys.modules])"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert found.stdout.strip() == "[]"


def _success() -> SandboxEnd:
    return SandboxEnd(kind=EndKind.SUCCESS, exit_code=0)


def test_a_happening_after_the_end_is_logged_and_changes_nothing(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    room.run(request())
    room.take(LaunchStarted)
    (driver,) = room.backend._drivers.values()
    room.gateway.end("sb-1")
    room.take(LaunchEnded)
    room.backend._thread.post(lambda: driver.feed(m.HandedOver()))
    room.backend.submit(request(launch_id(2)))
    room.take(LaunchStarted, 2)
    assert "HandedOver cannot happen while ended" in caplog.text
    assert len(room.take(LaunchEnded)) == 1
