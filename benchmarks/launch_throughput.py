"""How fast 100 launches become sandboxes, against the bare modal client doing 100 concurrent creates.

Same emulator (a process of its own), same image, same argv, alternating. Ours is from the first ``submit`` to the last
``LaunchStarted`` taken by ``drain``: it translates, mints, asks for slots and begins to wait for each sandbox as well.
Run as ``python -m benchmarks.launch_throughput``.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from typing import Any

from benchmarks.report import report
from modalflow.launch.backend import LaunchBackend
from modalflow.launch.events import LaunchRequest, LaunchStarted
from modalflow.settings import LaunchSettings
from modalflow.translation.plan import ImagePlan, SandboxPlan
from modalflow.translation.result import Translation

LAUNCHES = 100
ROUNDS = 9
ARGV = ["true"]
IMAGE = ImagePlan(reference=None, python_version="3.11")
GOAL = 1 / 0.8
"""At least 0.8 of the peer's launches a second: at most 1.25 of its time."""

_SERVE = """
import json, sys
from modalflow.emulator import EmulatorConfig, EmulatorThread
with EmulatorThread(EmulatorConfig()) as emulator:
    print(json.dumps(emulator.environment()), flush=True)
    sys.stdin.read()
"""


def launch(number: int) -> LaunchRequest:
    """One trivial CPU launch."""
    launch_id = str(uuid.uuid4())
    plan = SandboxPlan(image=IMAGE, env={"N": str(number)}, tags={"deployment": "bench", "launch": launch_id}, timeout=60)
    return LaunchRequest(
        launch_id=launch_id,
        key=number,
        label=f"task {number}",
        priority=0,
        translate=lambda: Translation(plan=plan),
        mint_workload=lambda: '{"token": "x"}',
        log_path=None,
    )


class Ours:
    """The launch backend with its gateway, warm."""

    def __init__(self) -> None:
        """Start the backend, and launch once so that App and image are known."""
        from modalflow.modal_gateway import ModalGateway

        settings = LaunchSettings(app_name="ours", deployment="bench", cpu_create_rate=None)  # the emulator has no limit
        self._backend = LaunchBackend(lambda: ModalGateway(settings), settings, ARGV, lambda _path, _line: None)
        self._backend.start()
        self.run(1)

    def run(self, count: int) -> float:
        """Seconds until ``count`` launches are sandboxes. Returns after all of them ended, so that rounds do not overlap."""
        requests = [launch(number) for number in range(count)]
        begun = time.perf_counter()
        for request in requests:
            self._backend.submit(request)
        started = ended = 0
        taken = 0.0
        while ended < count:
            for event in self._backend.drain():
                if isinstance(event, LaunchStarted):
                    started += 1
                    taken = time.perf_counter() - begun if started == count else taken
                else:
                    ended += 1
            time.sleep(0.001)
        return taken

    def stop(self) -> None:
        """Stop the backend."""
        self._backend.stop(5.0)


class Bare:
    """The modal client alone, warm: ``gather`` over ``Sandbox.create.aio`` with one Image object."""

    def __init__(self) -> None:
        """Look the App up and build the image."""
        import modal

        self._modal = modal
        self._app = modal.App.lookup("bare", create_if_missing=True)
        self._image = modal.Image.debian_slim("3.11")
        self._image.build(self._app)
        self.run(1)

    def run(self, count: int) -> float:
        """Seconds until ``count`` sandboxes exist. Returns after all of them ended."""
        return asyncio.run(self._run(count))

    async def _run(self, count: int) -> float:
        begun = time.perf_counter()
        sandboxes = await asyncio.gather(*(self._create(number) for number in range(count)))
        taken = time.perf_counter() - begun
        await asyncio.gather(*(sandbox.wait.aio() for sandbox in sandboxes))
        return taken

    async def _create(self, number: int) -> Any:
        name = str(uuid.uuid4())
        return await self._modal.Sandbox.create.aio(
            *ARGV,
            app=self._app,
            image=self._image,
            name=name,
            env={"N": str(number)},
            secrets=[self._modal.Secret.from_dict({"MODALFLOW_WORKLOAD": '{"token": "x"}'})],
            tags={"deployment": "bench", "launch": name},
            timeout=60,
        )


def main() -> int:
    """Measure, report, and return 0 if the goal was met."""
    server = subprocess.Popen([sys.executable, "-c", _SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        os.environ.update(json.loads(server.stdout.readline()))
        mine, theirs = Ours(), Bare()
        ours: list[float] = []
        peer: list[float] = []
        for turn in range(ROUNDS):
            if turn % 2:
                ours.append(mine.run(LAUNCHES) * 1000)
                peer.append(theirs.run(LAUNCHES) * 1000)
            else:
                peer.append(theirs.run(LAUNCHES) * 1000)
                ours.append(mine.run(LAUNCHES) * 1000)
        mine.stop()
        return 0 if report(f"{LAUNCHES} launches on the emulator", ours, peer, unit="ms", goal_ratio=GOAL) else 1
    finally:
        server.communicate(timeout=30)


if __name__ == "__main__":
    sys.exit(main())
