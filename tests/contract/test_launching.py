"""Backend, gateway, the unmodified client and the emulator together: launches from request to end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from modalflow.emulator import EmulatorConfig, EmulatorThread
from modalflow.emulator.introspection import sandbox_records
from modalflow.launch.backend import LaunchBackend
from modalflow.launch.events import AdoptRequest, LaunchEnded, LaunchEvent, LaunchNotice, LaunchStarted
from modalflow.modal_gateway import ModalGateway
from modalflow.settings import LaunchSettings
from modalflow.translation.plan import ImagePlan, SandboxPlan
from tests.launch.plans import AUTO, LAUNCH, WORKLOAD, request
from tests.launch.scripted_gateway import until

pytestmark = pytest.mark.emulated

SETTINGS = LaunchSettings(rpc_timeout=10.0, create_timeout=10.0, logs_volume=None)
OURS = {"deployment": "airflow"}
TAKES_ITS_WORKLOAD = """
import os, sys
workload = os.environ.get("MODALFLOW_WORKLOAD") or sys.stdin.read()
sys.exit(0 if workload.startswith('{"token"') else 65)
"""


class Scheduler:
    """One scheduler's backend and what it heard."""

    def __init__(self, argv: list[str], settings: LaunchSettings = SETTINGS) -> None:
        self.events: list[LaunchEvent] = []
        self.backend = LaunchBackend(lambda: ModalGateway(settings), settings, argv, lambda _path, _line: None)
        self.backend.start()

    def heard(self, kind: type[LaunchEvent], count: int = 1) -> bool:
        self.events += self.backend.drain()
        return sum(isinstance(event, kind) for event in self.events) >= count

    def ends(self) -> dict[str, str]:
        return {event.launch_id: event.reason for event in self.events if isinstance(event, LaunchEnded)}


@contextmanager
def scheduler(source: str = TAKES_ITS_WORKLOAD, settings: LaunchSettings = SETTINGS) -> Iterator[Scheduler]:
    it = Scheduler(["python", "-c", source], settings)
    try:
        yield it
    finally:
        it.backend.stop(10.0)


StartEmulator = Callable[[EmulatorConfig], EmulatorThread]


@pytest.fixture
def start_emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[StartEmulator]:
    """Starts emulators as configured; the environment points at the latest."""
    started: list[EmulatorThread] = []

    def start(config: EmulatorConfig) -> EmulatorThread:
        emulator = EmulatorThread(config)
        emulator.start()
        started.append(emulator)
        for variable, value in emulator.environment().items():
            monkeypatch.setenv(variable, value)
        return emulator

    yield start
    for emulator in started:
        emulator.stop()


def plan(**changes: object) -> SandboxPlan:
    return replace(SandboxPlan(image=AUTO, tags={**OURS, "launch": LAUNCH}), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "kind",
    [plan(), plan(image=ImagePlan(reference="apache/airflow:3.3.2")), plan(gpu_candidates=("A10G",))],
    ids=["CPU, secret", "CPU, stdin", "GPU, stdin"],
)
def test_every_kind_of_sandbox_gets_its_workload(modal_emulator: EmulatorThread, kind: SandboxPlan) -> None:
    with scheduler() as airflow:
        airflow.backend.submit(request(plan=kind))
        until(lambda: airflow.heard(LaunchEnded), "the end")
        assert airflow.ends() == {LAUNCH: ""}
        assert any(isinstance(event, LaunchStarted) for event in airflow.events)


def test_a_gpu_that_is_not_in_stock_is_left_for_the_next_candidate(start_emulator: StartEmulator) -> None:
    emulator = start_emulator(EmulatorConfig(gpus={"A10G": 1, "H100": 0}, record_calls=True))
    with scheduler() as airflow:
        airflow.backend.submit(request(plan=plan(gpu_candidates=("H100", "A10G"), gpu_wait=6.0)))
        until(lambda: airflow.heard(LaunchEnded), "the end")
        assert airflow.ends() == {LAUNCH: ""}
        notices = [event.message for event in airflow.events if isinstance(event, LaunchNotice)]
        assert [text.partition(" since ")[0] for text in notices] == ["waiting for H100", "waiting for A10G"]
    names = [call.definition.name for call in emulator.calls("SandboxCreate")]  # type: ignore[attr-defined]
    assert names == [LAUNCH, f"{LAUNCH}.2"]


def test_a_sandbox_that_is_ended_while_it_waits_for_a_gpu_is_made_again(start_emulator: StartEmulator) -> None:
    emulator = start_emulator(EmulatorConfig(gpus={"A10G": 0}, record_calls=True))
    with scheduler() as airflow:
        airflow.backend.submit(request(plan=plan(gpu_candidates=("A10G",), gpu_wait=60.0)))
        until(lambda: bool(sandbox_records(emulator)), "the sandbox")
        [waiting] = sandbox_records(emulator)
        emulator.end(waiting.sandbox_id, "TERMINATED")
        emulator.capacity.set(gpus={"A10G": 1})
        until(lambda: airflow.heard(LaunchEnded), "the end")
        assert airflow.ends() == {LAUNCH: ""}
    names = [call.definition.name for call in emulator.calls("SandboxCreate")]  # type: ignore[attr-defined]
    assert names == [LAUNCH, LAUNCH]


