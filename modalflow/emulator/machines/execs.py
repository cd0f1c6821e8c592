"""Further processes in a running container.

Flows in: one exec as asked for. Flows out: a ``Process`` beside the main one. The wire in front of it is ``router.execs``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from modalflow.emulator.clock import Clock
from modalflow.emulator.machines.output import EndedOutputs, Output
from modalflow.emulator.machines.processes import Process
from modalflow.emulator.machines.terminals import Terminal
from modalflow.emulator.machines.workloads import Workload


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecOrder:
    """What is to be run. ``secrets`` in order, the later wins; ``workdir`` empty: the container's; ``seconds``: then killed.

    ``muted``: outputs that go nowhere.
    """

    exec_id: str
    argv: Sequence[str]
    secrets: Sequence[Mapping[str, str]] = ()
    workdir: str = ""
    seconds: float | None = None
    terminal: Terminal | None = None
    muted: Collection[int] = ()


class Execs:
    """Starts them, and kills those whose time is over."""

    def __init__(self, clock: Clock, outputs: EndedOutputs) -> None:
        self._clock = clock
        self._outputs = outputs
        self._tasks: set[asyncio.Task[None]] = set()

    async def execute(self, workload: Workload, order: ExecOrder) -> Process:
        """Start a process in a running container; the same ``exec_id`` is started once."""
        async with workload.exec_lock:
            if order.exec_id not in workload.execs:
                process = workload.execs[order.exec_id] = await self._start(workload, order)
                workload.activity.enter()
                process.exited.add_done_callback(lambda _: workload.activity.leave())
                process.exited.add_done_callback(lambda _: self._outputs.keep(process.output))
                if order.seconds:
                    task = asyncio.create_task(self._limit(process, order.seconds), name=f"exec {order.exec_id}")
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
            return workload.execs[order.exec_id]

    async def _start(self, workload: Workload, order: ExecOrder) -> Process:
        env = dict(workload.env)
        for secret in order.secrets:
            env.update({name: workload.container.text(value) for name, value in secret.items()})
        process = await workload.container.spawn(
            order.argv,
            env=env,
            workdir=order.workdir or workload.workdir,
            main=False,
            output=Output(order.muted),
            terminal=order.terminal,
        )
        if workload.over:  # it ended meanwhile, and took all but this with it
            process.kill()
        return process

    async def _limit(self, process: Process, seconds: float) -> None:
        if not await self._clock.done_by(process.exited, self._clock.monotonic() + seconds):
            process.overdue_at = asyncio.get_running_loop().time()
            process.kill()

    async def stop(self) -> None:
        """Return when no process is watched any more; they end with their sandboxes."""
        if self._tasks:
            await asyncio.wait(self._tasks)
