"""What a launch that waits tells, and what becomes of creates that Modal refuses for now."""

from __future__ import annotations

import pytest

from modalflow.launch import messages as m
from modalflow.launch.alarms import Alarm, Alarms
from modalflow.launch.events import LaunchNotice
from modalflow.launch.failures import FailureClass as F
from modalflow.launch.gateway import CapacityExhausted, EndKind, RateLimited, SandboxEnd
from modalflow.launch.lifecycle import SLOW_CREATE, Adoption
from modalflow.translation.plan import SandboxPlan
from modalflow.translation.result import Translation
from tests.launch.plans import CPU, GPU, GPUS, LAUNCH
from tests.launch.test_lifecycle import KEY, Launch, create, ended, waiting_for

SLOW_DOWN = m.CreateFailed(
    error=RateLimited("could not create the sandbox: Sandbox creation rate limit exceeded", retry_after=7.0)
)


def told(event: str, text: str, level: m.Level = "info") -> list[m.Command]:
    return [
        m.WriteLog(level=level, text=text),
        m.Emit(event=LaunchNotice(launch_id=LAUNCH, key=KEY, event=event, message=text)),
    ]


class TestInLine:
    def test_a_gpu_says_what_holds_it_up_once(self) -> None:
        launch = Launch()
        launch.prepared(GPU)
        slow = m.SlotSlow(gpu="A10G", why="8 of 8 GPUs are in flight ([modal_executor] max_gpus)")
        text = "waiting for A10G since 1000 s: 8 of 8 GPUs are in flight ([modal_executor] max_gpus)"
        assert launch.tell(slow, after=10.0) == told("waiting-for-gpu", text)
        assert launch.tell(slow, after=10.0) == []

    def test_a_cpu_create_too(self) -> None:
        launch = Launch()
        launch.prepared(CPU)
        slow = m.SlotSlow(gpu=None, why="20 creates a second are made ([modal_executor] cpu_create_rate)")
        text = "waiting to be created since 1000 s: 20 creates a second are made ([modal_executor] cpu_create_rate)"
        assert launch.tell(slow, after=10.0) == told("waiting-in-line", text)

    def test_one_that_has_left_the_line_says_nothing(self) -> None:
        launch = Launch()
        launch.running(GPU)
        assert launch.tell(m.SlotSlow(gpu="A10G", why="full")) == []

    def test_time_in_line_is_not_taken_from_the_wait_for_a_gpu(self) -> None:
        launch = Launch()
        launch.prepared(GPU)
        assert launch.tell(m.SlotGranted(gpu="A10G"), after=3000.0) == [create(GPU, gpu="A10G", bound=480.0)]
        assert launch.tell(m.CreateSlow(attempt=1), after=SLOW_CREATE) == waiting_for("A10G", since=4000.0)

    def test_the_candidate_that_is_granted_is_tried_and_the_one_passed_over_comes_later(self) -> None:
        launch = Launch()
        assert launch.prepared(GPUS) == [m.RequestSlot(gpus=("H100:2", "A100-80GB:2"))]
        assert launch.tell(m.SlotGranted(gpu="A100-80GB:2")) == [create(GPUS, gpu="A100-80GB:2", bound=50.0)]
        none_free = m.CreateFailed(error=CapacityExhausted("Insufficient capacity"))
        assert launch.tell(none_free) == [m.ReleaseSlot(), m.RequestSlot(gpus=("H100:2",))]

    def test_more_than_the_site_allows_fails_at_once(self) -> None:
        launch = Launch()
        launch.prepared(GPU)
        assert launch.tell(m.SlotRefused(gpus=("A10G",), reason="at most 0")) == ended("at most 0", F.REFUSED)

    def test_a_candidate_that_is_more_than_the_site_allows_is_left_out(self) -> None:
        launch = Launch()
        launch.launching(GPUS)
        none_free = m.CreateFailed(error=CapacityExhausted("Insufficient capacity"))
        launch.tell(none_free)
        refusal = m.SlotRefused(gpus=("A100-80GB:2",), reason="at most 1")
        assert launch.tell(refusal) == [m.RequestSlot(gpus=("H100:2",))]


class TestRefusedForNow:
    @pytest.mark.parametrize(("plan", "gpu"), [(CPU, None), (GPU, "A10G")], ids=["cpu", "gpu"])
    def test_it_goes_back_into_the_line_under_the_same_name_however_often(self, plan: SandboxPlan, gpu: str | None) -> None:
        launch = Launch()
        launch.launching(plan)
        gpus = (gpu,) if gpu else ()
        for _ in range(10):
            assert launch.tell(SLOW_DOWN) == [m.ReleaseSlot(), m.RequestSlot(gpus=gpus)]
            (again,) = launch.tell(m.SlotGranted(gpu=gpu), after=7.0)
            assert isinstance(again, m.Create)
            assert (again.name, again.gpu) == (LAUNCH, gpu)

    def test_it_ends_when_airflow_would_take_the_task_back(self) -> None:
        launch = Launch()
        launch.launching(CPU)
        launch.granted(launch.tell(SLOW_DOWN))
        launch.granted(launch.tell(SLOW_DOWN, after=599.0))
        reason = (
            "could not create the sandbox: Sandbox creation rate limit exceeded; Modal has refused for 600 s, as long as "
            "[scheduler] task_queued_timeout lets a task wait"
        )
        log, *rest = ended(reason, F.QUOTA)
        assert launch.tell(SLOW_DOWN, after=1.0) == [log, m.ReleaseSlot(), *rest]

    def test_since_when_is_since_the_first_refusal(self) -> None:
        launch = Launch()
        launch.launching(CPU)
        launch.granted(launch.tell(SLOW_DOWN))
        launch.tell(SLOW_DOWN, after=20.0)
        text = "waiting to be created since 1000 s: Modal refuses more creates for now; 10 a second are tried"
        slow = m.SlotSlow(gpu=None, why="Modal refuses more creates for now; 10 a second are tried")
        assert launch.tell(slow) == told("waiting-in-line", text)


