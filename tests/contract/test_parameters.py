"""Parameters of a sandbox beyond its hardware, on the wire and seen from inside a sandbox of the emulator."""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from modal_proto import api_pb2

from modalflow.modal_gateway import ModalGateway
from modalflow.translation.plan import ImagePlan, SandboxPlan
from tests.contract.conftest import WithGateway

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorThread

pytestmark = pytest.mark.emulated

PLAN = SandboxPlan(image=ImagePlan(reference=None, python_version="3.11"), timeout=600)


async def printed(gateway: ModalGateway, plan: SandboxPlan, *argv: str, gpu: str | None = None) -> str:
    """Run a command in a sandbox and return what it printed."""
    sandbox_id = await gateway.create(plan, name=str(uuid.uuid4()), gpu=gpu, argv=argv, secret_env={})
    await gateway.wait(sandbox_id)
    return await gateway.output_tail(sandbox_id, max_bytes=10_000)


@pytest.mark.parametrize("gpu", [None, "A10G"])
def test_the_identity_token_is_in_the_sandbox(
    modal_emulator: EmulatorThread, with_gateway: WithGateway[str], gpu: str | None
) -> None:
    plan = replace(PLAN, oidc=True, gpu_candidates=(gpu,) if gpu else ())
    token = with_gateway(lambda gateway: printed(gateway, plan, "sh", "-c", "echo $MODAL_IDENTITY_TOKEN", gpu=gpu)).strip()
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims["iss"] == "https://oidc.modal.com"
    assert claims["aud"] == "oidc.modal.com"
    assert claims["exp"] > claims["iat"]
    assert (claims["environment_name"], claims["app_name"]) == ("main", "modalflow")
    assert claims["sub"] == (
        f"modal:workspace_id:{claims['workspace_id']}:environment_name:main:app_name:modalflow:container_id:{claims['container_id']}"
    )


def test_there_is_no_identity_token_unless_it_is_asked_for(
    modal_emulator: EmulatorThread, with_gateway: WithGateway[str]
) -> None:
    assert with_gateway(lambda gateway: printed(gateway, PLAN, "sh", "-c", "echo token:$MODAL_IDENTITY_TOKEN")) == "token:\n"
    (call,) = modal_emulator.calls("SandboxCreateV2")
    assert isinstance(call, api_pb2.SandboxCreateV2Request)
    assert not call.definition.include_oidc_identity_token
