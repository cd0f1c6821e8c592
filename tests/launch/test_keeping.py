"""Launches whose task failed are let go while their sandbox is kept: by Airflow's word only, and with their GPUs counted."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from modalflow.launch import messages as m
from modalflow.launch.events import LaunchEnded, LaunchNotice, LaunchRequest, LaunchStarted
from modalflow.launch.gateway import SandboxStatus
from modalflow.launch.keep_tags import instance_to_ask_for, is_kept, keep_of, kept_until
from modalflow.launch.keeping import ASK_EVERY
from modalflow.launch.lifecycle import Adoption, Lifecycle
from modalflow.launch.sweep import Claim
from modalflow.launch.transitions import State
from modalflow.translation.gpus.caps import GpuCaps
from modalflow.translation.plan import SandboxPlan
from tests.launch.plans import CPU, GPU, LAUNCH, request
from tests.launch.scripted_gateway import Gate, until
from tests.launch.test_backend import SETTINGS, Room
from tests.launch.test_lifecycle import KEY, RULES

INSTANCE = "0199c5b2-0000-7a53-9d0c-000000000001"
OTHER = "0199c5b2-5f0e-7a53-9d0c-6c8a3f7f5b12"
TAGS = {"keep_on_failure": "600", "task_instance": INSTANCE}
FAILED_AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
FAILED = {LAUNCH: Claim(over=False, why="the task is failed since a moment", failed_at=FAILED_AT)}
KEPT = replace(CPU, tags=TAGS)
FAST = replace(SETTINGS, sweep_interval=0.0, gpu_create_rate=None, cpu_create_rate=None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("600", 600), ("0", 0), ("", 0), ("soon", 0), ("-1", 0), ("٣", 0), ("99999", 86_400), ("9" * 5000, 0)],
)
def test_only_seconds_are_read_from_a_tag(text: str, seconds: int) -> None:
    assert keep_of({"keep_on_failure": text}) == seconds


def test_how_long_a_failed_sandbox_is_left_alone() -> None:
    assert kept_until(TAGS, FAILED_AT) == FAILED_AT + timedelta(minutes=10)
    assert is_kept(TAGS, FAILED_AT, FAILED_AT + timedelta(minutes=11, seconds=59)), "it has two minutes to end by itself"
    assert not is_kept(TAGS, FAILED_AT, FAILED_AT + timedelta(minutes=12))
    assert not is_kept(TAGS, None, FAILED_AT), "its task did not fail"
    assert not is_kept({}, FAILED_AT, FAILED_AT)
    assert instance_to_ask_for(TAGS) == INSTANCE
    assert instance_to_ask_for({"task_instance": INSTANCE}) is None
    assert instance_to_ask_for({"keep_on_failure": "600"}) is None


def test_a_kept_launch_is_over_for_airflow_and_its_sandbox_is_handed_on() -> None:
    life = Lifecycle(LAUNCH, KEY, RULES, adoption=Adoption(sandbox_id="sb-1", can_relaunch=False))
    running = SandboxStatus(sandbox_id="sb-1", name="", tags=TAGS)
    assert life.handle(m.Listed(status=running), 0.0) == [m.Wait(sandbox_id="sb-1", kept_for=INSTANCE)]
    text = "the task failed; its sandbox sb-1 is kept for 600 s from then on (keep_on_failure)"
    assert life.handle(m.FailedAndKept(), 1.0) == [
        m.WriteLog(level="info", text=text),
        m.Emit(event=LaunchNotice(launch_id=LAUNCH, key=KEY, event="sandbox-kept", message=text)),
        m.Keep(sandbox_id="sb-1", seconds=600),
        m.Emit(event=LaunchEnded(launch_id=LAUNCH, key=KEY, success=True, reason="")),
        m.Forget(),
    ]
    assert life.state is State.ENDED


class Scene:
    """A backend whose database answers when the test lets ``ASK_EVERY`` pass."""

    def __init__(self) -> None:
        self.room = Room()
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.answers: list[Mapping[str, Claim] | Exception] = []
        self.pauses: list[Gate] = []

    def build(self, *, gpus: int | None = None) -> None:
        self.room.build(replace(FAST, max_gpus=GpuCaps(total=gpus)), sleep=self.sleep, claims=self.claims)

    async def sleep(self, seconds: float) -> None:
        if seconds == ASK_EVERY:
            gate = Gate()
            self.pauses.append(gate)
            await gate.passed()

    def claims(self, launches: Mapping[str, str], _made: Mapping[str, datetime]) -> Mapping[str, Claim]:
        self.asked.append((threading.current_thread().name, dict(launches)))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def answer(self, *answers: Mapping[str, Claim] | Exception) -> None:
        """Let the database be asked, and answer."""
        for one in answers:
            self.answers.append(one)
            until(lambda: bool(self.pauses), "it waits to ask")
            self.pauses.pop(0).open()

    def runs(self, launch: LaunchRequest) -> None:
        self.room.run(launch)
        self.room.take(LaunchStarted)


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.room.backend.stop(5.0)


def test_it_is_let_go_when_airflow_says_that_the_task_failed_and_not_before(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.build()
    scene.runs(request(plan=KEPT))
    runs_on = {LAUNCH: Claim(over=False, why="the task is running")}
    scene.answer(runs_on, {}, RuntimeError("the database is away"), {LAUNCH: Claim(over=True, why="the task is success")}, FAILED)
    assert scene.room.take(LaunchEnded) == [LaunchEnded(launch_id=LAUNCH, key=("key", LAUNCH), success=True, reason="")]
    assert scene.asked == [("modalflow-keeping", {LAUNCH: INSTANCE})] * 5
    assert scene.room.gateway.terminated == []
    assert "modalflow: cannot ask Airflow whether tasks failed whose sandboxes are kept; it is asked again" in caplog.messages


def test_nobody_is_asked_of_a_task_whose_sandbox_is_not_kept(scene: Scene) -> None:
    scene.build()
    scene.runs(request(plan=replace(CPU, tags={"task_instance": INSTANCE})))
    scene.room.gateway.end("sb-1")
    scene.room.take(LaunchEnded)
    assert scene.pauses == []


def test_a_kept_sandbox_that_ends_first_is_reported_as_ever(scene: Scene) -> None:
    scene.build()
    scene.runs(request(plan=KEPT))
    scene.room.gateway.end("sb-1")
    scene.room.take(LaunchEnded)
    assert scene.asked == []


def kept_gpu() -> SandboxPlan:
    return replace(GPU, tags=TAGS)


def test_the_gpu_of_a_kept_sandbox_is_in_flight_until_it_ends(scene: Scene) -> None:
    scene.build(gpus=1)
    scene.runs(request(plan=kept_gpu()))
    scene.answer(FAILED)
    scene.room.take(LaunchEnded)
    scene.room.backend.submit(request(OTHER, plan=GPU))
    until(
        lambda: "GPUs in flight: 1 A10" in scene.room.backend.describe() and "queued" in scene.room.backend.describe(), "it waits"
    )
    assert len(scene.room.gateway.creates) == 1
    scene.room.gateway.end("sb-1")
    scene.room.take(LaunchStarted, 2)
