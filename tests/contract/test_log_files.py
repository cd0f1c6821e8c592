"""Two sandboxes of one try, of which the later starts before the earlier has ended: no line of either is lost."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import modal
import pytest

from modalflow.launch.gateway import EndKind, SandboxEnd
from modalflow.modal_gateway import ModalGateway
from tests.contract.conftest import SETTINGS
from tests.contract.in_sandbox import PROGRAM, lines_outside, plan_of, task_log

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorThread

pytestmark = pytest.mark.emulated

STAYS = PROGRAM.replace('log.say("info", "the task ran")', 'log.say("info", "first"); print("ready", flush=True); os.read(0, 1)')
SECOND = PROGRAM.replace('"the task ran"', '"second"')
SET_UP = """
spec:
  containers: [{name: base, volumeMounts: [{name: scratch, mountPath: /scratch}]}]
  volumes: [{name: scratch, emptyDir: {}}]
"""


def test_no_line_is_lost(modal_emulator: EmulatorThread) -> None:
    async def scene() -> None:
        async with await modal.Client.from_env.aio() as client, ModalGateway(SETTINGS, client=client) as gateway:

            async def start(program: str) -> modal.Sandbox:
                plan = plan_of(SET_UP, {}, {"env": [], "files": []})
                argv = ["python", "-c", program]
                sandbox_id = await gateway.create(plan, name=str(uuid.uuid4()), gpu=None, argv=argv, secret_env={})
                return await modal.Sandbox.from_id.aio(sandbox_id, client=client)

            first = await start(STAYS)
            assert "ready" in await anext(aiter(first.stdout))
            second = await start(SECOND)
            await second.wait.aio()
            first.stdin.write_eof()
            await first.stdin.drain.aio()
            await first.wait.aio()

    asyncio.run(scene())
    assert sorted(task_log()) == ["info: first", "info: second"]


SYNCS = PROGRAM.replace(
    'log.say("info", "the task ran")',
    'log.say("info", "synced"); served(); syncing._process.wait(); log.say("info", "said last"); '
    'print("ready", flush=True); os.read(0, 1); os.kill(os.getpid(), 9)',
).replace("    set_up(SetUp(", "    syncing.take(os.environ); log.copied = False\n    set_up(SetUp(")


def test_lines_are_outside_while_it_runs_and_all_of_them_when_it_was_killed(modal_emulator: EmulatorThread) -> None:
    async def scene() -> list[list[str]]:
        async with await modal.Client.from_env.aio() as client, ModalGateway(SETTINGS, client=client) as gateway:
            plan = plan_of(SET_UP, {}, {"env": [], "files": []})
            plan = replace(plan, env={**plan.env, "MODALFLOW_LOG_SYNC": "0.000001"})
            argv = ["python", "-c", SYNCS]
            sandbox_id = await gateway.create(plan, name=str(uuid.uuid4()), gpu=None, argv=argv, secret_env={})
            sandbox = await modal.Sandbox.from_id.aio(sandbox_id, client=client)
            assert "ready" in await anext(aiter(sandbox.stdout))
            seen = [await lines_outside(client)]
            sandbox.stdin.write_eof()
            await sandbox.stdin.drain.aio()
            assert await gateway.wait(sandbox_id) == SandboxEnd(kind=EndKind.FAILURE, exit_code=137)
            return [*seen, await lines_outside(client)]

    assert asyncio.run(scene()) == [["info: synced"], ["info: synced", "info: said last"]]
