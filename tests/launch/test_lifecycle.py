"""The lifecycle of one launch, told event by event: no loop, no clock, no gateway."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modalflow.launch import messages as m
from modalflow.launch.events import LaunchEnded, LaunchEvent, LaunchNotice, LaunchStarted
from modalflow.launch.exit_codes import EXIT_AIRFLOW_UNUSABLE, EXIT_NO_WORKLOAD
from modalflow.launch.failures import FailureClass as F
from modalflow.launch.gateway import (
    CapacityExhausted,
    EndKind,
    GatewayError,
    ImageBuildFailed,
    InvalidRequest,
    NameTaken,
    NotFound,
    RateLimited,
    SandboxEnd,
    SandboxStatus,
    Unauthenticated,
    Unavailable,
)
from modalflow.launch.lifecycle import SANDBOX_LIFE, SLOW_CREATE, UNREACHABLE_LIMIT, Adoption, Lifecycle, Rules, running
from modalflow.launch.lifecycle.creating import LATE_LOOKS, LATE_PAUSE
from modalflow.launch.lifecycle.withdrawing import BREAKS
from modalflow.launch.transitions import InvalidTransition, State
from modalflow.translation.diagnostics import Diagnostic, Severity
from modalflow.translation.origins import Origin
from modalflow.translation.plan import SandboxPlan
from modalflow.translation.result import Translation
from modalflow.translation.setup_plan import GracePlan, SetupPlan
from tests.launch.plans import CPU, CPU_STDIN, GPU, GPUS, LAUNCH, PATIENT, refused

KEY = "key"
DOWN = Unavailable("could not create the sandbox: Modal did not answer within 30 s")
SUCCESS = SandboxEnd(kind=EndKind.SUCCESS, exit_code=0)
RULES = Rules(create_timeout=120.0, retries=2, jitter=lambda: 0.0)


class Launch:
    """A lifecycle and the time of its story."""

    def __init__(self, adoption: Adoption | None = None, rules: Rules = RULES) -> None:
        self.life = Lifecycle(LAUNCH, KEY, rules, adoption=adoption)
        self.now = 1000.0

    def tell(self, happening: m.Happening, after: float = 0.0) -> list[m.Command]:
        self.now += after
        return self.life.handle(happening, self.now)

    def prepared(self, plan: SandboxPlan) -> list[m.Command]:
        """Up to the answer to ``Prepared``."""
        assert self.tell(m.Taken()) == [m.Translate()]
        assert self.tell(m.Translated(translation=Translation(plan=plan))) == [m.Prepare(plan=plan)]
        return self.tell(m.Prepared())

    def launching(self, plan: SandboxPlan) -> list[m.Command]:
        """Up to the first create."""
        return self.granted(self.prepared(plan))

    def granted(self, commands: list[m.Command]) -> list[m.Command]:
        """Give the launch, which stands in line after ``commands``, the first that it asks for; the commands without the line."""
        *before, asked = commands
        assert isinstance(asked, m.RequestSlot)
        return [*before, *self.tell(m.SlotGranted(gpu=asked.gpus[0] if asked.gpus else None))]

    def running(self, plan: SandboxPlan = CPU) -> None:
        self.launching(plan)
        self.tell(m.Created(sandbox_id="sb-1"))
        if plan.handover == "stdin":
            self.tell(m.HandedOver())
        assert self.life.state is State.RUNNING


def create(plan: SandboxPlan, attempt: int = 1, gpu: str | None = None, bound: float = 120.0) -> m.Create:
    name = LAUNCH if attempt == 1 else f"{LAUNCH}.{attempt}"
    slow = SLOW_CREATE if gpu else None
    return m.Create(plan=plan, name=name, attempt=attempt, gpu=gpu, bound=bound, slow_after=slow)


def started(sandbox_id: str = "sb-1") -> m.Emit:
    return m.Emit(event=LaunchStarted(launch_id=LAUNCH, key=KEY, sandbox_id=sandbox_id))


def ended(reason: str = "", failure: F | None = None, *, log: bool = True) -> list[m.Command]:
    event: LaunchEvent = LaunchEnded(launch_id=LAUNCH, key=KEY, success=not reason, reason=reason, failure=failure)
    line: list[m.Command] = [m.WriteLog(level="error", text=reason)] if reason and log else []
    return [*line, m.Emit(event=event), m.Forget()]


def waiting_for(gpu: str, since: float) -> list[m.Command]:
    text = f"waiting for {gpu} since {since:.0f} s"
    event = LaunchNotice(launch_id=LAUNCH, key=KEY, event="waiting-for-gpu", message=text)
    return [m.WriteLog(level="info", text=text), m.Emit(event=event)]


def found(end: SandboxEnd | None = None, sandbox_id: str = "sb-1") -> m.LookedUp:
    return m.LookedUp(status=SandboxStatus(sandbox_id=sandbox_id, name=LAUNCH, tags={}, end=end))


NOTHING = m.LookedUp(status=None)
REVOKED = m.Revoked(reason="cleared")


def late_looks(launch: Launch, over: m.Command, look: m.Command | None = None) -> None:
    """Look in vain until the launch is over, of which nobody hears any more."""
    for _ in range(LATE_LOOKS - 1):
        assert launch.tell(m.PauseOver()) == [look or m.Find(name=LAUNCH)]
        assert launch.tell(NOTHING) == [m.Pause(seconds=LATE_PAUSE)]
    launch.tell(m.PauseOver())
    assert launch.tell(NOTHING) == [over]


def finding(severity: Severity, message: str, excerpt: str = "") -> Diagnostic:
    return Diagnostic(code="x", severity=severity, origin=Origin(layer="task", path="task.x"), message=message, excerpt=excerpt)


class TestTheUsualWay:
    def test_cpu_takes_a_slot_and_gives_it_back_when_the_sandbox_exists(self) -> None:
        launch = Launch()
        assert launch.prepared(CPU) == [m.RequestSlot()]
        assert launch.tell(m.SlotGranted()) == [create(CPU)]
        assert launch.tell(m.Created(sandbox_id="sb-1")) == [m.ReleaseSlot(), started(), m.Wait(sandbox_id="sb-1")]
        assert launch.tell(m.SandboxEnded(end=SUCCESS)) == ended()

    def test_a_gpu_is_held_until_the_end_and_gets_its_workload_on_stdin(self) -> None:
        launch = Launch()
        assert launch.prepared(GPU) == [m.RequestSlot(gpus=("A10G",))]
        assert launch.tell(m.SlotGranted(gpu="A10G")) == [create(GPU, gpu="A10G", bound=480.0)]
        assert launch.tell(m.Created(sandbox_id="sb-1")) == [m.HandOver(sandbox_id="sb-1")]
        assert launch.tell(m.HandedOver()) == [started(), m.Wait(sandbox_id="sb-1")]
        assert launch.tell(m.SandboxEnded(end=SUCCESS)) == [m.ReleaseSlot(), *ended()]

    def test_an_image_with_an_entrypoint_gets_its_workload_on_stdin(self) -> None:
        launch = Launch()
        launch.launching(CPU_STDIN)
        assert launch.tell(m.Created(sandbox_id="sb-1")) == [m.ReleaseSlot(), m.HandOver(sandbox_id="sb-1")]


class TestRefusal:
    def test_the_first_error_is_the_reason_and_all_are_logged(self) -> None:
        launch = Launch()
        launch.tell(m.Taken())
        *logged, emitted, forget = launch.tell(
            m.Translated(translation=refused("unknown GPU 'H1000'", "unknown key 'cpus'", "no"))
        )
        assert [line.text for line in logged if isinstance(line, m.WriteLog)] == [
            "executor_config.modal.gpu: unknown GPU 'H1000' [x]",
            "executor_config.modal.gpu: unknown key 'cpus' [x]",
            "executor_config.modal.gpu: no [x]",
        ]
        reason = "executor_config.modal.gpu: unknown GPU 'H1000' [x] (and 2 more errors in the task's log)"
        assert [emitted, forget] == ended(reason, F.REFUSED, log=False)

    def test_log_and_event_say_whose_configuration_it_is_and_the_log_points_at_the_mistake(self) -> None:
        launch = Launch()
        launch.tell(m.Taken())
        wrong = finding(Severity.ERROR, 'expected seconds, got "6 h"', excerpt='"6 h"\n  ^~')
        refusal = Translation(plan=None, diagnostics=(wrong,), subject="executor_config of etl.train (etl.py)")
        assert launch.tell(m.Translated(translation=refusal)) == [
            m.WriteLog(level="error", text="executor_config of etl.train (etl.py) is refused:"),
            m.WriteLog(level="error", text='task.x: expected seconds, got "6 h" [x]\n    "6 h"\n      ^~'),
            *ended(
                'executor_config of etl.train (etl.py) is refused: task.x: expected seconds, got "6 h" [x]', F.REFUSED, log=False
            ),
        ]

    @pytest.mark.parametrize(
        ("error", "failure", "hint"),
        [
            (
                InvalidRequest("could not create the sandbox: Modal refused the parameters: memory"),
                F.REFUSED,
                "; correct executor_config or the [modal_executor] options",
            ),
            (Unauthenticated("could not create the sandbox: Modal refused the credentials"), F.CREDENTIALS, ""),
            (
                NotFound("could not create the sandbox: Modal does not know it: Secret hf"),
                F.REFUSED,
                "; create it, or correct its name in executor_config or the [modal_executor] options",
            ),
        ],
        ids=["parameters", "credentials", "missing"],
    )
    def test_a_permanent_error_of_create_ends_at_once_with_what_to_do(self, error: GatewayError, failure: F, hint: str) -> None:
        launch = Launch()
        launch.launching(CPU)
        log, *rest = ended(f"{error}{hint}", failure)
        assert launch.tell(m.CreateFailed(error=error)) == [log, m.ReleaseSlot(), *rest]

    def test_an_image_that_does_not_build_ends_the_launch(self) -> None:
        launch = Launch()
        launch.tell(m.Taken())
        launch.tell(m.Translated(translation=Translation(plan=CPU)))
        error = ImageBuildFailed("could not make the image: no such package")
        assert launch.tell(m.PrepareFailed(error=error)) == ended(
            "could not make the image: no such package; mend the image or `requirements`, then clear the task", F.IMAGE_BUILD
        )


class TestTransientErrors:
    def test_pauses_grow_and_end_with_the_error_and_the_option(self) -> None:
        launch = Launch()
        launch.launching(CPU)
        full = m.CreateFailed(error=CapacityExhausted("no machine"))
        pauses = []
        for _ in range(RULES.retries):
            (pause,) = launch.tell(full)
            assert isinstance(pause, m.Pause)
            pauses.append(pause.seconds)
            launch.tell(m.PauseOver(), after=pause.seconds)
        assert pauses == [0.25, 0.5]
        log, *rest = ended("no machine; gave up after 3 tries ([modal_executor] launch_retries = 2)", F.CAPACITY)
        assert launch.tell(full) == [log, m.ReleaseSlot(), *rest]

    def test_preparing_is_repeated_too(self) -> None:
        launch = Launch()
        launch.tell(m.Taken())
        launch.tell(m.Translated(translation=Translation(plan=CPU)))
        assert launch.tell(m.PrepareFailed(error=DOWN)) == [m.Pause(seconds=0.25)]
        assert launch.tell(m.PauseOver()) == [m.Prepare(plan=CPU)]


class TestUnknownOutcomes:
    """A create that failed, was cut off or met a taken name: the name of that attempt decides, nothing else is created."""

    @pytest.mark.parametrize(
        "outcome",
        [m.CreateFailed(error=DOWN), m.CreateFailed(error=NameTaken("taken")), m.CreateTimedOut()],
        ids=["unavailable", "name taken", "timed out"],
    )
    def test_a_found_sandbox_is_gone_on_with(self, outcome: m.Happening) -> None:
        launch = Launch()
        launch.launching(CPU)
        assert launch.tell(outcome) == [m.Find(name=LAUNCH)]
        assert launch.tell(found()) == [m.ReleaseSlot(), started(), m.Wait(sandbox_id="sb-1")]

    def test_a_found_sandbox_without_its_workload_gets_it(self) -> None:
        launch = Launch()
        launch.launching(CPU_STDIN)
        launch.tell(m.CreateFailed(error=DOWN))
        assert launch.tell(found()) == [m.ReleaseSlot(), m.HandOver(sandbox_id="sb-1")]

    def test_a_found_end_is_the_end(self) -> None:
        launch = Launch()
        launch.launching(CPU)
        launch.tell(m.CreateFailed(error=DOWN))
        assert launch.tell(found(SUCCESS)) == [m.ReleaseSlot(), *ended()]

    def test_none_found_creates_under_the_same_name(self) -> None:
        launch = Launch()
        launch.launching(CPU)
        launch.tell(m.CreateTimedOut())
        assert launch.tell(NOTHING) == [m.Pause(seconds=0.25)]
        assert launch.tell(m.PauseOver()) == [create(CPU)]

    def test_an_ended_sandbox_without_a_workload_is_replaced_under_the_next_name(self) -> None:
        launch = Launch()
        launch.launching(CPU_STDIN)
        launch.tell(m.CreateFailed(error=DOWN))
        assert launch.tell(found(SandboxEnd(kind=EndKind.FAILURE, exit_code=65))) == [m.Pause(seconds=0.25)]
        assert launch.tell(m.PauseOver()) == [create(CPU_STDIN, attempt=2)]

    def test_a_lost_create_that_stays_lost_ends_with_the_option(self) -> None:
        launch = Launch()
        launch.launching(CPU)
        for _ in range(RULES.retries):
            launch.tell(m.CreateTimedOut())
            launch.tell(NOTHING)
            launch.tell(m.PauseOver())
        launch.tell(m.CreateTimedOut())
        sentence = "Modal made no sandbox within 120 s ([modal_executor] create_timeout)"
        log, *rest = ended(f"{sentence}; gave up after 3 tries ([modal_executor] launch_retries = 2)", F.NETWORK)
        event, over = rest
        assert launch.tell(NOTHING) == [log, event, m.ReleaseSlot(), m.Pause(seconds=LATE_PAUSE)]
        late_looks(launch, over)

    def test_modal_away_while_resolving_is_asked_again_until_the_limit(self) -> None:
        launch = Launch()
        launch.launching(CPU)
        launch.tell(m.CreateFailed(error=DOWN))
        assert launch.tell(m.LookupFailed(error=DOWN)) == [m.Pause(seconds=0.25)]
        assert launch.tell(m.PauseOver(), after=0.25) == [m.Find(name=LAUNCH)]
        log, event, _ = ended(f"Modal has not answered for 600 s, so the fate of launch {LAUNCH} is unknown: {DOWN}", F.NETWORK)
        told = launch.tell(m.LookupFailed(error=DOWN), after=UNREACHABLE_LIMIT - 0.25)
        assert told == [log, event, m.Pause(seconds=0.5)]

    def test_a_sandbox_that_turns_up_after_its_launch_was_given_up_is_ended(self) -> None:
        launch = Launch()
        launch.launching(CPU)
        launch.tell(m.CreateFailed(error=DOWN))
        launch.tell(m.LookupFailed(error=DOWN))
        launch.tell(m.PauseOver())
        launch.tell(m.LookupFailed(error=DOWN), after=UNREACHABLE_LIMIT)
        assert launch.tell(m.PauseOver()) == [m.Find(name=LAUNCH)]
        assert launch.tell(found()) == [m.Terminate(sandbox_id="sb-1")]
        assert launch.tell(m.Terminated()) == [m.ReleaseSlot(), m.Forget()]

    def test_the_log_says_once_that_modal_is_away(self) -> None:
        launch = Launch()
        launch.running()
        launch.tell(m.WaitFailed(error=DOWN))
        launch.tell(m.PauseOver())
        text = f"Modal has not answered for 60 s and is asked again: {DOWN}"
        notice = LaunchNotice(launch_id=LAUNCH, key=KEY, event="modal-unreachable", message=text)
        assert launch.tell(m.CheckFailed(error=DOWN), after=60.0) == [
            m.WriteLog(level="info", text=text), m.Emit(event=notice), m.Pause(seconds=0.5),
        ]  # fmt: skip
        launch.tell(m.PauseOver())
        assert launch.tell(m.CheckFailed(error=DOWN), after=60.0) == [m.Pause(seconds=1.0)]


class TestGpuCandidates:
    def test_each_gets_its_share_and_the_next_starts_after_the_one_before_is_gone(self) -> None:
        launch = Launch()
        assert launch.launching(GPUS) == [create(GPUS, gpu="H100:2", bound=50.0)]
        assert launch.tell(m.CreateTimedOut(), after=50.0) == [m.Find(name=LAUNCH)]
        assert launch.tell(found()) == [m.Terminate(sandbox_id="sb-1")]
        told = waiting_for("A100-80GB:2", since=1052)
        assert launch.granted(launch.tell(m.Terminated(), after=2.0)) == [
            m.ReleaseSlot(),
            *told,
            create(GPUS, attempt=2, gpu="A100-80GB:2", bound=48.0),
        ]
        assert launch.tell(m.CreateTimedOut(), after=48.0) == [m.Find(name=f"{LAUNCH}.2")]
        log, *rest = ended(
            "Modal had no free H100:2, A100-80GB:2 within 100 s; add another GPU to executor_config "
            '{"modal": {"gpu": [...]}}, raise [modal_executor] gpu_wait, or try again later',
            F.CAPACITY,
        )
        assert launch.tell(NOTHING) == [log, m.ReleaseSlot(), *rest]

    def test_a_refusal_at_once_goes_on_at_once_and_round_again_with_a_pause(self) -> None:
        launch = Launch()
        launch.launching(GPUS)
        none_free = m.CreateFailed(error=CapacityExhausted("Insufficient capacity"))
        told = waiting_for("A100-80GB:2", since=1001)
        following = create(GPUS, attempt=2, gpu="A100-80GB:2", bound=99.0)
        assert launch.granted(launch.tell(none_free, after=1.0)) == [m.ReleaseSlot(), *told, following]
        assert launch.tell(none_free, after=1.0) == [m.ReleaseSlot(), m.Pause(seconds=0.25)]
        told = waiting_for("H100:2", since=1003)
        following = create(GPUS, attempt=3, gpu="H100:2", bound=48.5)
        assert launch.granted(launch.tell(m.PauseOver(), after=1.0)) == [*told, following]

    def test_a_warning_is_told_once_however_many_gpus_are_tried_and_a_notice_never(self) -> None:
        launch = Launch()
        told = launch.tell(m.Taken())
        findings = (finding(Severity.NOTICE, "harmless"), finding(Severity.WARNING, "is not honoured"))
        told += launch.tell(m.Translated(translation=Translation(plan=GPUS, diagnostics=findings)))
        told += launch.granted(launch.tell(m.Prepared()))
        none_free = m.CreateFailed(error=CapacityExhausted("Insufficient capacity"))
        told += launch.granted(launch.tell(none_free, after=1.0)) + launch.tell(none_free, after=1.0)
        told += launch.granted(launch.tell(m.PauseOver(), after=1.0))
        told += launch.tell(m.Created(sandbox_id="sb-1")) + launch.tell(m.HandedOver())
        told += launch.tell(m.SandboxEnded(end=SUCCESS))
        assert [(line.level, line.text) for line in told if isinstance(line, m.WriteLog)] == [
            ("warning", "task.x: is not honoured [x]"),
            ("info", "waiting for A100-80GB:2 since 1001 s"),
            ("info", "waiting for H100:2 since 1003 s"),
        ]

    def test_a_create_that_does_not_return_soon_is_told(self) -> None:
        launch = Launch()
        launch.launching(GPU)
        assert launch.tell(m.CreateSlow(attempt=1), after=2.0) == waiting_for("A10G", since=1000)

    def test_a_late_word_of_slowness_is_ignored(self) -> None:
        launch = Launch()
        launch.running(GPU)
        assert launch.tell(m.CreateSlow(attempt=1)) == []

    def test_an_interrupted_create_is_cleared_and_tried_again_on_the_same_gpu(self) -> None:
        launch = Launch()
        launch.launching(GPUS)
        launch.tell(m.CreateFailed(error=DOWN), after=10.0)
        assert launch.tell(found()) == [m.Terminate(sandbox_id="sb-1")]
        assert launch.tell(m.Terminated()) == [create(GPUS, attempt=2, gpu="H100:2", bound=40.0)]

    def test_a_name_that_an_earlier_scheduler_took_is_gone_on_with(self) -> None:
        launch = Launch()
        launch.launching(GPU)
        launch.tell(m.CreateFailed(error=NameTaken("taken")))
        assert launch.tell(found()) == [m.HandOver(sandbox_id="sb-1")]

    def test_a_sandbox_that_cannot_be_ended_forbids_the_next_and_is_ended_when_modal_lets_it(self) -> None:
        launch = Launch()
        launch.launching(GPU)
        launch.tell(m.CreateFailed(error=DOWN))
        launch.tell(found())
        for _ in range(RULES.retries):
            (pause,) = launch.tell(m.TerminateFailed(error=DOWN))
            assert isinstance(pause, m.Pause)
            assert launch.tell(m.PauseOver()) == [m.Terminate(sandbox_id="sb-1")]
        reason = f"the sandbox sb-1 could not be ended yet, which is tried until it is: {DOWN}"
        assert launch.tell(m.TerminateFailed(error=DOWN)) == [m.WriteLog(level="warning", text=reason), m.Pause(seconds=30.0)]
        launch.tell(m.PauseOver())
        log, event, forget = ended(reason, F.NETWORK)
        assert launch.tell(m.TerminateFailed(error=DOWN), after=UNREACHABLE_LIMIT) == [log, event, m.Pause(seconds=30.0)]
        assert launch.tell(m.PauseOver()) == [m.Terminate(sandbox_id="sb-1")]
        assert launch.tell(m.TerminateFailed(error=DOWN), after=3600.0) == [m.Pause(seconds=30.0)]
        launch.tell(m.PauseOver())
        assert launch.tell(m.Terminated()) == [m.ReleaseSlot(), forget], "a GPU is held while it may be in use"

    def test_a_sandbox_that_was_ended_late_makes_way_for_the_next(self) -> None:
        launch = Launch()
        launch.launching(GPU)
        launch.tell(m.CreateFailed(error=DOWN))
        launch.tell(found())
        for _ in range(RULES.retries + 1):
            launch.tell(m.TerminateFailed(error=DOWN))
            launch.tell(m.PauseOver())
        assert launch.tell(m.Terminated(), after=30.0) == [create(GPU, attempt=2, gpu="A10G", bound=450.0)]


class TestHandOver:
    def test_a_transient_failure_is_repeated(self) -> None:
        launch = Launch()
        launch.launching(GPU)
        launch.tell(m.Created(sandbox_id="sb-1"))
        assert launch.tell(m.HandOverFailed(error=DOWN)) == [m.Pause(seconds=0.25)]
        assert launch.tell(m.PauseOver()) == [m.HandOver(sandbox_id="sb-1")]

    def test_for_good_the_sandbox_is_ended_before_the_launch(self) -> None:
        launch = Launch()
        launch.launching(GPU)
        launch.tell(m.Created(sandbox_id="sb-1"))
        for _ in range(RULES.retries):
            launch.tell(m.HandOverFailed(error=DOWN))
            launch.tell(m.PauseOver())
        assert launch.tell(m.HandOverFailed(error=DOWN)) == [m.Terminate(sandbox_id="sb-1")]
        log, *rest = ended(f"the workload could not be handed to the sandbox sb-1: {DOWN}", F.NETWORK)
        assert launch.tell(m.Terminated()) == [log, m.ReleaseSlot(), *rest]

    def test_a_sandbox_that_takes_no_input_is_waited_for(self) -> None:
        launch = Launch()
        launch.launching(GPU)
        launch.tell(m.Created(sandbox_id="sb-1"))
        assert launch.tell(m.HandOverFailed(error=NotFound("gone"))) == [m.Wait(sandbox_id="sb-1")]


class TestEnds:
    def test_a_failure_is_explained_by_its_last_output(self) -> None:
        launch = Launch()
        launch.running()
        end = SandboxEnd(kind=EndKind.FAILURE, exit_code=66)
        assert launch.tell(m.SandboxEnded(end=end)) == [m.ReadTail(sandbox_id="sb-1")]
        assert launch.tell(m.TailRead(text="Traceback\nModuleNotFoundError: airflow\n")) == ended(
            "Airflow cannot be imported in the image, or is of another minor version than the scheduler's (exit code 66); use an "
            "image with the scheduler's Airflow, or image = auto (sandbox sb-1); its last output was: Traceback | "
            "ModuleNotFoundError: airflow",
            F.IMAGE,
        )

    def test_an_end_that_output_does_not_explain_is_told_at_once(self) -> None:
        launch = Launch()
        launch.running()
        end = SandboxEnd(kind=EndKind.FAILURE, exit_code=67)
        reason = (
            "Airflow's API refused to start the task in the sandbox (exit code 67): it was started elsewhere, cleared or removed "
            "meanwhile, or its token was not accepted; the task's log says which (sandbox sb-1)"
        )
        assert launch.tell(m.SandboxEnded(end=end)) == ended(reason, F.AIRFLOW)

    @pytest.mark.parametrize(
        ("end", "sentence", "failure"),
        [
            (
                SandboxEnd(kind=EndKind.TIMEOUT, exit_code=124, detail="Sandbox timed out"),
                "the sandbox reached its timeout and Modal ended it; raise `timeout` (at most 24h)",
                F.TIMEOUT,
            ),
            (
                SandboxEnd(kind=EndKind.EVICTED, exit_code=137, detail="host pressure"),
                "Modal evicted the sandbox because its host ran short of memory; raise the `memory` request: host pressure",
                F.PREEMPTED,
            ),
            (
                SandboxEnd(kind=EndKind.TERMINATED, exit_code=137, detail="Sandbox was preempted"),
                "Modal preempted the sandbox",
                F.PREEMPTED,
            ),
            (
                SandboxEnd(kind=EndKind.OUT_OF_MEMORY, exit_code=137),
                "the sandbox ran out of memory; raise `memory`",
                F.OUT_OF_MEMORY,
            ),
        ],
        ids=["timeout", "evicted", "preempted", "out of memory"],
    )
    def test_whatever_ended_it_its_last_output_is_told(self, end: SandboxEnd, sentence: str, failure: F) -> None:
        launch = Launch()
        launch.running()
        commands = launch.tell(m.SandboxEnded(end=end))
        if failure is F.PREEMPTED:
            assert commands == [m.Recall()]
            commands = launch.tell(m.Recalled(possible=False))
        assert commands == [m.ReadTail(sandbox_id="sb-1")]
        reason = f"{sentence} (sandbox sb-1); its last output was: epoch 3"
        assert launch.tell(m.TailRead(text="epoch 3\n")) == ended(reason, failure)

    def test_a_sandbox_that_modal_does_not_know_is_lost(self) -> None:
        launch = Launch()
        launch.running()
        assert launch.tell(m.WaitFailed(error=NotFound("no"))) == ended(
            "the sandbox sb-1 is gone: Modal does not know it any more; whether the task finished is unknown",
            F.LOST,
        )

    def test_modal_away_does_not_lose_a_task(self) -> None:
        launch = Launch()
        launch.running()
        assert launch.tell(m.WaitFailed(error=DOWN)) == [m.Pause(seconds=0.25)]
        assert launch.tell(m.PauseOver()) == [m.Check(sandbox_id="sb-1")]
        launch.tell(m.CheckFailed(error=DOWN), after=300.0)
        launch.tell(m.PauseOver(), after=SANDBOX_LIFE - 301.0)
        alive = SandboxStatus(sandbox_id="sb-1", name="", tags={})
        assert launch.tell(m.Checked(status=alive)) == [m.Wait(sandbox_id="sb-1")]
        assert launch.tell(m.WaitFailed(error=DOWN), after=300.0) == [m.Pause(seconds=0.25)]  # a new silence, counted anew

    def test_when_no_sandbox_can_live_any_more_the_launch_ends(self) -> None:
        launch = Launch()
        launch.running()
        launch.tell(m.WaitFailed(error=DOWN))
        launch.tell(m.PauseOver())
        assert launch.tell(m.CheckFailed(error=DOWN), after=SANDBOX_LIFE) == ended(
            f"Modal has not answered for 86400 s, so the fate of the sandbox sb-1 is unknown: {DOWN}", F.NETWORK
        )

    def test_the_end_met_while_checking_counts(self) -> None:
        launch = Launch()
        launch.running()
        launch.tell(m.WaitFailed(error=DOWN))
        launch.tell(m.PauseOver())
        status = SandboxStatus(sandbox_id="sb-1", name="", tags={}, end=SUCCESS)
        assert launch.tell(m.Checked(status=status)) == ended()


class TestEndsBeforeTheTaskBegan:
    """Airflow is asked whether the task began: if not, it is launched again, and no retry of the user's is used up."""

    PREEMPTED = SandboxEnd(kind=EndKind.TERMINATED, exit_code=137, detail="Sandbox was preempted")

    def lose(self, launch: Launch, end: SandboxEnd) -> list[m.Command]:
        assert launch.tell(m.SandboxEnded(end=end)) == [m.Recall()]
        return launch.tell(m.Recalled(possible=True))

    @pytest.mark.parametrize(
        ("end", "option", "limit", "told"),
        [
            (PREEMPTED, "infra_retries", 3, "Modal preempted the sandbox"),
            (
                SandboxEnd(kind=EndKind.EVICTED, exit_code=137),
                "infra_retries",
                3,
                "Modal evicted the sandbox because its host ran short of memory; raise the `memory` request",
            ),
            (SandboxEnd(kind=EndKind.INIT_FAILURE, exit_code=1), "launch_retries", 2, "Modal could not start the sandbox"),
            (SandboxEnd(kind=EndKind.INTERNAL_FAILURE, exit_code=1), "launch_retries", 2, "the sandbox failed inside Modal"),
            (
                SandboxEnd(kind=EndKind.FAILURE, exit_code=65),
                "launch_retries",
                2,
                "the sandbox got no workload within [modal_executor] handover_timeout and gave up (exit code 65)",
            ),
            (
                SandboxEnd(kind=EndKind.FAILURE, exit_code=68),
                "launch_retries",
                2,
                "the sandbox could not reach Airflow's execution API (exit code 68); check [modal_executor] execution_api_url",
            ),
        ],
        ids=["preempted", "evicted", "init", "internal", "no workload", "API"],
    )
    def test_it_is_launched_again_under_the_next_name(self, end: SandboxEnd, option: str, limit: int, told: str) -> None:
        launch = Launch()
        launch.running()
        text = f"{told} (sandbox sb-1); the task had not begun and is launched again (1 of {limit}, [modal_executor] {option})"
        notice = LaunchNotice(launch_id=LAUNCH, key=KEY, event="launching-again", message=text)
        assert self.lose(launch, end) == [m.WriteLog(level="info", text=text), m.Emit(event=notice), m.Pause(seconds=0.25)]
        assert launch.tell(m.PauseOver()) == [m.Translate()]
        assert launch.tell(m.Translated(translation=Translation(plan=CPU))) == [m.Prepare(plan=CPU)]
        launch.tell(m.Prepared())
        assert launch.tell(m.SlotGranted()) == [create(CPU, attempt=2)]
        launch.tell(m.Created(sandbox_id="sb-2"))
        assert launch.tell(m.SandboxEnded(end=SUCCESS)) == ended()

    def test_a_bounded_number_of_times_which_the_reason_tells(self) -> None:
        launch = Launch()
        launch.running()
        for number in range(2, 2 + RULES.infra_retries):
            self.lose(launch, self.PREEMPTED)
            launch.tell(m.PauseOver())
            launch.tell(m.Translated(translation=Translation(plan=CPU)))
            launch.tell(m.Prepared())
            launch.tell(m.SlotGranted())
            launch.tell(m.Created(sandbox_id=f"sb-{number}"))
        assert launch.tell(m.SandboxEnded(end=self.PREEMPTED)) == [m.ReadTail(sandbox_id="sb-4")]
        reason = "Modal preempted the sandbox (sandbox sb-4); 3 earlier sandboxes of this launch ended before the task began"
        assert launch.tell(m.TailRead(text="")) == ended(reason, F.PREEMPTED)

    @pytest.mark.parametrize(
        "end",
        [
            SandboxEnd(kind=EndKind.OUT_OF_MEMORY, exit_code=137),
            SandboxEnd(kind=EndKind.TIMEOUT, exit_code=124),
            SandboxEnd(kind=EndKind.FAILURE, exit_code=66),
            SandboxEnd(kind=EndKind.FAILURE, exit_code=1),
        ],
        ids=["memory", "timeout", "image", "crash"],
    )
    def test_what_would_end_no_better_is_not(self, end: SandboxEnd) -> None:
        launch = Launch()
        launch.running()
        assert launch.tell(m.SandboxEnded(end=end)) == [m.ReadTail(sandbox_id="sb-1")]

    def test_a_task_that_is_taken_back_meanwhile_is_forgotten(self) -> None:
        launch = Launch()
        launch.running()
        launch.tell(m.SandboxEnded(end=self.PREEMPTED))
        assert launch.tell(m.Revoked(reason="cleared")) == [m.Forget()]

    def test_also_one_taken_over_from_an_earlier_scheduler(self) -> None:
        launch = Launch(Adoption(sandbox_id="sb-1", can_relaunch=False))
        launch.tell(m.Listed(status=None))
        status = SandboxStatus(sandbox_id="sb-1", name="", tags={}, end=self.PREEMPTED)
        assert launch.tell(m.Checked(status=status)) == [m.Recall()]


