"""The Python that ``explain`` shows asks Modal for exactly what the gateway asks for."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from modal_proto import api_pb2

from modalflow.modal_gateway import ModalGateway
from modalflow.modal_gateway.source import python_source
from modalflow.translation.plan import Home, SandboxPlan, VolumePlan
from tests.cli.plan_samples import BASE, SAMPLES, with_everything
from tests.contract.conftest import SETTINGS, WithGateway

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorThread

pytestmark = pytest.mark.emulated

ARGV = ("sleep", "60")
NAME = "5f7b3c1e-0000-4000-8000-000000000000"


WHAT_PLANS_NAME = """
import modal

for name in ("warehouse", "hf", "ghcr"):
    modal.Secret.objects.create(name, {"HF_TOKEN": "x", "REGISTRY_USERNAME": "u", "REGISTRY_PASSWORD": "p"})
modal.Secret.objects.create("aws", {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"})
modal.Volume.objects.create("models")
"""


def run(text: str, emulator: EmulatorThread) -> str:
    """Run the text in a process of its own: the modal client keeps the first server it sees."""
    environ = {**os.environ, **emulator.environment()}
    done = subprocess.run([sys.executable, "-c", text], env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def last_create(emulator: EmulatorThread, plan: SandboxPlan) -> api_pb2.Sandbox:
    call = emulator.calls("SandboxCreate" if plan.gpu_candidates else "SandboxCreateV2")[-1]
    assert isinstance(call, (api_pb2.SandboxCreateRequest, api_pb2.SandboxCreateV2Request))
    definition = call.definition
    definition.ClearField("name")
    return definition


@pytest.mark.parametrize("plan", [BASE, with_everything(), with_everything(gpu_candidates=())], ids=["least", "gpu", "cpu"])
def test_the_text_sends_what_the_gateway_sends(
    modal_emulator: EmulatorThread, with_gateway: WithGateway[str], plan: SandboxPlan
) -> None:
    run(WHAT_PLANS_NAME, modal_emulator)

    async def create(gateway: ModalGateway) -> str:
        gpu = plan.gpu_candidates[0] if plan.gpu_candidates else None
        return await gateway.create(plan, name=NAME, gpu=gpu, argv=ARGV, secret_env={})

    with_gateway(create)
    sent = last_create(modal_emulator, plan)
    text = python_source(plan, app_name=SETTINGS.app_name, environment=SETTINGS.environment)
    assert run(text, modal_emulator).startswith("sb-")
    shown = last_create(modal_emulator, plan)
    # A V1 sandbox gets its plain variables as a Secret without a name, which every call makes anew.
    new = [pair for pair in zip(sent.secret_ids, shown.secret_ids, strict=True) if len(set(pair)) == 2]
    assert len(new) == (1 if plan.gpu_candidates and plan.env else 0)
    if new:
        sent.ClearField("secret_ids")
        shown.ClearField("secret_ids")
    assert shown == sent


@pytest.mark.parametrize("field", sorted(SAMPLES))
def test_what_changes_the_call_changes_the_text(field: str) -> None:
    if SAMPLES[field].in_call:
        plain = python_source(BASE, app_name="a")
        assert python_source(SAMPLES[field].plan(), app_name="a") != plain


def test_the_environment_and_app_of_a_namespace_are_in_the_source() -> None:
    volumes = (VolumePlan(mount_path="/m", name="models"), VolumePlan(mount_path="/l", name="logs", is_ours=True))
    plan = replace(BASE, home=Home(environment="prod", app="ml-tasks"), volumes=volumes)
    source = python_source(plan, app_name="modalflow", environment="main")
    assert "modal.App.lookup('ml-tasks', environment_name='prod', create_if_missing=True)" in source
    assert "modal.Volume.from_name('models', environment_name='prod')" in source
    assert "modal.Volume.from_name('logs', environment_name='main')" in source
