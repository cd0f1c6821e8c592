"""The sweep in the backend's loop: when it looks, and that nothing of it costs a launch."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from modalflow.launch.events import LaunchStarted
from modalflow.launch.gateway import SandboxStatus
from modalflow.launch.sweep import Claim
from modalflow.translation.gpus.caps import GpuCaps
from tests.launch.plans import LAUNCH, request
from tests.launch.scripted_gateway import Gate, until
from tests.launch.test_backend import SETTINGS, Room

INSTANCE = "0199c5b2-0000-7a53-9d0c-000000000001"
TAGS = {"deployment": "airflow", "launch": LAUNCH, "task_instance": INSTANCE}
MADE = datetime(2026, 1, 1, tzinfo=UTC)
ENDS_AT_ONCE = replace(SETTINGS, stop_grace=0)


class Scene:
    """A backend whose pauses end when the test says so, and a database that answers as it is told."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.answers: list[Mapping[str, Claim] | Exception] = []
        self.pauses: list[tuple[float, Gate]] = []

    async def sleep(self, seconds: float) -> None:
        gate = Gate()
        self.pauses.append((seconds, gate))
        await gate.passed()

    def claims(self, launches: Mapping[str, str], made: Mapping[str, datetime]) -> Mapping[str, Claim]:
        assert made == {LAUNCH: MADE}
        self.asked.append((threading.current_thread().name, dict(launches)))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def looked(self, times: int) -> None:
        """Let the sweep look until it has paused ``times`` times."""
        for number in range(times):
            until(lambda number=number: len(self.pauses) > number, f"look {number + 1}")  # type: ignore[misc]
            if number < times - 1:
                self.pauses[number][1].open()


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room()
    yield room
    room.backend.stop(5.0)


@pytest.fixture
def scene(room: Room) -> Scene:
    scene = Scene(room)
    room.gateway.running = [SandboxStatus(sandbox_id="sb-9", name=LAUNCH, tags=TAGS, made_at=MADE)]
    room.build(ENDS_AT_ONCE, sleep=scene.sleep, claims=scene.claims)
    return scene


def claim(*, over: bool) -> Mapping[str, Claim]:
    return {LAUNCH: Claim(over=over, why="the task is failed")}


def test_it_looks_at_the_start_and_every_few_minutes_off_the_loop(scene: Scene) -> None:
    scene.answers = [claim(over=True)]
    scene.room.backend.start()
    scene.looked(1)
    assert [seconds for seconds, _ in scene.pauses] == [300.0]
    assert scene.room.gateway.listed == [{"deployment": "airflow"}]
    [(thread, launches)] = scene.asked
    assert launches == {LAUNCH: INSTANCE}
    assert thread != "modalflow-launch"
    assert scene.room.gateway.terminated == [], "over for the first time"


@pytest.mark.parametrize(
    ("answers", "terminated"),
    [
        ([claim(over=True), claim(over=True)], ["sb-9"]),
        ([claim(over=True), claim(over=False), claim(over=True)], []),
        ([claim(over=True), {}, claim(over=True)], []),
        ([claim(over=True), RuntimeError("the database is away"), claim(over=True)], ["sb-9"]),
    ],
    ids=["over twice", "wanted between", "unknown between", "not told between"],
)
def test_what_is_over_at_two_looks_in_a_row_is_ended(
    scene: Scene, answers: list[Mapping[str, Claim] | Exception], terminated: list[str]
) -> None:
    scene.answers = list(answers)
    scene.room.backend.start()
    scene.looked(len(answers))
    assert scene.room.gateway.terminated == terminated


def test_a_kept_sandbox_is_left_alone(scene: Scene) -> None:
    tags = {**TAGS, "keep_on_failure": "3600"}
    scene.room.gateway.running = [SandboxStatus(sandbox_id="sb-9", name=LAUNCH, tags=tags, made_at=MADE)]
    failed = {LAUNCH: Claim(over=True, why="the task is failed", failed_at=datetime.now(UTC))}
    scene.answers = [failed, failed]
    scene.room.backend.start()
    scene.looked(2)
    assert scene.room.gateway.terminated == []


def test_a_database_that_fails_costs_no_launch(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.answers = [RuntimeError("the database is away")]
    scene.room.run(request())
    scene.looked(1)
    scene.room.take(LaunchStarted)
    assert "modalflow: cannot look for sandboxes that are left; the next look is in 300 s" in caplog.messages


@pytest.mark.parametrize("tags", [{**TAGS, "deployment": "staging"}, {"deployment": "airflow", "launch": LAUNCH}])
def test_what_is_not_ours_or_has_no_key_is_not_asked_for(scene: Scene, tags: dict[str, str]) -> None:
    scene.room.gateway.running = [SandboxStatus(sandbox_id="sb-9", name=LAUNCH, tags=tags)]
    scene.room.backend.start()
    scene.looked(2)
    assert scene.asked == []


def test_a_database_that_does_not_answer_holds_up_neither_the_sweep_nor_the_end_of_the_process(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("modalflow.launch.sweep.ANSWER_LIMIT", 0.01)
    awake, asking = threading.Event(), []

    def hanging(_launches: Mapping[str, str], _made: Mapping[str, datetime]) -> Mapping[str, Claim]:
        asking.append(threading.current_thread().daemon)
        awake.wait()
        return {}

    scene.room.build(ENDS_AT_ONCE, sleep=scene.sleep, claims=hanging)
    scene.room.backend.start()
    try:
        scene.looked(2)
        assert asking == [True], "a thread that is no daemon is waited for; a second one would hang like the first"
        assert "modalflow: cannot look for sandboxes that are left; the next look is in 300 s" in caplog.messages
    finally:
        awake.set()


def test_gpus_of_other_schedulers_count_until_they_are_gone_or_cannot_be_seen(scene: Scene) -> None:
    room = scene.room
    other = "0199c5b2-0000-7a53-9d0c-0000000000ff"
    tags = {"deployment": "airflow", "launch": other, "gpu": "H100.2"}
    room.gateway.running = [SandboxStatus(sandbox_id="sb-8", name=other, tags=tags)]
    room.build(replace(SETTINGS, max_gpus=GpuCaps(models={"H100": 2})), sleep=scene.sleep, claims=scene.claims)
    pools = room.backend._pools
    room.backend.start()
    scene.looked(1)
    assert pools.ask("a", priority=1, gpus=("H100",)) is None
    assert pools.grants(0.0) == []
    assert pools.why("a", 0.0) == "2 of 2 H100 are in flight ([modal_executor] max_gpus)"
    assert pools.gauges().gpus == {}, "what this scheduler holds"
    room.gateway.running = []
    scene.looked(2)
    assert pools.why("a", 0.0) != "2 of 2 H100 are in flight ([modal_executor] max_gpus)"


def test_an_interval_of_zero_is_never(room: Room) -> None:
    scene = Scene(room)
    room.build(replace(ENDS_AT_ONCE, sweep_interval=0.0), claims=scene.claims)
    room.run(request())
    room.take(LaunchStarted)
    assert room.gateway.listed == []