class TestRevoke:
    """Ends the sandbox, if there is one, and is silent."""

    def test_before_anything_was_made(self) -> None:
        launch = Launch()
        launch.prepared(CPU)
        assert launch.tell(m.Revoked(reason="cleared")) == [m.Forget()]

    def test_while_running(self) -> None:
        launch = Launch()
        launch.running()
        assert launch.tell(m.Revoked(reason="cleared")) == [m.Terminate(sandbox_id="sb-1")]
        assert launch.tell(m.Terminated()) == [m.Forget()]

    def test_while_a_cpu_create_is_under_way_it_is_let_return(self) -> None:
        launch = Launch()
        launch.launching(CPU)
        assert launch.tell(m.Revoked(reason="cleared")) == []
        assert launch.tell(m.Created(sandbox_id="sb-1")) == [m.Terminate(sandbox_id="sb-1")]
        assert launch.tell(m.Terminated()) == [m.ReleaseSlot(), m.Forget()]

    def test_while_a_gpu_create_is_under_way_it_is_cut_off_and_looked_for(self) -> None:
        launch = Launch()
        launch.launching(GPU)
        assert launch.tell(m.Revoked(reason="cleared")) == [m.Find(name=LAUNCH)]
        assert launch.tell(found()) == [m.Terminate(sandbox_id="sb-1")]
        assert launch.tell(m.Terminated()) == [m.ReleaseSlot(), m.Forget()]

    def test_a_create_that_failed_meanwhile_leaves_nothing(self) -> None:
        launch = Launch()
        launch.launching(CPU)
        launch.tell(m.Revoked(reason="cleared"))
        assert launch.tell(m.CreateFailed(error=RateLimited("no"))) == [m.ReleaseSlot(), m.Forget()]

    def test_during_a_pause_between_tries(self) -> None:
        launch = Launch()
        launch.launching(CPU)
        launch.tell(m.CreateFailed(error=CapacityExhausted("no")))
        assert launch.tell(m.Revoked(reason="cleared")) == [m.ReleaseSlot(), m.Forget()]

    @pytest.mark.parametrize("while_it", ["is created", "is looked for", "pauses", "is refused for now"])
    def test_a_create_that_was_not_answered_is_looked_for_until_modal_cannot_make_it_any_more(self, while_it: str) -> None:
        launch = Launch()
        launch.launching(CPU)
        steps: dict[str, list[m.Happening]] = {
            "is created": [REVOKED, m.CreateFailed(error=DOWN)],
            "is looked for": [m.CreateFailed(error=DOWN), REVOKED],
            "pauses": [m.CreateFailed(error=DOWN), NOTHING, REVOKED],
            "is refused for now": [m.CreateTimedOut(), NOTHING, m.PauseOver(), REVOKED, m.CreateFailed(error=RateLimited("no"))],
        }
        for happening in steps[while_it]:
            launch.tell(happening)
        assert launch.life.state is State.RESOLVING
        assert launch.tell(NOTHING) == [m.ReleaseSlot(), m.Pause(seconds=LATE_PAUSE)]
        late_looks(launch, m.Forget())

    def test_one_that_comes_late_is_ended(self) -> None:
        launch = Launch()
        launch.launching(CPU)
        launch.tell(m.CreateFailed(error=DOWN))
        launch.tell(NOTHING)
        assert launch.tell(REVOKED) == [m.Find(name=LAUNCH)]
        launch.tell(NOTHING)
        launch.tell(m.PauseOver())
        assert launch.tell(found()) == [m.Terminate(sandbox_id="sb-1")]
        assert launch.tell(m.Terminated()) == [m.Forget()]

    def test_one_without_the_workload_is_not_waited_for(self) -> None:
        launch = Launch()
        launch.launching(CPU_STDIN)
        launch.tell(m.CreateFailed(error=DOWN))
        launch.tell(REVOKED)
        assert launch.tell(NOTHING) == [m.ReleaseSlot(), m.Forget()]

    def test_one_that_an_earlier_scheduler_may_have_sent_is_looked_for_too(self) -> None:
        launch = Launch(Adoption(sandbox_id=None, can_relaunch=True))
        assert launch.tell(REVOKED) == [m.FindAttempts(sandbox_id=None)]
        assert launch.tell(NOTHING) == [m.Pause(seconds=LATE_PAUSE)]
        late_looks(launch, m.Forget(), m.FindAttempts(sandbox_id=None))

    def test_a_defect_meanwhile_is_told_at_once(self) -> None:
        launch = Launch()
        launch.launching(CPU)
        launch.tell(m.CreateFailed(error=DOWN))
        launch.tell(NOTHING)
        assert launch.tell(m.Broke(message="KeyError: 'x'")) == [m.Find(name=LAUNCH)]
        log, event, over = ended("modalflow: internal error: KeyError: 'x'", F.INTERNAL)
        assert launch.tell(NOTHING) == [log, event, m.ReleaseSlot(), m.Pause(seconds=LATE_PAUSE)]
        late_looks(launch, over)

    def test_after_the_end_it_is_ignored(self) -> None:
        launch = Launch()
        launch.running()
        launch.tell(m.SandboxEnded(end=SUCCESS))
        assert launch.tell(m.Revoked(reason="cleared")) == []


