"""Lines, rates and caps with the unmodified client against an emulator that refuses, as Modal does."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest

from modalflow.emulator import EmulatorConfig
from modalflow.emulator.state.conditions import Conditions
from modalflow.launch.events import AdoptRequest, LaunchEnded, LaunchRequest, LaunchStarted
from modalflow.translation.gpus.caps import GpuCaps
from modalflow.translation.plan import SandboxPlan
from tests.contract.test_launching import OURS, SETTINGS, StartEmulator, plan, scheduler, start_emulator
from tests.launch.plans import request
from tests.launch.scripted_gateway import until

pytestmark = pytest.mark.emulated

__all__ = ["start_emulator"]

LONG = "import time; time.sleep(600)"


def launch(**changes: object) -> tuple[str, LaunchRequest]:
    """A launch of an id of its own; the changes are those of its plan."""
    launch_id = str(uuid.uuid4())
    asked: SandboxPlan = plan(tags={**OURS, "launch": launch_id}, **changes)
    return launch_id, request(launch_id, asked)


def test_more_than_modal_lets_through_is_launched_by_and_by_and_costs_no_retry(start_emulator: StartEmulator) -> None:
    limits = Conditions(create_rate_v2=10.0, create_burst=2)
    emulator = start_emulator(EmulatorConfig(conditions=limits, record_calls=True))
    settings = replace(SETTINGS, launch_retries=0, cpu_create_rate=None)
    with scheduler("pass", settings) as airflow:
        ids = []
        for _ in range(8):
            launch_id, asked = launch()
            ids.append(launch_id)
            airflow.backend.submit(asked)
        until(lambda: airflow.heard(LaunchEnded, 8), "all ends")
        assert airflow.ends() == dict.fromkeys(ids, "")
    names = [call.definition.name for call in emulator.calls("SandboxCreateV2")]  # type: ignore[attr-defined]
    assert set(names) == set(ids), "a create that was refused is made again under its name"
    assert len(names) > 8, "some were refused"


def test_a_quota_of_sandboxes_is_waited_for(start_emulator: StartEmulator) -> None:
    emulator = start_emulator(EmulatorConfig(conditions=Conditions(max_sandboxes=1), record_calls=True))
    with scheduler(LONG, replace(SETTINGS, launch_retries=0)) as airflow:
        first, asked = launch()
        airflow.backend.submit(asked)
        until(lambda: airflow.heard(LaunchStarted), "the first")
        second, asked = launch()
        airflow.backend.submit(asked)
        until(lambda: len(emulator.calls("SandboxCreateV2")) >= 2, "a create that is refused")
        airflow.backend.revoke(first, "cleared")
        until(lambda: airflow.heard(LaunchStarted, 2), "the second")
        assert airflow.events[-1].launch_id == second
        emulator.capacity.set(max_sandboxes=None)
        airflow.backend.revoke(second, "cleared")
        until(lambda: "no launches" in airflow.backend.describe(), "both gone")


def test_gpus_in_flight_are_known_to_the_next_scheduler_by_their_tag(start_emulator: StartEmulator) -> None:
    start_emulator(EmulatorConfig())
    capped = replace(SETTINGS, max_gpus=GpuCaps(total=2))
    held, asked = launch(gpu_candidates=("A10G:2",), gpu_wait=60.0)
    with scheduler(LONG, capped) as before:
        before.backend.submit(asked)
        until(lambda: before.heard(LaunchStarted), "the first scheduler's sandbox")
    with scheduler(LONG, capped) as after:
        known = AdoptRequest(launch_id=held, key="key", label="t", sandbox_id=None, log_path=None, relaunch=None)
        after.backend.adopt([known])
        waits, asked = launch(gpu_candidates=("L4",), gpu_wait=60.0)
        after.backend.submit(asked)
        until(lambda: "GPUs in flight: 2 A10" in after.backend.describe(), "the count")
        until(lambda: ": queued" in after.backend.describe(), "the new one in line")
        after.backend.revoke(held, "cleared")
        until(lambda: any(e.launch_id == waits for e in after.events) or after.heard(LaunchStarted, 2), "its turn")
        assert "GPUs in flight: 1 L4" in after.backend.describe()
        after.backend.revoke(waits, "cleared")
        until(lambda: "no launches" in after.backend.describe(), "both gone")
