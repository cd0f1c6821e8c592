"""Runs what a pod becomes in a sandbox of the emulator: the sandbox's own program, with a look around in the place of Airflow."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping
from typing import Any

import modal
import yaml

from modalflow.modal_gateway import ModalGateway
from modalflow.settings import read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.inputs import TaskContext
from modalflow.translation.plan import SandboxPlan, VolumePlan
from modalflow.translation.translate import translate
from modalflow.worker import bootstrap_source
from tests.contract.conftest import SETTINGS

CANARY = "hunter2-canary"
LOGS = "/mnt/modalflow/logs"
LOOK = """
def work():
    set_up(SetUp(os.environ, log.say), own_file(os.environ.get(LOG_PATH)))
    root = os.environ["MODAL_EMULATOR_ROOT"]
    def look(path):
        place = root + path
        if not os.path.exists(place):
            return None
        if not os.access(place, os.R_OK):
            return "not for us"
        if os.path.isdir(place):
            return sorted(os.listdir(place))
        with open(place, "rb") as file:
            return [oct(os.stat(place).st_mode & 0o777), file.read().decode("latin-1")]
    names = json.loads(os.environ["LOOK_AT"])
    seen = {"env": {n: os.environ.get(n) for n in names["env"]}, "files": {p: look(p) for p in names["files"]}}
    seen["user"] = [os.getuid(), os.getgid(), sorted(os.getgroups())]
    seen["folder"] = os.getcwd().removeprefix(root)
    seen["links"] = {p: os.readlink(root + p).removeprefix(root) for p in names.get("links", ())}
    seen["owners"] = {p: [os.stat(root + p).st_uid, os.stat(root + p).st_gid] for p in names.get("owners", ())}
    for path, text in names.get("write", {}).items():
        with open(root + path, "w") as file:
            file.write(text)
    log.say("info", "the task ran")
    print(json.dumps(seen))
"""
"""Stands in for the work of the bootstrap: all of the program but Airflow."""


PROGRAM = bootstrap_source().replace("\ndef main() -> None:", LOOK + "\n\ndef main() -> None:")
"""The sandbox's own program with ``LOOK`` for its work, so that its joined set-up is what runs."""


def plan_of(pod: str, options: Mapping[str, object], look_at: Mapping[str, object]) -> SandboxPlan:
    texts = {name: json.dumps(value) for name, value in options.items()}
    own = {"LOOK_AT": json.dumps(look_at), "MODALFLOW_LAUNCH_ID": "launch-1"}
    context = TaskContext(
        env={**own, "MODALFLOW_LOG_PATH": "attempt=1.log", "AIRFLOW__LOGGING__BASE_LOG_FOLDER": LOGS},
        tags={"dag_id": "etl"},
        volumes=(VolumePlan(mount_path=LOGS, name="logs", version=2, create_if_missing=True),),
    )
    result = translate(
        {"pod_override": yaml.safe_load(pod)},
        context=context,
        options=read_settings(texts).translation,
        templates=TemplateFolders(),
    )
    assert result.errors == ()
    assert result.sandbox is not None
    return result.sandbox


def run(
    plan: SandboxPlan,
    *,
    secrets: Mapping[str, dict[str, str]] | None = None,
    volumes: tuple[str, ...] = (),
    program: str = PROGRAM,
    gpu: str | None = None,
) -> tuple[int, str, str]:
    """Run the plan in the emulator; return exit code, stdout and stderr."""

    async def scene() -> tuple[int, str, str]:
        async with await modal.Client.from_env.aio() as client, ModalGateway(SETTINGS, client=client) as gateway:
            for name, content in (secrets or {}).items():
                await modal.Secret.objects.create.aio(name, content, client=client)
            for name in volumes:
                await modal.Volume.objects.create.aio(name, client=client)
            argv = ["python", "-c", program]
            sandbox_id = await gateway.create(plan, name=str(uuid.uuid4()), gpu=gpu, argv=argv, secret_env={})
            sandbox = await modal.Sandbox.from_id.aio(sandbox_id, client=client)
            await sandbox.wait.aio(raise_on_termination=False)
            return sandbox.returncode or 0, await sandbox.stdout.read.aio(), await sandbox.stderr.read.aio()

    return asyncio.run(scene())


def seen(plan: SandboxPlan, **given: Any) -> dict[str, Any]:
    code, stdout, stderr = run(plan, **given)
    assert code == 0, stderr
    found: dict[str, Any] = json.loads(next(line for line in stdout.splitlines() if line.startswith('{"env"')))
    return found


def task_log() -> list[str]:
    """The lines of the try's sandboxes on the log Volume, level and text, one sandbox after another."""

    async def scene() -> list[str]:
        async with await modal.Client.from_env.aio() as client:
            return await lines_outside(client)

    return asyncio.run(scene())


async def lines_outside(client: modal.Client) -> list[str]:
    """As ``task_log``, by a client that is there."""
    volume = modal.Volume.from_name("logs", client=client)
    names = sorted([entry.path async for entry in volume.iterdir.aio("/") if entry.path.startswith("attempt=1.log")])
    content = b"".join([part for name in names async for part in volume.read_file.aio(name)])
    records = [json.loads(line) for line in content.splitlines()]
    return [f"{record['level']}: {record['event']}" for record in records]