class TestDefects:
    def test_a_defect_before_a_sandbox_exists_ends_the_launch(self) -> None:
        launch = Launch()
        launch.tell(m.Taken())
        assert launch.tell(m.Broke(message="KeyError: 'x'")) == ended("modalflow: internal error: KeyError: 'x'", F.INTERNAL)

    def test_a_defect_while_running_does_not_end_the_sandbox(self) -> None:
        launch = Launch()
        launch.running()
        assert launch.tell(m.Broke(message="KeyError: 'x'")) == [m.Pause(seconds=0.25)]
        assert launch.tell(m.PauseOver()) == [m.Check(sandbox_id="sb-1")]
        alive = SandboxStatus(sandbox_id="sb-1", name="", tags={})
        assert launch.tell(m.Checked(status=alive)) == [m.Wait(sandbox_id="sb-1")]

    def test_a_defect_that_comes_again_and_again_ends_the_sandbox_first(self) -> None:
        launch = Launch()
        launch.running()
        for _ in range(BREAKS):
            launch.tell(m.Broke(message="KeyError: 'x'"))
            launch.tell(m.PauseOver())
        assert launch.tell(m.Broke(message="KeyError: 'x'")) == [m.Terminate(sandbox_id="sb-1")]
        assert launch.tell(m.Terminated()) == ended("modalflow: internal error: KeyError: 'x'", F.INTERNAL)

    def test_a_defect_while_the_end_is_explained_loses_the_output_only(self) -> None:
        launch = Launch()
        launch.running()
        launch.tell(m.SandboxEnded(end=SandboxEnd(kind=EndKind.OUT_OF_MEMORY, exit_code=137)))
        reason = "the sandbox ran out of memory; raise `memory` (sandbox sb-1)"
        assert launch.tell(m.Broke(message="KeyError: 'x'")) == ended(reason, F.OUT_OF_MEMORY)

    def test_a_slot_outlives_a_defect_that_lost_the_command_to_give_it_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        launch = Launch()
        launch.launching(CPU)

        def breaks(*_: object) -> None:
            raise KeyError("x")

        monkeypatch.setattr(running, "run", breaks)
        with pytest.raises(KeyError):
            launch.tell(m.Created(sandbox_id="sb-1"))
        log, *rest = ended("modalflow: internal error: KeyError", F.INTERNAL)
        assert launch.life.give_up("modalflow: internal error: KeyError") == [log, m.ReleaseSlot(), *rest]

    def test_a_defect_in_create_looks_for_the_sandbox(self) -> None:
        launch = Launch()
        launch.launching(CPU)
        assert launch.tell(m.Broke(message="KeyError: 'x'")) == [m.Find(name=LAUNCH)]
        log, event, over = ended("modalflow: internal error: KeyError: 'x'", F.INTERNAL)
        assert launch.tell(NOTHING) == [log, event, m.ReleaseSlot(), m.Pause(seconds=LATE_PAUSE)]
        late_looks(launch, over)

    def test_the_impossible_is_refused_with_the_story(self) -> None:
        launch = Launch()
        launch.tell(m.Taken())
        launch.now += 1.5
        with pytest.raises(InvalidTransition) as refusal:
            launch.tell(m.HandedOver())
        assert str(refusal.value) == (
            f"launch {LAUNCH}: HandedOver cannot happen while translating; so far: +0.0s accepted: Taken"
        )  # fmt: skip
        assert launch.life.state is State.TRANSLATING


