"""Images made of options: what reaches Modal through the unmodified client, and what is in the sandbox."""

from __future__ import annotations

import asyncio
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import modal
import pytest
from modal_proto import api_pb2

from modalflow.emulator import EmulatorConfig
from modalflow.modal_gateway import ModalGateway
from modalflow.settings import read_settings
from modalflow.translation.plan import ImagePlan, SandboxPlan
from tests.contract.conftest import SETTINGS, WithGateway
from tests.emulator.conftest import emulator_where_it_can_be

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorThread

pytestmark = pytest.mark.emulated

PLAIN = ImagePlan(reference=None, python_version="3.11", packages=("apache-airflow-core==3.3.2",))


def layers(emulator: EmulatorThread) -> list[api_pb2.Image]:
    return [call.image for call in emulator.calls("ImageGetOrCreate") if isinstance(call, api_pb2.ImageGetOrCreateRequest)]


def commands(emulator: EmulatorThread) -> list[str]:
    """What each layer does last, where uv stands for the words that the client puts before ours."""
    uv = "RUN /.uv/uv pip install --python $(command -v python) --compile-bytecode"
    return [layer.dockerfile_commands[-1].replace(uv, "uv") for layer in layers(emulator)]


async def with_secret(name: str, values: dict[str, str]) -> None:
    client = await modal.Client.from_env.aio()
    await modal.Secret.objects.create.aio(name, values, client=client)
    await client.close.aio()


def test_auto_with_all_options_is_built_layer_by_layer_and_once(
    modal_emulator: EmulatorThread, with_gateway: WithGateway[None]
) -> None:
    plan = read_settings(
        {
            "python_version": "3.12",
            "apt_packages": "git,libpq-dev",
            "requirements": "pandas==2.3.3\n--find-links https://u:${PIP_TOKEN}@host/wheels",
            "build_secrets": "pypi",
        },
        auto_image=PLAIN,
    ).translation.auto_image

    async def scene(gateway: ModalGateway) -> None:
        await with_secret("pypi", {"PIP_TOKEN": "hunter2"})
        for _ in range(2):
            await gateway.prepare(SandboxPlan(image=plan))

    with_gateway(scene)
    sent = layers(modal_emulator)
    assert commands(modal_emulator)[1:] == [
        "RUN apt-get install -y git libpq-dev",
        "uv apache-airflow-core==3.3.2",
        'uv --find-links "https://u:${PIP_TOKEN}@host/wheels" apache-airflow-core==3.3.2 pandas==2.3.3',
    ]
    assert sent[0].dockerfile_commands[0].startswith("FROM python:3.12")
    assert [len(layer.secret_ids) for layer in sent] == [0, 0, 0, 1]
    assert "hunter2" not in str(sent)


def test_a_private_base_is_pulled_with_its_secret_and_gets_python_and_airflow(
    modal_emulator: EmulatorThread, with_gateway: WithGateway[None]
) -> None:
    images = {
        "cuda": {
            "base": "ghcr.io/me/cuda:12",
            "registry_secret": "ghcr",
            "python_version": "3.12",
            "match_providers": True,
        }
    }
    plan = read_settings({"images": json.dumps(images)}, auto_image=PLAIN).translation.images["cuda"]

    async def scene(gateway: ModalGateway) -> None:
        await with_secret("ghcr", {"REGISTRY_USERNAME": "u", "REGISTRY_PASSWORD": "p"})
        await gateway.prepare(SandboxPlan(image=plan))

    with_gateway(scene)
    sent = layers(modal_emulator)
    [base] = [layer for layer in sent if layer.dockerfile_commands[0] == "FROM ghcr.io/me/cuda:12"]
    assert base.image_registry_config.registry_auth_type == api_pb2.REGISTRY_AUTH_TYPE_STATIC_CREDS
    assert commands(modal_emulator)[-1] == "uv apache-airflow-core==3.3.2"


def wheel(folder: Path, name: str) -> None:
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", "text = 'installed'\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


def test_an_own_dockerfile_and_requirements_are_in_the_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "package_of_a_test_of_images"
    wheel(tmp_path, name)
    (tmp_path / "hello.txt").write_text("hello")
    (tmp_path / "Dockerfile").write_text("FROM python:3.11-slim\nCOPY hello.txt *.whl /wheels/\nRUN echo made > /made\n")
    (tmp_path / "requirements.txt").write_text(f"--no-index\n--find-links /wheels\n{name}==1.0\n")
    images = {"own": {"dockerfile": f"{tmp_path}/Dockerfile", "requirements": f"{tmp_path}/requirements.txt"}}
    image = read_settings({"images": json.dumps(images)}).translation.images["own"]
    script = f"import {name}; print({name}.text, open('/wheels/hello.txt').read(), open('/made').read().strip())"

    async def scene() -> str:
        async with ModalGateway(SETTINGS) as gateway:
            plan = SandboxPlan(image=image)
            await gateway.prepare(plan)
            sandbox_id = await gateway.create(plan, name="n", gpu=None, argv=["python", "-c", script], secret_env={})
            await gateway.wait(sandbox_id)
            return await gateway.output_tail(sandbox_id, max_bytes=1000)

    with emulator_where_it_can_be(EmulatorConfig(isolation="container", network="host")) as emulator:
        for variable, value in emulator.environment().items():
            monkeypatch.setenv(variable, value)
        assert asyncio.run(scene()) == "installed hello made\n"
