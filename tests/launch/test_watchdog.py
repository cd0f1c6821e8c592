"""A loop that is stuck for real, in its own thread; only the watchdog's clock is the test's."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from modalflow.launch.backend import LaunchBackend
from modalflow.launch.events import AdoptRequest, LaunchEnded, LaunchEvent, LaunchStarted
from modalflow.launch.failures import FailureClass
from modalflow.launch.gateway import EndKind, Gateway, SandboxEnd, SandboxStatus
from modalflow.launch.observe import Nobody, Track
from modalflow.launch.watchdog import LONGEST_STEP, NOTICE_AFTER, RESTART_AFTER, WatchedBackend
from modalflow.settings import LaunchSettings
from modalflow.translation.result import Translation
from tests.launch.plans import CPU, request
from tests.launch.scripted_gateway import ScriptedGateway, until
from tests.launch.test_backend import launch_id, no_time

SETTINGS = LaunchSettings(launch_concurrency=4, launch_retries=2)


TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


class Traces(Nobody):
    """Keeps the trace context that each launch was accepted with, by every loop."""

    def __init__(self, kept: dict[str, list[Mapping[str, str]]]) -> None:
        self.kept = kept

    def accepted(self, track: Track, trace: Mapping[str, str]) -> None:
        self.kept[track.launch_id].append(trace)


class Room:
    """A watched backend on a scripted gateway, a clock, and something to be stuck at."""

    def __init__(self) -> None:
        self.now = 0.0
        self.gateway = ScriptedGateway()
        self.events: list[LaunchEvent] = []
        self.traces: dict[str, list[Mapping[str, str]]] = defaultdict(list)
        self.released = threading.Event()
        self.stuck = threading.Event()
        self.made: list[LaunchBackend] = []
        self.backend = WatchedBackend(self.make, clock=lambda: self.now)

    def make(self, previous: Gateway | None) -> LaunchBackend:
        def connect() -> Gateway:
            return self.gateway if previous is None else previous.successor()

        made = LaunchBackend(
            connect,
            SETTINGS,
            ["true"],
            lambda _path, _line: None,
            observer=Traces(self.traces),
            sleep=no_time,
            jitter=lambda: 0.0,
        )
        self.made.append(made)
        return made

    def blocking_hook(self) -> Translation:
        self.stuck.set()
        self.released.wait(60.0)
        return Translation(plan=CPU)

    def get_stuck(self, number: int) -> None:
        self.backend.submit(request(launch_id(number), translate=self.blocking_hook))
        assert self.stuck.wait(10.0)

    def look(self) -> None:
        self.events += self.backend.drain()

    def silence(self, seconds: float) -> None:
        """Heartbeats for that long, of the test's clock."""
        end = self.now + seconds
        while self.now < end:
            self.now += LONGEST_STEP
            self.look()

    def of(self, number: int, kind: type[LaunchEvent]) -> list[LaunchEvent]:
        return [event for event in self.events if isinstance(event, kind) and event.launch_id == launch_id(number)]

    def take(self, number: int, kind: type[LaunchEvent]) -> LaunchEvent:
        def there() -> bool:
            self.look()
            return bool(self.of(number, kind))

        until(there, f"{kind.__name__} of launch {number}")
        (event,) = self.of(number, kind)
        return event

    def run(self, number: int) -> str:
        """Launch, and return the sandbox's id; Modal lists it from now on."""
        self.backend.submit(request(launch_id(number)))
        started = self.take(number, LaunchStarted)
        assert isinstance(started, LaunchStarted)
        tags = {"deployment": "airflow", "launch": launch_id(number)}
        status = SandboxStatus(sandbox_id=started.sandbox_id, name=launch_id(number), tags=tags)
        self.gateway.running.append(status)
        self.gateway.known |= {started.sandbox_id: status, launch_id(number): status}
        return started.sandbox_id


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room()
    room.backend.start()
    yield room
    room.released.set()
    room.backend.stop(5.0)
    until(lambda: not any(made.running for made in room.made), "the end of every loop")