class TestAdoption:
    def test_a_running_sandbox_whose_id_was_committed_is_watched(self) -> None:
        launch = Launch(Adoption(sandbox_id="sb-1", can_relaunch=False))
        running = SandboxStatus(sandbox_id="sb-1", name="", tags={})
        assert launch.tell(m.Listed(status=running)) == [m.Wait(sandbox_id="sb-1")]

    def test_one_whose_id_was_not_committed_is_reported(self) -> None:
        launch = Launch(Adoption(sandbox_id=None, can_relaunch=False))
        running = SandboxStatus(sandbox_id="sb-1", name="", tags={})
        assert launch.tell(m.Listed(status=running)) == [started(), m.Wait(sandbox_id="sb-1")]

    @pytest.mark.parametrize(
        ("plan", "then"),
        [(CPU, [started(), m.Wait(sandbox_id="sb-1")]), (GPU, [m.HandOver(sandbox_id="sb-1")])],
        ids=["secret: it has its workload", "stdin: it gets its workload"],
    )
    def test_one_that_was_queued_goes_on_as_its_plan_says(self, plan: SandboxPlan, then: list[m.Command]) -> None:
        launch = Launch(Adoption(sandbox_id=None, can_relaunch=True))
        running = SandboxStatus(sandbox_id="sb-1", name="", tags={})
        assert launch.tell(m.Listed(status=running)) == [m.Translate()]
        assert launch.tell(m.Translated(translation=Translation(plan=plan))) == then

    def test_one_that_ended_meanwhile_is_found_by_id(self) -> None:
        launch = Launch(Adoption(sandbox_id="sb-1", can_relaunch=False))
        assert launch.tell(m.Listed(status=None)) == [m.Check(sandbox_id="sb-1")]
        status = SandboxStatus(sandbox_id="sb-1", name="", tags={}, end=SUCCESS)
        assert launch.tell(m.Checked(status=status)) == ended()

    def test_one_that_ended_meanwhile_is_found_among_its_attempts(self) -> None:
        launch = Launch(Adoption(sandbox_id=None, can_relaunch=False))
        assert launch.tell(m.Listed(status=None)) == [m.FindAttempts(sandbox_id=None)]
        assert launch.tell(found(SUCCESS)) == ended()

    TERMINATED = SandboxEnd(kind=EndKind.TERMINATED, exit_code=137)

    def adopted_when_queued(self, end: SandboxEnd, how: str) -> tuple[Launch, list[m.Command]]:
        """A launch taken over while Airflow had it QUEUED, whose sandbox is found in one of three ways, and has ended."""
        launch = Launch(Adoption(sandbox_id=None if how == "among its attempts" else "sb-1", can_relaunch=True))
        status = SandboxStatus(sandbox_id="sb-1", name=f"{LAUNCH}.2", tags={}, end=None if how == "still ending" else end)
        if how == "still ending":
            assert launch.tell(m.Listed(status=status, attempt=2)) == [m.Wait(sandbox_id="sb-1")]
            return launch, launch.tell(m.SandboxEnded(end=end))
        launch.tell(m.Listed(status=None))
        if how == "by its id":
            assert launch.tell(m.LookedUp(status=None, attempt=2)) == [m.Check(sandbox_id="sb-1")]
            return launch, launch.tell(m.Checked(status=status))
        return launch, launch.tell(m.LookedUp(status=status, attempt=2))

    WAYS = pytest.mark.parametrize("how", ["still ending", "among its attempts", "by its id"])

    @WAYS
    def test_a_success_before_the_task_began_is_of_the_part_that_deferred(self, how: str) -> None:
        launch, commands = self.adopted_when_queued(SUCCESS, how)
        assert commands == [m.Recall()]
        text = "the sandbox sb-1 was of the part of this task before it deferred; the task has not begun since, and is launched"
        notice = LaunchNotice(launch_id=LAUNCH, key=KEY, event="launching-again", message=text)
        assert launch.tell(m.Recalled(possible=True)) == [
            m.WriteLog(level="info", text=text), m.Emit(event=notice), m.Translate()
        ]  # fmt: skip
        launch.tell(m.Translated(translation=Translation(plan=CPU)))
        launch.tell(m.Prepared())
        assert launch.tell(m.SlotGranted()) == [create(CPU, attempt=3)]
        launch.tell(m.Created(sandbox_id="sb-2"))
        assert launch.tell(m.SandboxEnded(end=SUCCESS)) == ended()

    @WAYS
    def test_a_task_that_began_and_ended_meanwhile_is_not_launched_again(self, how: str) -> None:
        launch, commands = self.adopted_when_queued(SUCCESS, how)
        assert commands == [m.Recall()]
        assert launch.tell(m.Recalled(possible=False)) == ended()

    @WAYS
    @pytest.mark.parametrize(
        ("end", "told"),
        [
            (
                TERMINATED,
                (
                    "the sandbox was terminated from outside (sandbox sb-1); the task had not begun and is launched again "
                    "(1 of 3, [modal_executor] infra_retries)"
                ),
            ),
            (
                SandboxEnd(kind=EndKind.FAILURE, exit_code=EXIT_NO_WORKLOAD),
                (
                    "the sandbox got no workload within [modal_executor] handover_timeout and gave up (exit code 65) "
                    "(sandbox sb-1); the task had not begun and is launched again (1 of 2, [modal_executor] launch_retries)"
                ),
            ),
        ],
        ids=["died with Modal", "never got its workload"],
    )
    def test_one_that_was_queued_and_failed_is_launched_again_if_airflow_says_that_it_had_not_begun(
        self, how: str, end: SandboxEnd, told: str
    ) -> None:
        launch, commands = self.adopted_when_queued(end, how)
        assert commands == [m.Recall()]
        assert launch.tell(m.Recalled(possible=True))[0] == m.WriteLog(level="info", text=told)
        assert launch.tell(m.PauseOver()) == [m.Translate()]
        launch.tell(m.Translated(translation=Translation(plan=CPU)))
        launch.tell(m.Prepared())
        assert launch.tell(m.SlotGranted()) == [create(CPU, attempt=3)]

    def test_one_that_was_queued_began_and_failed_meanwhile_has_failed(self) -> None:
        launch, _ = self.adopted_when_queued(self.TERMINATED, "among its attempts")
        assert launch.tell(m.Recalled(possible=False)) == [m.ReadTail(sandbox_id="sb-1")]

    def test_a_defect_while_airflow_is_asked_leaves_a_success_what_it_is(self) -> None:
        launch, _ = self.adopted_when_queued(SUCCESS, "still ending")
        assert launch.tell(m.Broke(message="KeyError: 'x'")) == ended()

    def test_one_that_would_end_alike_again_is_told_at_once(self) -> None:
        launch = Launch(Adoption(sandbox_id=None, can_relaunch=True))
        launch.tell(m.Listed(status=None))
        assert launch.tell(found(SandboxEnd(kind=EndKind.FAILURE, exit_code=EXIT_AIRFLOW_UNUSABLE))) == [
            m.ReadTail(sandbox_id="sb-1")
        ]

    def test_attempts_after_a_restart_are_not_without_end(self) -> None:
        launch = Launch(Adoption(sandbox_id=None, can_relaunch=True))
        launch.tell(m.Listed(status=None))
        status = SandboxStatus(sandbox_id="sb-1", name="", tags={}, end=SandboxEnd(kind=EndKind.TERMINATED, exit_code=137))
        commands = launch.tell(m.LookedUp(status=status, attempt=launch.life._launch.rules.retries + 1))
        assert commands == [m.Recall()]
        assert launch.tell(m.Recalled(possible=False)) == [m.ReadTail(sandbox_id="sb-1")]

    def test_a_gpu_request_that_nobody_waits_for_is_ended_and_made_anew(self) -> None:
        launch = Launch(Adoption(sandbox_id=None, can_relaunch=True))
        in_line = SandboxStatus(sandbox_id="sb-1", name=f"{LAUNCH}.2", tags={}, waits=True)
        assert launch.tell(m.Listed(status=in_line, attempt=2)) == [m.Translate()]
        assert launch.tell(m.Translated(translation=Translation(plan=GPU))) == [m.Terminate(sandbox_id="sb-1")]
        assert launch.tell(m.Terminated()) == [m.Prepare(plan=GPU)]
        assert launch.life.attempt == 3

    def test_a_cpu_sandbox_that_waits_for_its_machine_has_its_workload(self) -> None:
        launch = Launch(Adoption(sandbox_id=None, can_relaunch=True))
        launch.tell(m.Listed(status=SandboxStatus(sandbox_id="sb-1", name=LAUNCH, tags={}, waits=True)))
        assert launch.tell(m.Translated(translation=Translation(plan=CPU))) == [started(), m.Wait(sandbox_id="sb-1")]

    def test_one_that_was_never_made_is_launched(self) -> None:
        launch = Launch(Adoption(sandbox_id=None, can_relaunch=True))
        launch.tell(m.Listed(status=None))
        assert launch.tell(NOTHING) == [m.Translate()]
        assert launch.tell(m.Translated(translation=Translation(plan=CPU))) == [m.Prepare(plan=CPU)]
        launch.tell(m.Prepared())
        assert launch.tell(m.SlotGranted()) == [create(CPU)]

    def test_one_that_is_gone_and_was_still_queued_is_launched_as_the_next_attempt(self) -> None:
        launch = Launch(Adoption(sandbox_id="sb-1", can_relaunch=True))
        assert launch.tell(m.Listed(status=None)) == [m.FindAttempts(sandbox_id="sb-1")]
        assert launch.tell(NOTHING) == [m.Check(sandbox_id="sb-1")]
        assert launch.tell(m.Checked(status=None)) == [m.Translate()]
        launch.tell(m.Translated(translation=Translation(plan=CPU)))
        launch.tell(m.Prepared())
        assert launch.tell(m.SlotGranted()) == [create(CPU, attempt=2)]

    def test_one_that_is_gone_and_ran_has_ended(self) -> None:
        launch = Launch(Adoption(sandbox_id=None, can_relaunch=False))
        launch.tell(m.Listed(status=None))
        assert launch.tell(NOTHING) == ended(
            f"the sandbox is gone: Modal knows none called {LAUNCH}; whether the task finished is unknown",
            F.LOST,
        )

    def test_modal_away_is_asked_again(self) -> None:
        launch = Launch(Adoption(sandbox_id=None, can_relaunch=True))
        launch.tell(m.Listed(status=None))
        assert launch.tell(m.LookupFailed(error=DOWN)) == [m.Pause(seconds=0.25)]
        assert launch.tell(m.PauseOver()) == [m.FindAttempts(sandbox_id=None)]
        assert launch.tell(NOTHING) == [m.Translate()]

    def test_revoked_while_modal_is_away_it_is_looked_for_and_ended(self) -> None:
        launch = Launch(Adoption(sandbox_id=None, can_relaunch=True))
        launch.tell(m.Listed(status=None))
        assert launch.tell(m.LookupFailed(error=DOWN)) == [m.Pause(seconds=0.25)]
        assert launch.tell(m.Revoked(reason="queued too long")) == [m.FindAttempts(sandbox_id=None)]
        assert launch.tell(found()) == [m.Terminate(sandbox_id="sb-1")]
        assert launch.tell(m.Terminated()) == [m.Forget()]

    def test_revoked_before_the_listing_it_is_looked_for_and_ended(self) -> None:
        launch = Launch(Adoption(sandbox_id=None, can_relaunch=True))
        assert launch.tell(m.Revoked(reason="cleared")) == [m.FindAttempts(sandbox_id=None)]
        assert launch.tell(found()) == [m.Terminate(sandbox_id="sb-1")]
        assert launch.tell(m.Terminated()) == [m.Forget()]