def test_each_candidate_is_asked_for_in_its_own_region(start_emulator: StartEmulator) -> None:
    emulator = start_emulator(EmulatorConfig(gpus={"A10G": 1, "H100": 0}, record_calls=True))
    paired = plan(gpu_candidates=("H100", "A10G"), candidate_regions=(("us-east",), ("eu", "uk")), region=("us-east", "eu", "uk"))
    with scheduler() as airflow:
        airflow.backend.submit(request(plan=replace(paired, gpu_wait=6.0)))
        until(lambda: airflow.heard(LaunchEnded), "the end")
        assert airflow.ends() == {LAUNCH: ""}
    sent = [call.definition for call in emulator.calls("SandboxCreate")]  # type: ignore[attr-defined]
    assert [(one.resources.gpu_config.gpu_type, list(one.scheduler_placement.regions)) for one in sent] == [
        ("H100", ["us-east"]),
        ("A10G", ["eu", "uk"]),
    ]


def test_a_gpu_that_nobody_has_ends_after_its_wait_and_leaves_nothing_queued(start_emulator: StartEmulator) -> None:
    start_emulator(EmulatorConfig(gpus={"H100": 0}))
    with scheduler() as airflow:
        airflow.backend.submit(request(plan=plan(gpu_candidates=("H100",), gpu_wait=1.0)))
        until(lambda: airflow.heard(LaunchEnded), "the end")
        assert airflow.ends() == {
            LAUNCH: "Modal had no free H100 within 1 s; add another GPU to executor_config "
            '{"modal": {"gpu": [...]}}, raise [modal_executor] gpu_wait, or try again later'
        }
        airflow.backend.adopt([AdoptRequest(launch_id=LAUNCH, key=1, label="t", sandbox_id=None, log_path=None, relaunch=None)])
        until(lambda: airflow.heard(LaunchEnded, 2), "the answer that it ended")
        assert airflow.ends()[LAUNCH].startswith("the sandbox was terminated from outside (sandbox sb-")


def test_a_modal_that_forgot_everything_costs_the_task_and_nothing_else(start_emulator: StartEmulator) -> None:
    emulator = start_emulator(EmulatorConfig())
    environment, port = emulator.environment(), emulator.port
    with scheduler("import time; time.sleep(60)") as airflow:
        airflow.backend.submit(request(plan=plan()))
        until(lambda: airflow.heard(LaunchStarted), "the start")
        emulator.stop()
        start_emulator(
            EmulatorConfig(port=port, token_id=environment["MODAL_TOKEN_ID"], token_secret=environment["MODAL_TOKEN_SECRET"])
        )
        until(lambda: airflow.heard(LaunchEnded), "the end")
        (reason,) = airflow.ends().values()
        assert reason.endswith(" is gone: Modal does not know it any more; whether the task finished is unknown")
        other = "0199c5b2-5f0e-7a53-9d0c-000000000002"
        airflow.backend.submit(request(other, plan()))
        until(lambda: airflow.heard(LaunchStarted, 2), "the next launch")


class TestAnotherScheduler:
    """A second backend takes over what the first left running."""

    @pytest.mark.parametrize("committed", [True, False], ids=["sandbox id committed", "launch id only"])
    def test_a_running_task_is_watched_to_its_end(self, modal_emulator: EmulatorThread, *, committed: bool) -> None:
        with scheduler("import time; time.sleep(2)") as first:
            first.backend.submit(request(plan=plan()))
            until(lambda: first.heard(LaunchStarted), "the start")
            (started,) = [event for event in first.events if isinstance(event, LaunchStarted)]
        with scheduler() as second:
            second.backend.adopt(
                [
                    AdoptRequest(
                        launch_id=LAUNCH,
                        key=1,
                        label="t",
                        sandbox_id=started.sandbox_id if committed else None,
                        log_path=None,
                        relaunch=None,
                    )
                ]
            )
            until(lambda: second.heard(LaunchEnded), "the end")
            assert second.ends() == {LAUNCH: ""}
            assert sum(isinstance(event, LaunchStarted) for event in second.events) == (0 if committed else 1)

    def test_a_gpu_task_that_got_no_workload_gets_it(self, start_emulator: StartEmulator) -> None:
        start_emulator(EmulatorConfig())

        gpu = plan(gpu_candidates=("A10G",))
        with scheduler() as second:

            async def first() -> str:
                async with ModalGateway(SETTINGS) as gateway:
                    return await gateway.create(
                        gpu, name=LAUNCH, gpu="A10G", argv=["python", "-c", TAKES_ITS_WORKLOAD], secret_env={}
                    )

            sandbox_id = asyncio.run(first())
            second.backend.adopt(
                [
                    AdoptRequest(
                        launch_id=LAUNCH, key=1, label="t", sandbox_id=None, log_path=None, relaunch=lambda: request(plan=gpu)
                    )
                ]
            )
            until(lambda: second.heard(LaunchEnded), "the end")
            assert second.ends() == {LAUNCH: ""}
            (started,) = [event for event in second.events if isinstance(event, LaunchStarted)]
            assert started.sandbox_id == sandbox_id


def test_the_workload_is_in_no_name_tag_or_command(modal_emulator: EmulatorThread) -> None:
    with scheduler() as airflow:
        airflow.backend.submit(request(plan=plan(gpu_candidates=("A10G",), env={"A": "1"})))
        airflow.backend.submit(request("0199c5b2-5f0e-7a53-9d0c-000000000002", plan()))
        until(lambda: airflow.heard(LaunchEnded, 2), "the ends")
    token = WORKLOAD[WORKLOAD.index("eyJ") : -2]
    for method in ("SandboxCreate", "SandboxCreateV2"):
        (call,) = modal_emulator.calls(method)
        assert token not in f"{call.definition}{call.tags}"  # type: ignore[attr-defined]
    for method in ("SecretGetOrCreate", "ImageGetOrCreate", "SandboxCreate"):
        assert token not in str(modal_emulator.calls(method))