class TestBeforeAirflowTakesItBack:
    WORD = m.QueuedLong(queued=480.0, limit=600.0, why="8 of 8 GPUs are in flight ([modal_executor] max_gpus)")
    REST = (
        "; a task that is queued for 600 s ([scheduler] task_queued_timeout) is taken back by Airflow and queued again, twice, "
        "then it fails"
    )

    def test_in_line(self) -> None:
        launch = Launch()
        launch.prepared(GPU)
        text = (
            "not running after 480 s in Airflow's queue: waiting in line since 1000 s: 8 of 8 GPUs are in flight "
            "([modal_executor] max_gpus)" + self.REST
        )
        assert launch.tell(self.WORD, after=480.0) == told("queued-for-long", text, "warning")

    def test_at_modal(self) -> None:
        launch = Launch()
        launch.launching(GPU)
        text = "not running after 480 s in Airflow's queue: waiting for A10G since 1000 s" + self.REST
        assert launch.tell(self.WORD, after=480.0) == told("queued-for-long", text, "warning")

    def test_while_an_image_is_built(self) -> None:
        launch = Launch()
        launch.tell(m.Taken())
        launch.tell(m.Translated(translation=Translation(plan=CPU)))
        text = "not running after 480 s in Airflow's queue: its App and image are being made" + self.REST
        assert launch.tell(self.WORD) == told("queued-for-long", text, "warning")

    def test_once_it_runs_nothing_is_said(self) -> None:
        launch = Launch()
        launch.running()
        assert launch.tell(self.WORD) == []

    @pytest.mark.parametrize("rings", ["while it runs", "while it is made again"])
    def test_one_that_is_launched_again_is_told_of_all_the_same(self, rings: str) -> None:
        """Airflow counts from when it queued the task, whatever became of a first sandbox."""
        launch = Launch()
        launch.running()
        if rings == "while it runs":
            assert launch.tell(self.WORD, after=480.0) == []
        launch.tell(m.SandboxEnded(end=SandboxEnd(kind=EndKind.EVICTED, exit_code=137)), after=20.0)
        launch.tell(m.Recalled(possible=True))
        launch.tell(m.PauseOver())
        commands = launch.tell(m.Translated(translation=Translation(plan=CPU)))
        after = 500 if rings == "while it runs" else 480
        text = f"not running after {after} s in Airflow's queue: its App and image are being made" + self.REST
        expected = told("queued-for-long", text, "warning")
        if rings == "while it runs":
            assert commands == [*expected, m.Prepare(plan=CPU)]
        else:
            assert commands == [m.Prepare(plan=CPU)]
            assert launch.tell(self.WORD) == expected

    def test_one_that_was_late_already_when_it_was_taken_over_is_told_of(self) -> None:
        launch = Launch(Adoption(sandbox_id=None, can_relaunch=True))
        assert launch.tell(self.WORD) == []
        launch.tell(m.Listed(status=None))
        launch.tell(m.LookedUp(status=None))
        text = "not running after 480 s in Airflow's queue: its App and image are being made" + self.REST
        assert launch.tell(m.Translated(translation=Translation(plan=CPU))) == [
            *told("queued-for-long", text, "warning"), m.Prepare(plan=CPU)
        ]  # fmt: skip

    def test_nor_once_nobody_wants_it(self) -> None:
        launch = Launch()
        launch.launching(CPU)
        launch.tell(m.Revoked(reason="cleared"))
        assert launch.tell(self.WORD) == []


def test_alarms_are_due_in_the_order_of_their_times() -> None:
    alarms = Alarms()
    assert alarms.next(0.0) is None
    alarms.set(30.0, "b", Alarm.QUEUED_LONG)
    alarms.set(10.0, "a", Alarm.IN_LINE)
    alarms.set(10.0, "c", Alarm.IN_LINE)
    assert alarms.next(4.0) == 6.0
    assert alarms.due(9.9) == []
    assert alarms.due(10.0) == [("a", Alarm.IN_LINE), ("c", Alarm.IN_LINE)]
    assert alarms.next(50.0) == 0.0
    assert alarms.due(50.0) == [("b", Alarm.QUEUED_LONG)]
    assert alarms.next(50.0) is None