class TestTimeToStop:
    """A task that is taken back and has a grace period."""

    ASKED = "queued too long; the sandbox is asked to stop and has 30 s for it"

    def asked(self, launch: Launch) -> None:
        commands = launch.tell(m.Revoked(reason="queued too long"))
        assert commands == [m.WriteLog(level="info", text=self.ASKED), m.AskToStop(sandbox_id="sb-1")]
        assert launch.life.state is State.STOPPING

    def test_it_is_asked_to_stop_and_stops(self) -> None:
        launch = Launch()
        launch.running(PATIENT)
        self.asked(launch)
        # The time that asking took counts.
        assert launch.tell(m.AskedToStop(), after=2.0) == [m.AwaitEnd(sandbox_id="sb-1", seconds=28.0)]
        assert launch.tell(m.SandboxEnded(end=SUCCESS), after=5.0) == [m.Forget()]

    def test_where_the_pod_does_not_say_the_site_does(self) -> None:
        launch = Launch(rules=replace(RULES, stop_grace=30))
        launch.running(CPU)
        self.asked(launch)
        assert launch.tell(m.AskedToStop(), after=2.0) == [m.AwaitEnd(sandbox_id="sb-1", seconds=28.0)]

    def test_a_pod_without_time_to_stop_goes_before_the_site(self) -> None:
        launch = Launch(rules=replace(RULES, stop_grace=30))
        launch.running(replace(PATIENT, setup=SetupPlan(grace=GracePlan(seconds=0))))
        assert launch.tell(m.Revoked(reason="queued too long")) == [m.Terminate(sandbox_id="sb-1")]

    def test_when_its_time_is_over_it_is_ended(self) -> None:
        launch = Launch()
        launch.running(PATIENT)
        self.asked(launch)
        assert launch.tell(m.AskedToStop(), after=31.0) == [m.AwaitEnd(sandbox_id="sb-1", seconds=0.0)]
        text = "the sandbox did not stop in its time and is ended"
        assert launch.tell(m.GraceOver()) == [m.WriteLog(level="warning", text=text), m.Terminate(sandbox_id="sb-1")]
        assert launch.tell(m.Terminated()) == [m.Forget()]

    @pytest.mark.parametrize("error", [DOWN, NotFound("gone")])
    def test_what_cannot_be_asked_is_ended_at_once(self, error: GatewayError) -> None:
        launch = Launch()
        launch.running(PATIENT)
        self.asked(launch)
        assert launch.tell(m.AskFailed(error=error)) == [m.Terminate(sandbox_id="sb-1")]

    def test_what_cannot_be_waited_for_is_ended_at_once(self) -> None:
        launch = Launch()
        launch.running(PATIENT)
        self.asked(launch)
        launch.tell(m.AskedToStop())
        assert launch.tell(m.WaitFailed(error=DOWN)) == [m.Terminate(sandbox_id="sb-1")]

    def test_a_defect_meanwhile_ends_it(self) -> None:
        launch = Launch()
        launch.running(PATIENT)
        self.asked(launch)
        assert launch.tell(m.Broke(message="oh")) == [m.Terminate(sandbox_id="sb-1")]

    def test_a_second_revoke_changes_nothing(self) -> None:
        launch = Launch()
        launch.running(PATIENT)
        self.asked(launch)
        assert launch.tell(m.Revoked(reason="again")) == []

    def test_one_that_does_not_run_yet_has_nothing_to_stop(self) -> None:
        launch = Launch()
        launch.launching(PATIENT)
        assert launch.tell(m.Revoked(reason="queued too long")) == []
        assert launch.tell(m.Created(sandbox_id="sb-1")) == [m.Terminate(sandbox_id="sb-1")]

    def test_one_of_an_earlier_scheduler_says_by_its_tag(self) -> None:
        launch = Launch(Adoption(sandbox_id="sb-1", can_relaunch=False))
        tags = {"launch": LAUNCH, "stop_grace": "30"}
        launch.tell(m.Listed(status=SandboxStatus(sandbox_id="sb-1", name="", tags=tags)))
        self.asked(launch)

    def test_one_that_is_found_by_its_id_or_its_name_says_so_too(self) -> None:
        found = SandboxStatus(sandbox_id="sb-1", name=LAUNCH, tags={"stop_grace": "30"})
        by_id = Launch(Adoption(sandbox_id="sb-1", can_relaunch=False))
        by_id.tell(m.Listed(status=None))
        by_id.tell(m.Checked(status=found))
        self.asked(by_id)
        by_name = Launch(Adoption(sandbox_id=None, can_relaunch=False))
        by_name.tell(m.Listed(status=None))
        by_name.tell(m.LookedUp(status=found))
        self.asked(by_name)

    def test_one_whose_end_cannot_be_waited_for_for_a_while_has_its_time(self) -> None:
        launch = Launch()
        launch.running(PATIENT)
        launch.tell(m.WaitFailed(error=DOWN))
        assert launch.life.state is State.PAUSING
        self.asked(launch)
        assert launch.tell(m.AskedToStop()) == [m.AwaitEnd(sandbox_id="sb-1", seconds=30.0)]

    def test_one_that_is_taken_back_while_it_is_looked_for_has_its_time(self) -> None:
        launch = Launch(Adoption(sandbox_id=None, can_relaunch=True))
        assert launch.tell(m.Revoked(reason="queued too long")) == [m.FindAttempts(sandbox_id=None)]
        found = SandboxStatus(sandbox_id="sb-1", name=LAUNCH, tags={"stop_grace": "30"})
        commands = launch.tell(m.LookedUp(status=found))
        assert commands == [m.WriteLog(level="info", text=self.ASKED), m.AskToStop(sandbox_id="sb-1")]
        launch.tell(m.AskedToStop())
        assert launch.tell(m.SandboxEnded(end=SUCCESS)) == [m.Forget()]