class TestStuck:
    def test_it_is_told_where(self, room: Room, caplog: pytest.LogCaptureFixture) -> None:
        room.get_stuck(1)
        room.silence(NOTICE_AFTER + LONGEST_STEP)
        (record,) = [record for record in caplog.records if record.name == "modalflow.launch.watchdog"]
        told = record.getMessage()
        assert told.startswith("modalflow: the launch loop has not answered for 10 s; it is at:\n")
        assert "in blocking_hook\n    self.released.wait(60.0)" in told
        room.released.set()
        room.take(1, LaunchStarted)
        room.silence(LONGEST_STEP)
        assert "the launch loop answers again" in caplog.text
        assert room.backend.restarts == 0

    def test_another_loop_takes_everything_over_and_nothing_runs_twice(
        self, room: Room, caplog: pytest.LogCaptureFixture
    ) -> None:
        sandbox_id = room.run(1)
        room.get_stuck(2)
        room.backend.submit(request(launch_id(3)))
        room.silence(RESTART_AFTER + 2 * LONGEST_STEP)
        assert room.backend.restarts == 1
        room.take(3, LaunchStarted)
        assert room.gateway.succeeded == 1, "the old connection is cut off before the new loop asks anything"
        room.gateway.end(sandbox_id)
        assert room.take(1, LaunchEnded) == LaunchEnded(
            launch_id=launch_id(1), key=("key", launch_id(1)), success=True, reason=""
        )
        assert [call.name for call in room.gateway.creates] == [launch_id(1), launch_id(3)]
        assert "in blocking_hook\n" in caplog.text

    def test_the_launch_that_holds_the_loop_up_fails_and_says_why(self, room: Room) -> None:
        room.get_stuck(2)
        room.silence(RESTART_AFTER + LONGEST_STEP)
        ended = room.take(2, LaunchEnded)
        assert isinstance(ended, LaunchEnded)
        assert (ended.success, ended.failure) == (False, FailureClass.INTERNAL)
        assert ended.reason == (
            "modalflow: the launch loop has not answered for 60 s while it worked on this task's configuration or workload, "
            "which is not tried again; the scheduler's log says where it was (a hook in airflow_local_settings, most likely)"
        )

    def test_the_old_loop_creates_nothing_when_it_wakes(self, room: Room) -> None:
        room.get_stuck(2)
        room.silence(RESTART_AFTER + LONGEST_STEP)
        room.released.set()
        until(lambda: not room.made[0].running, "the end of the old loop")
        room.backend.submit(request(launch_id(3)))
        room.take(3, LaunchStarted)
        assert [call.name for call in room.gateway.creates] == [launch_id(3)]
        assert len(room.of(2, LaunchEnded)) == 1
        assert not room.of(2, LaunchStarted)

    def test_a_revoke_that_the_old_loop_did_not_hear_is_heard(self, room: Room) -> None:
        sandbox_id = room.run(1)
        room.get_stuck(2)
        room.backend.revoke(launch_id(1), "cleared")
        room.silence(RESTART_AFTER + LONGEST_STEP)
        until(lambda: room.gateway.terminated == [sandbox_id], "its end")
        assert room.of(1, LaunchEnded) == []

    def test_a_launch_taken_over_from_another_scheduler_is_taken_over_once_more(self, room: Room) -> None:
        tags = {"deployment": "airflow", "launch": launch_id(1)}
        status = SandboxStatus(sandbox_id="sb-old", name=launch_id(1), tags=tags)
        room.gateway.running, room.gateway.known["sb-old"] = [status], status
        adopted = AdoptRequest(
            launch_id=launch_id(1), key=("key", launch_id(1)), label="t", sandbox_id="sb-old", log_path=None, relaunch=None
        )
        room.backend.adopt([adopted])
        room.get_stuck(2)
        room.silence(RESTART_AFTER + LONGEST_STEP)
        room.gateway.end("sb-old", EndKind.FAILURE, 3)
        ended = room.take(1, LaunchEnded)
        assert isinstance(ended, LaunchEnded)
        assert not ended.success
        assert room.gateway.creates == []

    @pytest.mark.parametrize("adopted", [False, True], ids=["its own", "of an earlier scheduler"])
    def test_a_launch_keeps_its_place_in_the_tasks_trace(self, room: Room, *, adopted: bool) -> None:
        if adopted:
            given = AdoptRequest(
                launch_id=launch_id(1),
                key=("key", launch_id(1)),
                label="t",
                sandbox_id=None,
                log_path=None,
                relaunch=lambda: request(launch_id(1)),
                trace=TRACE,
            )
            room.backend.adopt([given])
        else:
            room.backend.submit(replace(request(launch_id(1)), trace=TRACE))
        room.get_stuck(2)
        room.silence(RESTART_AFTER + LONGEST_STEP)
        until(lambda: len(room.traces[launch_id(1)]) == 2, "the second loop's account of the launch")
        assert room.traces[launch_id(1)] == [TRACE, TRACE]


class TestAClientThatIsStuck:
    """The loop answers, but not the thread on which Modal's client makes its calls."""

    def test_it_is_told_and_another_loop_takes_over_with_another_client(
        self, room: Room, caplog: pytest.LogCaptureFixture
    ) -> None:
        sandbox_id = room.run(1)
        room.gateway.deaf = True
        room.silence(NOTICE_AFTER + 2 * LONGEST_STEP)
        assert "The thread of Modal's client is at:\n  in the client" in caplog.text
        assert room.backend.restarts == 0
        room.silence(RESTART_AFTER)
        assert room.backend.restarts == 1
        room.gateway.end(sandbox_id)
        room.take(1, LaunchEnded)
        assert not room.gateway.deaf


class TestNotStuck:
    def test_a_scheduler_that_was_asleep_itself_replaces_nothing(self, room: Room) -> None:
        room.get_stuck(1)
        room.look()
        room.now += 3600.0
        room.look()
        assert room.backend.restarts == 0

    def test_the_answer_tells_how_late_the_loop_is(self, room: Room) -> None:
        room.get_stuck(1)
        room.look()
        asked = room.backend._ping
        room.now += 3.0
        room.released.set()
        until(lambda: asked is not None and asked.answered is not None, "answer")
        room.look()
        assert room.backend.lag == 3.0
        assert "modalflow: loop lag 3.000 s, 0 loops replaced" in room.backend.describe()

    def test_events_and_the_end_are_those_of_the_backend(self, room: Room) -> None:
        sandbox_id = room.run(1)
        room.gateway.end(sandbox_id)
        room.take(1, LaunchEnded)
        assert room.backend._held == {}
        room.backend.stop(5.0)
        assert room.gateway.closed
        room.look()
        assert room.backend.restarts == 0, "a loop that was stopped is not replaced"


def test_a_loop_that_ended_by_itself_is_replaced_at_the_next_heartbeat(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    sandbox_id = room.run(1)
    room.made[0]._thread.post(room.made[0]._stop_asked.set)
    until(lambda: not room.made[0].running, "its end")
    room.look()
    assert room.backend.restarts == 1
    assert "modalflow: the launch loop has ended by itself; another one takes its 1 launches over" in caplog.text
    room.gateway.end(sandbox_id)
    room.take(1, LaunchEnded)
    assert SandboxEnd(kind=EndKind.SUCCESS, exit_code=0) in room.gateway._ends.values()
